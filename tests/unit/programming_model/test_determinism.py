"""Code that contradicts its history is found out, told where, and cannot catch it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from azure.durable_functions.replay import OrchestrationSession
from orchestration_driver import EXECUTION, SECOND, START, Driven

from perdure.core.errors import NonDeterminismError
from perdure.core.events import (
    EventRaised,
    ExecutionStarted,
    TaskCompleted,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TurnRecord,
)

Drive = Callable[..., Driven]


def recorded(context: Any) -> Any:
    yield context.call_activity("a")
    timer = context.create_timer(timedelta(hours=1))
    yield context.task_any([timer, context.wait_for_external_event("E")])
    timer.cancel()
    yield context.call_sub_orchestrator("child")


@pytest.fixture
def history() -> list[TurnRecord]:
    run = Driven(recorded, evict=False)
    run.complete(0)
    run.event("E")
    return run.records


def contradiction(history: list[TurnRecord], function: Callable[..., Any]) -> str:
    session = OrchestrationSession("orch", function, "abc123")
    with pytest.raises(NonDeterminismError) as caught:
        session.replay(history)
    text = str(caught.value)
    assert text.startswith("Non-Deterministic workflow detected: ")
    assert re.search(r"test_determinism\.py:\d+", text), text
    return text


def test_the_same_code_reproduces_its_history(history: list[TurnRecord]) -> None:
    OrchestrationSession("orch", recorded, "abc123").replay(history)


def test_another_name_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_activity("b")

    text = contradiction(history, changed)
    assert "TaskScheduled #0 'a'" in text
    assert "TaskScheduled #0 'b'" in text
    assert f":{changed.__code__.co_firstlineno + 1})" in text


def test_the_case_of_a_name_does_not_matter(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_activity("A")
        timer = context.create_timer(timedelta(days=2))
        yield context.task_any([timer, context.wait_for_external_event("E")])
        timer.cancel()
        yield context.call_sub_orchestrator("CHILD", "another input")

    OrchestrationSession("orch", changed, "abc123").replay(history)


def test_another_kind_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_sub_orchestrator("a")

    text = contradiction(history, changed)
    assert "TaskScheduled #0 'a'" in text
    assert "SubOrchestrationInstanceCreated #0 'a'" in text


def test_a_timer_that_is_not_cancelled_again_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_activity("a")
        timer = context.create_timer(timedelta(hours=1))
        yield context.task_any([timer, context.wait_for_external_event("E")])
        yield context.call_sub_orchestrator("child")

    assert "TimerCanceled #1" in contradiction(history, changed)


def test_code_that_asks_for_less_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_activity("a")
        yield context.wait_for_external_event("something else")

    text = contradiction(history, changed)
    assert "TimerCreated #1" in text
    assert "waits without asking for it" in text
    assert f":{changed.__code__.co_firstlineno + 2})" in text


def test_code_that_asks_for_more_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield from recorded_up_to_the_child(context)
        yield [context.call_sub_orchestrator("child"), context.call_activity("more")]

    text = contradiction(history, changed)
    assert "TaskScheduled #3 'more'" in text
    assert "SubOrchestrationInstanceCreated #2 'child'" in text


def recorded_up_to_the_child(context: Any) -> Any:
    yield context.call_activity("a")
    timer = context.create_timer(timedelta(hours=1))
    yield context.task_any([timer, context.wait_for_external_event("E")])
    timer.cancel()


def test_code_that_returns_earlier_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_activity("a")

    text = contradiction(history, changed)
    assert "TimerCreated #1" in text
    assert "the function returned" in text


def test_code_that_returns_where_history_waits_for_an_event_is_found() -> None:
    def waits(context: Any) -> Any:
        yield context.wait_for_external_event("E")

    def returns(context: Any) -> Any:
        yield from ()

    run = Driven(waits, evict=False)
    assert "no decision up to this point, but the function returned" in contradiction(run.records, returns)


def test_code_that_raises_earlier_is_found(history: list[TurnRecord]) -> None:
    def changed(context: Any) -> Any:
        yield context.call_activity("a")
        raise KeyError("oops")

    assert "the function raised KeyError" in contradiction(history, changed)


def test_the_line_is_that_of_the_innermost_generator(history: list[TurnRecord]) -> None:
    def inner(context: Any) -> Any:
        yield context.call_activity("other")

    def changed(context: Any) -> Any:
        yield from inner(context)

    assert f":{inner.__code__.co_firstlineno + 1})" in contradiction(history, changed)


def test_a_contradiction_never_reaches_the_code_that_could_catch_it(history: list[TurnRecord]) -> None:
    caught = []

    def changed(context: Any) -> Any:
        try:
            yield context.call_activity("b")
        except BaseException as error:
            caught.append(type(error))
            raise

    session = OrchestrationSession("orch", changed, "abc123")
    with pytest.raises(NonDeterminismError):
        session.replay(history)
    assert caught == []
    session.close()
    assert caught == [GeneratorExit]


def test_a_contradiction_made_while_the_code_runs_is_raised_once_it_yields(history: list[TurnRecord]) -> None:
    reached = []

    def changed(context: Any) -> Any:
        yield context.call_activity("a")
        first, second = (context.create_timer(timedelta(hours=hours)) for hours in (1, 2))
        yield context.task_any([first, context.wait_for_external_event("E")])
        try:
            second.cancel()
            first.cancel()
        finally:
            reached.append("after")
        yield context.call_sub_orchestrator("child")

    OrchestrationSession("orch", changed, "abc123").replay(history)
    assert reached == ["after"]

    def cancels_too_early(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        yield context.task_any([timer, context.wait_for_external_event("E")])
        try:
            timer.cancel()
        except BaseException:
            reached.append("caught")
        yield context.call_activity("b")

    records = [
        TurnRecord(START, [ExecutionStarted("orch", "abc123", EXECUTION)], [TimerCreated(0, START + SECOND)]),
        TurnRecord(START, [EventRaised("E")], [TaskScheduled(1, "b")]),
    ]
    text = contradiction(records, cancels_too_early)
    assert "TaskScheduled #1 'b', but the code asked for TimerCanceled #0" in text
    assert f":{cancels_too_early.__code__.co_firstlineno + 4})" in text
    assert reached == ["after"]


def test_replay_applies_deferred_records_with_the_next_one_at_its_time() -> None:
    seen = []

    def orchestrator(context: Any) -> Any:
        seen.append((context.current_utc_datetime.second, context.is_replaying))
        yield context.call_activity("a")
        seen.append((context.current_utc_datetime.second, context.is_replaying))

    started = ExecutionStarted("orch", "abc123", EXECUTION)
    records = [
        TurnRecord(START, [started], deferred=True),
        TurnRecord(START + 5 * SECOND, [], [TaskScheduled(0, "a")]),
    ]
    session = OrchestrationSession("orch", orchestrator, "abc123")
    session.replay(records)
    session.advance(START + 9 * SECOND, [TaskCompleted(0)])

    assert seen == [(5, True), (9, False)]


def test_trailing_deferred_records_are_left_for_the_next_turn() -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("a")

    started = ExecutionStarted("orch", "abc123", EXECUTION)
    session = OrchestrationSession("orch", orchestrator, "abc123")
    session.replay([TurnRecord(START, [started], deferred=True)])

    assert session.advance(START, [started]).decided == [TaskScheduled(0, "a", "null")]


def test_a_decision_that_history_has_already_is_matched_and_not_handed_out() -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(seconds=1))
        yield context.task_any([timer, context.wait_for_external_event("E")])
        timer.cancel()
        yield context.call_activity("a")

    started = ExecutionStarted("orch", "abc123", EXECUTION)
    decided = [TimerCreated(0, START + SECOND), TimerCanceled(0)]
    session = OrchestrationSession("orch", orchestrator, "abc123")
    session.replay([TurnRecord(START, [], decided), TurnRecord(START, [started, EventRaised("E")], deferred=True)])

    assert session.advance(START, [started, EventRaised("E")]).decided == [TaskScheduled(1, "a", "null")]
