"""Turns: the only way in which an instance changes.

A turn takes the working state of an instance and what came for it, and gives a `Checkpoint`: all that must become
durable together. Nothing here knows the clock, makes an id or touches a store. The state is moved on in place; whoever
cannot commit the checkpoint drops the state too and folds a fresh one from the history.

There are four kinds. `run` lets the orchestrator's code see what came. `control` acts on the instance without its
code: terminate, suspend, resume. `begin` and `restart` make a first execution and one in the place of an ended one.
`receive_late` keeps what was acknowledged but found its instance ended.

Rules:
- An answer (of an activity, a child, a timer) that carries another execution key, or a task id that is not open, is
  dropped. Events and control messages carry no execution: they meet the current one.
- An execution is over when its function returns or raises. Open timers, activities and children do not hold it.
- continue-as-new gives the instance a new execution key, so nothing addressed to the old one can reach the new one;
  external events that nobody had waited for come first in the new one's history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import UNSET, Struct

from perdure.core.codec import encode_failure, encode_record, encode_text
from perdure.core.events import (
    ContinueAsNew,
    Control,
    Decided,
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    Failure,
    ParentLink,
    Received,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskAnswer,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TimerFired,
    TurnRecord,
)
from perdure.core.failures import own_failure
from perdure.core.ids import execution_id, partition_of
from perdure.core.protocols import Session, Step
from perdure.core.state import ANSWERED, InstanceRow, InstanceState, open_task

_RUNNABLE = frozenset({"Pending", "Running"})


class Addressed(Protocol):
    """An event on its way to an instance. `execution` 0 meets whatever execution is current."""

    @property
    def execution(self) -> int: ...

    @property
    def event(self) -> Received: ...


class Fresh(Struct, frozen=True, gc=False):
    """Names for an execution that may have to be made. `prefix` has 16 hexadecimal digits."""

    key: int
    prefix: str

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return execution_id(self.prefix, self.key)


class Start(Struct, frozen=True, gc=False):
    """What an execution is started with."""

    name: str
    version: str | None = None
    input: str | None = None
    parent: ParentLink | None = None
    request_id: str | None = None


class Checkpoint(Struct, gc=False):
    """What one turn changes. All of it becomes durable in one commit, or none.

    `taken` counts the given events that are done with: applied or dropped. `record`, if any, is the encoded history
    record with number `first` of `execution`. `timers_gone` fired, were cancelled or lost their owner. `retired` is the
    execution whose history is of no more use; `timers_gone` and `children` are its own if there is one. `failure` is
    why the execution has failed, if it has with this turn.
    """

    row: InstanceRow
    taken: int
    execution: int
    first: int = 0
    record: bytes | None = None
    activities: Sequence[TaskScheduled] = ()
    children: Sequence[SubOrchestrationInstanceCreated] = ()
    timers: Sequence[TimerCreated] = ()
    timers_gone: Sequence[TimerCreated] = ()
    answer_to: ParentLink | None = None
    answer: TaskAnswer | None = None
    retired: int | None = None
    failure: Failure | None = None


# --- starting --------------------------------------------------------------------------------------------------------


def begin(start: Start, *, key: int, id: str, execution: Fresh, now: int) -> tuple[InstanceState, Checkpoint]:
    """A new instance, Pending, whose first turn is due."""
    row = InstanceRow(
        key, partition_of(id), id, "orchestration", start.name, start.version, "Pending", now, now, None, execution.key,
        execution.id, 0, 0, False, 0, None, None, None, None, None, None, None, None, None, None, None,
    )  # fmt: skip
    state = InstanceState(row)
    return state, _open_execution(state, start, now)


def restart(state: InstanceState, start: Start, *, execution: Fresh, now: int) -> Checkpoint:
    """A first execution in the place of an ended one, under the same id."""
    row = state.row
    assert state.ended, f"instance {row.id!r} is {row.status}"
    retired = row.execution
    gone = [task for task in state.open.values() if isinstance(task, TimerCreated)]
    row.status = "Pending"
    row.created_at = now
    row.completed_at = None
    row.execution = execution.key
    row.execution_id = execution.id
    row.generation = 0
    row.parked = None
    row.output = None
    row.output_payload = None
    row.failure = None
    row.custom_status = None
    row.status_payload = None
    state.last_now = 0
    checkpoint = _open_execution(state, start, now)
    checkpoint.retired = retired
    checkpoint.timers_gone = gone
    return checkpoint


def _open_execution(state: InstanceState, start: Start, now: int) -> Checkpoint:
    row = state.row
    row.name = start.name
    row.version = start.version
    row.input = start.input
    row.input_payload = None
    row.request_id = start.request_id
    state.parent = parent = start.parent
    if parent is None:
        row.parent_key = row.parent_execution = row.parent_task = row.parent_id = row.parent_name = None
    else:
        row.parent_key = parent.key
        row.parent_execution = parent.execution
        row.parent_task = parent.task_id
        row.parent_id = parent.instance_id
        row.parent_name = parent.name
    started = ExecutionStarted(start.name, row.id, row.execution_id, start.input, start.version, parent, row.generation)
    return _defer(state, [started], now)


def _defer(state: InstanceState, received: list[Received], now: int) -> Checkpoint:
    """Open the current execution with a record that no code has seen."""
    record = encode_record(TurnRecord(now, received, deferred=True))
    row = state.row
    row.sequence = 1
    row.open_activities = 0
    row.updated_at = state.last_now = now
    state.open = {}
    state.unrun = received
    return Checkpoint(state.snapshot(), 0, row.execution, 0, record)


# --- running ---------------------------------------------------------------------------------------------------------


def run(
    state: InstanceState, session: Session, given: Sequence[Addressed], *, now: int, fresh: Callable[[], Fresh]
) -> Checkpoint:
    """Let the orchestrator see what came, as far as it concerns the current execution.

    `given` is in order of arrival and has no control events. `fresh` names the next execution, should there be one.
    Raises NonDeterminismError with the state unchanged; what else the session raises leaves the state undefined.
    """
    row, tasks, unrun = state.row, state.open, state.unrun
    assert row.status in _RUNNABLE and row.parked is None, f"instance {row.id!r} is {row.status}"
    execution = row.execution
    accepted: list[Any] = []
    dropped: list[int] = []
    answered: set[int] = set()
    if now < state.last_now:
        now = state.last_now
    for place, addressed in enumerate(given):
        event: Any = addressed.event
        if addressed.execution and addressed.execution != execution:
            dropped.append(place)
            continue
        kind = ANSWERED.get(event.__class__)
        if kind is not None:
            task_id = event.task_id
            if type(tasks.get(task_id)) is not kind or task_id in answered:
                dropped.append(place)
                continue
            answered.add(task_id)
            if type(event) is TimerFired and event.fire_at > now:
                now = event.fire_at
        accepted.append(event)
    if not accepted and not unrun:
        return Checkpoint(state.snapshot(), len(given), execution)

    step = session.advance(now, unrun + accepted if unrun else accepted)

    applied = max(step.consumed - len(unrun), 0)
    if applied == len(accepted):
        taken, received = len(given), accepted
    else:
        taken, received = _place(applied, dropped), accepted[:applied]
    gone: list[TimerCreated] = []
    for event in received:
        if event.__class__ in ANSWERED:
            task = tasks.pop(event.task_id)
            if type(task) is TaskScheduled:
                row.open_activities -= 1
            elif type(task) is TimerCreated:
                gone.append(task)
    left: list[EventRaised] = []
    if unrun:
        left = [event for event in unrun[step.consumed :] if isinstance(event, EventRaised)]
        state.unrun = []
    row.updated_at = now
    row.status = "Running"
    if step.custom_status is not UNSET:
        row.custom_status = step.custom_status
        row.status_payload = None
    return _settle(state, received, step, left, gone, taken, now, fresh)


def _place(accepted: int, dropped: list[int]) -> int:
    """The place among the given events of the accepted one of this number; `dropped` are the places of the others."""
    for place in dropped:
        if place <= accepted:
            accepted += 1
    return accepted


def _settle(
    state: InstanceState,
    received: list[Received],
    step: Step,
    left: list[EventRaised],
    gone: list[TimerCreated],
    taken: int,
    now: int,
    fresh: Callable[[], Fresh],
) -> Checkpoint:
    """Fold what the orchestrator asked for into one checkpoint."""
    activities: list[TaskScheduled] = []
    children: list[SubOrchestrationInstanceCreated] = []
    timers: dict[int, TimerCreated] = {}
    end: ExecutionCompleted | None = None
    for decision in step.decided:
        # Not a `match`: that costs several times as much, and this is where most of a wide fan-out's decisions pass.
        if type(decision) is TaskScheduled:
            state.open[decision.task_id] = decision
            state.row.open_activities += 1
            activities.append(decision)
        elif type(decision) is TimerCreated:
            open_task(state, decision)
            timers[decision.task_id] = decision
        elif type(decision) is TimerCanceled:
            timer = state.open.pop(decision.task_id, None)
            if isinstance(timer, TimerCreated) and timers.pop(decision.task_id, None) is None:
                gone.append(timer)
        elif type(decision) is SubOrchestrationInstanceCreated:
            open_task(state, decision)
            children.append(decision)
        elif type(decision) is ExecutionCompleted:
            end = decision
        elif type(decision) is ContinueAsNew:
            checkpoint = _continue_as_new(state, decision, step.carried + left, gone, timers, taken, now, fresh())
            checkpoint.children = children
            return checkpoint
    checkpoint = _append(state, received, step.decided, taken, now)
    checkpoint.timers_gone = gone
    checkpoint.children = children
    if end is None:
        checkpoint.activities = activities
        if timers:
            checkpoint.timers = list(timers.values())
    else:
        _end(state, end, checkpoint, now)
        if timers:
            checkpoint.timers_gone = [timer for timer in checkpoint.timers_gone if timer.task_id not in timers]
    checkpoint.row = state.snapshot()
    return checkpoint


def _continue_as_new(
    state: InstanceState,
    decision: ContinueAsNew,
    carried: list[EventRaised],
    gone: list[TimerCreated],
    timers: dict[int, TimerCreated],
    taken: int,
    now: int,
    fresh: Fresh,
) -> Checkpoint:
    row = state.row
    retired = row.execution
    gone.extend(_open_timers(state, but=timers))
    row.generation += 1
    row.execution = fresh.key
    row.execution_id = fresh.id
    row.input = decision.input
    row.input_payload = None
    started = ExecutionStarted(
        row.name, row.id, row.execution_id, decision.input, row.version, state.parent, row.generation
    )
    checkpoint = _defer(state, [started, *carried], now)
    checkpoint.taken = taken
    checkpoint.timers_gone = gone
    checkpoint.retired = retired
    return checkpoint


def _append(
    state: InstanceState, received: list[Received], decided: list[Decided], taken: int, now: int, deferred: bool = False
) -> Checkpoint:
    record = encode_record(TurnRecord(now, received, decided, deferred))
    row = state.row
    first = row.sequence
    row.sequence = first + 1
    state.last_now = now
    return Checkpoint(row, taken, row.execution, first, record)


def _end(state: InstanceState, end: ExecutionCompleted, checkpoint: Checkpoint, now: int) -> None:
    """The execution is over: nothing that is still open holds it, and a parent gets its answer."""
    row = state.row
    row.status = end.status
    row.output = end.result
    row.output_payload = None
    row.failure = None if end.failure is None else encode_failure(end.failure)
    checkpoint.failure = end.failure
    row.completed_at = now
    row.updated_at = now
    row.parked = None
    state.unrun = []
    if state.open:
        checkpoint.timers_gone = [*checkpoint.timers_gone, *_open_timers(state)]
        if end.status != "Failed":
            state.open = {}
    row.open_activities = 0
    parent = state.parent
    if parent is None:
        return
    checkpoint.answer_to = parent
    if end.status == "Completed":
        checkpoint.answer = SubOrchestrationInstanceCompleted(task_id=parent.task_id, result=end.result)
    elif end.failure is not None:
        checkpoint.answer = SubOrchestrationInstanceFailed(task_id=parent.task_id, failure=end.failure)


def _open_timers(state: InstanceState, but: dict[int, TimerCreated] | None = None) -> list[TimerCreated]:
    return [
        task for task in state.open.values() if isinstance(task, TimerCreated) and not (but and task.task_id in but)
    ]


def fail(state: InstanceState, failure: Failure, *, now: int) -> Checkpoint:
    """End an instance whose code cannot be run over its history, which gets the ending and nothing else."""
    now = max(now, state.last_now)
    end = ExecutionCompleted(status="Failed", failure=failure)
    checkpoint = _append(state, [], [end], 0, now)
    _end(state, end, checkpoint, now)
    checkpoint.row = state.snapshot()
    return checkpoint


# --- acting on the instance ------------------------------------------------------------------------------------------


def control(state: InstanceState, event: Control, *, now: int) -> Checkpoint:
    """Terminate, suspend or resume. What does not fit the status changes nothing."""
    now = max(now, state.last_now)
    row = state.row
    if state.ended:
        return Checkpoint(state.snapshot(), 1, state.row.execution)
    match event:
        case ExecutionTerminated():
            reason = None if event.reason is None else encode_text(event.reason)
            end = ExecutionCompleted(status="Terminated", result=reason)
            checkpoint = _append(state, [event], [end], 1, now)
            _end(state, end, checkpoint, now)
            if state.parent is not None:
                failure = own_failure("Terminated", event.reason or "")
                checkpoint.answer = SubOrchestrationInstanceFailed(task_id=state.parent.task_id, failure=failure)
        case ExecutionSuspended():
            if row.status == "Suspended":
                return Checkpoint(state.snapshot(), 1, state.row.execution)
            checkpoint = _append(state, [event], [], 1, now, deferred=True)
            row.status = "Suspended"
        case ExecutionResumed():
            if not state.held:
                return Checkpoint(state.snapshot(), 1, state.row.execution)
            checkpoint = _append(state, [event], [], 1, now, deferred=True)
            row.parked = None
            if row.status == "Suspended":
                row.status = "Pending" if state.unrun and row.generation == 0 else "Running"
    row.updated_at = now
    checkpoint.row = state.snapshot()
    return checkpoint


def receive_late(state: InstanceState, events: Sequence[EventRaised], *, now: int) -> Checkpoint:
    """Keep events that were acknowledged but found their instance ended, behind its ending."""
    assert state.ended, f"instance {state.row.id!r} is {state.row.status}"
    late: list[Received] = [EventRaised(name=e.name, input=e.input, source=e.source, late=True) for e in events]
    checkpoint = _append(state, late, [], len(late), max(now, state.last_now))
    checkpoint.row = state.snapshot()
    return checkpoint
