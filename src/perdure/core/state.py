"""What an instance is at one moment: the row that a store keeps of it, and the state folded from its history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from perdure.core.codec import decode_failure, encode_failure
from perdure.core.events import (
    CONTROLS,
    ContinueAsNew,
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    Failure,
    OpenTask,
    ParentLink,
    Received,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskAnswer,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TimerFired,
    TurnRecord,
)
from perdure.core.ids import partition_of

Status = Literal["Pending", "Running", "Suspended", "Completed", "Failed", "Terminated"]
ENDED: frozenset[str] = frozenset({"Completed", "Failed", "Terminated"})


class InstanceRow(Struct, frozen=True, gc=False):
    """An instance as a store keeps it. Texts are user values or encoded structs; times are microseconds, UTC."""

    key: int
    partition: int
    id: str
    kind: Literal["orchestration", "entity"]
    name: str
    version: str | None
    status: Status
    created_at: int
    updated_at: int
    completed_at: int | None
    execution: int
    """Execution key: leads the history."""
    execution_id: str
    generation: int
    sequence: int
    """How many history records the current execution has."""
    ready: bool
    """Its last record is deferred: a turn is due though no message waits."""
    open_activities: int
    parked: str | None
    """Why it is not run although it could be, or None."""
    request_id: str | None
    input: str | None
    output: str | None
    failure: str | None
    """`codec.encode_failure` of a Failed one."""
    custom_status: str | None
    parent_key: int | None
    parent_execution: int | None
    parent_task: int | None
    parent_id: str | None
    parent_name: str | None


class InstanceState(Struct, gc=True):
    """The working state of an instance. A turn moves it on, in place; a fault of the lane drops it whole.

    `open` has the tasks that were decided and not answered, by task id. `unrun` has the received events of trailing
    deferred records, which the next turn applies first.
    """

    key: int
    id: str
    name: str
    version: str | None
    status: Status
    created_at: int
    updated_at: int
    execution: int
    execution_id: str
    completed_at: int | None = None
    generation: int = 0
    sequence: int = 0
    parked: str | None = None
    request_id: str | None = None
    input: str | None = None
    output: str | None = None
    failure: Failure | None = None
    custom_status: str | None = None
    parent: ParentLink | None = None
    last_now: int = 0
    open: dict[int, OpenTask] = {}
    open_activities: int = 0
    unrun: list[Received] = []

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def held(self) -> bool:
        """Only control messages reach it; whatever else comes stays in the inbox."""
        return self.status == "Suspended" or self.parked is not None


_ANSWERED: dict[type, type] = {
    TaskCompleted: TaskScheduled,
    TaskFailed: TaskScheduled,
    SubOrchestrationInstanceCompleted: SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed: SubOrchestrationInstanceCreated,
    TimerFired: TimerCreated,
}


def answered_task(state: InstanceState, event: TaskAnswer) -> OpenTask | None:
    """The open task that `event` answers; None if it answers none, so that it must be dropped."""
    task = state.open.get(event.task_id)
    return task if type(task) is _ANSWERED[type(event)] else None


def close_task(state: InstanceState, event: TaskAnswer) -> OpenTask | None:
    """Take the open task that `event` answers out of `state`."""
    task = answered_task(state, event)
    if task is not None:
        del state.open[event.task_id]
        if type(task) is TaskScheduled:
            state.open_activities -= 1
    return task


def open_task(state: InstanceState, task: OpenTask) -> None:
    state.open[task.task_id] = task
    if isinstance(task, TaskScheduled):
        state.open_activities += 1


def fold(state: InstanceState, records: Iterable[TurnRecord]) -> InstanceState:
    """Bring `state`, fresh from its row, to where its records leave it: `open`, `unrun`, `last_now`."""
    for record in records:
        state.last_now = max(state.last_now, record.at)
        if record.deferred:
            state.unrun.extend(event for event in record.received if not isinstance(event, CONTROLS))
        else:
            state.unrun = []
        for event in record.received:
            match event:
                case (
                    ExecutionStarted()
                    | EventRaised()
                    | ExecutionTerminated()
                    | ExecutionSuspended()
                    | ExecutionResumed()
                ):
                    pass
                case _:
                    close_task(state, event)
        for decision in record.decided:
            match decision:
                case TaskScheduled() | TimerCreated() | SubOrchestrationInstanceCreated():
                    open_task(state, decision)
                case TimerCanceled():
                    state.open.pop(decision.task_id, None)
                case ExecutionCompleted():
                    if decision.status != "Failed":
                        state.open = {}
                    state.open_activities = 0
                case ContinueAsNew():
                    pass
    return state


def from_row(row: InstanceRow) -> InstanceState:
    """The state that `row` alone tells; `fold` adds what the history tells."""
    parent = None
    if row.parent_key is not None:
        assert row.parent_id is not None and row.parent_execution is not None and row.parent_task is not None
        parent = ParentLink(
            key=row.parent_key,
            instance_id=row.parent_id,
            execution=row.parent_execution,
            task_id=row.parent_task,
            name=row.parent_name or "",
        )
    return InstanceState(
        key=row.key,
        id=row.id,
        name=row.name,
        version=row.version,
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
        execution=row.execution,
        execution_id=row.execution_id,
        completed_at=row.completed_at,
        generation=row.generation,
        sequence=row.sequence,
        parked=row.parked,
        request_id=row.request_id,
        input=row.input,
        output=row.output,
        failure=decode_failure(row.failure) if row.failure is not None else None,
        custom_status=row.custom_status,
        parent=parent,
    )


def to_row(state: InstanceState) -> InstanceRow:
    parent = state.parent
    return InstanceRow(
        key=state.key,
        partition=partition_of(state.id),
        id=state.id,
        kind="orchestration",
        name=state.name,
        version=state.version,
        status=state.status,
        created_at=state.created_at,
        updated_at=state.updated_at,
        completed_at=state.completed_at,
        execution=state.execution,
        execution_id=state.execution_id,
        generation=state.generation,
        sequence=state.sequence,
        ready=bool(state.unrun),
        open_activities=state.open_activities,
        parked=state.parked,
        request_id=state.request_id,
        input=state.input,
        output=state.output,
        failure=encode_failure(state.failure) if state.failure is not None else None,
        custom_status=state.custom_status,
        parent_key=parent.key if parent else None,
        parent_execution=parent.execution if parent else None,
        parent_task=parent.task_id if parent else None,
        parent_id=parent.instance_id if parent else None,
        parent_name=parent.name if parent else None,
    )
