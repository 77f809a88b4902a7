"""What an orchestrator yields.

A task is inert until it is yielded, by itself or inside `task_all` or `task_any`: only then does it get its id and is
it asked for, left to right. It settles once, when its answer is applied, and tells the tasks made of it, which count:
nothing is ever searched for, so an answer costs the same in a fan-out of ten and of ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Protocol, Union

from azure.durable_functions.failures import TaskFailedError
from azure.durable_functions.retry import RetryOptions

from perdure.core.events import (
    Decided,
    Failure,
    SubOrchestrationInstanceCreated,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
)
from perdure.core.ids import child_id


class TaskState(Enum):
    RUNNING = 0
    SUCCEEDED = 1
    FAILED = 2


_RUNNING = TaskState.RUNNING
_SUCCEEDED = TaskState.SUCCEEDED
_FAILED = TaskState.FAILED


class Scheduler(Protocol):
    """The execution that tasks are scheduled on."""

    @property
    def now(self) -> int: ...

    @property
    def execution_id(self) -> str: ...

    def open(self, task: AnsweredTask) -> int:
        """The next task id, whose answer will settle `task`."""
        ...

    def decide(self, decision: Decided) -> None: ...

    def enlist(self, task: EventTask) -> int:
        """A number that says how new a wait is."""
        ...

    def take_event(self, task: EventTask) -> None:
        """Settle `task` with the oldest event of its name that nobody took, if there is one."""
        ...


class TaskBase:
    """Something that will be there later. `==` is identity."""

    __slots__ = ("_parents", "_scheduled", "_state", "_value", "id")

    id: int | str | None

    def __init__(self) -> None:
        self.id = None
        self._state = _RUNNING
        self._value: Any = None
        self._scheduled = False
        self._parents: Union[CompoundTask, list[CompoundTask], None] = None

    @property
    def state(self) -> TaskState:
        return self._state

    @property
    def is_completed(self) -> bool:
        """Whether it has settled, well or badly."""
        return self._state is not _RUNNING

    @property
    def result(self) -> Any:
        """The value, the exception (not raised) of a failed task, None while it is running."""
        value = self._value
        if self._state is _FAILED and isinstance(value, Failure):
            value = self._value = TaskFailedError(value)
        return value

    @property
    def parent(self) -> CompoundTask | None:
        """A compound task that this one counts for."""
        parents = self._parents
        return parents[-1] if isinstance(parents, list) else parents

    @property
    def events(self) -> Sequence[EventTask]:
        """The waits for external events among the tasks that this one is made of."""
        return ()

    def schedule(self, scheduler: Scheduler) -> None:
        """Ask for what the task stands for; called once."""
        raise NotImplementedError

    def succeed(self, value: object) -> None:
        self._settle(_SUCCEEDED, value)

    def fail(self, error: Failure | BaseException) -> None:
        """The exception of a `Failure` is made when somebody looks at it: most are looked at by nobody."""
        self._settle(_FAILED, error)

    def _settle(self, state: TaskState, value: object) -> None:
        self._state = state
        self._value = value
        parents = self._parents
        if parents is None:
            return
        self._parents = None
        if isinstance(parents, list):
            for parent in parents:
                parent.child_settled(self)
        else:
            parents.child_settled(self)

    def _join(self, parent: CompoundTask) -> None:
        parents = self._parents
        if parents is None or (not isinstance(parents, list) and parents._state is not _RUNNING):
            self._parents = parent
        elif isinstance(parents, list):
            # A task that loses one race after another would otherwise remember them all.
            self._parents = [p for p in parents if p._state is _RUNNING]
            self._parents.append(parent)
        else:
            self._parents = [parents, parent]

    def leave(self) -> None:
        """Forget what it is part of, up to the top: nobody will ask any more."""
        leaving: list[TaskBase] = [self]
        while leaving:
            task = leaving.pop()
            parents, task._parents = task._parents, None
            if isinstance(parents, list):
                leaving.extend(parents)
            elif parents is not None:
                leaving.append(parents)

    def wanted_by(self, awaited: TaskBase) -> bool:
        """Whether `awaited` still depends on this task."""
        if self is awaited:
            return True
        parents = self._parents
        if parents is None:
            return False
        if isinstance(parents, list):
            return any(p._state is _RUNNING and p.wanted_by(awaited) for p in parents)
        return parents._state is _RUNNING and parents.wanted_by(awaited)


class AtomicTask(TaskBase):
    """A task that is not made of others."""

    __slots__ = ()


class AnsweredTask(AtomicTask):
    """A task with an id of its own, which an event in the history answers."""

    __slots__ = ("expected_type",)

    def __init__(self, expected_type: object = None) -> None:
        TaskBase.__init__(self)
        self.expected_type = expected_type


class ActivityTask(AnsweredTask):
    __slots__ = ("attempt", "input", "name")

    def __init__(self, name: str, input: str, expected_type: object = None, attempt: int = 1) -> None:
        # What the bases' own would set, as most tasks are of this kind and calls are what they cost.
        self.id = None
        self._state = _RUNNING
        self._value = None
        self._scheduled = False
        self._parents = None
        self.expected_type = expected_type
        self.name = name
        self.input = input
        self.attempt = attempt

    def schedule(self, scheduler: Scheduler) -> None:
        self._scheduled = True
        self.id = task_id = scheduler.open(self)
        scheduler.decide(TaskScheduled(task_id, self.name, self.input, self.attempt))

    def again(self, attempt: int) -> ActivityTask:
        return ActivityTask(self.name, self.input, self.expected_type, attempt)


class SubOrchestrationTask(AnsweredTask):
    __slots__ = ("input", "instance_id", "name", "version")

    def __init__(
        self,
        name: str,
        input: str,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: object = None,
    ) -> None:
        super().__init__(expected_type)
        self.name = name
        self.input = input
        self.instance_id = instance_id
        self.version = version

    def schedule(self, scheduler: Scheduler) -> None:
        self._scheduled = True
        self.id = task_id = scheduler.open(self)
        named = self.instance_id is not None
        instance_id = self.instance_id or child_id(scheduler.execution_id, task_id)
        scheduler.decide(
            SubOrchestrationInstanceCreated(task_id, self.name, instance_id, self.input, self.version, named)
        )

    def again(self, attempt: int) -> SubOrchestrationTask:
        return SubOrchestrationTask(self.name, self.input, self.instance_id, self.version, self.expected_type)


class TimerTask(AnsweredTask):
    """Settles with None at a time, however far away, unless it is cancelled before."""

    __slots__ = ("_asked", "_cancelled", "fire_at")

    def __init__(self, fire_at: int) -> None:
        """`fire_at` is in microseconds since the epoch."""
        super().__init__()
        self.fire_at = fire_at
        self._cancelled = False
        self._asked: tuple[Scheduler, int] | None = None

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Make sure that the timer never fires; whoever waits for it then waits for ever.

        Raises ValueError when it has fired.
        """
        if self._state is not _RUNNING:
            raise ValueError("Cannot cancel a completed task.")
        if self._cancelled:
            return
        self._cancelled = True
        if self._asked is not None:
            scheduler, task_id = self._asked
            scheduler.decide(TimerCanceled(task_id))

    def schedule(self, scheduler: Scheduler) -> None:
        self._scheduled = True
        if self._cancelled:
            return
        self.id = task_id = scheduler.open(self)
        self._asked = scheduler, task_id
        scheduler.decide(TimerCreated(task_id, self.fire_at))


