"""One seeded schedule: a mix of instances, clients and faults, run to its end and checked.

`run_schedule(seed)` raises `Broken` when an invariant does not hold, with the command that runs the same again.
Invariants that hold at the end are checkers, in `checkers.py`; those that hold at every step are in `watch.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from azure.durable_functions.registry import Registry
from msgspec import Struct
from msgspec.structs import replace

from perdure.core.errors import CallerError, HostStopping, InstanceEnded, InstanceExists, InstanceNotFound
from perdure.core.events import Control, EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated
from perdure.core.protocols import InstanceQuery, Reply, StartRequest
from perdure.core.state import InstanceRow
from perdure.engine import Engine, EngineSettings
from perdure.engine.instances import Mail
from perdure.engine.outside import submit_message, submit_start
from perdure.store.api import Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.testing.faults import FaultRates
from perdure.testing.runtime import SimulatedRuntime
from perdure.testing.simulation import DEFAULT_SETTINGS, Process, World
from simulation.checkers import CHECKERS
from simulation.programs import Ledger, build_app, draw_input, text
from simulation.watch import Broken, Watch

KINDS = (
    "chain",
    "fan",
    "tree",
    "sleeper",
    "race",
    "nested",
    "twins",
    "canceller",
    "saga",
    "guarded",
    "quitter",
    "namesakes",
    "collector",
    "eternal",
    "relay",
    "spinner",
    "stamped",
    "doomed",
)
COUNTERS = ("collector", "eternal")
"""Programs that are sent the numbers 1, 2, … as events."""

FATES = ("", "restart", "terminate", "purge")
"""What becomes of a `stamped` one: it is started again after its end, or after it was terminated, or purged."""

_PAYLOAD_BYTES = (32_768, 32_768, 250, 20)
"""So that nothing is large, or the longest records, or nearly all of them, and inputs and outputs too."""
_FAULTY_US = 120_000
_POLL_SECONDS = 0.01


class Sent(Struct):
    """What a sender knows of one event: how often it was raised, whether it was ever acknowledged."""

    raised: int = 0
    acknowledged: int = 0


class Plan(Struct):
    """What is drawn for a schedule; tests narrow it. None: drawn from the seed."""

    kinds: tuple[str, ...] = KINDS
    instances: tuple[int, int] = (6, 12)
    rates: FaultRates | None = None
    kills: int | None = None
    stops: int | None = None
    doubles: float | None = None
    steering: bool = True
    bursts: bool = False
    """Events are raised without waiting for answers; only without faults do they all arrive, and in order."""
    noise: int | None = None
    outside: bool | None = None
    """Whether other processes insert starts and messages."""
    payload_bytes: int | None = None
    """Above which size a value is large."""
    settings: EngineSettings = DEFAULT_SETTINGS
    steps: int = 40_000
    """After so many, ten times what the longest need, it is taken to have come to a standstill."""


class Schedule:
    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.random = rng = random.Random(seed * 7919 + 17)
        self.ledger = Ledger()
        self.registry: Registry = build_app(self.ledger)
        self.database = MemoryDatabase()
        self.given: dict[str, dict[str, Any]] = {}
        self.kind: dict[str, str] = {}
        self.fate: dict[str, str] = {}
        self.awaited: set[str] = set()
        """Instances for which something is still to be asked or answered."""
        self.outsiders: set[str] = set()
        """Instances that another process starts and, in part, steers."""
        self.won: set[str] = set()
        """Those of them that were started there; the others were refused, as a rival inside had been faster."""
        self.rivals: dict[str, Any] = {}
        """What a rival inside was answered; None as long as it was not."""
        self.reborn: set[str] = set()
        """Instances that were begun anew, so that there is no history of the first execution."""
        self.sent: dict[str, dict[int, Sent]] = {}
        self.noise: dict[str, dict[str, Sent]] = {}
        self.terminated: set[str] = set()
        self.problems: list[str] = []
        self.watch = Watch(self.open_store)
        rates = plan.rates
        if rates is None:
            rates = FaultRates(
                crash_before_commit=rng.random() * 0.04,
                crash_after_commit=rng.random() * 0.04,
                commit_fails=rng.random() * 0.04,
                answer_lost=rng.random() * 0.04,
                crash_before_payloads=rng.random() * 0.04,
                crash_after_payloads=rng.random() * 0.04,
                payloads_fail=rng.random() * 0.04,
                payloads_answer_lost=rng.random() * 0.04,
                read_fails=rng.random() * 0.02,
                end_host_fails=rng.random() * 0.2,
            )
        self.doubles = rng.random() * 0.3 if plan.doubles is None else plan.doubles
        self.outside = rng.random() < 0.35 if plan.outside is None else plan.outside
        payload_bytes = rng.choice(_PAYLOAD_BYTES) if plan.payload_bytes is None else plan.payload_bytes
        settings = replace(plan.settings, payload_bytes=payload_bytes, record_bytes=payload_bytes)
        if self.outside:
            settings = replace(settings, poll_seconds=_POLL_SECONDS)
        self.world = World(
            seed, self.open_store, self.registry.orchestrators, self.registry.activities, rates, settings
        )
        self._other_process = SimulatedRuntime(self.world.machine)
        self._other_store = self.open_store()
        self._met: Process | None = None

    def open_store(self) -> Store:
        return MemoryStore(self.database, "hub")

    def rows(self) -> list[InstanceRow]:
        return self.open_store().query(InstanceQuery(limit=100_000))

    # --- the world's unkindness --------------------------------------------------------------------------------------

    def _meet(self, process: Process) -> None:
        """Watch what a process commits, and deliver some of its messages twice."""
        self._met = process
        process.store.commits = self.watch.commits
        engine = process.engine
        deliver = engine.deliver
        chance = self.world.machine.random

        def doubled(mail: Mail) -> None:
            deliver(mail)
            if mail.execution and chance.random() < self.doubles:
                self.world.machine.at(chance.randrange(3000), again, mail)

        def again(mail: Mail) -> None:
            lane = engine.commits.lane
            if process.runtime.alive and lane is not None and engine.recovery is not None and engine.recovery.done:
                deliver(engine.make_mail(mail.target, mail.execution, mail.event))

        engine.deliver = doubled

    def _stop(self) -> None:
        """SIGTERM: the process leaves in good order, and another one takes its place."""
        process = self.world.process

        def stopped() -> None:
            if process.runtime.alive:
                process.die()

        process.runtime.post(process.engine.stop, self.random.choice([0.0, 0.002, 1.0]), stopped)

    # --- the script --------------------------------------------------------------------------------------------------

    def run(self) -> World:
        world, rng, plan = self.world, self.random, self.plan
        self._meet(world.process)
        for number in range(rng.randint(*plan.instances)):
            kind = rng.choice(plan.kinds)
            instance_id = f"{kind}-{number}"
            self.kind[instance_id] = kind
            self.given[instance_id] = draw_input(kind, instance_id, rng, long_pauses=not self.outside)
            self.fate[instance_id] = fate = rng.choice(FATES) if kind == "stamped" else ""
            if fate:
                self.reborn.add(instance_id)
            self.awaited.add(instance_id)
            if self.outside and rng.random() < 0.4:
                self.outsiders.add(instance_id)
            world.machine.at(rng.randrange(20_000), self._start, instance_id)
        for _ in range(rng.randint(0, 3) if plan.kills is None else plan.kills):
            world.machine.at(rng.randrange(1000, 60_000), lambda: world.kill())
        for _ in range(rng.randint(0, 1) if plan.stops is None else plan.stops):
            world.machine.at(rng.randrange(1000, 60_000), self._stop)
        for number in range(rng.randint(0, 6) if plan.noise is None else plan.noise):
            world.machine.at(rng.randrange(2000, 80_000), self._make_noise, f"noise-{number}")
        world.machine.at(_FAULTY_US, world.calm)
        if not world.run_until(self._over_once_in(40), plan.steps):
            raise Broken(f"not at an end: {self._unfinished()}")
        self._let_settle()
        for check in CHECKERS:
            check(self)
        return world

    def _over_once_in(self, steps: int) -> Callable[[], bool]:
        count = 0

        def over() -> bool:
            nonlocal count
            process = self.world.process
            if process is not self._met:
                self._meet(process)
            self.watch.step(process)
            count += 1
            if count % steps:
                return False
            self.watch.quiet_moment(process, self.kind)
            return not self._unfinished()

        return over

    def _let_settle(self) -> None:
        """What is on the way at the end (a late answer, garbage) comes to rest."""
        until = self.world.machine.now() + 1_500_000
        self.world.run_until(lambda: self.world.machine.now() >= until)

    def _unfinished(self) -> list[str]:
        unanswered = [i for i, answer in self.rivals.items() if answer is None]
        return unanswered + [i for i in self.kind if i in self.awaited or not self.world.ended(i)]

    # --- clients -----------------------------------------------------------------------------------------------------

    def _start(self, instance_id: str) -> None:
        request = StartRequest(
            name=self.kind[instance_id],
            instance_id=instance_id,
            input=text(self.given[instance_id]),
            request_id=f"first {instance_id}",
        )

        def started(answer: Any) -> None:
            if answer != instance_id:
                self.problems.append(f"the start of {instance_id} was answered with {answer!r}")
            self._go_on(instance_id)

        if instance_id in self.outsiders:
            self.world.machine.at(self.random.randrange(600), self._insert_start, request)
            if self.kind[instance_id] not in (*COUNTERS, "stamped") and self.random.random() < 0.3:
                self._rival(request)
        else:
            self.world.ask(lambda engine, reply: engine.doors.start(request, reply), started)

    def _insert_start(self, request: StartRequest) -> None:
        """Start an instance from another process."""
        instance_id = request.instance_id
        assert instance_id is not None
        try:
            submit_start(self._other_store, self._other_process, request)
            self.won.add(instance_id)
        except InstanceExists:
            pass
        self.watch.published(self._other_store.find([instance_id])[instance_id])
        self._go_on(instance_id)

    def _rival(self, request: StartRequest) -> None:
        """Want the same id as another process at the same moment: one of the two is refused."""
        instance_id = request.instance_id
        assert instance_id is not None
        rival = replace(request, request_id=f"rival {instance_id}")
        self.rivals[instance_id] = None

        def answered(answer: Any) -> None:
            self.rivals[instance_id] = answer
            if instance_id in self.won and answer == instance_id:
                self.reborn.add(instance_id)  # it came too late to be a rival: the first had ended

        self.world.ask(lambda engine, reply: engine.doors.start(rival, reply), answered)

    def _go_on(self, instance_id: str) -> None:
        """The instance is there."""
        if self.kind[instance_id] in COUNTERS:
            self.sent[instance_id] = {}
            if self.plan.steering and self.random.random() < 0.3:
                self._pause(instance_id, fatal=0)
            if self.plan.bursts:
                self.world.machine.at(self.random.randrange(8000), self._send_all, instance_id)
            else:
                self._send(instance_id, 1)
        elif self.fate[instance_id]:
            self.world.machine.at(self.random.randrange(4000), self._decide_fate, instance_id)
            return
        elif self.plan.steering and self.random.random() < 0.25:
            self._steer(instance_id)
        self.awaited.discard(instance_id)

    def _send(self, instance_id: str, first: int) -> None:
        """Raise events 1, 2, … in order, a few at once, and the next few when all of these are acknowledged."""
        last = min(first + self.random.choice([0, 0, 1, 2]), self.given[instance_id]["last"])
        numbers = range(first, last + 1)
        self.sent[instance_id].update({number: Sent() for number in numbers})
        self._raise_again(instance_id, numbers)

    def _send_all(self, instance_id: str) -> None:
        """Raise all events, one soon after the other, whatever becomes of them."""
        moment = 0
        for number in range(1, self.given[instance_id]["last"] + 1):
            moment += self.random.randrange(300)
            self.sent[instance_id][number] = Sent(raised=1)
            self.world.machine.at(moment, self._send_at_once, instance_id, number)

    def _send_at_once(self, instance_id: str, number: int) -> None:
        process = self.world.process
        event = EventRaised(name="NUMBER", input=str(number))
        process.runtime.post(process.engine.doors.raise_event, instance_id, event, _nothing)

    def _raise_again(self, instance_id: str, numbers: range) -> None:
        """Raise those of `numbers` that are not acknowledged, and again if nobody answers."""
        sent = self.sent[instance_id]
        missing = [number for number in numbers if not sent[number].acknowledged]
        if not missing:
            return

        def answered(number: int, answer: Any) -> None:
            if isinstance(answer, HostStopping):
                return
            # If it has ended, an earlier try had landed though nobody said so.
            if isinstance(answer, BaseException) and not (
                isinstance(answer, InstanceEnded) and sent[number].raised > 1
            ):
                self.problems.append(f"event {number} for {instance_id} was refused: {answer!r}")
            sent[number].acknowledged += 1
            through = sent[number].acknowledged == 1 and all(sent[n].acknowledged for n in numbers)
            if through and numbers.stop <= self.given[instance_id]["last"]:
                self.world.machine.at(self.random.randrange(5000), self._send, instance_id, numbers.stop)

        for number in missing:
            sent[number].raised += 1
        events = [(EventRaised(name="NUMBER", input=str(n)), partial(answered, n)) for n in missing]
        self._raise(instance_id, events)
        self.world.machine.at(2_000_000, self._raise_again, instance_id, numbers)

    def _make_noise(self, name: str) -> None:
        """An event that nobody waits for, for anybody."""
        targets = [i for i in self.kind if i not in self.awaited and i not in self.reborn]
        if not targets:
            return
        target = self.random.choice(targets)
        sent = self.noise.setdefault(target, {})[name] = Sent(raised=1)

        def answered(answer: Any) -> None:
            if answer is None:
                sent.acknowledged += 1
            elif not isinstance(answer, CallerError):
                self.problems.append(f"{name} for {target} was answered with {answer!r}")

        self._raise(target, [(EventRaised(name="noise", input=f'"{name}"'), answered)])

    def _raise(self, instance_id: str, events: Sequence[tuple[EventRaised, Callable[[Any], object]]]) -> None:
        """Raise events in this order, once."""

        def raise_all(engine: Engine, _: Reply) -> None:
            for event, then in events:
                engine.doors.raise_event(instance_id, event, then)

        if instance_id in self.outsiders:
            for event, then in events:
                self._insert(instance_id, event, then)
        else:
            self.world.ask_once(raise_all, _nothing)

    def _insert(self, instance_id: str, event: EventRaised | Control, then: Callable[[Any], object]) -> None:
        try:
            submit_message(self._other_store, instance_id, event)
        except CallerError as refusal:
            then(refusal)
        else:
            then(None)

    def _steer(self, instance_id: str) -> None:
        """Suspend it for a while, or terminate it."""
        if self.random.random() < 0.3:
            self.terminated.add(instance_id)
            self._control(instance_id, ExecutionTerminated(reason="enough"), _nothing)
        else:
            self._pause(instance_id, fatal=0.3)

    def _pause(self, instance_id: str, fatal: float) -> None:
        """Suspend it, and resume it later; or terminate it then, with the probability `fatal`."""

        def resume() -> None:
            self._control(instance_id, ExecutionResumed(), _nothing)

        def suspended(_: Any) -> None:
            if self.random.random() < fatal:
                self.terminated.add(instance_id)
                terminate = ExecutionTerminated(reason="while suspended")
                self.world.machine.at(self.random.randrange(30_000), self._control, instance_id, terminate, _nothing)
                return
            self.world.machine.at(self.random.randrange(30_000), resume)
            # Of two clients, one inside and one outside, the second may be the first to be heard.
            for pause in (100_000, 1_000_000, 10_000_000):
                self.world.machine.at(pause, resume_if_need_be)

        def resume_if_need_be() -> None:
            row = self.world.row(instance_id)
            if row is not None and row.status == "Suspended":
                resume()

        self._control(instance_id, ExecutionSuspended(reason="a pause"), suspended)

    def _control(self, instance_id: str, event: Control, then: Callable[[Any], object]) -> None:
        if instance_id in self.outsiders and self.random.random() < 0.5:
            self._insert(instance_id, event, then)
        else:
            self.world.ask(lambda engine, reply: engine.doors.control(instance_id, event, reply), then)

    def _decide_fate(self, instance_id: str) -> None:
        """End it, if that is to be, and begin it anew."""
        fate = self.fate[instance_id]

        def begin_anew(answer: Any = None) -> None:
            if fate == "purge":
                self._purge(instance_id, again)
            else:
                again(answer)

        def again(_: Any) -> None:
            self.given[instance_id] = {**self.given[instance_id], "mark": "second"}
            request = StartRequest(
                name=self.kind[instance_id],
                instance_id=instance_id,
                input=text(self.given[instance_id]),
                request_id=f"second {instance_id}",
            )
            self.world.ask(lambda engine, reply: engine.doors.start(request, reply), begun)

        def begun(answer: Any) -> None:
            if answer != instance_id:
                self.problems.append(f"the second start of {instance_id} was answered with {answer!r}")
            self.awaited.discard(instance_id)

        def once_ended(answer: Any = None) -> None:
            if self.world.ended(instance_id):
                begin_anew()
            else:
                self.world.machine.at(1500, once_ended)

        if fate == "terminate":
            event = ExecutionTerminated(reason="to begin anew")
            self.world.ask(lambda engine, reply: engine.doors.control(instance_id, event, reply), once_ended)
        else:
            once_ended()

    def _purge(self, instance_id: str, then: Callable[[Any], object]) -> None:
        def purged(answer: Any) -> None:
            if answer is not None and not isinstance(answer, InstanceNotFound):
                self.problems.append(f"the purge of {instance_id} was answered with {answer!r}")
            if self.world.engine.committed(instance_id) is not None:
                self.problems.append(f"{instance_id} is shown although it is purged")
            then(answer)

        self.world.ask(lambda engine, reply: engine.doors.purge(instance_id, reply), purged)


def _nothing(_: Any) -> None:
    return None


def run_schedule(seed: int, plan: Plan | None = None) -> World:
    schedule = Schedule(seed, plan or Plan())
    try:
        return schedule.run()
    except Exception as error:
        kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
        raise Broken(f"{kind}{error}\nTo run it again: make simulate SEED={seed} SCHEDULES=1") from error
    finally:
        schedule.world.engine.drop_sessions()
