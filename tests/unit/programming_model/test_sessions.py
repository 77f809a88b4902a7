"""Steps, endings, and what the code may still do when it is dropped."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from azure.durable_functions.replay import OrchestrationSession
from msgspec import UNSET
from orchestration_driver import EXECUTION, SECOND, START, Driven, boom, raised

from perdure.core.errors import TurnTimeout
from perdure.core.events import ExecutionCompleted, ExecutionStarted, ExecutionSuspended, TaskCompleted

Drive = Callable[..., Driven]
STARTED = ExecutionStarted("orch", "abc123", EXECUTION)


def session_of(function: Callable[..., Any]) -> OrchestrationSession:
    session = OrchestrationSession("orch", function, "abc123")
    session.advance(START, [STARTED])
    return session


# --- endings ---------------------------------------------------------------------------------------------------------


def test_a_plain_function_ends_at_once(drive: Drive) -> None:
    run = drive(lambda context: {"input": context.get_input()}, [1])

    assert run.output == {"input": [1]}


def test_an_output_of_none_is_no_output(drive: Drive) -> None:
    assert drive(lambda context: None).decided == [ExecutionCompleted("Completed")]


def test_an_output_that_is_not_json_fails_the_orchestration(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield from ()
        return {1, 2}

    assert drive(orchestrator).error == (
        "The return value of orchestrator 'orch' cannot be stored: Object of type set is not JSON serializable; "
        "write sorted(value)"
    )


def test_an_object_with_to_json_is_no_output(drive: Drive) -> None:
    class Money:
        def to_json(self) -> int:
            return 7

    assert "Object of type Money is not JSON serializable" in drive(lambda context: Money()).error


def test_a_function_that_returns_a_coroutine_fails_without_leaving_it_unawaited(drive: Drive) -> None:
    async def work() -> None: ...

    assert "returned a coroutine" in drive(lambda context: work()).error


def test_an_uncaught_failure_of_a_task_is_kept_once(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("flaky")

    run = drive(orchestrator)
    run.fail(0)

    assert run.failure.message is None
    assert run.failure.cause == boom()
    assert run.failure.kind == "orchestrator"
    assert run.error.startswith("Activity function 'flaky' failed:  ValueError: boom \n {")
    assert "RemoteStackTrace" not in (run.failure.traceback or "")


def test_an_exception_without_a_message_is_named(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        raise ValueError
        yield

    assert drive(orchestrator).error == "<class 'ValueError'>"


def test_an_exit_is_a_failure(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield from ()
        raise SystemExit(3)

    assert drive(orchestrator).failure.type == "SystemExit"


def test_what_comes_behind_the_end_is_not_consumed(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("a")

    run = drive(orchestrator)
    assert run.turn(raised("early"), TaskCompleted(0), raised("late"), raised("later")).consumed == 2


def test_controls_and_answers_to_nothing_change_nothing(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("a"))

    run = drive(orchestrator)
    step = run.turn(ExecutionSuspended(), TaskCompleted(9, "1"), STARTED)
    assert (step.decided, step.consumed) == ([], 3)

    run.complete(0, "a")
    assert run.output == "a"


def test_a_result_that_cannot_be_decoded_raises_at_the_yield(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("a")
        except ValueError as error:
            return str(error)

    run = drive(orchestrator)
    envelope = {"__class__": "C", "__module__": "not_there", "__data__": 1}
    run.complete(0, envelope)

    assert run.output == "cannot deserialize custom object: module 'not_there' is not loaded in sys.modules"


def test_the_watchdogs_interruption_is_no_failure_of_the_orchestration() -> None:
    def interrupted(context: Any) -> Any:
        yield context.call_activity("a")
        raise TurnTimeout("too long")

    session = session_of(interrupted)
    with pytest.raises(TurnTimeout):
        session.advance(START, [TaskCompleted(0)])
    session.close()


def test_the_watchdogs_interruption_passes_through_a_plain_function() -> None:
    def interrupted(context: Any) -> Any:
        raise TurnTimeout("too long")

    with pytest.raises(TurnTimeout):
        session_of(interrupted)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_tells_the_custom_status_only_when_it_was_set(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        context.set_custom_status({"step": 1})
        yield context.call_activity("a")
        yield context.call_activity("b")
        context.set_custom_status(0)
        yield context.call_activity("c")

    run = drive(orchestrator)
    assert run.last.custom_status == '{"step": 1}'
    assert run.complete(0).custom_status is UNSET
    assert run.complete(1).custom_status is None


def test_code_runs_as_a_replay_only_while_it_is_replayed() -> None:
    seen: list[bool] = []

    def orchestrator(context: Any) -> Any:
        seen.append(context.is_replaying)
        yield context.call_activity("a")
        seen.append(context.is_replaying)
        yield context.call_activity("b")
        seen.append(context.is_replaying)

    run = Driven(orchestrator, evict=False)
    run.complete(0)
    assert seen == [False, False]

    seen.clear()
    run.revived().advance(run.now, [TaskCompleted(1)])
    assert seen == [True, True, False]


# --- closing ---------------------------------------------------------------------------------------------------------


def test_closing_is_without_effect_whatever_with_blocks_and_finally_do() -> None:
    log: list[str] = []

    @contextmanager
    def lock(context: Any) -> Iterator[None]:
        log.append("acquired")
        try:
            yield
        finally:
            log.append("leaving")
            context.call_activity("release")
            log.append("released")

    def orchestrator(context: Any) -> Any:
        with lock(context):
            try:
                yield context.call_activity("a")
            finally:
                log.append("cleaning up")
                yield context.call_activity("clean up")
                log.append("cleaned up")

    session = session_of(orchestrator)
    session.close()

    assert log == ["acquired", "cleaning up", "leaving"]


@pytest.mark.parametrize(
    "call",
    [
        lambda context: context.call_activity("a"),
        lambda context: context.call_sub_orchestrator("a"),
        lambda context: context.create_timer(None),
        lambda context: context.wait_for_external_event("E"),
        lambda context: context.task_all([]),
        lambda context: context.task_any([]),
        lambda context: context.continue_as_new(1),
        lambda context: context.set_custom_status("dropped"),
        lambda context: context.get_input(),
        lambda context: context.new_guid(),
        lambda context: context.new_uuid(),
        lambda context: context.is_replaying,
        lambda context: context.current_utc_datetime,
    ],
)
def test_a_closed_context_refuses_every_call(call: Callable[[Any], Any]) -> None:
    contexts: list[Any] = []

    def orchestrator(context: Any) -> Any:
        contexts.append(context)
        yield context.call_activity("a")

    session_of(orchestrator).close()

    with pytest.raises(GeneratorExit):
        call(contexts[0])


def test_code_that_swallows_the_exit_and_yields_is_dropped() -> None:
    log: list[str] = []

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("a")
        except GeneratorExit:
            log.append("swallowed")
        yield None
        log.append("never reached")

    session_of(orchestrator).close()

    assert log == ["swallowed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_code_that_catches_everything_for_ever_is_dropped_all_the_same() -> None:
    def orchestrator(context: Any) -> Any:
        while True:
            try:
                yield context.call_activity("poll")
            except:  # noqa: E722
                pass

    session_of(orchestrator).close()


def test_what_the_code_raises_on_its_way_out_is_dropped() -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("a")
        finally:
            raise RuntimeError("on the way out")

    session_of(orchestrator).close()


def test_a_timer_cancelled_on_the_way_out_stays() -> None:
    from datetime import timedelta

    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        try:
            yield context.task_any([timer, context.wait_for_external_event("E")])
        finally:
            timer.cancel()

    session = session_of(orchestrator)
    session.close()

    assert session.advance(START, []).decided == []


def test_closing_one_session_leaves_the_others_alone() -> None:
    def orchestrator(context: Any) -> Any:
        try:
            first = yield context.call_activity("a")
            return [first, (yield context.call_activity("b"))]
        finally:
            context.set_custom_status("left")

    kept, dropped = session_of(orchestrator), session_of(orchestrator)
    dropped.close()
    dropped.close()

    assert kept.advance(START, [TaskCompleted(0, "1")]).decided[0].task_id == 1
    step = kept.advance(START, [TaskCompleted(1, "2")])
    assert step.decided == [ExecutionCompleted("Completed", "[1, 2]")]
    assert step.custom_status == '"left"'


def test_closing_a_session_that_never_began_or_has_ended_is_fine() -> None:
    OrchestrationSession("orch", lambda context: None, "abc123").close()
    session_of(lambda context: None).close()


def waits_for_an_event(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def waits_for_whichever_comes_first(context: Any) -> Any:
    timer = context.create_timer(context.current_utc_datetime + timedelta(days=30))
    first = yield context.task_any([context.wait_for_external_event("go"), timer, context.call_activity("a")])
    return first.result


def waits_for_a_fan(context: Any) -> Any:
    return (yield context.task_all([context.call_activity("a", n) for n in range(5)]))


def waits_for_a_nested_fan(context: Any) -> Any:
    races = [context.task_any([context.call_activity("a"), context.wait_for_external_event("go")]) for _ in range(3)]
    return (yield context.task_all([*races, context.call_sub_orchestrator("child")]))


def ends_at_once(context: Any) -> Any:
    yield context.call_activity("a")


@pytest.mark.parametrize(
    "function",
    [waits_for_an_event, waits_for_whichever_comes_first, waits_for_a_fan, waits_for_a_nested_fan, ends_at_once],
)
def test_a_closed_session_leaves_nothing_to_the_garbage_collector(function: Callable[[Any], Any]) -> None:
    session = Driven(function, evict=False).session
    if function is ends_at_once:
        session.advance(START + SECOND, [TaskCompleted(0, "1")])
    gc.collect()
    gc.disable()
    try:
        session.close()
        del session
        assert gc.collect() == 0
    finally:
        gc.enable()
