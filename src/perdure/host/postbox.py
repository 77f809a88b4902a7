"""Answers from the engine's thread to callers on an event loop, as many at once as there are.

Waking a loop costs more than an answer, and a timer of the loop costs as much as several: most who wait with a limit
are answered long before it.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections import deque
from typing import Any

from perdure.core.protocols import Reply


class Postbox:
    """The answers for one loop. Everything but a `Reply` is used on that loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._answers: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._told = False
        self._limits: dict[asyncio.Future[Any], float] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    def slot(self) -> tuple[asyncio.Future[Any], Reply]:
        """A future of the running loop, and what settles it from any thread: a result, or an exception to raise."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return future, functools.partial(self._put, future)

    async def get(self, future: asyncio.Future[Any], seconds: float) -> Any:
        """The result of `future`, None if it is not there within `seconds`."""
        loop = future.get_loop()
        limit = self._limits[future] = loop.time() + seconds
        if self._alarm is None or limit < self._alarm_at:
            self._set_alarm(loop, limit)
        try:
            return await future
        finally:
            del self._limits[future]

    def _put(self, future: asyncio.Future[Any], answer: Any) -> None:
        """An answer for a loop that is gone is dropped."""
        self._answers.append((future, answer))
        if not self._told:
            self._told = True
            loop = self.loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._told = False
        while self._answers:
            future, answer = self._answers.popleft()
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = loop.call_at(at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of those whose time is over, and look again when that of another may be.

        One alarm for all, at the earliest limit: whoever had it has mostly left by then, which costs one look.
        """
        self._alarm = None
        now = loop.time()
        later: float | None = None
        for future, limit in self._limits.items():
            if limit <= now:
                if not future.done():
                    future.set_result(None)
            elif later is None or limit < later:
                later = limit
        if later is not None:
            self._set_alarm(loop, later)
