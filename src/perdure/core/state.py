"""What an instance is at one moment: the row that a store keeps of it, and the state folded from its history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.events import (
    CONTROLS,
    ExecutionCompleted,
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

Status = Literal["Pending", "Running", "Suspended", "Completed", "Failed", "Terminated"]
ENDED: frozenset[str] = frozenset({"Completed", "Failed", "Terminated"})


class InstanceRow(Struct, gc=False):
    """An instance as a store keeps it. Texts are user values or encoded structs; times are microseconds, UTC.

    Only the row that belongs to an `InstanceState` is ever changed; whatever is handed on is a copy of it.
    """

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
    input_payload: int | None = None
    """Id of the payload that has the input, when it is too large for the row; `input` is None then."""
    output_payload: int | None = None
    """The same for the output, or for the failure of a Failed one; that is None then."""
    status_payload: int | None = None
    """That of the custom status."""


PROGRESS = (
    "status",
    "updated_at",
    "completed_at",
    "sequence",
    "ready",
    "open_activities",
    "parked",
    "output",
    "failure",
    "custom_status",
    "output_payload",
    "status_payload",
)
"""What may change of a row while its execution stays the same."""


class InstanceState(Struct, gc=True):
    """The working state of an instance. A turn moves it on, in place; a fault of the lane drops it whole.

    `row` is its own: others get a `snapshot`. `open` has the tasks that were decided and not answered, by task id.
    `unrun` has the received events of trailing deferred records, which the next turn applies first.
    """

    row: InstanceRow
    parent: ParentLink | None = None
    last_now: int = 0
    open: dict[int, OpenTask] = {}
    unrun: list[Received] = []

    @property
    def ended(self) -> bool:
        return self.row.status in ENDED

    @property
    def held(self) -> bool:
        """Only control messages reach it; whatever else comes stays in the inbox."""
        return self.row.status == "Suspended" or self.row.parked is not None

    def snapshot(self) -> InstanceRow:
        """The row as it is at this moment."""
        self.row.ready = bool(self.unrun)
        return replace(self.row)


ANSWERED: dict[type, type] = {
    TaskCompleted: TaskScheduled,
    TaskFailed: TaskScheduled,
    SubOrchestrationInstanceCompleted: SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed: SubOrchestrationInstanceCreated,
    TimerFired: TimerCreated,
}
"""The kind of open task that each kind of answer is for."""

_OPENING: frozenset[type] = frozenset(ANSWERED.values())


def close_task(state: InstanceState, event: TaskAnswer) -> OpenTask | None:
    """Take the open task that `event` answers out of `state`; None if it answers none, so that it must be dropped."""
    task = state.open.get(event.task_id)
    if type(task) is not ANSWERED[type(event)]:
        return None
    del state.open[event.task_id]
    if type(task) is TaskScheduled:
        state.row.open_activities -= 1
    return task


def open_task(state: InstanceState, task: OpenTask) -> None:
    """The input of a child is kept by the child alone: its parent may wait for it for long."""
    if type(task) is SubOrchestrationInstanceCreated and task.input is not None:
        task = replace(task, input=None)
    state.open[task.task_id] = task
    if type(task) is TaskScheduled:
        state.row.open_activities += 1


def fold(state: InstanceState, records: Iterable[TurnRecord]) -> InstanceState:
    """Bring `state`, fresh from its row, to where its records leave it: `open`, `unrun`, `last_now`."""
    for record in records:
        state.last_now = max(state.last_now, record.at)
        if record.deferred:
            state.unrun.extend(event for event in record.received if not isinstance(event, CONTROLS))
        else:
            state.unrun = []
        for event in record.received:
            if type(event) in ANSWERED:
                close_task(state, cast("TaskAnswer", event))
        for decision in record.decided:
            if type(decision) in _OPENING:
                open_task(state, cast("OpenTask", decision))
            elif type(decision) is TimerCanceled:
                state.open.pop(decision.task_id, None)
            elif type(decision) is ExecutionCompleted:
                if decision.status != "Failed":
                    state.open = {}
                state.row.open_activities = 0
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
    return InstanceState(replace(row, open_activities=0), parent)
