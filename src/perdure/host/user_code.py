"""Call the user's functions where they belong: plain ones on a thread of the pool, async ones on the user's loop.

Never on the server's loop, which a function that blocks would stop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from perdure.core.runtime import Pool


class FunctionRaised(Exception):
    """The user's function raised `error`. Wrapped, so that a SystemExit or CancelledError of the function acts on
    nobody else, and is not taken for one that is meant for the request."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


class UserCode:
    """`plain` runs calls on threads, `coroutines` runs calls that return awaitables."""

    def __init__(self, plain: Pool, coroutines: Pool) -> None:
        self._plain = plain
        self._coroutines = coroutines

    async def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """What the function returns. Raises FunctionRaised."""
        if inspect.iscoroutinefunction(function):
            return await self._on_loop(lambda: function(**arguments))
        result = await self._on_thread(lambda: function(**arguments))
        # A decorator of the user may hide that the function is async.
        return await self._on_loop(lambda: result) if inspect.isawaitable(result) else result

    async def _on_thread(self, call: Callable[[], Any]) -> Any:
        answer = _Answer()

        def run() -> None:
            try:
                result = call()
            except BaseException as error:
                answer.fail(error)
            else:
                answer.give(result)

        self._plain.submit([run])
        return await answer.future

    async def _on_loop(self, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = _Answer()

        async def run() -> None:
            try:
                result = await call()
            except BaseException as error:
                answer.fail(error)
            else:
                answer.give(result)

        self._coroutines.submit([run])
        return await answer.future


class _Answer:
    """A future of the running loop that another thread settles."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def give(self, result: Any) -> None:
        self._post(lambda: self.future.set_result(result))

    def fail(self, error: BaseException) -> None:
        self._post(lambda: self.future.set_exception(FunctionRaised(error)))

    def _post(self, settle: Callable[[], None]) -> None:
        def settle_if_awaited() -> None:
            if not self.future.done():
                settle()

        try:
            self._loop.call_soon_threadsafe(settle_if_awaited)
        except RuntimeError:
            # The server's loop is closed: the host has stopped and nobody waits any more.
            pass
