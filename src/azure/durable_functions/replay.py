"""Steps an orchestrator's generator through its history, and on from there.

Live and replay are one code path: events are applied one at a time, and the generator resumes at the event that settles
what it waits for, before the next event is looked at. So code that asks for the state of some other task gets the same
answer whenever it runs.

What the code decides is compared with what the history says it decided, in order, until the history has no more; from
there on decisions are handed out. A contradiction is raised around the generator, never into it: user code must not
catch it, and nothing it does afterwards counts.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from types import FrameType, GeneratorType
from typing import Any, cast

from azure.durable_functions.context import DurableOrchestrationContext
from azure.durable_functions.determinism import RecordedDecisions
from azure.durable_functions.external_events import EventInbox
from azure.durable_functions.failures import orchestrator_failure
from azure.durable_functions.serialization import df_loads, plain_dumps
from azure.durable_functions.tasks import AnsweredTask, EventTask, TaskBase, TaskState, TimerTask, WhenAllTask
from msgspec import UNSET, UnsetType

from perdure.core.errors import NonDeterminismError, TurnTimeout
from perdure.core.events import (
    ContinueAsNew,
    Decided,
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    Received,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerFired,
    TurnRecord,
)
from perdure.core.protocols import Step

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_RUNNING = TaskState.RUNNING
_FAILED = TaskState.FAILED
_NOTHING_RECORDED = RecordedDecisions()

# How often a closed context raises before it gives in. Code such as `while True: try: yield … except: pass` catches
# whatever it raises and would turn for ever; given a task that leads nowhere it reaches its next yield, and is left.
_REFUSALS = 100
_CLOSE_ATTEMPTS = 10

NOT_ASYNC = (
    "Write it with `def` and `yield`: `result = yield context.call_activity(...)`. "
    "Coroutines are not served as orchestrators."
)


class ContextClosed(GeneratorExit):
    """The orchestrator's code is being dropped, so its context does nothing any more.

    A GeneratorExit, as that is what the code sees first, and what `except Exception` lets through.
    """


class OrchestrationSession:
    """A `perdure.core.protocols.Session` over a generator function, or a function that returns at once."""

    __slots__ = (
        "_awaited",
        "_carried",
        "_closed",
        "_context",
        "_continued",
        "_custom_status",
        "_decided",
        "_ended",
        "_events",
        "_execution_id",
        "_fault",
        "_function",
        "_generator",
        "_input_type",
        "_instance_id",
        "_name",
        "_next_id",
        "_now",
        "_open",
        "_recorded",
        "_refusals",
        "_replaying",
    )

    def __init__(
        self,
        name: str,
        function: Callable[[DurableOrchestrationContext], Any],
        instance_id: str,
        input_type: type | None = None,
    ) -> None:
        self._name = name
        self._function = function
        self._instance_id = instance_id
        self._input_type = input_type
        self._execution_id = ""
        self._context: DurableOrchestrationContext | None = None
        self._generator: GeneratorType[object, Any, object] | None = None
        self._awaited: TaskBase | None = None
        self._now = 0
        self._replaying = False
        self._ended = False
        self._closed = False
        self._refusals = 0
        # Tasks that an answer is due to, by id.
        self._open: dict[int, AnsweredTask] = {}
        self._next_id = 0
        self._recorded = _NOTHING_RECORDED
        # What this step decided.
        self._decided: list[Decided] = []
        self._custom_status: str | UnsetType | None = UNSET
        self._continued: str | None = None
        self._carried: list[EventRaised] = []
        self._fault: NonDeterminismError | None = None
        self._events = EventInbox()

    # --- Session -----------------------------------------------------------------------------------------------------

    def replay(self, records: Sequence[TurnRecord]) -> None:
        self._recorded = RecordedDecisions(records)
        self._replaying = True
        deferred: list[Received] = []
        for record in records:
            if record.deferred:
                deferred.extend(record.received)
                continue
            self._now = max(self._now, record.at)
            if deferred:
                self._apply(deferred)
                deferred = []
            self._apply(record.received)
        self._replaying = False
        self._decided = []
        self._custom_status = UNSET
        if self._recorded.exhausted:
            self._recorded = _NOTHING_RECORDED  # A long history would otherwise stay in memory.
        elif not deferred:
            self._refute(self._recorded.missing())

    def advance(self, at: int, received: Sequence[Received]) -> Step:
        if at > self._now:
            self._now = at
        consumed = self._apply(received)
        if self._recorded is not _NOTHING_RECORDED:
            self._refute(self._recorded.missing())
        step = Step(self._decided, consumed, self._custom_status, self._carried)
        self._decided = []
        self._custom_status = UNSET
        self._carried = []
        return step

    def close(self) -> None:
        self._closed = True
        generator, self._generator = self._generator, None
        if generator is not None:
            _close(generator)
        # All these refer to this session or to each other. Left to the collector, tens of thousands of such circles
        # would make it stop everything for a second.
        awaited, self._awaited = self._awaited, None
        for task in (*self._open.values(), *(awaited.events if awaited is not None else ())):
            task.leave()
        self._context = None
        self._open = {}
        self._events = EventInbox()

    # --- applying events ---------------------------------------------------------------------------------------------

    def _apply(self, received: Sequence[Received]) -> int:
        """Apply events in order until the execution ends; how many were applied."""
        count = 0
        tasks = self._open
        for event in received:
            if self._ended:
                break
            count += 1
            # Not a `match`: that costs several times as much, and every event of every replay passes here.
            if type(event) is TaskCompleted or type(event) is SubOrchestrationInstanceCompleted:
                task = tasks.pop(event.task_id, None)
                if task is not None:
                    _deliver(task, event.result, task.expected_type)
            elif type(event) is TimerFired:
                task = tasks.pop(event.task_id, None)
                if task is not None:
                    task.succeed(None)
            elif type(event) is TaskFailed or type(event) is SubOrchestrationInstanceFailed:
                task = tasks.pop(event.task_id, None)
                if task is not None:
                    task.fail(event.failure)
            elif type(event) is EventRaised:
                wait = self._events.arrive(event, self._awaited)
                if wait is not None:
                    _deliver(wait, event.input, wait.expected_type)
            elif type(event) is ExecutionStarted:
                self._start(event)
            awaited = self._awaited
            if awaited is None or awaited._state is _RUNNING:
                continue
            self._awaited = None
            if awaited._state is _FAILED:
                self._run(None, awaited.result)
            else:
                self._run(awaited._value, None)
        return count

    def _start(self, event: ExecutionStarted) -> None:
        if self._context is not None:
            return
        self._execution_id = event.execution_id
        self._context = context = DurableOrchestrationContext(
            self,
            self._instance_id,
            input=event.input,
            input_type=self._input_type,
            parent_instance_id=event.parent.instance_id if event.parent is not None else None,
            version=event.version,
        )
        try:
            outcome = self._function(context)
        except TurnTimeout:
            raise
        except BaseException as error:
            self._fail(error)
            return
        if isinstance(outcome, GeneratorType):
            self._generator = cast("GeneratorType[object, Any, object]", outcome)
            self._run(None, None)
        else:
            self._finish(outcome)

    # --- running the function ----------------------------------------------------------------------------------------

    def _run(self, value: Any, error: BaseException | None) -> None:
        """Go on with a value or an exception, until the function ends or waits for what is not there."""
        generator = self._generator
        assert generator is not None, "only a generator is resumed"
        while True:
            try:
                if error is None:
                    yielded = generator.send(value)
                else:
                    # The traceback would otherwise grow with every yield that raises the same exception.
                    yielded = generator.throw(error.with_traceback(None))
            except StopIteration as stop:
                self._finish(stop.value)
                return
            except TurnTimeout:
                raise
            except BaseException as raised:
                self._fail(raised)
                return
            if self._fault is not None:
                raise self._fault
            if self._continued is not None:
                self._end(ContinueAsNew(self._continued))
                return
            value = error = None
            if isinstance(yielded, TaskBase):
                task = yielded
            else:
                try:
                    task = _task_of(yielded)
                except TypeError as refusal:
                    error = refusal
                    continue
            if not task._scheduled:
                task.schedule(self)
            if task._state is _RUNNING:
                if isinstance(task, TimerTask) and task.is_cancelled:
                    error = RuntimeError("This timer was cancelled, so waiting for it would never end.")
                    continue
                if not self._await(task):
                    return
            if task._state is _FAILED:
                error = task.result
            else:
                value = task._value

    def _await(self, task: TaskBase) -> bool:
        """Wait for `task`; True if an event that came early settled it at once."""
        self._awaited = task
        self._events.forget_waits()
        for wait in task.events:
            if wait._state is not _RUNNING or not wait.wanted_by(task):
                continue
            self.take_event(wait)
            if wait._state is _RUNNING:
                self._events.listen(wait)
            elif task._state is not _RUNNING:
                self._awaited = None
                return True
        return False

    def _finish(self, output: object) -> None:
        if self._fault is not None:
            raise self._fault
        if self._continued is not None:
            self._end(ContinueAsNew(self._continued))
            return
        if isinstance(output, Coroutine):
            output.close()
            self._fail(TypeError(f"Orchestrator function '{self._name}' returned a coroutine. {NOT_ASYNC}"))
            return
        try:
            result = None if output is None else plain_dumps(output)
        except (TypeError, ValueError, RecursionError) as error:
            self._fail(TypeError(f"The return value of orchestrator '{self._name}' cannot be stored: {error}"))
            return
        self._end(ExecutionCompleted("Completed", result))

    def _fail(self, error: BaseException) -> None:
        if self._fault is not None:
            raise self._fault
        self._end(ExecutionCompleted("Failed", failure=orchestrator_failure(error, self._name)))

    def _end(self, decision: ExecutionCompleted | ContinueAsNew) -> None:
        self._ended = True
        self._awaited = None
        if self._replaying or not self._recorded.exhausted:
            self._refute(self._recorded.ending(decision))
        self._decided.append(decision)
        if isinstance(decision, ContinueAsNew):
            self._carried = self._events.kept()

    # --- Scheduler: what tasks ask for -------------------------------------------------------------------------------

    @property
    def execution_id(self) -> str:
        return self._execution_id

    def open(self, task: AnsweredTask) -> int:
        task_id = self._next_id
        self._next_id = task_id + 1
        self._open[task_id] = task
        return task_id

    def decide(self, decision: Decided) -> None:
        if self._continued is not None or self._closed:
            return
        recorded = self._recorded
        if recorded is not _NOTHING_RECORDED and not recorded.exhausted:
            self._refute(recorded.match(decision))
        elif self._replaying:
            self._refute(recorded.excess(decision))
        else:
            self._decided.append(decision)

    def enlist(self, task: EventTask) -> int:
        return self._events.enlist()

    def take_event(self, task: EventTask) -> None:
        if self._continued is not None or self._closed:
            return
        event = self._events.take(task)
        if event is not None:
            _deliver(task, event.input, task.expected_type)

    # --- Execution: what the context asks for ------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self._now

    @property
    def replaying(self) -> bool:
        self.check_open()
        return self._replaying

    def check_open(self) -> None:
        if self._closed:
            self._refusals += 1
            if self._refusals <= _REFUSALS:
                raise ContextClosed(f"the context of instance {self._instance_id!r} is closed")

    def continue_as_new(self, input: str) -> None:
        if self._continued is None:
            self._continued = input

    def set_custom_status(self, text: str | None) -> None:
        self._custom_status = text

    # --- determinism -------------------------------------------------------------------------------------------------

    def _refute(self, contradiction: str | None) -> None:
        """Raise NonDeterminismError, or keep it until the generator hands control back if it is running."""
        if contradiction is None or self._fault is not None:
            return
        fault = NonDeterminismError(
            f"Non-Deterministic workflow detected: in orchestrator '{self._name}' {contradiction} ({self._place()}). "
            "Was the code changed while this instance was running, or does it depend on something other than its "
            "context?"
        )
        generator = self._generator
        if generator is not None and generator.gi_running:
            self._fault = fault
        else:
            raise fault

    def _place(self) -> str:
        """File and line of the user's code that is running, or of the `yield` it is suspended at."""
        frame: FrameType | None
        generator: Any = self._generator
        if generator is None or (generator.gi_frame is None and not generator.gi_running):
            code = getattr(inspect.unwrap(self._function), "__code__", None)
            return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(self._function)
        if generator.gi_running:
            frame = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename.startswith(_HERE):
                frame = frame.f_back
        else:
            while getattr(generator.gi_yieldfrom, "gi_frame", None) is not None:
                generator = generator.gi_yieldfrom
            frame = generator.gi_frame
        assert frame is not None, "a generator that has not ended has a frame"
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _close(generator: GeneratorType[object, Any, object]) -> None:
    for _ in range(_CLOSE_ATTEMPTS):
        try:
            generator.close()
            return
        except RuntimeError:
            continue  # It yielded on its way out, or raised a RuntimeError of its own: ask again, it is cheap.
        except BaseException:
            return


def _deliver(task: AnsweredTask | EventTask, text: str | None, expected_type: object) -> None:
    """Settle `task` with a user value. What cannot be decoded fails it, so that the code may see and handle it."""
    if text is None or text == "null":
        task.succeed(None)
        return
    try:
        value = df_loads(text, expected_type)
    except TurnTimeout:
        raise
    except Exception as error:
        task.fail(error)
    else:
        task.succeed(value)


def _task_of(yielded: object) -> TaskBase:
    """The task that something else stands for. Raises TypeError."""
    if isinstance(yielded, (list, tuple)):
        children = cast("Sequence[object]", yielded)
        strangers = [child for child in children if not isinstance(child, TaskBase)]
        if not strangers:
            return WhenAllTask(cast("Sequence[TaskBase]", children))
        yielded = strangers[0]
        where = "in the list that was yielded"
    else:
        where = "to yield"
    raise TypeError(
        f"{_short(yielded)} is nothing {where}: an orchestrator yields tasks, such as context.call_activity gives."
    )


def _short(value: object) -> str:
    text = repr(value)
    if len(text) > 100:
        text = text[:97] + "..."
    return text if value is None else f"{text} (a {type(value).__name__})"
