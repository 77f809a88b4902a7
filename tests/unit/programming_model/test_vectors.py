"""The replay vectors, at the level of tasks, ids and results.

Each case runs twice: turn by turn on one session, and by replaying all but its last turn. What the code decides must be
what the vector's history says, and what its actions say.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.replay import OrchestrationSession
from msgspec import UNSET

from perdure.core.events import (
    ContinueAsNew,
    Decided,
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    Failure,
    Received,
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
from perdure.core.failures import message_of

VECTORS = Path(__file__).parents[2] / "vectors"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Early events: each is taken once, first in first out. A name's case does not matter. The exception that an
# orchestrator catches is a subclass of Exception. `None` as output: the orchestrator still waits.
ON_PURPOSE: dict[tuple[str, str], Any] = {
    ("08_legacy_bug_repeated_events", "one early event satisfies both waits"): None,
    ("08_legacy_bug_repeated_events", "two early events, first is lost"): [1, 2],
    ("03_task_any_timer_event", "event with different letter case is ignored by the SDK"): ["event", {"v": 1}],
}

CASES = [
    pytest.param(path.stem, document["orchestrator"], case, id=f"{path.stem[:2]}: {case['case']}")
    for path in sorted(VECTORS.glob("*.json"))
    for document in [json.loads(path.read_text(encoding="utf-8"))]
    for case in document["cases"]
    if not path.stem.startswith("13_")
]


def orchestrator_of(source: str) -> Any:
    namespace: dict[str, Any] = {"df": df, "timedelta": timedelta}
    exec(compile(source, "vector.py", "exec"), namespace)
    return namespace["orchestrator"]


def micros(text: str) -> int:
    # Seven digits of a second, of which the last is cut off.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc)
    return (moment - EPOCH) // timedelta(microseconds=1) + int(fraction[:6].ljust(6, "0"))


def episodes(history: list[dict[str, Any]]) -> list[TurnRecord]:
    records: list[TurnRecord] = []
    for event in history:
        kind = event["EventType"]
        if kind == 12:
            records.append(TurnRecord(at=micros(event["Timestamp"]), received=[], decided=[]))
        elif kind in (4, 7, 10):
            records[-1].decided.append(decided_of(event))
        elif kind != 13:
            records[-1].received.append(received_of(event))
    return records


def received_of(event: dict[str, Any]) -> Received:
    match event["EventType"]:
        case 0:
            instance = event["OrchestrationInstance"]
            return ExecutionStarted(event["Name"], instance["InstanceId"], instance["ExecutionId"], event["Input"])
        case 5:
            return TaskCompleted(event["TaskScheduledId"], event["Result"])
        case 6:
            return TaskFailed(event["TaskScheduledId"], failure_of(event))
        case 8:
            return SubOrchestrationInstanceCompleted(event["TaskScheduledId"], event["Result"])
        case 9:
            return SubOrchestrationInstanceFailed(event["TaskScheduledId"], failure_of(event))
        case 11:
            return TimerFired(event["TimerId"], micros(event["FireAt"]))
        case 15:
            return EventRaised(event["Name"], event["Input"])
        case kind:
            raise AssertionError(f"no such event is expected in a vector: {kind}")


def failure_of(event: dict[str, Any]) -> Failure:
    return Failure(type="ValueError", message=f"{event['Reason']} \n {event['Details']}")


def decided_of(event: dict[str, Any]) -> Decided:
    match event["EventType"]:
        case 4:
            return TaskScheduled(event["EventId"], event["Name"])
        case 7:
            return SubOrchestrationInstanceCreated(event["EventId"], event["Name"], event["InstanceId"])
        case _:
            return TimerCreated(event["EventId"], micros(event["FireAt"]))


def asked_for(actions: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Actions as the decisions they amount to, without ids; the repetitions of a retry are not among them."""
    found: list[tuple[Any, ...]] = []
    for action in actions:
        match action["actionType"]:
            case 0 | 1:
                found.append(("activity", action["functionName"], json.loads(action["input"])))
            case 2:
                found.append(
                    (
                        "child",
                        action["functionName"],
                        json.loads(action["input"]),
                        action["instanceId"],
                        action["version"],
                    )
                )
            case 4:
                found.append(("continue", json.loads(action["input"])))
            case 5:
                found.append(("timer", micros(action["fireAt"]), action["isCanceled"]))
            case 6:
                pass
            case 11 | 12:
                found.extend(asked_for(action["compoundActions"]))
            case kind:
                raise AssertionError(f"no such action is expected in a vector: {kind}")
    return found


