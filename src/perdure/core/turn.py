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

from collections.abc import Sequence

from msgspec import UNSET, Struct

from perdure.core.codec import encode_record, encode_text
from perdure.core.events import (
    TASK_ANSWERS,
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
from perdure.core.protocols import Session, Step
from perdure.core.state import InstanceRow, InstanceState, answered_task, close_task, open_task, to_row

_TASK_ANSWER_TYPES: frozenset[type] = frozenset(TASK_ANSWERS)


class Addressed(Struct, frozen=True, gc=False):
    """An event on its way to an instance. `execution` 0 meets whatever execution is current."""

    execution: int
    event: Received


class Fresh(Struct, frozen=True, gc=False):
    """Names for an execution that a turn may have to make."""

    key: int
    id: str


class Checkpoint(Struct, gc=False):
    """What one turn changes. All of it becomes durable in one commit, or none.

    `taken` counts the given events that are done with: applied or dropped. `record`, if any, is the encoded history
    record with number `first` of `execution`. `timers_gone` fired, were cancelled or lost their owner. `retired` is the
    execution whose history is of no more use; `timers_gone` and `children` are its own if there is one.
    """

    row: InstanceRow
    taken: int
    execution: int
    first: int = 0
    record: bytes | None = None
    activities: list[TaskScheduled] = []
    children: list[SubOrchestrationInstanceCreated] = []
    timers: list[TimerCreated] = []
    timers_gone: list[TimerCreated] = []
    answer_to: ParentLink | None = None
    answer: TaskAnswer | None = None
    retired: int | None = None


# --- starting --------------------------------------------------------------------------------------------------------


def begin(
    *,
    key: int,
    id: str,
    execution: Fresh,
    name: str,
    version: str | None,
    input: str | None,
    parent: ParentLink | None,
    request_id: str | None,
    now: int,
) -> tuple[InstanceState, Checkpoint]:
    """A new instance, Pending, whose first turn is due."""
    state = InstanceState(
        key=key,
        id=id,
        name=name,
        version=version,
        status="Pending",
        created_at=now,
        updated_at=now,
        execution=execution.key,
        execution_id=execution.id,
    )
    return state, _open_execution(state, name, version, input, parent, request_id, now)


def restart(
    state: InstanceState,
    *,
    execution: Fresh,
    name: str,
    version: str | None,
    input: str | None,
    parent: ParentLink | None,
    request_id: str | None,
    now: int,
) -> Checkpoint:
    """A first execution in the place of an ended one, under the same id."""
    assert state.ended, f"instance {state.id!r} is {state.status}"
    retired = state.execution
    gone = [task for task in state.open.values() if isinstance(task, TimerCreated)]
    state.status = "Pending"
    state.created_at = now
    state.completed_at = None
    state.execution = execution.key
    state.execution_id = execution.id
    state.generation = 0
    state.parked = None
    state.output = None
    state.failure = None
    state.custom_status = None
    state.last_now = 0
    checkpoint = _open_execution(state, name, version, input, parent, request_id, now)
    checkpoint.retired = retired
    checkpoint.timers_gone = gone
    return checkpoint


def _open_execution(
    state: InstanceState,
    name: str,
    version: str | None,
    input: str | None,
    parent: ParentLink | None,
    request_id: str | None,
    now: int,
) -> Checkpoint:
    state.name = name
    state.version = version
    state.input = input
    state.parent = parent
    state.request_id = request_id
    started = ExecutionStarted(
        name=name,
        instance_id=state.id,
        execution_id=state.execution_id,
        input=input,
        version=version,
        parent=parent,
        generation=state.generation,
    )
    return _defer(state, [started], now)


def _defer(state: InstanceState, received: list[Received], now: int) -> Checkpoint:
    """Open the current execution with a record that no code has seen."""
    record = encode_record(TurnRecord(at=now, received=received, deferred=True))
    state.sequence = 1
    state.open = {}
    state.open_activities = 0
    state.unrun = list(received)
    state.updated_at = state.last_now = now
    return Checkpoint(row=to_row(state), taken=0, execution=state.execution, first=0, record=record)


# --- running ---------------------------------------------------------------------------------------------------------


def run(state: InstanceState, session: Session, given: Sequence[Addressed], *, now: int, fresh: Fresh) -> Checkpoint:
    """Let the orchestrator see what came, as far as it concerns the current execution.

    `given` is in order of arrival and has no control events. `fresh` names the next execution, should there be one.
    Raises NonDeterminismError with the state unchanged; what else the session raises leaves the state undefined.
    """
    assert not state.ended and not state.held, f"instance {state.id!r} is {state.status}"
    accepted: list[Received] = []
    places: list[int] = []
    answered: set[int] = set()
    now = max(now, state.last_now)
    for place, addressed in enumerate(given):
        event = addressed.event
        if addressed.execution and addressed.execution != state.execution:
            continue
        if type(event) in _TASK_ANSWER_TYPES:
            if answered_task(state, event) is None or event.task_id in answered:  # type: ignore[arg-type, union-attr]
                continue
            answered.add(event.task_id)  # type: ignore[union-attr]
            if type(event) is TimerFired:
                now = max(now, event.fire_at)
        accepted.append(event)
        places.append(place)
    unrun = state.unrun
    if not accepted and not unrun:
        return Checkpoint(row=to_row(state), taken=len(given), execution=state.execution)

    step = session.advance(now, unrun + accepted if unrun else accepted)

    applied = max(step.consumed - len(unrun), 0)
    taken = len(given) if applied == len(accepted) else places[applied]
    received = accepted[:applied]
    gone: list[TimerCreated] = []
    for event in received:
        if type(event) in _TASK_ANSWER_TYPES:
            task = close_task(state, event)  # type: ignore[arg-type]
            if type(task) is TimerCreated:
                gone.append(task)
    left = [event for event in unrun[step.consumed :] if isinstance(event, EventRaised)]
    state.unrun = []
    state.updated_at = now
    state.status = "Running"
    if step.custom_status is not UNSET:
        state.custom_status = step.custom_status
    return _settle(state, received, step, left, gone, taken, now, fresh)


def _settle(
    state: InstanceState,
    received: list[Received],
    step: Step,
    left: list[EventRaised],
    gone: list[TimerCreated],
    taken: int,
    now: int,
    fresh: Fresh,
) -> Checkpoint:
    """Fold what the orchestrator asked for into one checkpoint."""
    activities: list[TaskScheduled] = []
    children: list[SubOrchestrationInstanceCreated] = []
    timers: dict[int, TimerCreated] = {}
    end: ExecutionCompleted | None = None
    for decision in step.decided:
        match decision:
            case TaskScheduled():
                open_task(state, decision)
                activities.append(decision)
            case TimerCreated():
                open_task(state, decision)
                timers[decision.task_id] = decision
            case TimerCanceled():
                timer = state.open.pop(decision.task_id, None)
                if isinstance(timer, TimerCreated) and timers.pop(decision.task_id, None) is None:
                    gone.append(timer)
            case SubOrchestrationInstanceCreated():
                open_task(state, decision)
                children.append(decision)
            case ExecutionCompleted():
                end = decision
            case ContinueAsNew():
                checkpoint = _continue_as_new(state, decision, step.carried + left, gone, timers, taken, now, fresh)
                checkpoint.children = children
                return checkpoint
    checkpoint = _append(state, received, step.decided, taken, now)
    checkpoint.timers_gone = gone
    checkpoint.children = children
    if end is None:
        checkpoint.activities = activities
        checkpoint.timers = list(timers.values())
    else:
        _end(state, end, checkpoint, now)
        checkpoint.timers_gone = [timer for timer in checkpoint.timers_gone if timer.task_id not in timers]
    checkpoint.row = to_row(state)
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
    retired = state.execution
    gone.extend(_open_timers(state, but=timers))
    state.generation += 1
    state.execution = fresh.key
    state.execution_id = fresh.id
    state.input = decision.input
    started = ExecutionStarted(
        name=state.name,
        instance_id=state.id,
        execution_id=fresh.id,
        input=decision.input,
        version=state.version,
        parent=state.parent,
        generation=state.generation,
    )
    checkpoint = _defer(state, [started, *carried], now)
    checkpoint.taken = taken
    checkpoint.timers_gone = gone
    checkpoint.retired = retired
    return checkpoint


def _append(
    state: InstanceState, received: list[Received], decided: list[Decided], taken: int, now: int, deferred: bool = False
) -> Checkpoint:
    record = encode_record(TurnRecord(at=now, received=received, decided=decided, deferred=deferred))
    first = state.sequence
    state.sequence += 1
    state.last_now = now
    return Checkpoint(row=_NO_ROW, taken=taken, execution=state.execution, first=first, record=record)


def _end(state: InstanceState, end: ExecutionCompleted, checkpoint: Checkpoint, now: int) -> None:
    """The execution is over: nothing that is still open holds it, and a parent gets its answer."""
    state.status = end.status
    state.output = end.result
    state.failure = end.failure
    state.completed_at = now
    state.updated_at = now
    state.parked = None
    state.unrun = []
    checkpoint.timers_gone = checkpoint.timers_gone + _open_timers(state)
    if end.status != "Failed":
        state.open = {}
    state.open_activities = 0
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
    checkpoint.row = to_row(state)
    return checkpoint


# --- acting on the instance ------------------------------------------------------------------------------------------


def control(state: InstanceState, event: Control, *, now: int) -> Checkpoint:
    """Terminate, suspend or resume. What does not fit the status changes nothing."""
    now = max(now, state.last_now)
    if state.ended:
        return Checkpoint(row=to_row(state), taken=1, execution=state.execution)
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
            if state.status == "Suspended":
                return Checkpoint(row=to_row(state), taken=1, execution=state.execution)
            checkpoint = _append(state, [event], [], 1, now, deferred=True)
            state.status = "Suspended"
        case ExecutionResumed():
            if not state.held:
                return Checkpoint(row=to_row(state), taken=1, execution=state.execution)
            checkpoint = _append(state, [event], [], 1, now, deferred=True)
            state.parked = None
            if state.status == "Suspended":
                state.status = "Pending" if state.unrun and state.generation == 0 else "Running"
    state.updated_at = now
    checkpoint.row = to_row(state)
    return checkpoint


def receive_late(state: InstanceState, events: Sequence[EventRaised], *, now: int) -> Checkpoint:
    """Keep events that were acknowledged but found their instance ended, behind its ending."""
    assert state.ended, f"instance {state.id!r} is {state.status}"
    late: list[Received] = [EventRaised(name=e.name, input=e.input, source=e.source, late=True) for e in events]
    checkpoint = _append(state, late, [], len(late), max(now, state.last_now))
    checkpoint.row = to_row(state)
    return checkpoint


_NO_ROW = InstanceRow(
    0, 0, "", "orchestration", "", None, "Pending", 0, 0, None, 0, "", 0, 0, False, 0,
    None, None, None, None, None, None, None, None, None, None, None,
)  # fmt: skip
