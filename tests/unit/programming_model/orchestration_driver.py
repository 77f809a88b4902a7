"""Runs an orchestrator turn by turn, as the engine does, and keeps its history."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from azure.durable_functions.replay import OrchestrationSession
from msgspec import UNSET

from perdure.core.events import (
    ContinueAsNew,
    Decided,
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    Failure,
    ParentLink,
    Received,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerFired,
    TurnRecord,
)
from perdure.core.failures import message_of
from perdure.core.protocols import Step

SECOND = 1_000_000
START = 1_714_564_800 * SECOND  # 2024-05-01T12:00:00Z
EXECUTION = "e" * 32


def boom(function: str = "flaky", attempt: int = 1) -> Failure:
    return Failure(type="ValueError", message="boom", kind="activity", function=function, attempt=attempt)


class Driven:
    """One execution. With `evict`, every turn runs on a fresh session that was brought through the history."""

    def __init__(
        self,
        function: Callable[..., Any],
        input: Any = None,
        *,
        evict: bool,
        instance_id: str = "abc123",
        parent_id: str | None = None,
        version: str | None = None,
        begin: bool = True,
    ) -> None:
        self.function = function
        self.instance_id = instance_id
        self.evict = evict
        self.now = START
        self.records: list[TurnRecord] = []
        self.session = OrchestrationSession("orch", function, instance_id)
        self.last = Step([], 0)
        self.custom_status: Any = None
        parent = None if parent_id is None else ParentLink(1, parent_id, 1, 0, "parent")
        self.started = ExecutionStarted(
            "orch", instance_id, EXECUTION, None if input is None else json.dumps(input), version, parent
        )
        if begin:
            self.turn(self.started)

    def turn(self, *received: Received, after: float = 1) -> Step:
        if self.records:
            self.now += round(after * SECOND)
            if self.evict:
                self.session = self.revived()
        self.last = self.session.advance(self.now, list(received))
        self.records.append(
            TurnRecord(at=self.now, received=list(received)[: self.last.consumed], decided=self.last.decided)
        )
        if self.last.custom_status is not UNSET:
            text = self.last.custom_status
            self.custom_status = None if text is None else json.loads(text)
        return self.last

    def revived(self, function: Callable[..., Any] | None = None) -> OrchestrationSession:
        """A fresh session over the history so far, of this or of other code."""
        session = OrchestrationSession("orch", function or self.function, self.instance_id)
        session.replay(self.records)
        return session

    def complete(self, task_id: int, value: Any = None, **keywords: Any) -> Step:
        return self.turn(TaskCompleted(task_id, json.dumps(value)), **keywords)

    def fail(self, task_id: int, failure: Failure | None = None, **keywords: Any) -> Step:
        return self.turn(TaskFailed(task_id, failure or boom()), **keywords)

    def complete_child(self, task_id: int, value: Any = None) -> Step:
        return self.turn(SubOrchestrationInstanceCompleted(task_id, json.dumps(value)))

    def fail_child(self, task_id: int, failure: Failure) -> Step:
        return self.turn(SubOrchestrationInstanceFailed(task_id, failure))

    def fire(self, task_id: int, **keywords: Any) -> Step:
        return self.turn(TimerFired(task_id, self.now), **keywords)

    def event(self, name: str, value: Any = None) -> Step:
        return self.turn(raised(name, value))

    @property
    def decided(self) -> list[Decided]:
        return [decision for record in self.records for decision in record.decided]

    @property
    def ended(self) -> bool:
        return bool(self.decided) and isinstance(self.decided[-1], (ExecutionCompleted, ContinueAsNew))

    @property
    def output(self) -> Any:
        end = self.decided[-1]
        assert isinstance(end, ExecutionCompleted), end
        assert end.status == "Completed", end
        return None if end.result is None else json.loads(end.result)

    @property
    def failure(self) -> Failure:
        end = self.decided[-1]
        assert isinstance(end, ExecutionCompleted), end
        assert end.failure is not None, end
        return end.failure

    @property
    def error(self) -> str:
        """What the failure says, as the output of a failed orchestration shows it."""
        return message_of(self.failure)


def raised(name: str, value: Any = None) -> EventRaised:
    return EventRaised(name, json.dumps(value), source="client")
