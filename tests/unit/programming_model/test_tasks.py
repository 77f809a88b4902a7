"""When a task is asked for, what its id is, and when it resumes the orchestrator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from orchestration_driver import EXECUTION, SECOND, START, Driven, boom

from perdure.core.events import (
    ContinueAsNew,
    Failure,
    SubOrchestrationInstanceCreated,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TimerFired,
)

Drive = Callable[..., Driven]


def test_a_task_that_is_never_yielded_is_never_asked_for(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        context.call_activity("never")
        return (yield context.call_activity("a"))

    run = drive(orchestrator)

    assert run.decided == [TaskScheduled(0, "a", "null")]


def test_ids_are_given_left_to_right_when_a_compound_is_yielded(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        late = context.call_activity("late")
        inner = context.task_any([context.call_activity("b"), context.call_sub_orchestrator("c")])
        yield context.task_all([context.call_activity("a"), context.wait_for_external_event("E"), inner, late])

    run = drive(orchestrator)

    assert run.decided == [
        TaskScheduled(0, "a", "null"),
        TaskScheduled(1, "b", "null"),
        SubOrchestrationInstanceCreated(2, "c", f"{EXECUTION}:2", "null"),
        TaskScheduled(3, "late", "null"),
    ]


def test_a_task_yielded_twice_is_asked_for_once_and_resumes_at_once(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        task = context.call_activity("a")
        first = yield task
        second = yield task
        return [first, second, task.result, task.is_completed]

    run = drive(orchestrator)
    run.complete(0, 7)

    assert run.output == [7, 7, 7, True]
    assert len(run.decided) == 2


def test_task_all_gives_results_in_the_order_of_its_arguments(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([context.call_activity("sq", n) for n in range(3)]))

    run = drive(orchestrator)
    for task_id in (2, 0, 1):
        assert not run.ended
        run.complete(task_id, task_id * 10)

    assert run.output == [0, 10, 20]


def test_a_list_is_yielded_as_task_all(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield [context.call_activity("a"), context.call_activity("b")])

    run = drive(orchestrator)
    run.complete(1, "b")
    run.complete(0, "a")

    assert run.output == ["a", "b"]


def test_task_all_raises_the_first_failure_at_once_and_ignores_what_comes_later(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        tasks = [context.call_activity(name) for name in "abc"]
        try:
            yield context.task_all(tasks)
        except Exception as error:
            assert error is tasks[1].result
            return [str(error).split(":")[0], [task.is_completed for task in tasks], (yield tasks[0])]

    run = drive(orchestrator)
    run.turn(TaskFailed(1, boom("b")), TaskFailed(2, boom("c")))
    run.complete(0, "a")

    assert run.output == ["Activity function 'b' failed", [False, True, False], "a"]


def test_task_any_gives_the_winning_task_and_never_raises(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        tasks = [context.call_activity("a"), context.call_activity("b")]
        winner = yield context.task_any(tasks)
        return [tasks.index(winner), winner.state.name, str(winner.result)[:35]]

    run = drive(orchestrator)
    run.fail(1, boom("b"))

    assert run.output == [1, "FAILED", "Activity function 'b' failed:  Valu"]


def test_empty_compounds_give_none(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        return [(yield context.task_all([])), (yield context.task_any([])), (yield [])]

    assert drive(orchestrator).output == [None, None, None]


def test_compounds_nest(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        pair = context.task_all([context.call_activity("a"), context.call_activity("b")])
        winner = yield context.task_any([pair, context.create_timer(timedelta(hours=1))])
        return winner is pair and winner.result

    run = drive(orchestrator)
    run.complete(0, 1)
    run.complete(1, 2)

    assert run.output == [1, 2]


def test_a_task_that_counts_for_two_compounds_settles_both(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        shared, other = context.call_activity("shared"), context.call_activity("other")
        both = context.task_all([shared, other])
        either = context.task_any([shared, context.wait_for_external_event("never")])
        winner = yield either
        return [winner is shared, (yield both)]

    run = drive(orchestrator)
    run.complete(0, 1)
    run.complete(1, 2)

    assert run.output == [True, [1, 2]]


def test_a_failed_task_raises_each_time_it_is_yielded(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        task = context.call_activity("a")
        errors = []
        for _ in range(2):
            try:
                yield task
            except Exception as error:
                errors.append(error)
        return errors[0] is errors[1]

    run = drive(orchestrator)
    run.fail(0)

    assert run.output is True


def test_events_are_applied_one_at_a_time_so_a_task_answered_later_is_not_completed_yet(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        task, timer = context.call_activity("a"), context.create_timer(timedelta(seconds=1))
        yield context.task_any([task, timer])
        return timer.is_completed

    run = drive(orchestrator)
    step = run.turn(TaskCompleted(0, "1"), TimerFired(1, START + SECOND))

    assert run.output is False
    assert step.consumed == 1


@pytest.mark.parametrize(
    ("yielded", "named"),
    [(None, "None"), (7, "7 (a int)"), ("a", "'a' (a str)"), ([1], "1 (a int)"), ([None], "None")],
)
def test_yielding_what_is_no_task_raises_at_the_yield_and_names_it(drive: Drive, yielded: Any, named: str) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield yielded
        except TypeError as error:
            return [str(error), (yield context.call_activity("goes on"))]

    run = drive(orchestrator)
    run.complete(0, "on")

    text, result = run.output
    assert text.startswith(f"{named} is nothing ")
    assert result == "on"


def test_a_compound_takes_tasks_only(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.task_all([context.call_activity("a"), 7])

    assert drive(orchestrator).error == "task_all takes tasks, such as context.call_activity gives, not 7."


# --- timers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fire_at", "seconds"),
    [
        (datetime(2024, 5, 1, 12, 0, 30, tzinfo=timezone.utc), 30),
        (datetime(2024, 5, 1, 12, 0, 30), 30),
        (datetime(2024, 5, 1, 14, 0, 30, tzinfo=timezone(timedelta(hours=2))), 30),
        (timedelta(seconds=30), 30),
        (timedelta(seconds=-30), -30),
        (timedelta(days=30), 30 * 86400),
        (timedelta(days=3000), 3000 * 86400),
    ],
    ids=["utc", "naive", "other zone", "timedelta", "past", "a month", "eight years"],
)
def test_a_timer_of_any_kind_and_length_is_one_timer(drive: Drive, fire_at: Any, seconds: int) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.create_timer(fire_at))

    run = drive(orchestrator)
    assert run.decided == [TimerCreated(0, START + seconds * SECOND)]

    run.fire(0)
    assert run.output is None


def test_a_timer_takes_a_time(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.create_timer("tomorrow")
        except ValueError as error:
            return list(error.args)

    assert drive(orchestrator).output == [
        "fireAt: Expected valid datetime object but got 'tomorrow'; create_timer takes a datetime or a timedelta"
    ]


def test_a_timer_is_cancelled_once(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        yield context.task_any([context.call_activity("a"), timer])
        timer.cancel()
        timer.cancel()
        yield context.call_activity("b")
        return [timer.is_cancelled, timer.is_completed]

    run = drive(orchestrator)
    step = run.complete(0)
    assert step.decided == [TimerCanceled(1), TaskScheduled(2, "b", "null")]

    run.complete(2)
    assert run.output == [True, False]


def test_a_timer_that_fired_cannot_be_cancelled(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        yield timer
        timer.cancel()

    run = drive(orchestrator)
    run.fire(0)

    assert run.error == "Cannot cancel a completed task."


def test_waiting_for_a_cancelled_timer_raises_instead_of_waiting_for_ever(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        timer.cancel()
        yield timer

    run = drive(orchestrator)

    assert len(run.decided) == 1
    assert "cancelled" in run.error


# --- retries ---------------------------------------------------------------------------------------------------------


def retry_orchestrator(context: Any) -> Any:
    import azure.durable_functions as df

    return (yield context.call_activity_with_retry("flaky", df.RetryOptions(5000, 3), {"k": 1}))


def test_three_attempts_take_six_ids_and_raise_the_last_failure(drive: Drive) -> None:
    run = drive(retry_orchestrator)
    assert run.decided == [TaskScheduled(0, "flaky", '{"k": 1}', attempt=1)]

    assert run.fail(0, after=1).decided == [TimerCreated(1, START + 6 * SECOND)]
    assert run.fire(1, after=5).decided == [TaskScheduled(2, "flaky", '{"k": 1}', attempt=2)]
    assert run.fail(2, after=1).decided == [TimerCreated(3, START + 12 * SECOND)]
    assert run.fire(3, after=5).decided == [TaskScheduled(4, "flaky", '{"k": 1}', attempt=3)]
    last = Failure(type="KeyError", message="last", kind="activity", function="flaky", attempt=3)
    assert run.fail(4, last, after=1).decided == [TimerCreated(5, START + 13 * SECOND)]
    run.fire(5)

    assert run.failure.cause == last


def test_one_attempt_still_takes_a_timer_without_delay(drive: Drive) -> None:
    import azure.durable_functions as df

    def orchestrator(context: Any) -> Any:
        yield context.call_activity_with_retry("flaky", df.RetryOptions(5000, 1))

    run = drive(orchestrator)
    assert run.fail(0).decided == [TimerCreated(1, START + SECOND)]
    assert not run.ended
    run.fire(1)
    assert run.failure.cause == boom()


def test_a_second_attempt_that_succeeds_gives_the_result(drive: Drive) -> None:
    run = drive(retry_orchestrator)
    run.fail(0)
    run.fire(1)
    run.complete(2, "fine")

    assert run.output == "fine"


def test_retries_go_on_while_the_orchestrator_waits_for_something_else(drive: Drive) -> None:
    import azure.durable_functions as df

    def orchestrator(context: Any) -> Any:
        retried = context.call_activity_with_retry("flaky", df.RetryOptions(1000, 2))
        yield context.task_any([retried, context.call_activity("a")])
        yield context.wait_for_external_event("go")
        return (yield retried)

    run = drive(orchestrator)
    run.complete(1)
    assert run.fail(0).decided == [TimerCreated(2, START + 3 * SECOND)]
    assert run.fire(2).decided == [TaskScheduled(3, "flaky", "null", attempt=2)]
    run.complete(3, "late")
    run.event("go")

    assert run.output == "late"


def test_a_retried_child_gets_an_id_of_its_own_each_time_unless_it_was_given_one(drive: Drive) -> None:
    import azure.durable_functions as df

    def orchestrator(context: Any) -> Any:
        options = df.RetryOptions(1000, 2)
        yield context.task_all(
            [
                context.call_sub_orchestrator_with_retry("child", options),
                context.call_sub_orchestrator_with_retry("child", options, None, "mine", "2.0"),
            ]
        )

    run = drive(orchestrator)
    run.fail_child(0, boom())
    run.fail_child(1, boom())
    run.fire(2)
    run.fire(3)

    assert [decision for decision in run.decided if isinstance(decision, SubOrchestrationInstanceCreated)] == [
        SubOrchestrationInstanceCreated(0, "child", f"{EXECUTION}:0", "null"),
        SubOrchestrationInstanceCreated(1, "child", "mine", "null", "2.0", True),
        SubOrchestrationInstanceCreated(4, "child", f"{EXECUTION}:4", "null"),
        SubOrchestrationInstanceCreated(5, "child", "mine", "null", "2.0", True),
    ]


# --- sub-orchestrations ----------------------------------------------------------------------------------------------


def test_a_failed_child_raises_with_its_text(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child")
        except Exception as error:
            return str(error)

    run = drive(orchestrator)
    run.fail_child(0, Failure(type="ValueError", message="bad", kind="orchestrator", function="child"))

    assert run.output == "Orchestrator function 'child' failed: bad \n None"


@pytest.mark.parametrize("instance_id", ["abc123", "parent"])
def test_a_child_may_not_have_the_id_of_its_parents(drive: Drive, instance_id: str) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_sub_orchestrator("child", None, instance_id)

    run = drive(orchestrator, parent_id="parent")

    assert run.error == (
        "The instance ID of a sub-orchestration must be different than the instance ID of a parent orchestration."
    )


def test_a_child_may_not_have_the_id_of_an_entity(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_sub_orchestrator("child", None, "@counter@a")

    assert drive(orchestrator).error == "Orchestration instance ids must not start with @"


# --- continue as new -------------------------------------------------------------------------------------------------


def test_nothing_counts_after_continue_as_new(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        yield context.task_any([context.call_activity("a"), timer])
        context.continue_as_new({"n": 1})
        context.continue_as_new({"n": 2})
        timer.cancel()
        yield context.call_activity("dropped")
        raise AssertionError("never reached")

    run = drive(orchestrator)
    step = run.complete(0)

    assert step.decided == [ContinueAsNew('{"n": 1}')]


def test_an_orchestrator_that_raises_after_continue_as_new_fails(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        context.continue_as_new(1)
        yield from ()
        raise ValueError("after all")

    assert drive(orchestrator).error == "after all"


def test_a_plain_function_may_continue_as_new(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        context.continue_as_new(context.get_input() + 1)
        return "ignored"

    assert drive(orchestrator, 1).decided == [ContinueAsNew("2")]
