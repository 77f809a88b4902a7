"""Invariants that hold when a schedule is over. Each is a checker with a name of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.core.errors import InstanceExists
from perdure.core.events import EventRaised, TimerFired, TurnRecord
from perdure.core.ids import first_key
from perdure.core.state import ENDED
from perdure.engine.loading import read_history
from simulation.programs import EXPECTED_RUNS, MODEL, text
from simulation.watch import Broken

if TYPE_CHECKING:
    from simulation.schedule import Schedule


def every_answer_fits(schedule: Schedule) -> None:
    if schedule.problems:
        raise Broken(f"{schedule.problems}")


def one_of_two_rivals_wins(schedule: Schedule) -> None:
    for instance_id, answer in schedule.rivals.items():
        if instance_id not in schedule.won and answer != instance_id:
            raise Broken(f"{instance_id} was refused outside, and inside it was answered with {answer!r}")
        late = instance_id in schedule.reborn
        if instance_id in schedule.won and not late and not isinstance(answer, InstanceExists):
            raise Broken(f"{instance_id} was started outside, and inside it was answered with {answer!r}")


def outputs_are_those_of_the_sequential_model(schedule: Schedule) -> None:
    for instance_id, kind in schedule.kind.items():
        row = schedule.world.row(instance_id)
        assert row is not None
        if row.status == "Terminated":
            if instance_id not in schedule.terminated:
                raise Broken(f"{instance_id} was terminated by nobody")
            continue
        if kind == "doomed":
            if row.status != "Failed" or "the child failed: True" not in (row.failure or ""):
                raise Broken(f"{instance_id} should have failed: {row}")
            continue
        if row.status != "Completed":
            raise Broken(f"{instance_id} is {row.status}: {row.failure or row.parked}")
        output = json.loads(row.output or "null")
        if kind in MODEL and output != MODEL[kind](schedule.given[instance_id]):
            raise Broken(f"{instance_id}, given {schedule.given[instance_id]}, gave {output}")


def inputs_are_those_given(schedule: Schedule) -> None:
    for instance_id, kind in schedule.kind.items():
        row = schedule.world.row(instance_id)
        assert row is not None
        if not row.generation and row.input != text(schedule.given[instance_id]):
            raise Broken(f"{instance_id} ({kind}) has the input {row.input}")


def every_acknowledged_event_is_seen_in_order(schedule: Schedule) -> None:
    for instance_id, sent in schedule.sent.items():
        row = schedule.world.row(instance_id)
        assert row is not None
        if row.status != "Completed":
            continue
        seen: list[int] = json.loads(row.output or "[]")
        firsts = list(dict.fromkeys(seen))
        if firsts != sorted(firsts):
            raise Broken(f"{instance_id} saw events out of order: {seen}")
        counts = Counter(seen)
        for number, record in sent.items():
            if not 1 <= counts[number] <= record.raised:
                raise Broken(
                    f"{instance_id}: event {number}, raised {record.raised} times, "
                    f"was seen {counts[number]} times: {seen}"
                )


def every_other_event_is_kept_once(schedule: Schedule) -> None:
    """An event that nobody waits for is in the history, as late if it found the instance ended."""
    for instance_id, sent in schedule.noise.items():
        if instance_id in schedule.reborn:
            continue
        records = _history(schedule, instance_id)
        found: Counter[str | None] = Counter()
        for record in records:
            found.update(event.input for event in record.received if isinstance(event, EventRaised))
        for name, one in sent.items():
            count = found[f'"{name}"']
            if not one.acknowledged <= count <= one.raised:
                raise Broken(f"{instance_id}: {name}, of which is known {one}, is in its history {count} times")


def late_events_are_marked(schedule: Schedule) -> None:
    for row in schedule.rows():
        over = False
        for record in _history(schedule, row.id):
            for event in record.received:
                if isinstance(event, EventRaised) and event.late != over:
                    raise Broken(
                        f"{row.id}: {event} is marked wrongly: its execution had {'' if over else 'not '}ended"
                    )
            over = over or any(type(decision).__name__ == "ExecutionCompleted" for decision in record.decided)


def every_activity_ran(schedule: Schedule) -> None:
    """At least as often as it must, and not more often if no process died."""
    exactly = not schedule.world.crashes
    for instance_id, kind in schedule.kind.items():
        row = schedule.world.row(instance_id)
        if row is None or row.status != "Completed" or kind not in EXPECTED_RUNS:
            continue
        for key, least in EXPECTED_RUNS[kind](schedule.given[instance_id]).items():
            runs = schedule.ledger.runs[key]
            if runs < least:
                raise Broken(f"activity {key} ran {runs} times instead of {least}")
            if exactly and instance_id not in schedule.reborn and runs > least and not key.endswith("/left"):
                raise Broken(f"activity {key} ran {runs} times instead of {least}, although no process died")


def blocks_are_left_by_code_alone(schedule: Schedule) -> None:
    """The way out of a `with` block, and a `finally`, come behind all of the block, however often it is dropped."""
    entries = schedule.ledger.entries
    for instance_id, kind in schedule.kind.items():
        if kind != "guarded":
            continue
        body = [f"{instance_id}/{n}" for n in range(schedule.given[instance_id]["length"])]
        for key in (f"{instance_id}/left", f"{instance_id}/clean"):
            if key in entries and not set(body) <= set(entries[: entries.index(key)]):
                raise Broken(f"{key} was noted before the block was through")


def each_execution_ends_once(schedule: Schedule) -> None:
    ended: Counter[tuple[int, int]] = Counter()
    last: dict[int, tuple[int, str]] = {}
    for commit in schedule.watch.commits:
        for row in [*commit.created, *commit.updated, *commit.advanced]:
            before = last.get(row.key)
            if row.status in ENDED and (before is None or before != (row.execution, row.status)):
                ended[row.key, row.execution] += 1
            if before is not None and before[0] == row.execution and before[1] in ENDED and row.status != before[1]:
                raise Broken(f"{row.id} went from {before[1]} to {row.status} within one execution")
            last[row.key] = (row.execution, row.status)
    doubled = [name for name, count in ended.items() if count > 1]
    if doubled:
        raise Broken(f"executions that ended twice: {doubled}")


def histories_only_grow_and_replay(schedule: Schedule) -> None:
    """Each history has the records its row says; a fresh session over it decides the same."""
    store = schedule.open_store()
    for row in schedule.rows():
        place = 0
        for part in store.history(row.execution, -1, 100_000):
            if part.first != place:
                raise Broken(f"the history of {row.id} has a gap at {place}")
            place += len(json.loads(part.body))
        if place != row.sequence:
            raise Broken(f"{row.id} has {place} records, its row says {row.sequence}")
        session = schedule.registry.orchestrators.open(row.name, row.id)
        if row.status != "Terminated":
            session.replay(_history(schedule, row.id))
        session.close()


def time_goes_forward(schedule: Schedule) -> None:
    """Within a history time never goes back, and no timer is seen before its time."""
    for row in schedule.rows():
        now = 0
        for record in _history(schedule, row.id):
            if record.at < now:
                raise Broken(f"{row.id}: time went back from {now} to {record.at}")
            now = record.at
            for event in record.received:
                if isinstance(event, TimerFired) and event.fire_at > now:
                    raise Broken(f"{row.id}: {event} at {now}")


def nothing_is_left_behind(schedule: Schedule) -> None:
    """What remains in the inbox are answers to executions that failed; neither timers nor garbage are left.

    Payloads of executions that are gone are not left either; of those that never came to be, only what the living host
    wrote.
    """
    store = schedule.open_store()
    rows = {row.key: row for row in schedule.rows()}
    for mail in store.inbox(0, 100_000):
        row = rows.get(mail.target)
        if row is None or row.status != "Failed" or mail.execution != row.execution:
            raise Broken(f"a message for {row.id if row else mail.target} was never taken: {mail}")
    timers = store.timers(2**62, None, 100_000)
    if timers:
        raise Broken(f"timers of ended instances are left: {timers}")
    due = store.due(0, 100_000)
    if due:
        raise Broken(f"ended instances are still due: {[row.id for row in due]}")
    tables: Any = schedule.database.hubs["hub"]
    executions = {row.execution for row in rows.values()}
    stray = [execution for execution, parts in tables.history.items() if parts and execution not in executions]
    if stray or tables.garbage:
        raise Broken(f"histories of executions that are gone are left: {stray}, {tables.garbage}")
    retired = {execution for commit in schedule.watch.commits for execution in commit.retired}
    host = max(int(host_id.split("-")[0]) for host_id in tables.hosts)
    for payload in tables.payloads.values():
        if payload.execution in retired or (payload.execution not in executions and payload.id < first_key(host)):
            raise Broken(f"a payload is left of an execution that is gone, or never was: {payload}")


def _history(schedule: Schedule, instance_id: str) -> list[TurnRecord]:
    row = schedule.world.row(instance_id)
    return [] if row is None else read_history(schedule.open_store(), row.execution)


CHECKERS: list[Callable[[Schedule], None]] = [
    every_answer_fits,
    one_of_two_rivals_wins,
    outputs_are_those_of_the_sequential_model,
    inputs_are_those_given,
    every_acknowledged_event_is_seen_in_order,
    every_other_event_is_kept_once,
    late_events_are_marked,
    every_activity_ran,
    blocks_are_left_by_code_alone,
    each_execution_ends_once,
    histories_only_grow_and_replay,
    time_goes_forward,
    nothing_is_left_behind,
]
