"""Which wait gets which event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from orchestration_driver import Driven, raised

from perdure.core.events import ContinueAsNew, EventRaised, TaskCompleted, TimerFired

Drive = Callable[..., Driven]


def test_early_events_are_taken_first_in_first_out_each_once(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("a")
        first = yield context.wait_for_external_event("E")
        second = yield context.wait_for_external_event("E")
        third = yield context.wait_for_external_event("E")
        return [first, second, third]

    run = drive(orchestrator)
    run.event("E", 1)
    run.turn(raised("E", 2), TaskCompleted(0, "null"))
    assert not run.ended
    run.event("E", 3)

    assert run.output == [1, 2, 3]


def test_names_match_without_regard_to_case(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.wait_for_external_event("approval")
        second = yield context.wait_for_external_event("APPROVAL")
        return [first, second]

    run = drive(orchestrator)
    run.event("Approval", 1)
    run.event("approval", 2)

    assert run.output == [1, 2]


def test_of_several_waits_the_newest_is_served_first(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        waits = [context.wait_for_external_event("E") for _ in range(3)]
        return (yield context.task_all(waits))

    run = drive(orchestrator)
    for value in (1, 2, 3):
        run.event("E", value)

    assert run.output == [3, 2, 1]


def test_the_newest_wait_is_the_one_yielded_last_wherever_it_stands(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        old = context.wait_for_external_event("E")
        yield context.task_any([old, context.call_activity("a")])
        new = context.wait_for_external_event("E")
        winner = yield context.task_any([new, old])
        return winner is new

    run = drive(orchestrator)
    run.complete(0)
    run.event("E", 1)

    assert run.output is True


def test_a_wait_that_lost_a_race_takes_nothing_from_the_next_one(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        lost = context.wait_for_external_event("E")
        yield context.task_any([lost, context.create_timer(timedelta(seconds=1))])
        yield context.call_activity("in between")
        return (yield context.wait_for_external_event("E"))

    run = drive(orchestrator)
    run.fire(0)
    run.event("E", "for the second wait")
    run.complete(1)

    assert run.output == "for the second wait"


def test_a_wait_that_lost_a_race_inside_what_is_still_awaited_takes_nothing(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        race = context.task_any([context.wait_for_external_event("E"), context.create_timer(timedelta(seconds=1))])
        yield context.task_all([race, context.call_activity("a")])
        return (yield context.wait_for_external_event("E"))

    run = drive(orchestrator)
    run.fire(0)
    run.event("E", "kept")
    run.complete(1)

    assert run.output == "kept"


def test_a_wait_that_lost_a_race_takes_a_kept_event_when_the_code_looks_at_it(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        cancel = context.wait_for_external_event("cancel")
        yield context.task_any([cancel, context.call_activity("a")])
        before = cancel.is_completed
        yield context.call_activity("b")
        return [before, cancel.is_completed, cancel.result]

    run = drive(orchestrator)
    run.complete(0)
    run.event("cancel", "now")
    run.complete(1)

    assert run.output == [False, True, "now"]


def test_a_wait_that_lost_a_race_takes_a_kept_event_when_it_is_yielded_again(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("E")
        yield context.task_any([wait, context.call_activity("a")])
        yield context.call_activity("b")
        return (yield wait)

    run = drive(orchestrator)
    run.complete(0)
    run.event("E", 5)
    run.complete(1)

    assert run.output == 5


def test_a_race_of_two_waits_takes_one_kept_event_and_leaves_the_other(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("a")
        winner = yield context.task_any([context.wait_for_external_event("E"), context.wait_for_external_event("E")])
        return [winner.result, (yield context.wait_for_external_event("E"))]

    run = drive(orchestrator)
    run.event("E", 1)
    run.event("E", 2)
    run.complete(0)

    assert run.output == [1, 2]


def test_a_wait_that_is_looked_at_before_it_is_yielded_takes_nothing(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("a")
        wait = context.wait_for_external_event("E")
        before = wait.is_completed
        return [before, (yield wait)]

    run = drive(orchestrator)
    run.event("E", 1)
    run.complete(0)

    assert run.output == [False, 1]


def test_continue_as_new_carries_every_event_that_nobody_took_in_order_of_arrival(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        lost = context.wait_for_external_event("b")
        yield context.task_any([lost, context.create_timer(timedelta(seconds=1))])
        yield context.wait_for_external_event("go")
        context.continue_as_new(None)
        return lost.is_completed

    run = drive(orchestrator)
    events = [raised("b", 1), raised("a", 2), raised("b", 3), raised("A", 4)]
    run.turn(events[0], events[1], TimerFired(0, 0))
    # The first of these won the race.
    run.turn(events[2])
    step = run.turn(events[3], raised("go"), raised("never applied"))

    assert step.decided == [ContinueAsNew("null")]
    assert step.consumed == 2
    assert step.carried == [events[1], events[2], events[3]]


def test_payloads_arrive_decoded_and_none_where_there_is_none(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        result = []
        for _ in range(3):
            result.append((yield context.wait_for_external_event("E")))
        return result

    run = drive(orchestrator)
    run.event("E", {"n": [1, "zwei", None, False]})
    run.turn(EventRaised("E"))
    run.event("E", False)

    assert run.output == [{"n": [1, "zwei", None, False]}, None, False]


def test_a_payload_that_is_not_json_raises_where_it_is_awaited(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("E")
        except ValueError as error:
            return type(error).__name__

    run = drive(orchestrator)
    run.turn(EventRaised("E", "no json"))

    assert run.output == "JSONDecodeError"


def test_a_wait_needs_a_name(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("")

    assert drive(orchestrator).error == "external_event_name cannot be empty"


def test_forty_lost_waits_leave_the_newest_its_event(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        for _ in range(50):
            wait = context.wait_for_external_event("E")
            if (yield context.task_any([wait, context.create_timer(timedelta(seconds=1))])) is wait:
                return wait.result

    run = drive(orchestrator)
    for task_id in range(40):
        run.fire(task_id)
    run.event("E", "there")

    assert run.output == "there"
    assert not isinstance(run.decided[-1], ContinueAsNew)
