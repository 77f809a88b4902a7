"""Stopping by signal: the first asks, the second does not. Before the host is up, the first does not either.

SIGINT (Ctrl-C) and SIGTERM, on Windows SIGBREAK as well. The handlers only put a number into a queue, which is safe
wherever the main thread is interrupted; an `Event` is not, as its lock may be the one that the main thread holds.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

_WAKE_SECONDS = 0.5
"""How often the waiting thread looks up. A signal that comes just before the wait begins does not interrupt it, and on
Windows none does."""


class StopSignals:
    """To be used by the main thread, as a context. Other handlers are put back at its end.

    `end` is called with the exit code by a signal that does not ask; it must not return.
    """

    def __init__(self, end: Callable[[int], Any] = os._exit) -> None:
        self._end = end
        self._asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._asks = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, self._handle)
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=self._after_fork)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _after_fork(self) -> None:
        """In a process that the app forked off: a SIGTERM is meant for it and ends it, as its parent expects.

        Ctrl-C goes to all processes of a terminal, so it keeps its two steps: an activity is not broken by the first.
        """
        handler = self._before.get(signal.SIGTERM)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)

    def ask_first(self) -> None:
        """From here on there is something to be stopped gently: the next signal asks, and the one after it ends."""
        self._asks = True

    def wait(self) -> int:
        """The number of the first signal, once it came."""
        while True:
            try:
                return self._asked.get(timeout=_WAKE_SECONDS)
            except queue.Empty:
                continue

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asks:
            self._asks = False
            self._asked.put(number)
        else:
            self._end(exit_code(number))


def exit_code(number: int) -> int:
    """That of a process which a signal ended, as shells tell it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number
