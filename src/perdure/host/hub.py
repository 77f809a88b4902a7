"""The task hub of the engine in this process, for clients on any event loop.

A call is posted to the engine's home thread; answers come back to the loop that asked, as many at once as there are,
because waking a loop costs more than an answer.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from msgspec.structs import astuple

from perdure.core.errors import InstanceNotFound, InvalidRequest
from perdure.core.events import EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated, TurnRecord
from perdure.core.protocols import InstanceQuery, Reply, StartRequest
from perdure.core.runtime import Runtime
from perdure.core.state import ENDED, InstanceRow
from perdure.engine import Engine
from perdure.engine.loading import read_history
from perdure.store.api import Store

_PLAIN: frozenset[type] = frozenset({str, type(None)})


class _Postbox:
    """Answers on their way to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._answers: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._told = False

    def put(self, future: asyncio.Future[Any], answer: Any) -> None:
        """May be called from any thread. An answer for a loop that is gone is dropped."""
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


class LocalHub:
    """`core.protocols.TaskHub` over an engine. `name` is the hub's."""

    def __init__(self, name: str, runtime: Runtime, store: Store, engine: Engine) -> None:
        self._name = name
        self._runtime = runtime
        self._store = store
        self._engine = engine
        self._reader = runtime.worker("hub-reader")
        self._postboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Postbox] = weakref.WeakKeyDictionary()
        self._last_used: _Postbox | None = None

    @property
    def name(self) -> str:
        return self._name

    async def start(self, request: StartRequest) -> str:
        if not {type(value) for value in astuple(request)} <= _PLAIN:
            request = StartRequest(
                name=_exact(request.name),
                instance_id=_exact_or_none(request.instance_id),
                input=_exact_or_none(request.input),
                version=_exact_or_none(request.version),
                request_id=_exact_or_none(request.request_id),
            )
        future, reply = self._slot()
        self._runtime.post(self._engine.doors.start, request, reply)
        return await future

    async def raise_event(
        self, instance_id: str, name: str, input: str | None, source: Literal["", "client"] = ""
    ) -> None:
        event = EventRaised(name=_exact(name), input=_exact_or_none(input), source=source)
        await self._ask(lambda reply: self._engine.doors.raise_event(instance_id, event, reply))

    async def terminate(self, instance_id: str, reason: str | None) -> None:
        event = ExecutionTerminated(reason=_exact_or_none(reason))
        await self._ask(lambda reply: self._engine.doors.control(instance_id, event, reply))

    async def suspend(self, instance_id: str, reason: str | None) -> None:
        event = ExecutionSuspended(reason=_exact_or_none(reason))
        await self._ask(lambda reply: self._engine.doors.control(instance_id, event, reply))

    async def resume(self, instance_id: str, reason: str | None) -> None:
        event = ExecutionResumed(reason=_exact_or_none(reason))
        await self._ask(lambda reply: self._engine.doors.control(instance_id, event, reply))

    async def purge(self, instance_id: str) -> None:
        await self._ask(lambda reply: self._engine.doors.purge(instance_id, reply))

    async def get(self, instance_id: str) -> InstanceRow | None:
        row = self._engine.committed(instance_id)
        if row is not None:
            return row
        found: dict[str, InstanceRow] = await self._read(lambda: self._store.find([instance_id]))
        return found.get(instance_id)

    async def query(self, query: InstanceQuery) -> list[InstanceRow]:
        return await self._read(lambda: self._store.query(query))

    async def history(self, instance_id: str) -> list[TurnRecord]:
        row = await self.get(instance_id)
        if row is None:
            raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
        execution = row.execution
        return await self._read(lambda: read_history(self._store, execution))

    async def wait(self, instance_id: str, timeout: float) -> InstanceRow:
        row = self._engine.committed(instance_id)
        if row is not None and row.status in ENDED:
            return row
        future, reply = self._slot()
        self._runtime.post(self._engine.doors.wait, instance_id, reply)
        alarm = asyncio.get_running_loop().call_later(timeout, _set_none, future)
        row = None
        try:
            row = await future
        finally:
            alarm.cancel()
            if row is None:
                self._runtime.post(self._engine.doors.stop_waiting, instance_id, reply)
        row = row or await self.get(instance_id)
        if row is None:
            raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
        return row

    def _slot(self) -> tuple[asyncio.Future[Any], Reply]:
        loop = asyncio.get_running_loop()
        postbox = self._last_used
        if postbox is None or postbox.loop() is not loop:
            postbox = self._postboxes.get(loop)
            if postbox is None:
                postbox = self._postboxes[loop] = _Postbox(loop)
            self._last_used = postbox
        future: asyncio.Future[Any] = loop.create_future()
        return future, functools.partial(postbox.put, future)

    async def _ask(self, verb: Callable[[Reply], object]) -> Any:
        future, reply = self._slot()
        self._runtime.post(verb, reply)
        return await future

    async def _read(self, read: Callable[[], Any]) -> Any:
        future, reply = self._slot()
        self._reader.submit(read, reply)
        return await future


def _set_none(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def _exact(text: str) -> str:
    """A plain str: what is of a subclass (a str enum, markup) cannot be stored. Raises InvalidRequest."""
    if type(text) is str:
        return text
    if isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return str.__str__(text)
    raise InvalidRequest(f"A text is needed here, not {type(text).__name__}.")


def _exact_or_none(text: str | None) -> str | None:
    return None if text is None else _exact(text)