def decisions_as_asked(decided: list[Decided], retried: bool) -> list[tuple[Any, ...]]:
    cancelled = {decision.task_id for decision in decided if isinstance(decision, TimerCanceled)}
    found: list[tuple[Any, ...]] = []
    for decision in decided:
        match decision:
            case TaskScheduled():
                if decision.attempt == 1:
                    found.append(("activity", decision.name, json.loads(decision.input or "null")))
            case SubOrchestrationInstanceCreated():
                instance_id = decision.instance_id if decision.named else None
                found.append(("child", decision.name, json.loads(decision.input or ""), instance_id, decision.version))
            case TimerCreated():
                if not retried:
                    found.append(("timer", decision.fire_at, decision.task_id in cancelled))
            case ContinueAsNew():
                found.append(("continue", json.loads(decision.input or "null")))
            case _:
                pass
    return found


def kind_id_name(decisions: list[Decided]) -> list[tuple[Any, ...]]:
    return [
        (type(decision), decision.task_id, getattr(decision, "name", None))
        for decision in decisions
        if not isinstance(decision, (ExecutionCompleted, ContinueAsNew))
    ]


@pytest.mark.parametrize("replayed", [False, True], ids=["live", "replayed"])
@pytest.mark.parametrize(("name", "source", "case"), CASES)
def test_a_vector_gives_its_tasks_ids_and_results(name: str, source: str, case: dict[str, Any], replayed: bool) -> None:
    context = case["context"]
    records = episodes(context["history"])
    session = OrchestrationSession("orch", orchestrator_of(source), context["instanceId"])
    decided: list[Decided] = []
    status: Any = None
    if replayed:
        session.replay(records[:-1])
        decided = [decision for record in records[:-1] for decision in record.decided]
    else:
        for record in records[:-1]:
            step = session.advance(record.at, record.received)
            assert kind_id_name(step.decided) == kind_id_name(record.decided)
            decided += step.decided
            status = status if step.custom_status is UNSET else step.custom_status
    last = session.advance(records[-1].at, records[-1].received)
    decided += last.decided
    status = status if last.custom_status is UNSET else last.custom_status

    state = case["result"] if "result" in case else case["raises"]["state_after_marker"]
    ending = decided[-1] if decided and isinstance(decided[-1], (ExecutionCompleted, ContinueAsNew)) else None
    if (name, case["case"]) in ON_PURPOSE:
        expected = ON_PURPOSE[name, case["case"]]
        if expected is None:
            assert ending is None
        else:
            assert isinstance(ending, ExecutionCompleted)
            assert json.loads(ending.result or "") == expected
        return
    if not replayed:
        # A trimmed history has no inputs, so only decisions made here can be compared with the actions.
        actions = [action for turn in state["actions"] for action in turn]
        retried = name.startswith(("04", "05"))
        assert decisions_as_asked(decided, retried) == asked_for(actions)
        assert (None if status is None else json.loads(status)) == state.get("customStatus")
    if "raises" in case:
        assert isinstance(ending, ExecutionCompleted)
        assert ending.failure is not None
        assert message_of(ending.failure) == case["raises"]["message_before_marker"]
    elif not state["isDone"]:
        assert ending is None
    elif isinstance(ending, ContinueAsNew):
        assert json.loads(ending.input or "") == int(context["input"]) + 1
    else:
        assert isinstance(ending, ExecutionCompleted)
        expected = state.get("output")
        if (name, case["case"]) == ("14_failures", "caught"):
            expected = ["TaskFailedError", *expected[1:]]
        assert json.loads(ending.result or "null") == expected


def test_a_long_timer_is_one_timer() -> None:
    document = json.loads((VECTORS / "13_long_timer.json").read_text(encoding="utf-8"))
    session = OrchestrationSession("orch", orchestrator_of(document["orchestrator"]), "abc123")
    start = episodes(document["cases"][0]["context"]["history"])[0]
    end = start.at + 10 * 24 * 3600 * 1_000_000

    assert session.advance(start.at, start.received).decided == [TimerCreated(0, end)]

    step = session.advance(end, [TimerFired(0, end)])
    assert step.decided == [ExecutionCompleted("Completed", '"2024-05-11 12:00:00+00:00"')]
