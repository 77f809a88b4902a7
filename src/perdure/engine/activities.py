"""Activities under way in this process.

The table is by (execution key, task id) and outlives the lane: after a fault, what runs is not started again, and a
result that was not yet durable is handed in once more. Activities wait in a queue that is fair between instances, so
that a fan-out of 10,000 does not hold up the single activity of another.
"""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from perdure.core.events import Failure, TaskCompleted, TaskFailed, TaskScheduled
from perdure.core.failures import message_of, own_failure, shortened, text_of, unknown_function
from perdure.core.protocols import Activities, Activity, ActivityResult
from perdure.core.runtime import Runtime

log = logging.getLogger("perdure.engine")

_QUICK_SECONDS = 0.005
_PREFETCH = 128
"""Quick activities are handed to the pool ahead of a free slot, or each would cost a round trip between threads.

Slow ones never are: in the pool they would stand before whatever another instance asks for later.
"""


class Call(Struct, eq=False, gc=False):
    """One activity of one execution. `name` is the execution's key and the task's id."""

    name: tuple[int, int]
    target: int
    instance_id: str
    scheduled: TaskScheduled
    status: Literal["queued", "running", "done"] = "queued"
    activity: Activity | None = None
    event: TaskCompleted | TaskFailed | None = None
    seconds: float = 0.0
    """How long it ran."""

    @classmethod
    def of(cls, target: int, instance_id: str, execution: int, scheduled: TaskScheduled) -> Call:
        return cls((execution, scheduled.task_id), target, instance_id, scheduled)


