"""Activities under way in this process.

The table is by (execution key, task id) and outlives the lane: after a fault, what runs is not started again, and a
result that was not yet durable is handed in once more. Activities wait in a queue that is fair between instances, so
that a fan-out of 10,000 does not hold up the single activity of another.
"""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from perdure.core.events import Failure, TaskCompleted, TaskFailed, TaskScheduled
from perdure.core.failures import message_of, own_failure, text_of, unknown_function
from perdure.core.protocols import Activities, Activity, ActivityResult
from perdure.core.runtime import Runtime

log = logging.getLogger("perdure.engine")

_QUICK_SECONDS = 0.005
_PREFETCH = 128
"""Quick activities are handed to the pool ahead of a free slot, or each would cost a round trip between threads.

Slow ones never are: in the pool they would stand before whatever another instance asks for later.
"""


class Call:
    """One activity of one execution."""

    __slots__ = ("activity", "event", "execution", "instance_id", "scheduled", "since", "status", "target")

    def __init__(self, target: int, instance_id: str, execution: int, scheduled: TaskScheduled) -> None:
        self.target = target
        self.instance_id = instance_id
        self.execution = execution
        self.scheduled = scheduled
        self.status: Literal["queued", "running", "done"] = "queued"
        self.activity: Activity | None = None
        self.event: TaskCompleted | TaskFailed | None = None
        self.since = 0.0

    @property
    def name(self) -> tuple[int, int]:
        return self.execution, self.scheduled.task_id


class ActivityDesk:
    def __init__(
        self,
        runtime: Runtime,
        activities: Activities,
        slots: int,
        threads: int,
        deliver: Callable[[Call], object],
    ) -> None:
        self._runtime = runtime
        self._activities = activities
        self._slots = slots
        self._deliver = deliver
        self._threads = runtime.pool("activity", threads)
        self._loop = runtime.async_pool("user")
        self._calls: dict[tuple[int, int], Call] = {}
        self._queues: OrderedDict[int, deque[Call]] = OrderedDict()
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

    def add(self, target: int, instance_id: str, execution: int, scheduled: TaskScheduled) -> None:
        """Queue an activity, unless it is under way already."""
        call = Call(target, instance_id, execution, scheduled)
        if call.name in self._calls:
            return
        self._calls[call.name] = call
        queue = self._queues.get(target)
        if queue is None:
            queue = self._queues[target] = deque()
        queue.append(call)
        self._queued += 1

    def settle(self, name: tuple[int, int]) -> None:
        """The result of this activity is durable, or of no more use."""
        self._calls.pop(name, None)

    def settle_results(self, target: int) -> None:
        """The results that this instance has, and that are not durable, are of no use."""
        for call in self.finished():
            if call.target == target:
                self.settle(call.name)

    def drop_queued(self, target: int) -> None:
        """The instance has ended or opened another execution: what has not begun need not."""
        for call in self._queues.pop(target, ()):
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
        while self._queues:
            target, queue = next(iter(self._queues.items()))
            call = queue[0]
            activity = self._activities.find(call.scheduled.name)
            if activity is not None and self._running >= self._room_for(activity):
                break
            queue.popleft()
            self._queued -= 1
            if queue:
                self._queues.move_to_end(target)
            else:
                del self._queues[target]
            if activity is None:
                text = unknown_function(call.scheduled.name, "activity", self._activities.names())
                self._finish(call, own_failure("FunctionNotFound", text))
                continue
            call.status = "running"
            call.activity = activity
            self._running += 1
            if activity.is_async:
                awaited.append(functools.partial(self._run_async, call, activity))
            else:
                plain.append(functools.partial(self._run, call, activity))
        if plain:
            self._threads.submit(plain)
        if awaited:
            self._loop.submit(awaited)

    def _room_for(self, activity: Activity) -> int:
        """How many may be under way for it to begin. Until a function was seen to be quick it is taken to be slow."""
        quick = self._seconds.get(activity.name, _QUICK_SECONDS) < _QUICK_SECONDS
        return self._slots + _PREFETCH if quick else self._slots

    # --- on the pool's threads ---------------------------------------------------------------------------------------

    def _run(self, call: Call, activity: Activity) -> None:
        call.since = self._runtime.monotonic()
        scheduled = call.scheduled
        try:
            result: Any = activity.invoke(scheduled.input, call.instance_id, scheduled.task_id, scheduled.attempt)
        except BaseException as error:  # user code may raise anything, SystemExit included
            result = _unexpected(error)
        self._finish(call, result)

    async def _run_async(self, call: Call, activity: Activity) -> None:
        call.since = self._runtime.monotonic()
        scheduled = call.scheduled
        try:
            answer = activity.invoke(scheduled.input, call.instance_id, scheduled.task_id, scheduled.attempt)
            result = await answer if isinstance(answer, Awaitable) else answer
        except BaseException as error:  # as above; a task that only we can cancel must still report
            result = _unexpected(error)
        self._finish(call, result)

    def _finish(self, call: Call, result: ActivityResult) -> None:
        task_id = call.scheduled.task_id
        if isinstance(result, Failure):
            call.event = TaskFailed(task_id=task_id, failure=result)
        else:
            call.event = TaskCompleted(task_id=task_id, result=result)
        self._done.append(call)
        if not self._told:
            self._told = True
            self._runtime.post(self._drain)

    # --- back home ---------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._told = False
        done = self._done
        while done:
            call = done.popleft()
            if call.activity is not None:
                self._running -= 1
                name, elapsed = call.activity.name, self._runtime.monotonic() - call.since
                average = self._seconds.get(name, elapsed)
                self._seconds[name] = average + 0.1 * (elapsed - average)
            call.status = "done"
            if isinstance(call.event, TaskFailed):
                _log_failure(call, call.event.failure)
            if self._calls.get(call.name) is call:
                self._deliver(call)


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
        message_of(failure),
        f"\n{failure.traceback}".rstrip() if failure.traceback else "",
    )
