"""The task hub of the engine in this process, for clients on any event loop.

A call is posted to the engine's home thread; its answer comes back to the loop that asked.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Literal

from msgspec.structs import astuple

from perdure.core.errors import InstanceNotFound, InvalidRequest, UnreadableRecord
from perdure.core.events import EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated, TurnRecord
from perdure.core.protocols import InstanceQuery, Reply, StartRequest
from perdure.core.runtime import Runtime
from perdure.core.state import ENDED, InstanceRow
from perdure.engine import Engine
from perdure.engine.loading import read_history
from perdure.engine.payloads import is_whole, whole_rows
from perdure.host.postbox import Postbox
from perdure.store.api import Store

_PLAIN: frozenset[type] = frozenset({str, type(None)})


class LocalHub:
    """`core.protocols.TaskHub` over an engine. `name` is the hub's."""

    def __init__(self, name: str, runtime: Runtime, store: Store, engine: Engine) -> None:
        self._name = name
        self._runtime = runtime
        self._store = store
        self._engine = engine
        self._reader = runtime.worker("hub-reader")
        self._postboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Postbox] = weakref.WeakKeyDictionary()
        self._last_used: Postbox | None = None

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
        return row if row is not None and is_whole(row) else await self._find(instance_id, row)

    async def query(self, query: InstanceQuery) -> list[InstanceRow]:
        def read() -> list[InstanceRow]:
            return whole_rows(self._store, self._store.query(query), lambda: self._store.query(query))

        return await self._read(read)

    async def history(self, instance_id: str) -> list[TurnRecord]:
        row = self._engine.committed(instance_id)
        execution = None if row is None else row.execution
        records: list[TurnRecord] | None = await self._read(lambda: self._history(instance_id, execution))
        if records is None:
            raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
        return records

    def _history(self, instance_id: str, execution: int | None) -> list[TurnRecord] | None:
        """On the reader's thread. `execution` is the current one, as far as is known."""
        while True:
            if execution is None:
                row = self._store.find([instance_id]).get(instance_id)
                if row is None:
                    return None
                execution = row.execution
            fault: UnreadableRecord | None = None
            records: list[TurnRecord] = []
            try:
                records = read_history(self._store, execution)
            except UnreadableRecord as error:
                fault = error
            # If the execution is over by now, some of it, or all, may have been swept away before it was read.
            row = self._store.find([instance_id]).get(instance_id)
            if row is not None and row.execution == execution:
                if fault is not None:
                    raise fault
                return records
            execution = None

    async def wait(self, instance_id: str, timeout: float) -> InstanceRow:
        clock = asyncio.get_running_loop().time
        until = clock() + timeout
        while True:
            row = await self._wait(instance_id, timeout)
            if row is not None and not is_whole(row):
                row = await self._find(instance_id, row)
            if row is None:
                raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
            timeout = until - clock()
            if row.status in ENDED or timeout <= 0:
                return row
            # It has ended, and was begun anew before its large texts were read.

    async def _wait(self, instance_id: str, timeout: float) -> InstanceRow | None:
        row = self._engine.committed(instance_id)
        if row is not None and row.status in ENDED:
            return row
        future, reply = self._slot()
        self._runtime.post(self._engine.doors.wait, instance_id, reply)
        row = None
        try:
            row = await self._postbox().get(future, timeout)
        finally:
            if row is None:
                self._runtime.post(self._engine.doors.stop_waiting, instance_id, reply)
        return row or await self.get(instance_id)

    async def _find(self, instance_id: str, row: InstanceRow | None) -> InstanceRow | None:
        """The instance as the store has it, or `row`, as long as its large texts are there."""

        def find() -> list[InstanceRow]:
            return list(self._store.find([instance_id]).values())

        def read() -> list[InstanceRow]:
            return whole_rows(self._store, find() if row is None else [row], find)

        rows: list[InstanceRow] = await self._read(read)
        return rows[0] if rows else None

    def _postbox(self) -> Postbox:
        loop = asyncio.get_running_loop()
        postbox = self._last_used
        if postbox is None or postbox.loop() is not loop:
            postbox = self._postboxes.get(loop)
            if postbox is None:
                postbox = self._postboxes[loop] = Postbox(loop)
            self._last_used = postbox
        return postbox

    def _slot(self) -> tuple[asyncio.Future[Any], Reply]:
        return self._postbox().slot()

    async def _ask(self, verb: Callable[[Reply], object]) -> Any:
        future, reply = self._slot()
        self._runtime.post(verb, reply)
        return await future

    async def _read(self, read: Callable[[], Any]) -> Any:
        future, reply = self._slot()
        self._reader.submit(read, reply)
        return await future


def _exact(text: str) -> str:
    """A plain str: what is of a subclass (a str enum, markup) cannot be stored. Raises InvalidRequest."""
    if type(text) is str:
        return text
    if isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return str.__str__(text)
    raise InvalidRequest(f"A text is needed here, not {type(text).__name__}.")


def _exact_or_none(text: str | None) -> str | None:
    return None if text is None else _exact(text)
