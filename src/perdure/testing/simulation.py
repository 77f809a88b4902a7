"""A world in one thread: a machine, a store that survives its processes, and hosts that are killed and come back.

`World` runs the real engine on a simulated runtime. Clients are callbacks that ask again until they are answered, as a
careful client would; what they were told is kept, to be checked at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.core.errors import CallerError, HostStopping
from perdure.core.events import EventRaised
from perdure.core.protocols import Activities, Orchestrators, Reply, StartRequest
from perdure.core.state import ENDED, InstanceRow
from perdure.engine import Engine, EngineSettings
from perdure.engine.payloads import whole_rows
from perdure.store.api import Commit, Store
from perdure.testing.faults import FaultRates, FaultyStore, ProcessDied
from perdure.testing.runtime import SimulatedMachine, SimulatedRuntime

DEFAULT_SETTINGS = EngineSettings(
    turns_in_chunk=4,
    turns_in_batch=16,
    instances_in_memory=6,
    poll_seconds=600.0,
    horizon_seconds=1800.0,
)


class Process:
    """One life of a host."""

    def __init__(self, world: World) -> None:
        self.runtime = SimulatedRuntime(world.machine)
        self.store = FaultyStore(world.open_store(), world.rates, world.machine.random, self.die, world.refuse)
        self.engine = Engine(self.runtime, self.store, world.orchestrators, world.activities, world.settings)
        self.world = world
        self.running = False
        self.runtime.post(self.engine.start, self._on_running)

    def _on_running(self) -> None:
        self.running = True

    def die(self) -> None:
        if self.runtime.alive:
            self.runtime.kill()
            self.engine.drop_sessions()  # or the garbage collector would run the way out of each generator
            self.world.process_died(self)


class World:
    """`open_store` gives a fresh handle on the same data. `rates` may be changed while the world runs."""

    def __init__(
        self,
        seed: int,
        open_store: Callable[[], Store],
        orchestrators: Orchestrators,
        activities: Activities,
        rates: FaultRates | None = None,
        settings: EngineSettings = DEFAULT_SETTINGS,
        refuse: Callable[[Commit], str | None] = lambda _: None,
    ) -> None:
        self.seed = seed
        self.machine = SimulatedMachine(seed)
        self.open_store = open_store
        self.orchestrators = orchestrators
        self.activities = activities
        self.rates = rates or FaultRates()
        self.settings = settings
        self.refuse = refuse
        self.crashes = 0
        self.faults: dict[str, int] = {}
        self.process = Process(self)

    # --- life and death ----------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        return self.process.engine

    def process_died(self, process: Process) -> None:
        self.crashes += 1
        self._count(process)
        self.machine.at(self.machine.random.randrange(1, 2000), self._restart)

    def _restart(self) -> None:
        self.process = Process(self)

    def kill(self) -> None:
        """SIGKILL, and a new process a moment later."""
        self.process.die()

    def calm(self) -> None:
        """No more faults from here on."""
        self.strike_with(FaultRates())

    def strike_with(self, rates: FaultRates) -> None:
        """Faults of these rates from here on, in this process and the next ones."""
        self._count(self.process)
        self.process.store.counts = {}
        self.rates = self.process.store.rates = rates

    def _count(self, process: Process) -> None:
        for name, count in process.store.counts.items():
            self.faults[name] = self.faults.get(name, 0) + count

    def run_until(self, done: Callable[[], bool], max_steps: int = 200_000) -> bool:
        for _ in range(max_steps):
            if done():
                return True
            try:
                if not self.machine.step():
                    return done()
            except ProcessDied:
                continue
        return done()

    # --- clients -----------------------------------------------------------------------------------------------------

    def ask(
        self, verb: Callable[[Engine, Reply], object], then: Callable[[Any], object], patience: float = 1.0
    ) -> None:
        """Send a request to whatever process lives and ask again when no answer comes; `then` gets the first answer.

        A request is asked again only if its process died, stopped or stays silent, so `verb` must bear repetition.
        """
        answered = False
        sent_to: Process | None = None

        def reply(answer: Any) -> None:
            nonlocal answered
            if not answered and not isinstance(answer, HostStopping):
                answered = True
                then(answer)

        def send() -> None:
            nonlocal sent_to
            if answered:
                return
            process = self.process
            if process is not sent_to and process.runtime.alive:
                sent_to = process
                process.runtime.post(verb, process.engine, reply)
            self.machine.at(int(patience * 1_000_000), send)

        self.machine.at(self.machine.random.randrange(500), send)

    def ask_once(self, verb: Callable[[Engine, Reply], object], then: Callable[[Any], object]) -> None:
        """Send a request once; if the process dies nobody knows what became of it, and `then` is not called."""

        def send() -> None:
            process = self.process
            if process.runtime.alive:
                process.runtime.post(verb, process.engine, then)

        self.machine.at(self.machine.random.randrange(500), send)

    def start(self, name: str, instance_id: str, input: str | None, then: Callable[[Any], object]) -> None:
        request = StartRequest(name=name, instance_id=instance_id, input=input, request_id=f"request-{instance_id}")
        self.ask(lambda engine, reply: engine.doors.start(request, reply), then)

    def raise_event(self, instance_id: str, name: str, input: str | None, then: Callable[[Any], object]) -> None:
        event = EventRaised(name=name, input=input)
        self.ask_once(lambda engine, reply: engine.doors.raise_event(instance_id, event, reply), then)

    # --- looking on --------------------------------------------------------------------------------------------------

    def row(self, instance_id: str) -> InstanceRow | None:
        """What is durable, as clients are shown it, read past all faults."""
        store = self.open_store()

        def find() -> list[InstanceRow]:
            return list(store.find([instance_id]).values())

        rows = whole_rows(store, find(), find)
        return rows[0] if rows else None

    def ended(self, instance_id: str) -> bool:
        row = self.open_store().find([instance_id]).get(instance_id)
        return row is not None and row.status in ENDED


def refused(answer: Any) -> bool:
    return isinstance(answer, CallerError)
