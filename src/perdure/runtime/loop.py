"""One event loop on a thread of its own, for the user's async code."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

log = logging.getLogger("perdure.runtime")


class LoopPool:
    """Runs calls that return awaitables, each as a task of the loop. See `core.runtime.Pool`.

    The thread starts with the first call.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._closing = False
        self._lock = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._run, args=(self._loop,), name=f"perdure-{self._name}", daemon=True
                ).start()
            return self._loop

    def submit(self, calls: Sequence[Callable[[], Awaitable[Any]]], *, short: bool = False) -> None:
        try:
            self.loop.call_soon_threadsafe(self._start, list(calls))
        except RuntimeError:
            log.debug("loop %s is closed; %d calls dropped", self._name, len(calls))

    def close(self) -> None:
        self._closing = True
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(loop.stop)
            except RuntimeError:
                log.debug("loop %s is closed already", self._name)

    def _start(self, calls: list[Callable[[], Awaitable[Any]]]) -> None:
        for call in calls:
            task = asyncio.ensure_future(call())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("internal error in an async call", exc_info=task.exception())

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while not self._closing:
                try:
                    loop.run_forever()
                except BaseException:  # a task of the user raised SystemExit or the like, which ends a loop
                    log.critical("a task ended the event loop %r, which goes on", self._name, exc_info=True)
        finally:
            loop.close()
