"""What an orchestrator sees and may ask for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.replay import OrchestrationSession
from orchestration_driver import START, Driven

from perdure.core.codec import decode_records, encode_record, join_records
from perdure.core.events import (
    ExecutionCompleted,
    ExecutionStarted,
    SubOrchestrationInstanceCreated,
    TaskScheduled,
    TurnRecord,
)

Drive = Callable[..., Driven]


def test_the_facts_of_an_instance(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        assert context.current_utc_datetime == datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
        assert context.current_utc_datetime.tzinfo is timezone.utc
        yield context.create_timer(timedelta(seconds=1.5))
        assert context.current_utc_datetime == datetime(2024, 5, 1, 12, 0, 1, 500_000, tzinfo=timezone.utc)
        return [
            context.instance_id,
            context.parent_instance_id,
            context.version,
            context.get_input(),
            context.custom_status,
            context.will_continue_as_new,
        ]

    run = drive(orchestrator, {"a": 1}, parent_id="parent", version="1.2")
    run.fire(0, after=1.5)

    assert run.output == ["abc123", "parent", "1.2", {"a": 1}, None, False]


def test_no_input_is_none(drive: Drive) -> None:
    assert drive(lambda context: context.get_input()).output is None


def test_the_input_is_decoded_afresh_each_time(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        context.get_input().append("changed")
        return context.get_input()

    assert drive(orchestrator, [1]).output == [1]


def test_a_custom_status_can_be_read_back(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        context.set_custom_status({"step": 1})
        return context.custom_status

    assert drive(orchestrator).output == {"step": 1}


@pytest.mark.parametrize("cleared", [None, 0, False, "", [], {}])
def test_a_status_that_counts_as_false_clears_it(drive: Drive, cleared: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.set_custom_status("something")
        context.set_custom_status(cleared)

    assert drive(orchestrator).last.custom_status is None


def test_a_custom_status_of_16_kb_in_utf_16_is_the_most(drive: Drive) -> None:
    # Two bytes for each character, two of which are the quotes; a size is whole kilobytes.
    most = "ä" * (17 * 512 - 3)

    def orchestrator(context: Any) -> Any:
        context.set_custom_status(context.get_input())

    assert drive(orchestrator, most).ended
    assert drive(orchestrator, most).custom_status == most
    assert drive(orchestrator, most + "ä").error == (
        "The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. The current payload size is 17 KB."
    )


def test_unique_ids_share_one_counter_and_are_the_same_after_a_replay(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        first = context.new_guid()
        yield context.call_activity("a")
        return [str(first), context.new_uuid()]

    run = drive(orchestrator)
    run.complete(0, after=0)

    assert run.output[0] == "4faf5989-8d4e-56db-b75d-15a1d6c996f1"
    assert run.now == START


def test_inputs_are_encoded_when_the_task_is_made(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        value = [1]
        task = context.call_activity("a", value)
        value.append(2)
        yield task

    assert drive(orchestrator).decided == [TaskScheduled(0, "a", "[1]")]


def test_an_input_that_is_not_json_is_refused(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("a", b"bytes")

    assert drive(orchestrator).error == (
        "call_activity: the input of 'a' (bytes) cannot be serialized: class <class 'bytes'> does not expose a "
        "`to_json` function; decode it, or write base64.b64encode(value).decode()"
    )


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (
            lambda c, v: c.call_activity_with_retry("a", df.RetryOptions(1, 1), v),
            "call_activity_with_retry: the input of 'a'",
        ),
        (lambda c, v: c.call_sub_orchestrator("o", v), "call_sub_orchestrator: the input of 'o'"),
        (lambda c, v: c.set_custom_status(v), "set_custom_status: the status"),
        (lambda c, v: c.continue_as_new(v), "continue_as_new: the input"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_by_the_call_it_was_given_to(
    drive: Drive, ask: Callable[[Any, Any], Any], what: str
) -> None:
    run = drive(lambda context: ask(context, {"in": timedelta(1)}))

    assert run.error == (
        f"{what} (dict) cannot be serialized: class <class 'datetime.timedelta'> does not expose a `to_json` function; "
        "write value.total_seconds()"
    )


def test_a_task_as_an_input_has_to_be_yielded_first(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("second", [context.call_activity("first")])

    assert drive(orchestrator).error == (
        "call_activity: the input of 'second' (list) cannot be serialized: a task (ActivityTask) was not yielded; "
        "write `yield ...` to get its result"
    )


def test_a_task_that_is_returned_has_to_be_yielded_first(drive: Drive) -> None:
    assert drive(lambda context: context.call_activity("a")).error == (
        "The return value of orchestrator 'orch' cannot be stored: a task (ActivityTask) was not yielded; "
        "write `yield ...` to get its result"
    )


def test_the_winner_of_a_race_is_a_task_and_not_its_result(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_any([context.call_activity("a")]))

    run = drive(orchestrator)
    run.complete(0)

    assert run.error.endswith("a task (ActivityTask) was given in place of its result; write `task.result`")


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda c: c.wait_for_external_event(5), "wait_for_external_event: name must be a str, not int"),
        (lambda c: c.call_activity(5), "call_activity: name must be a str or a decorated function, not int"),
        (
            lambda c: c.call_sub_orchestrator("o", 1, {"a": 1}),
            "call_sub_orchestrator: instance_id must be a str, not dict",
        ),
        (lambda c: c.call_sub_orchestrator("o", 1, None, 2), "call_sub_orchestrator: version must be a str, not int"),
        (
            lambda c: c.call_activity_with_retry("a", 7, df.RetryOptions(1, 1)),
            "call_activity_with_retry: retry_options must be a RetryOptions, not int; the input comes after it",
        ),
        (
            lambda c: c.call_sub_orchestrator_with_retry("o", None),
            "call_sub_orchestrator_with_retry: retry_options must be a RetryOptions, not None; "
            "the input comes after it",
        ),
        (lambda c: c.task_all(c.call_activity("a")), "task_all takes a list of tasks, not ActivityTask"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_at_the_call(drive: Drive, ask: Callable[[Any], Any], text: str) -> None:
    run = drive(lambda context: ask(context))

    assert (run.failure.type, run.error) == ("TypeError", text)


@pytest.mark.parametrize("name", ["", "nul\0", "\ud800"])
def test_a_function_needs_a_name_that_can_be_stored(drive: Drive, name: str) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity(name)

    run = drive(orchestrator)
    assert run.failure.type == "ValueError"
    if not name:
        assert run.error == "function_name cannot be empty"


# --- functions given as they are -------------------------------------------------------------------------------------

app = df.DFApp()


@app.activity_trigger(input_name="value", activity="Custom")
def renamed(value: int) -> str:
    return str(value)


@app.function_name("Named")
@app.activity_trigger(input_name="value")
def also_renamed(value: int) -> int:
    return value


@app.orchestration_trigger(context_name="context")
def child(context: Any) -> Any:
    return None


plain = func.FunctionApp()


@plain.activity_trigger(input_name="value")
def on_a_plain_app(value: int) -> int:
    return value


def test_a_function_is_called_under_the_name_it_is_served_by(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield [
            context.call_activity(renamed, 1),
            context.call_activity(also_renamed, 2),
            context.call_activity(on_a_plain_app, 3),
            context.call_activity_with_retry(renamed, df.RetryOptions(1, 1), 4),
            context.call_sub_orchestrator(child),
        ]

    assert [
        (type(decision), decision.name)
        for decision in drive(orchestrator).decided
        if isinstance(decision, (TaskScheduled, SubOrchestrationInstanceCreated))
    ] == [
        (TaskScheduled, "Custom"),
        (TaskScheduled, "Named"),
        (TaskScheduled, "on_a_plain_app"),
        (TaskScheduled, "Custom"),
        (SubOrchestrationInstanceCreated, "child"),
    ]


def test_a_function_of_the_wrong_kind_is_refused(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity(child)

    assert drive(orchestrator).error.startswith(
        "Received function with Trigger-type `orchestrationTrigger` but expected `ActivityTrigger`."
    )


def test_a_function_without_a_trigger_is_refused(drive: Drive) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_sub_orchestrator(lambda context: None)

    assert drive(orchestrator).error.startswith(
        "The `call_sub_orchestrator` API received a `Callable` without an associated Azure Functions trigger-type."
    )


# --- retry options ---------------------------------------------------------------------------------------------------


def test_retry_options_show_what_they_were_given() -> None:
    options = df.RetryOptions(5000, 3)

    assert (options.first_retry_interval_in_milliseconds, options.max_number_of_attempts) == (5000, 3)
    assert options.to_json() == {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": 3}


def test_a_retry_needs_a_pause() -> None:
    with pytest.raises(ValueError, match="valuemust be greater than 0"):
        df.RetryOptions(0, 3)


@pytest.mark.parametrize(
    ("pause", "attempts", "text"),
    [
        ("x", 3, "RetryOptions: first_retry_interval_in_milliseconds must be a number, not str"),
        (timedelta(1), 3, "RetryOptions: first_retry_interval_in_milliseconds must be a number, not timedelta"),
        (5000, "3", "RetryOptions: max_number_of_attempts must be an int, not str"),
    ],
)
def test_a_retry_needs_numbers(pause: Any, attempts: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}$"):
        df.RetryOptions(pause, attempts)


class Marked(str):
    """What a markup library makes of a text."""


def test_a_text_of_a_subclass_is_taken_as_a_plain_text() -> None:
    def orchestrator(context: df.DurableOrchestrationContext) -> Any:
        yield context.task_all(
            [
                context.call_activity(Marked("double"), 1),
                context.call_sub_orchestrator(Marked("child"), 1, Marked("own"), Marked("2.0")),
            ]
        )

    session = OrchestrationSession("it", orchestrator, "instance")
    started = ExecutionStarted(name="it", instance_id="instance", execution_id="e" * 32)
    decided = session.advance(0, [started]).decided
    assert decode_records(join_records([encode_record(TurnRecord(at=0, decided=decided))]))[0].decided == decided


@pytest.mark.parametrize("far", [timedelta.min, timedelta.max])
def test_a_timer_beyond_all_dates_is_refused_at_the_call(far: timedelta) -> None:
    def orchestrator(context: df.DurableOrchestrationContext) -> Any:
        yield context.create_timer(far)

    session = OrchestrationSession("it", orchestrator, "instance")
    started = ExecutionStarted(name="it", instance_id="instance", execution_id="e" * 32)
    end = session.advance(0, [started]).decided[-1]
    assert isinstance(end, ExecutionCompleted) and end.failure is not None
    assert "the years 1 to 9999" in (end.failure.message or "")
