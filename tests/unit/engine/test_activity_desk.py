"""Which activities begin when, and what becomes of their results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from azure.durable_functions.registry import ActivityFunction, ActivityTable
from hand_driven import HandPool, HandRuntime

from perdure.core.events import TaskCompleted, TaskFailed, TaskScheduled
from perdure.engine.activities import ActivityDesk, Call

SLOTS = 20


class Desk:
    """A desk, its pool of threads, and what it delivered."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        self.runtime = HandRuntime()
        self.delivered: list[Call] = []
        table = ActivityTable()
        for name, function in functions.items():
            table.add(ActivityFunction(name, function, "value"))
        self.desk = ActivityDesk(self.runtime, table, SLOTS, 6, self.delivered.extend)
        self.threads: HandPool = self.runtime.pools["activity"]

    def add(self, target: int, count: int, name: str = "quick", first: int = 0) -> None:
        for task_id in range(first, first + count):
            self.desk.add(
                Call.of(target, f"instance {target}", target + 1000, TaskScheduled(task_id, name, str(task_id)))
            )

    def finish(self, count: int = 1, seconds: float = 0.0) -> None:
        """Let the pool run that many calls, each taking so long."""
        for _ in range(count):
            call = self.threads.calls.popleft()
            before = self.runtime.time
            self._slow(call, seconds)
            self.runtime.run_home()
            self.desk.pump()
            assert self.runtime.time >= before

    def _slow(self, call: Callable[[], Any], seconds: float) -> None:
        self.duration = seconds
        call()

    def results(self) -> list[tuple[int, int]]:
        return [(call.target, call.scheduled.task_id) for call in self.delivered]


def desk_of(*names: str) -> Desk:
    desk = Desk(**{name: lambda value: desk_pass(desk, value) for name in names})
    return desk


def desk_pass(desk: Desk, value: Any) -> Any:
    desk.runtime.time += round(desk.duration * 1_000_000)
    return value


def test_instances_take_turns() -> None:
    desk = desk_of("quick")
    desk.add(1, 1000)
    desk.add(2, 3)
    desk.add(3, 1)
    desk.desk.pump()
    desk.finish(8)
    assert desk.results()[:6] == [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2)]


def test_a_slow_fan_out_of_ten_thousand_holds_up_the_single_activity_of_another_by_no_more_than_the_slots() -> None:
    desk = desk_of("slow", "quick")
    desk.add(1, 10_000, "slow")
    desk.desk.pump()
    desk.finish(3, seconds=1.0)
    desk.add(2, 1, "slow")
    desk.desk.pump()
    before = 0
    while (2, 0) not in desk.results():
        desk.finish(1, seconds=1.0)
        before += 1
    assert before <= SLOTS + 2


def test_what_a_function_has_done_quickly_says_nothing_about_another() -> None:
    """Quick activities are handed to the threads ahead of time; slow ones would hold up whoever comes after them."""
    desk = desk_of("quick", "slow")
    desk.add(1, 200, "quick")
    desk.desk.pump()
    desk.finish(200, seconds=0.0001)
    desk.add(2, 10_000, "slow")
    desk.desk.pump()
    assert len(desk.threads.calls) <= SLOTS


def test_quick_activities_are_handed_out_ahead_of_free_slots() -> None:
    desk = desk_of("quick")
    desk.add(1, 1000)
    desk.desk.pump()
    assert len(desk.threads.calls) <= SLOTS, "nobody knows yet how long it takes"
    desk.finish(2, seconds=0.0001)
    assert len(desk.threads.calls) > SLOTS


def test_an_activity_under_way_is_not_begun_again() -> None:
    desk = desk_of("quick")
    desk.add(1, 3)
    desk.add(1, 3)
    desk.desk.pump()
    desk.add(1, 3)
    desk.desk.pump()
    desk.finish(3)
    desk.add(1, 3)
    desk.desk.pump()
    assert desk.results() == [(1, 0), (1, 1), (1, 2)]
    assert not desk.threads.calls
    assert len(desk.desk.finished()) == 3, "their results are not durable yet"
    desk.desk.settle((1001, 0))
    desk.add(1, 1)
    desk.desk.pump()
    assert len(desk.threads.calls) == 1


def test_what_is_queued_for_an_instance_that_has_ended_does_not_begin() -> None:
    desk = desk_of("slow")
    desk.add(1, 100, "slow")
    desk.add(2, 100, "slow")
    desk.desk.pump()
    under_way = len(desk.threads.calls)
    desk.desk.drop_queued(1)
    desk.finish(under_way, seconds=1.0)
    while desk.threads.calls:
        desk.finish(1, seconds=1.0)
    assert sum(target == 1 for target, _ in desk.results()) == under_way // 2
    assert sum(target == 2 for target, _ in desk.results()) == 100
    assert desk.desk.queued == desk.desk.running == 0


def test_what_runs_when_the_lane_ends_goes_on_and_what_is_queued_does_not() -> None:
    desk = desk_of("slow")
    desk.add(1, 100, "slow")
    desk.desk.pump()
    under_way = len(desk.threads.calls)
    desk.desk.drop_all_queued()
    assert desk.desk.queued == 0
    desk.add(1, 100, "slow")
    assert desk.desk.queued == 100 - under_way
    desk.finish(under_way, seconds=1.0)
    assert len(desk.desk.finished()) == under_way


def test_a_result_that_nobody_owns_any_more_is_not_delivered() -> None:
    desk = desk_of("quick")
    desk.add(1, 1)
    desk.desk.pump()
    desk.desk.disown_all()
    desk.add(1, 1)
    desk.desk.pump()
    desk.finish(1)
    assert desk.results() == []
    desk.finish(1)
    assert desk.results() == [(1, 0)]
    assert desk.desk.running == 0


def test_a_desk_that_stops_begins_nothing() -> None:
    desk = desk_of("quick")
    desk.add(1, 3)
    desk.desk.stop()
    desk.desk.pump()
    assert not desk.threads.calls
    assert desk.desk.running == 0


def test_a_function_that_nobody_serves_fails_its_task_with_the_names_that_are_known() -> None:
    desk = desk_of("quick")
    desk.add(1, 1, "nobody")
    desk.desk.pump()
    desk.runtime.run_home()
    (call,) = desk.delivered
    assert isinstance(call.event, TaskFailed)
    assert call.event.failure.type == "FunctionNotFound"
    assert "'nobody' doesn't exist" in (call.event.failure.message or "")
    assert "'quick'" in (call.event.failure.message or "")
    assert desk.desk.running == 0


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_an_activity_raises_is_its_failure(error: BaseException) -> None:
    def fails(value: Any) -> None:
        raise error

    desk = Desk(fails=fails)
    desk.add(1, 1, "fails")
    desk.desk.pump()
    desk.finish(1)
    (call,) = desk.delivered
    assert isinstance(call.event, TaskFailed)
    assert call.event.failure.type == type(error).__name__


def test_async_activities_run_on_the_loop_and_others_on_threads() -> None:
    async def awaited(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    desk = Desk(awaited=awaited, quick=lambda value: value)
    desk.add(1, 1, "awaited")
    desk.add(2, 1, "quick")
    desk.desk.pump()
    loop: Any = desk.runtime.pools["user"]
    assert (len(loop.calls), len(desk.threads.calls)) == (1, 1)
    asyncio.run(loop.calls.popleft()())
    desk.runtime.run_home()
    (call,) = desk.delivered
    assert call.event == TaskCompleted(0, "1")
