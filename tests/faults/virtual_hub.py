"""A task hub in virtual time for tests that provoke one fault each: small apps, one client that waits for answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from azure.durable_functions.registry import ActivityFunction, ActivityTable, OrchestratorTable, Registry

from perdure.core.errors import RefusedData, StoreUnavailable
from perdure.core.events import (
    Control,
    EventRaised,
    ExecutionResumed,
    ExecutionSuspended,
    ExecutionTerminated,
    TurnRecord,
)
from perdure.core.protocols import InstanceQuery, Reply, StartRequest
from perdure.core.state import ENDED, InstanceRow
from perdure.engine import Engine, EngineSettings
from perdure.engine.loading import read_history
from perdure.store.api import Commit, PayloadRow, Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.testing.faults import FaultRates, ProcessDied
from perdure.testing.simulation import World

SETTINGS = EngineSettings(poll_seconds=0, horizon_seconds=3600.0, retry_seconds=0.01, retry_limit_seconds=0.1)
SILENT = object()
"""The answer of a request that nobody answered."""


def serve(
    orchestrators: Mapping[str, Callable[..., Any]], activities: Mapping[str, Callable[..., Any]] | None = None
) -> Registry:
    """An app of plain functions. The parameter of an activity is called `value`."""
    table, functions = OrchestratorTable(), ActivityTable()
    for name, function in orchestrators.items():
        table.add(name, function)
    for name, function in (activities or {}).items():
        functions.add(ActivityFunction(name, function, "value"))
    return Registry(table, functions)


Strike = Literal["", "dies before", "dies after", "dies soon", "fails", "refused", "answer lost"]
"""What happens to a write, or to the process around it."""


class StruckStore(MemoryStore):
    """A store whose writes are struck as told by what is given their ordinals, from 1."""

    def __init__(
        self,
        hub: VirtualHub,
        strike: Callable[[int, Commit], Strike],
        strike_payloads: Callable[[int, Sequence[PayloadRow]], Strike],
    ) -> None:
        super().__init__(hub.database, "hub")
        self._virtual = hub
        self._strike = strike
        self._strike_payloads = strike_payloads

    def commit(self, commit: Commit) -> None:
        self._virtual.commits += 1
        self._meet(self._strike(self._virtual.commits, commit), lambda: MemoryStore.commit(self, commit))

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        hub = self._virtual
        hub.payload_writes += 1
        strike = self._strike_payloads(hub.payload_writes, rows)
        self._meet(strike, lambda: MemoryStore.write_payloads(self, host_id, rows))
        hub.payloads.extend(rows)

    def _meet(self, strike: Strike, write: Callable[[], None]) -> None:
        if strike == "dies before":
            self._die()
        if strike == "fails":
            raise StoreUnavailable("the write failed")
        if strike == "refused":
            raise RefusedData("it cannot be held")
        write()
        if strike == "dies after":
            self._die()
        if strike == "dies soon":
            self._virtual.world.machine.at(1000, self._virtual.world.kill)
        if strike == "answer lost":
            raise StoreUnavailable("the answer was lost")

    def _die(self) -> None:
        self._virtual.world.process.die()
        raise ProcessDied


class VirtualHub:
    """`refuse` says why a commit is refused, `strike` what else happens to it, `strike_payloads` to large values.

    `database` may be shared with a hub that went before.
    """

    def __init__(
        self,
        app: Registry,
        *,
        seed: int = 1,
        rates: FaultRates | None = None,
        settings: EngineSettings = SETTINGS,
        refuse: Callable[[Commit], str | None] = lambda _: None,
        strike: Callable[[int, Commit], Strike] = lambda _, __: "",
        strike_payloads: Callable[[int, Sequence[PayloadRow]], Strike] = lambda _, __: "",
        database: MemoryDatabase | None = None,
    ) -> None:
        self.database = database or MemoryDatabase()
        self.commits = 0
        """How many were tried, by all processes."""
        self.payload_writes = 0
        """The same, of those beside the commits."""
        self.payloads: list[PayloadRow] = []
        """What was written there and acknowledged."""

        def open_store() -> Store:
            return StruckStore(self, strike, strike_payloads)

        self.world = World(seed, open_store, app.orchestrators, app.activities, rates, settings, refuse)

    def __enter__(self) -> VirtualHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.drop_sessions()

    def open_store(self) -> Store:
        """The same data, past all faults."""
        return MemoryStore(self.database, "hub")

    @property
    def engine(self) -> Engine:
        return self.world.engine

    # --- a client that waits -----------------------------------------------------------------------------------------

    def ask(self, verb: Callable[[Engine, Reply], object], seconds: float = 60.0) -> Any:
        """The answer; SILENT if there is none within `seconds` of virtual time. A process that died is asked again."""
        answers: list[Any] = []
        self.world.ask(verb, answers.append)
        self.run(lambda: bool(answers), seconds)
        return answers[0] if answers else SILENT

    def send(self, verb: Callable[[Engine, Reply], object]) -> list[Any]:
        """Ask without waiting; the answer will be in the list."""
        answers: list[Any] = []
        self.world.ask(verb, answers.append)
        return answers

    def wait_for(self, *answers: list[Any]) -> None:
        """Until each of these has its answer."""
        assert self.run(lambda: all(answers)), answers

    def start(self, name: str, instance_id: str, input: Any = None, request_id: str | None = None) -> Any:
        return self.ask(starting(name, instance_id, input, request_id))

    def raise_event(self, instance_id: str, name: str, input: Any = None) -> Any:
        return self.ask(raising(instance_id, name, input))

    def control(self, instance_id: str, event: Control) -> Any:
        return self.ask(controlling(instance_id, event))

    def terminate(self, instance_id: str, reason: str = "enough") -> Any:
        return self.control(instance_id, ExecutionTerminated(reason=reason))

    def suspend(self, instance_id: str) -> Any:
        return self.control(instance_id, ExecutionSuspended())

    def resume(self, instance_id: str) -> Any:
        return self.control(instance_id, ExecutionResumed())

    def purge(self, instance_id: str) -> Any:
        return self.ask(lambda engine, reply: engine.doors.purge(instance_id, reply))

    # --- time --------------------------------------------------------------------------------------------------------

    def run(self, done: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Let the world go on until `done`; False if it is not within `seconds` of virtual time."""
        until = self.world.machine.now() + int(seconds * 1_000_000)
        over = False

        def stop() -> bool:
            nonlocal over
            over = done()
            return over or self.world.machine.now() >= until

        self.world.machine.at(until - self.world.machine.now(), int)
        self.world.run_until(stop, 5_000_000)
        return over

    def rest(self, seconds: float = 1.0) -> None:
        self.run(lambda: False, seconds)

    def run_to_end(self, *instance_ids: str, seconds: float = 60.0) -> None:
        """Until these instances have ended."""
        assert self.run(lambda: all(map(self.ended, instance_ids)), seconds), [self.row(i) for i in instance_ids]

    def run_until_status(self, instance_id: str, status: str) -> None:
        assert self.run(lambda: self.row(instance_id).status == status), self.row(instance_id)

    def run_until_parked(self, instance_id: str) -> None:
        assert self.run(lambda: self.row(instance_id).parked is not None), self.row(instance_id)

    # --- what is durable ---------------------------------------------------------------------------------------------

    def find(self, instance_id: str) -> InstanceRow | None:
        return self.world.row(instance_id)

    def row(self, instance_id: str) -> InstanceRow:
        row = self.find(instance_id)
        assert row is not None, f"there is no instance {instance_id!r}"
        return row

    def ended(self, instance_id: str) -> bool:
        row = self.find(instance_id)
        return row is not None and row.status in ENDED

    def rows(self) -> list[InstanceRow]:
        return self.open_store().query(InstanceQuery(limit=100_000))

    def output(self, instance_id: str) -> Any:
        row = self.row(instance_id)
        assert row.status == "Completed", row
        return json.loads(row.output or "null")

    def history(self, instance_id: str) -> list[TurnRecord]:
        return read_history(self.open_store(), self.row(instance_id).execution)

    def received(self, instance_id: str) -> list[Any]:
        return [event for record in self.history(instance_id) for event in record.received]


def strike_at(place: int, strike: Strike) -> Callable[[int, Any], Strike]:
    """Strike the write with this ordinal."""
    return lambda ordinal, _: strike if ordinal == place else ""


def starting(
    name: str, instance_id: str | None, input: Any = None, request_id: str | None = None
) -> Callable[[Engine, Reply], object]:
    text = None if input is None else json.dumps(input)
    request = StartRequest(name=name, instance_id=instance_id, input=text, request_id=request_id)
    return lambda engine, reply: engine.doors.start(request, reply)


def raising(instance_id: str, name: str, input: Any = None) -> Callable[[Engine, Reply], object]:
    event = EventRaised(name=name, input=None if input is None else json.dumps(input))
    return lambda engine, reply: engine.doors.raise_event(instance_id, event, reply)


def controlling(instance_id: str, event: Control) -> Callable[[Engine, Reply], object]:
    return lambda engine, reply: engine.doors.control(instance_id, event, reply)
