"""A host without a process: the engine on a store, in one thread and in virtual time, in an order drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from azure.durable_functions.registry import Registry

from perdure.core.errors import PerdureError
from perdure.core.events import Control, EventRaised
from perdure.core.protocols import Reply, StartRequest
from perdure.core.state import InstanceRow
from perdure.engine import Engine, EngineSettings
from perdure.store.api import Store
from perdure.testing.runtime import SimulatedMachine, SimulatedRuntime

_MAX_STEPS = 200_000


class VirtualHost:
    """Runs only while one of its methods does. `lanes` has the ids of all lanes that it has opened."""

    def __init__(
        self,
        machine: SimulatedMachine,
        store: Store,
        registry: Registry,
        settings: EngineSettings | None = None,
        jitter_us: int = 300,
    ) -> None:
        self.machine = machine
        self.store = store
        self.runtime = SimulatedRuntime(machine, jitter_us)
        self.engine = Engine(self.runtime, store, registry.orchestrators, registry.activities, settings)
        self.lanes: set[str] = set()
        running: list[bool] = []
        self.runtime.post(self.engine.start, lambda: running.append(True))
        self.run_until(lambda: bool(running))

    def run_until(self, condition: Callable[[], bool]) -> None:
        def looked() -> bool:
            lane = self.engine.commits.lane
            if lane is not None:
                self.lanes.add(lane.host.id)
            return condition()

        assert self.machine.run_until(looked, _MAX_STEPS), "what was waited for does not happen"

    def kill(self) -> None:
        """As SIGKILL would: nothing that is not in the store is left."""
        self.runtime.kill()
        self.engine.drop_sessions()

    # --- requests: each is carried out, and is durable, when it returns ----------------------------------------------

    def start(self, name: str, instance_id: str, input: str | None = None) -> None:
        request = StartRequest(name, instance_id, input)
        self._ask(lambda reply: self.engine.doors.start(request, reply))

    def raise_event(self, instance_id: str, name: str, input: str | None = None) -> None:
        self._ask(lambda reply: self.engine.doors.raise_event(instance_id, EventRaised(name, input), reply))

    def control(self, instance_id: str, event: Control) -> None:
        self._ask(lambda reply: self.engine.doors.control(instance_id, event, reply))

    def _ask(self, verb: Callable[[Reply], object]) -> None:
        answers: list[Any] = []
        self.runtime.post(verb, answers.append)
        self.run_until(lambda: bool(answers))
        if isinstance(answers[0], PerdureError):
            raise answers[0]

    # --- what is durable ---------------------------------------------------------------------------------------------

    def row(self, instance_id: str) -> InstanceRow:
        return self.store.find([instance_id])[instance_id]

    def wait_for(self, instance_id: str, condition: Callable[[InstanceRow], bool]) -> InstanceRow:
        """The row of the instance once `condition` holds for it."""
        self.run_until(lambda: condition(self.row(instance_id)))
        return self.row(instance_id)


@contextmanager
def virtual_host(*arguments: Any, **options: Any) -> Iterator[VirtualHost]:
    """`VirtualHost(...)`, gone at the end."""
    host = VirtualHost(*arguments, **options)
    try:
        yield host
    finally:
        host.kill()