class EventTask(AtomicTask):
    """A wait for one external event.

    It takes an event while the orchestrator waits for it, or when the orchestrator looks at it. A wait that lost a
    `task_any` and is forgotten therefore takes nothing away from the waits that come after it.
    """

    __slots__ = ("_scheduler", "expected_type", "key", "name", "order")

    def __init__(self, name: str, expected_type: object = None) -> None:
        super().__init__()
        self.id = name
        self.name = name
        self.key = name.lower()
        self.expected_type = expected_type
        self.order = 0
        self._scheduler: Scheduler | None = None

    @property
    def state(self) -> TaskState:
        self._look()
        return self._state

    @property
    def is_completed(self) -> bool:
        self._look()
        return self._state is not _RUNNING

    @property
    def result(self) -> Any:
        self._look()
        return self._value

    @property
    def events(self) -> Sequence[EventTask]:
        return (self,)

    def schedule(self, scheduler: Scheduler) -> None:
        self._scheduled = True
        self._scheduler = scheduler
        self.order = scheduler.enlist(self)

    def _look(self) -> None:
        if self._state is _RUNNING and self._scheduler is not None:
            self._scheduler.take_event(self)


class CompoundTask(TaskBase):
    """A task that is made of others."""

    __slots__ = ("_events", "children")

    def __init__(self, children: Iterable[TaskBase]) -> None:
        super().__init__()
        self.children: list[TaskBase] = list(children)
        events: list[EventTask] = []
        for child in self.children:
            if child._state is _RUNNING:
                events.extend(child.events)
        self._events: Sequence[EventTask] = events or ()

    @property
    def events(self) -> Sequence[EventTask]:
        return self._events

    def schedule(self, scheduler: Scheduler) -> None:
        self._scheduled = True
        for child in self.children:
            if not child._scheduled:
                child.schedule(scheduler)

    def child_settled(self, child: TaskBase) -> None:
        raise NotImplementedError


