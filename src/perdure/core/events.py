"""What a history is made of.

A history is a list of `TurnRecord`s, the append-only truth about one execution. A record holds what the turn
*received* (in the order in which it was applied) and what it *decided* (in the order in which the orchestrator asked
for it). Everything an instance waits for follows from its records.

Names are those of the Durable Task Framework's history. Times are integer microseconds since the Unix epoch, UTC. User
values (`input`, `result`) are the SDK's JSON text: passed on as they are, never decoded here. Each struct is stored as
a JSON object whose `type` is the struct's name; fields at their default are left out, so a field with a default may be
added without a change of format.
"""

from __future__ import annotations

from typing import Literal, Union

from msgspec import Struct


class Failure(Struct, frozen=True, omit_defaults=True, gc=False):
    """Why a function failed, structured; `core.failures` renders it into the texts that users parse.

    `kind` says what `function` is: "activity", "orchestrator", or "" when the failure is the runtime's own (an unknown
    function, say) and `message` is the whole text. `message` is None when the exception was the `cause`, passed on
    unchanged.
    """

    type: str
    message: str | None = None
    kind: Literal["activity", "orchestrator", ""] = ""
    function: str = ""
    traceback: str | None = None
    attempt: int = 1
    cause: Failure | None = None


class ParentLink(Struct, frozen=True, omit_defaults=True, gc=False):
    """The task of a parent orchestration that a child answers."""

    key: int
    """Instance key of the parent."""
    instance_id: str
    execution: int
    """Execution key of the parent: an answer to another execution is dropped."""
    task_id: int
    name: str


class _Event(Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type", gc=False):
    pass


# --- received -------------------------------------------------------------------------------------------------------


class ExecutionStarted(_Event, frozen=True):
    name: str
    instance_id: str
    execution_id: str
    """32 hexadecimal digits, new for each start and each continue-as-new."""
    input: str | None = None
    version: str | None = None
    parent: ParentLink | None = None
    generation: int = 0
    """How many times the instance continued as new."""


class TaskCompleted(_Event, frozen=True):
    task_id: int
    result: str | None = None


class TaskFailed(_Event, frozen=True):
    task_id: int
    failure: Failure


class SubOrchestrationInstanceCompleted(_Event, frozen=True):
    task_id: int
    result: str | None = None


class SubOrchestrationInstanceFailed(_Event, frozen=True):
    task_id: int
    failure: Failure


class TimerFired(_Event, frozen=True):
    task_id: int
    fire_at: int


class EventRaised(_Event, frozen=True):
    """An external event. `source` says how it was raised, as the reading of `input` may depend on it."""

    name: str
    input: str | None = None
    source: Literal["", "client"] = ""
    late: bool = False
    """It was accepted but found its instance ended."""


class ExecutionTerminated(_Event, frozen=True):
    reason: str | None = None


class ExecutionSuspended(_Event, frozen=True):
    reason: str | None = None


class ExecutionResumed(_Event, frozen=True):
    reason: str | None = None


# --- decided --------------------------------------------------------------------------------------------------------


class TaskScheduled(_Event, frozen=True):
    task_id: int
    name: str
    input: str | None = None
    attempt: int = 1


class TimerCreated(_Event, frozen=True):
    task_id: int
    fire_at: int


class TimerCanceled(_Event, frozen=True):
    task_id: int


class SubOrchestrationInstanceCreated(_Event, frozen=True):
    task_id: int
    name: str
    instance_id: str
    input: str | None = None
    version: str | None = None
    named: bool = False
    """The id was chosen by the user, so it may belong to another instance already."""


class ExecutionCompleted(_Event, frozen=True):
    """The end. `result` is the output of a Completed one; a Failed one has `failure`; a Terminated one its reason."""

    status: Literal["Completed", "Failed", "Terminated"]
    result: str | None = None
    failure: Failure | None = None


class ContinueAsNew(_Event, frozen=True):
    input: str | None = None


TaskAnswer = Union[
    TaskCompleted,
    TaskFailed,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TimerFired,
]
"""Answers to one open task of one execution; dropped when that task is not open."""

Control = Union[ExecutionTerminated, ExecutionSuspended, ExecutionResumed]
"""Acts on the instance, not on its code; gets through to a suspended or parked one."""

Received = Union[ExecutionStarted, TaskAnswer, EventRaised, Control]

Decided = Union[
    TaskScheduled,
    TimerCreated,
    TimerCanceled,
    SubOrchestrationInstanceCreated,
    ExecutionCompleted,
    ContinueAsNew,
]

OpenTask = Union[TaskScheduled, TimerCreated, SubOrchestrationInstanceCreated]

TASK_ANSWERS = (
    TaskCompleted,
    TaskFailed,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TimerFired,
)
CONTROLS = (ExecutionTerminated, ExecutionSuspended, ExecutionResumed)


class TurnRecord(Struct, frozen=True, omit_defaults=True, gc=False):
    """One turn in the history.

    `at` is what the orchestrator saw as the current time. A `deferred` record was accepted before any code ran over it
    (a start, a new generation with the events carried into it): replay applies its events together with those of the
    next record, at that record's time. This is how a turn that found them waiting had applied them.

    A record with a `payload` is a stub: the payload of that id has the true one.
    """

    at: int
    received: list[Received] = []
    decided: list[Decided] = []
    deferred: bool = False
    payload: int = 0