class ActivityDesk:
    """`deliver` gets the calls that have ended, on the home thread."""

    def __init__(
        self,
        runtime: Runtime,
        activities: Activities,
        slots: int,
        threads: int,
        deliver: Callable[[Sequence[Call]], object],
    ) -> None:
        self._runtime = runtime
        self._activities = activities
        self._slots = slots
        self._deliver = deliver
        self._threads = runtime.pool("activity", threads)
        self._loop = runtime.async_pool("user")
        self._calls: dict[tuple[int, int], Call] = {}
        self._queues: OrderedDict[int, Call | deque[Call]] = OrderedDict()
        """What waits, by instance; a deque where one has several."""
        self._queued = 0
        self._running = 0
        self._seconds: dict[str, float] = {}
        self._done: deque[Call] = deque()
        self._told = False
        self._stopping = False

    @property
    def running(self) -> int:
        return self._running

    @property
    def queued(self) -> int:
        return self._queued

    @property
    def instances_queued(self) -> int:
        """Instances that have activities in the queue."""
        return len(self._queues)

    def add(self, call: Call) -> None:
        """Queue an activity, unless it is under way already."""
        if call.name in self._calls:
            return
        self._calls[call.name] = call
        self._queued += 1
        queue = self._queues.get(call.target)
        if queue is None:
            self._queues[call.target] = call
        elif isinstance(queue, deque):
            queue.append(call)
        else:
            self._queues[call.target] = deque((queue, call))

    def settle(self, *names: tuple[int, int]) -> None:
        """The results of these activities are durable, or of no more use."""
        forget = self._calls.pop
        for name in names:
            forget(name, None)

    def settle_results(self, target: int) -> None:
        """The results that this instance has, and that are not durable, are of no use."""
        for call in self.finished():
            if call.target == target:
                self.settle(call.name)

    def drop_queued(self, target: int) -> None:
        """The instance has ended or opened another execution: what has not begun need not."""
        queue = self._queues.pop(target, None)
        if queue is None:
            return
        for call in queue if isinstance(queue, deque) else (queue,):
            self._queued -= 1
            self._calls.pop(call.name, None)

    def drop_all_queued(self) -> None:
        """The lane has ended: what has not begun is found again in the history."""
        for target in list(self._queues):
            self.drop_queued(target)

    def disown_all(self) -> None:
        """What runs is of no use to anybody."""
        self.drop_all_queued()
        self._calls.clear()

    def finished(self) -> list[Call]:
        """What is done and not known to be durable."""
        return [call for call in self._calls.values() if call.status == "done"]

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    def pump(self) -> None:
        """Begin what there are slots for."""
        if self._stopping or not self._queued:
            return
        plain: list[Callable[[], Any]] = []
        awaited: list[Callable[[], Any]] = []
        queues = self._queues
        name, activity, room = "", None, 0
        short = True
        while queues:
            target, queue = queues.popitem(last=False)
            call = queue[0] if isinstance(queue, deque) else queue
            if call.scheduled.name != name:
                name = call.scheduled.name
                activity = self._activities.find(name)
                room = self._room_for(activity) if activity is not None else 0
            if activity is not None and self._running >= room:
                queues[target] = queue
                queues.move_to_end(target, last=False)
                break
            self._queued -= 1
            if isinstance(queue, deque):
                queue.popleft()
                if queue:
                    queues[target] = queue
            if activity is None:
                text = unknown_function(name, "activity", self._activities.names())
                self._finish(call, own_failure("FunctionNotFound", text))
                continue
            call.status = "running"
            call.activity = activity
            self._running += 1
            if activity.is_async:
                awaited.append(functools.partial(self._run_async, call, activity))
            else:
                plain.append(functools.partial(self._run, call, activity))
                short = short and room > self._slots
        if plain:
            self._threads.submit(plain, short=short)
        if awaited:
            self._loop.submit(awaited)

    def _room_for(self, activity: Activity) -> int:
        """How many may be under way for it to begin. Until a function was seen to be quick it is taken to be slow."""
        quick = self._seconds.get(activity.name, _QUICK_SECONDS) < _QUICK_SECONDS
        return self._slots + _PREFETCH if quick else self._slots

    # --- on the pool's threads ---------------------------------------------------------------------------------------

    def _run(self, call: Call, activity: Activity) -> None:
        scheduled, clock = call.scheduled, self._runtime.monotonic
        since = clock()
        try:
            result: Any = activity.invoke(scheduled.input, call.instance_id, scheduled.task_id, scheduled.attempt)
        except BaseException as error:  # user code may raise anything, SystemExit included
            result = _unexpected(error)
        call.seconds = clock() - since
        self._finish(call, result)

    async def _run_async(self, call: Call, activity: Activity) -> None:
        scheduled, clock = call.scheduled, self._runtime.monotonic
        since = clock()
        try:
            answer = activity.invoke(scheduled.input, call.instance_id, scheduled.task_id, scheduled.attempt)
            result = await answer if isinstance(answer, Awaitable) else answer
        except BaseException as error:  # as above; a task that only we can cancel must still report
            result = _unexpected(error)
        call.seconds = clock() - since
        self._finish(call, result)

    def _finish(self, call: Call, result: ActivityResult) -> None:
        task_id = call.scheduled.task_id
        if isinstance(result, Failure):
            call.event = TaskFailed(task_id, result)
        else:
            call.event = TaskCompleted(task_id, result)
        self._done.append(call)
        if not self._told:
            self._told = True
            self._runtime.post(self._drain)

    # --- back home ---------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._told = False
        done = self._done
        wanted: list[Call] = []
        while done:
            call = done.popleft()
            if call.activity is not None:
                self._running -= 1
                name = call.activity.name
                average = self._seconds.get(name, call.seconds)
                self._seconds[name] = average + 0.1 * (call.seconds - average)
            call.status = "done"
            if type(call.event) is TaskFailed:
                _log_failure(call, call.event.failure)
            if self._calls.get(call.name) is call:
                wanted.append(call)
        if wanted:
            self._deliver(wanted)


def _unexpected(error: BaseException) -> Failure:
    log.error("an activity ended with %r", error, exc_info=error)
    return Failure(type=type(error).__name__, message=text_of(error))


def _log_failure(call: Call, failure: Failure) -> None:
    scheduled = call.scheduled
    log.warning(
        "activity %r of instance %r failed (attempt %d): %s: %s%s",
        scheduled.name,
        call.instance_id,
        scheduled.attempt,
        failure.type,
        shortened(message_of(failure)),
        shortened(f"\n{failure.traceback}".rstrip()) if failure.traceback else "",
    )