class WhenAllTask(CompoundTask):
    """Settles with the results in the order of the arguments, or at once with the first failure; with None if empty."""

    __slots__ = ("_missing",)

    def __init__(self, children: Iterable[TaskBase]) -> None:
        super().__init__(children)
        self._missing = len(self.children)
        if not self.children:
            self.succeed(None)
        for child in self.children:
            if child._state is _RUNNING:
                child._join(self)
            else:
                self.child_settled(child)

    def child_settled(self, child: TaskBase) -> None:
        if self._state is not _RUNNING:
            return
        if child._state is _FAILED:
            self.fail(child.result)
            return
        self._missing -= 1
        if self._missing == 0:
            self.succeed([c._value for c in self.children])


class WhenAnyTask(CompoundTask):
    """Settles with the first child that settles, which may have failed: nothing is raised. With None if empty."""

    __slots__ = ()

    def __init__(self, children: Iterable[TaskBase]) -> None:
        super().__init__(children)
        if not self.children:
            self.succeed(None)
        for child in self.children:
            if child._state is _RUNNING:
                child._join(self)
            else:
                self.child_settled(child)

    def child_settled(self, child: TaskBase) -> None:
        if self._state is _RUNNING:
            self.succeed(child)


class RetryAbleTask(CompoundTask):
    """An activity or sub-orchestration that is tried again.

    A timer follows every attempt that fails, the last one too, whose timer has no delay: N attempts take 2N task ids.
    This is how Durable Functions has always counted, and the ids are in the histories.
    """

    __slots__ = ("_attempt", "_attempts", "_pause", "_scheduler", "_task")

    def __init__(self, first: ActivityTask | SubOrchestrationTask, options: RetryOptions) -> None:
        super().__init__((first,))
        self._task = first
        self._attempt = 1
        self._attempts = options.max_number_of_attempts
        self._pause = round(options.first_retry_interval_in_milliseconds * 1000)
        self._scheduler: Scheduler | None = None
        first._join(self)

    def schedule(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        super().schedule(scheduler)
        self.id = self._task.id

    def child_settled(self, child: TaskBase) -> None:
        if child._state is _SUCCEEDED and child is self._task:
            self.succeed(child._value)
        elif child is self._task:
            last = self._attempt >= self._attempts
            assert self._scheduler is not None, "an attempt fails only after it was scheduled"
            self._start(TimerTask(self._scheduler.now + (0 if last else self._pause)))
        elif self._attempt >= self._attempts:
            self.fail(self._task._value)
        else:
            self._attempt += 1
            self._task = self._task.again(self._attempt)
            self._start(self._task)

    def _start(self, task: TaskBase) -> None:
        assert self._scheduler is not None, "a retry follows an attempt that was scheduled"
        task._join(self)
        task.schedule(self._scheduler)
