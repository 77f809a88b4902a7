"""One seeded schedule: a mix of instances, clients and faults, run to its end and checked.

`run_schedule(seed)` raises `Broken`, with the seed, when an invariant does not hold. Each invariant is a checker with a
name of its own.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from azure.durable_functions.registry import Registry
from msgspec import Struct
from programs import EXPECTED_RUNS, MODEL, Ledger, build_app, text

from perdure.core.codec import decode_records
from perdure.core.errors import InstanceEnded
from perdure.core.events import ExecutionResumed, ExecutionSuspended, ExecutionTerminated
from perdure.core.protocols import InstanceQuery
from perdure.core.state import ENDED, InstanceRow
from perdure.engine import EngineSettings
from perdure.engine.instances import Mail
from perdure.store.api import Commit, Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.testing.faults import FaultRates
from perdure.testing.simulation import DEFAULT_SETTINGS, Process, World

KINDS = ("chain", "fan", "tree", "sleeper", "race", "saga", "collector", "eternal", "doomed")


class Broken(AssertionError):
    """An invariant does not hold."""


class Sent(Struct):
    """What a sender knows of one event: how often it was raised, whether it was ever acknowledged."""

    raised: int = 0
    acknowledged: int = 0


class Plan(Struct):
    """What is drawn for a schedule; tests narrow it."""

    kinds: tuple[str, ...] = KINDS
    instances: tuple[int, int] = (6, 12)
    rates: FaultRates | None = None
    kills: int | None = None
    doubles: float | None = None
    steering: bool = True
    settings: EngineSettings = DEFAULT_SETTINGS


class Schedule:
    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.random = random.Random(seed * 7919 + 17)
        self.ledger = Ledger()
        self.registry: Registry = build_app(self.ledger)
        self.database = MemoryDatabase()
        self.given: dict[str, dict[str, Any]] = {}
        self.kind: dict[str, str] = {}
        self.started: set[str] = set()
        self.sent: dict[str, dict[int, Sent]] = {}
        self.terminated: set[str] = set()
        self.landed: list[Commit] = []
        self.problems: list[str] = []
        draw = self.random.random
        rates = plan.rates
        if rates is None:
            rates = FaultRates(
                crash_before_commit=draw() * 0.04,
                crash_after_commit=draw() * 0.04,
                commit_fails=draw() * 0.04,
                answer_lost=draw() * 0.04,
                read_fails=draw() * 0.02,
                end_host_fails=draw() * 0.2,
            )
        self.doubles = draw() * 0.3 if plan.doubles is None else plan.doubles
        self.world = World(
            seed,
            self._open_store,
            self.registry.orchestrators,
            self.registry.activities,
            rates,
            plan.settings,
        )
        self._watch(self.world.process)

    def _open_store(self) -> Store:
        return MemoryStore(self.database, "hub")

    # --- the world's unkindness --------------------------------------------------------------------------------------

    def _watch(self, process: Process) -> None:
        """Keep what lands, and deliver some messages of this process twice."""
        process.store.commits = self.landed
        engine = process.engine
        deliver = engine.deliver

        def doubled(mail: Mail) -> None:
            deliver(mail)
            if mail.execution and self.world.machine.random.random() < self.doubles:
                self.world.machine.at(self.world.machine.random.randrange(3000), again, mail)

        def again(mail: Mail) -> None:
            lane = engine.commits.lane
            if process.runtime.alive and lane is not None and engine.recovery is not None and engine.recovery.done:
                deliver(engine.make_mail(mail.target, mail.execution, mail.event))

        engine.deliver = doubled  # type: ignore[method-assign]

    def _on_process(self) -> None:
        if self._watched is not self.world.process:
            self._watched = self.world.process
            self._watch(self._watched)

    # --- the script --------------------------------------------------------------------------------------------------

    def run(self) -> World:
        world, rng = self.world, self.random
        self._watched = world.process
        for number in range(rng.randint(*self.plan.instances)):
            kind = rng.choice(self.plan.kinds)
            instance_id = f"{kind}-{number}"
            given: dict[str, Any] = {"key": instance_id}
            if kind == "chain":
                given["length"] = rng.randint(1, 8)
            elif kind == "fan":
                given["width"] = rng.randint(1, 9)
            elif kind == "tree":
                given["depth"] = rng.randint(1, 2)
            elif kind == "sleeper":
                given["pauses"] = [rng.choice([0, 1, 3, 86_400]) for _ in range(rng.randint(1, 4))]
            elif kind in ("collector", "eternal"):
                given.update(last=rng.randint(2, 9), seen=[])
            self.kind[instance_id] = kind
            self.given[instance_id] = given
            world.machine.at(rng.randrange(20_000), self._start, instance_id)
        kills = rng.randint(0, 3) if self.plan.kills is None else self.plan.kills
        for _ in range(kills):
            world.machine.at(rng.randrange(1000, 60_000), lambda: world.kill())
        world.machine.at(120_000, world.calm)
        if not world.run_until(self._over_once_in(40)):
            raise Broken(f"seed {self.seed}: not at an end: {self._unfinished()}")
        self._let_settle()
        world.engine.drop_sessions()
        for check in CHECKERS:
            check(self)
        return world

    def _over_once_in(self, steps: int) -> Callable[[], bool]:
        count = 0

        def over() -> bool:
            nonlocal count
            self._on_process()
            count += 1
            return count % steps == 0 and not self._unfinished()

        return over

    def _let_settle(self) -> None:
        """What is on the way at the end (a late answer, garbage) comes to rest."""
        until = self.world.machine.now() + 3_000_000
        self.world.run_until(lambda: self.world.machine.now() >= until)

    def _unfinished(self) -> list[str]:
        return [i for i in self.kind if not self.world.ended(i)]

    def _start(self, instance_id: str) -> None:
        def started(answer: Any) -> None:
            if answer != instance_id:
                self.problems.append(f"the start of {instance_id} was answered with {answer!r}")
            self.started.add(instance_id)
            if self.kind[instance_id] in ("collector", "eternal"):
                self.sent[instance_id] = {}
                self._send(instance_id, 1)
            elif self.plan.steering and self.random.random() < 0.25:
                self._steer(instance_id)

        self.world.start(self.kind[instance_id], instance_id, text(self.given[instance_id]), started)

    def _send(self, instance_id: str, number: int) -> None:
        """Raise events 1, 2, … each after the one before was acknowledged; raise again if nobody answers."""
        sent = self.sent[instance_id].setdefault(number, Sent())
        sent.raised += 1
        mine = sent.raised

        def answered(answer: Any) -> None:
            if isinstance(answer, InstanceEnded) and sent.raised > 1:
                sent.acknowledged += 1  # an earlier try had landed though nobody said so
                return
            if isinstance(answer, BaseException):
                self.problems.append(f"event {number} for {instance_id} was refused: {answer!r}")
            sent.acknowledged += 1
            if sent.acknowledged == 1 and number < self.given[instance_id]["last"]:
                self.world.machine.at(self.random.randrange(5000), self._send, instance_id, number + 1)

        def lost() -> None:
            if not sent.acknowledged and sent.raised == mine:
                self._send(instance_id, number)

        self.world.raise_event(instance_id, "NUMBER", str(number), answered)
        self.world.machine.at(2_000_000, lost)

    def _steer(self, instance_id: str) -> None:
        """Suspend it for a while, or terminate it."""
        world = self.world
        if self.random.random() < 0.3:
            self.terminated.add(instance_id)
            event = ExecutionTerminated(reason="enough")
            world.ask(lambda engine, reply: engine.doors.control(instance_id, event, reply), lambda _: None)
            return

        def resume(_: Any) -> None:
            event = ExecutionResumed()
            world.machine.at(
                self.random.randrange(30_000),
                lambda: world.ask(lambda engine, reply: engine.doors.control(instance_id, event, reply), lambda _: None),
            )

        event = ExecutionSuspended(reason="a pause")
        world.ask(lambda engine, reply: engine.doors.control(instance_id, event, reply), resume)

    def rows(self) -> list[InstanceRow]:
        return self._open_store().query(InstanceQuery(limit=100_000))


def run_schedule(seed: int, plan: Plan | None = None) -> World:
    return Schedule(seed, plan or Plan()).run()


# --- invariants ------------------------------------------------------------------------------------------------------


def every_answer_fits(schedule: Schedule) -> None:
    if schedule.problems:
        raise Broken(f"seed {schedule.seed}: {schedule.problems}")


def outputs_are_those_of_the_sequential_model(schedule: Schedule) -> None:
    for instance_id, kind in schedule.kind.items():
        row = schedule.world.row(instance_id)
        assert row is not None
        if row.status == "Terminated":
            if instance_id not in schedule.terminated:
                raise Broken(f"seed {schedule.seed}: {instance_id} was terminated by nobody")
            continue
        if kind == "doomed":
            if row.status != "Failed" or "the child failed: True" not in (row.failure or ""):
                raise Broken(f"seed {schedule.seed}: {instance_id} should have failed: {row}")
            continue
        if row.status != "Completed":
            raise Broken(f"seed {schedule.seed}: {instance_id} is {row.status}: {row.failure or row.parked}")
        output = json.loads(row.output or "null")
        if kind in MODEL and output != MODEL[kind](schedule.given[instance_id]):
            raise Broken(f"seed {schedule.seed}: {instance_id} gave {output}")


def every_acknowledged_event_is_seen_in_order(schedule: Schedule) -> None:
    for instance_id, sent in schedule.sent.items():
        row = schedule.world.row(instance_id)
        assert row is not None
        if row.status != "Completed":
            continue
        seen: list[int] = json.loads(row.output or "[]")
        counts = Counter(seen)
        last = schedule.given[instance_id]["last"]
        if seen != sorted(seen):
            raise Broken(f"seed {schedule.seed}: {instance_id} saw events out of order: {seen}")
        for number, record in sent.items():
            low = 1 if number != last else 1
            if not low <= counts[number] <= record.raised:
                raise Broken(
                    f"seed {schedule.seed}: {instance_id}: event {number}, raised {record.raised} times, "
                    f"was seen {counts[number]} times: {seen}"
                )


def every_activity_ran(schedule: Schedule) -> None:
    for instance_id, kind in schedule.kind.items():
        row = schedule.world.row(instance_id)
        if row is None or row.status != "Completed" or kind not in EXPECTED_RUNS:
            continue
        for key in EXPECTED_RUNS[kind](schedule.given[instance_id]):
            if not schedule.ledger.runs[key]:
                raise Broken(f"seed {schedule.seed}: activity {key} never ran")


def no_activity_ran_again_without_a_fault(schedule: Schedule) -> None:
    if schedule.world.crashes or not schedule.plan.rates or not schedule.plan.rates.none():
        return
    for key, runs in schedule.ledger.runs.items():
        if runs > 1 and not key.startswith("fan"):
            raise Broken(f"seed {schedule.seed}: activity {key} ran {runs} times although nothing failed")


def each_execution_ends_once(schedule: Schedule) -> None:
    ended: Counter[tuple[int, int]] = Counter()
    last: dict[int, tuple[int, str]] = {}
    for commit in schedule.landed:
        for row in [*commit.created, *commit.updated]:
            before = last.get(row.key)
            if row.status in ENDED and (before is None or before != (row.execution, row.status)):
                ended[row.key, row.execution] += 1
            last[row.key] = (row.execution, row.status)
    doubled = [name for name, count in ended.items() if count > 1]
    if doubled:
        raise Broken(f"seed {schedule.seed}: executions that ended twice: {doubled}")


def histories_only_grow_and_replay(schedule: Schedule) -> None:
    """Each history has the records its row says; a fresh session over it decides the same."""
    store = schedule._open_store()  # pyright: ignore[reportPrivateUsage]
    for row in schedule.rows():
        parts = store.history(row.execution, -1, 100_000)
        place = 0
        records = []
        for part in parts:
            if part.first != place:
                raise Broken(f"seed {schedule.seed}: the history of {row.id} has a gap at {place}")
            decoded = decode_records(part.body)
            place += len(decoded)
            records.extend(decoded)
        if place != row.sequence:
            raise Broken(f"seed {schedule.seed}: {row.id} has {place} records, its row says {row.sequence}")
        session = schedule.registry.orchestrators.open(row.name, row.id)
        if row.status == "Completed":
            session.replay(records)
        session.close()


def nothing_is_left_behind(schedule: Schedule) -> None:
    store = schedule._open_store()  # pyright: ignore[reportPrivateUsage]
    rows = {row.key: row for row in schedule.rows()}
    for mail in store.inbox(0, 100_000):
        row = rows.get(mail.target)
        if row is None or row.status != "Failed":
            raise Broken(f"seed {schedule.seed}: a message for {row.id if row else mail.target} was never taken")
    timers = store.timers(2**62, None, 100_000)
    if timers:
        raise Broken(f"seed {schedule.seed}: timers of ended instances are left: {timers}")
    due = store.due(0, 100_000)
    if due:
        raise Broken(f"seed {schedule.seed}: ended instances are still due: {[row.id for row in due]}")


CHECKERS: list[Callable[[Schedule], None]] = [
    every_answer_fits,
    outputs_are_those_of_the_sequential_model,
    every_acknowledged_event_is_seen_in_order,
    every_activity_ran,
    no_activity_ran_again_without_a_fault,
    each_execution_ends_once,
    histories_only_grow_and_replay,
    nothing_is_left_behind,
]
