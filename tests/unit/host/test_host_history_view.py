"""The documented form of a history."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from perdure.core.events import (
    ContinueAsNew,
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    Failure,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TimerFired,
    TurnRecord,
)
from perdure.host.history_view import history_rows, history_view

NOON = 1_714_564_800_000_000
T0, T1, T2 = (f"2024-05-01T12:00:0{second}.000000Z" for second in range(3))


def record(second: int, received: list[Any], decided: list[Any]) -> TurnRecord:
    return TurnRecord(at=NOON + second * 1_000_000, received=received, decided=decided)


STARTED = ExecutionStarted(name="Orch", instance_id="i", execution_id="e", input='"Tokyo"')
HELLO = [
    record(0, [STARTED], [TaskScheduled(task_id=0, name="say_hello", input='"Tokyo"')]),
    record(1, [TaskCompleted(task_id=0, result='"Hello"')], [ExecutionCompleted("Completed", result='["Hello"]')]),
]


def view(records: list[TurnRecord], *, show_input: bool = False, show_output: bool = False) -> list[dict[str, Any]]:
    return json.loads(msgspec.json.encode(history_view(records, show_input=show_input, show_output=show_output)))


def test_a_completed_instance_shows_start_answers_and_end() -> None:
    assert view(HELLO, show_output=True) == [
        {
            "EventType": "ExecutionStarted",
            "Correlation": None,
            "ScheduledStartTime": None,
            "Generation": 0,
            "ParentTraceContext": None,
            "FunctionName": "Orch",
            "Timestamp": T0,
        },
        {
            "EventType": "TaskCompleted",
            "Result": "Hello",
            "ScheduledTime": T0,
            "FunctionName": "say_hello",
            "Timestamp": T1,
        },
        {
            "EventType": "ExecutionCompleted",
            "OrchestrationStatus": "Completed",
            "Result": ["Hello"],
            "FailureDetails": None,
            "Timestamp": T1,
        },
    ]


def test_results_are_left_out_unless_asked_for() -> None:
    assert all("Result" not in row for row in view(HELLO))


def test_inputs_are_texts_and_only_there_if_asked_for() -> None:
    assert all("Input" not in row for row in view(HELLO))
    started, completed, _ = view(HELLO, show_input=True)
    assert (started["Input"], completed["Input"]) == ('"Tokyo"', '"Tokyo"')


def test_a_task_without_an_answer_is_shown_as_scheduled() -> None:
    child = SubOrchestrationInstanceCreated(task_id=1, name="Child", instance_id="c", input="1")
    rows = view([record(0, [STARTED], [TaskScheduled(task_id=0, name="a"), child])], show_input=True)
    assert rows[1:] == [
        {"EventType": "TaskScheduled", "Name": "a", "Input": None, "Timestamp": T0},
        {
            "EventType": "SubOrchestrationInstanceCreated",
            "Name": "Child",
            "InstanceId": "c",
            "Input": "1",
            "Timestamp": T0,
        },
    ]


def test_failures_are_shown_with_reason_and_details() -> None:
    scheduled = [
        TaskScheduled(task_id=0, name="a"),
        SubOrchestrationInstanceCreated(task_id=1, name="Child", instance_id="c"),
    ]
    boom = Failure(type="ValueError", message="boom", kind="activity", function="a", traceback="trace")
    child = Failure(type="ValueError", message="bang", kind="orchestrator", function="Child")
    failed = [TaskFailed(task_id=0, failure=boom), SubOrchestrationInstanceFailed(task_id=1, failure=child)]
    end = ExecutionCompleted("Failed", failure=Failure(type="E", message="over", kind="orchestrator", function="Orch"))
    rows = view([record(0, [STARTED], scheduled), record(1, failed, [end])], show_output=True)
    assert [row["EventType"] for row in rows[1:]] == [
        "TaskFailed",
        "SubOrchestrationInstanceFailed",
        "ExecutionCompleted",
    ]
    assert rows[1]["Reason"] == "Activity function 'a' failed:  ValueError: boom"
    assert json.loads(rows[1]["Details"])["Message"] == " ValueError: boom"
    assert (rows[2]["Reason"], rows[2]["Details"]) == ("Orchestrator function 'Child' failed: bang", None)
    assert rows[3]["Result"] == "Orchestrator function 'Orch' failed: over"


def test_child_orchestrations_answer_with_their_function() -> None:
    created = SubOrchestrationInstanceCreated(task_id=3, name="Child", instance_id="c")
    answer = SubOrchestrationInstanceCompleted(task_id=3, result="[1]")
    (_, row) = view([record(0, [STARTED], [created]), record(2, [answer], [])], show_output=True)
    assert row == {
        "EventType": "SubOrchestrationInstanceCompleted",
        "Result": [1],
        "ScheduledTime": T0,
        "FunctionName": "Child",
        "Timestamp": T2,
    }


def test_timers_stay_with_both_their_events_and_a_cancelled_one_without_the_second() -> None:
    fire_at = NOON + 1_000_000
    created = [TimerCreated(task_id=0, fire_at=fire_at), TimerCreated(task_id=1, fire_at=fire_at)]
    rows = view(
        [record(0, [STARTED], created), record(1, [TimerFired(task_id=0, fire_at=fire_at)], [TimerCanceled(task_id=1)])]
    )
    assert [(row["EventType"], row["FireAt"]) for row in rows[1:]] == [
        ("TimerCreated", T1),
        ("TimerCreated", T1),
        ("TimerFired", T1),
    ]


def test_external_events_tell_whether_they_came_too_late() -> None:
    events = [EventRaised(name="approve", input="true"), EventRaised(name="approve", input="1", late=True)]
    rows = view([record(0, events, [])], show_input=True)
    assert rows == [
        {"EventType": "EventRaised", "Name": "approve", "Input": "true", "Timestamp": T0},
        {"EventType": "EventRaised", "Name": "approve", "Input": "1", "ReceivedTooLate": True, "Timestamp": T0},
    ]


def test_control_messages_show_their_reasons() -> None:
    control = [ExecutionSuspended("tea"), ExecutionResumed(None), ExecutionTerminated("enough")]
    end = ExecutionCompleted("Terminated", result='"enough"')
    rows = view([record(0, control, [end])], show_input=True, show_output=True)
    assert [(row["EventType"], row.get("Reason"), row.get("Input"), row.get("Result")) for row in rows] == [
        ("ExecutionSuspended", "tea", None, None),
        ("ExecutionResumed", None, None, None),
        ("ExecutionTerminated", None, "enough", None),
        ("ExecutionCompleted", None, None, "enough"),
    ]


def test_a_continue_as_new_shows_the_next_input() -> None:
    (row,) = view([record(0, [], [ContinueAsNew(input='{"n":2}')])], show_output=True)
    assert row == {
        "EventType": "ContinueAsNew",
        "OrchestrationStatus": "ContinuedAsNew",
        "Result": {"n": 2},
        "Timestamp": T0,
    }


@pytest.mark.parametrize("result", ["123456789012345678901234567890", "NaN"])
def test_rows_for_a_client_hold_plain_values(result: str) -> None:
    rows = history_rows([record(0, [], [ExecutionCompleted("Completed", result=result)])], False, True)
    assert rows[0]["Result"] == (result if result == "NaN" else int(result))
