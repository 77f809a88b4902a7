"""A history in the form that the status endpoint documents (`historyEvents`).

It is written from `TurnRecord`s as a list of JSON objects, in order. What differs from the history itself:

- `TaskScheduled` and `SubOrchestrationInstanceCreated` are left out once they are answered; the answer carries
  `FunctionName`, `ScheduledTime` and the task's `Input` instead of the task's id.
- `Input` is there only with `show_input`, `Result` only with `show_output`. `Result` is a JSON value, `Input` the
  JSON text as a string.
- A cancelled timer has no event in this form: its `TimerCreated` stays without a `TimerFired`.

An event that was accepted too late for its instance has `"ReceivedTooLate": true`, which the original does not know.
All times are those of the turn in which the event was applied or decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from perdure.core.events import (
    ContinueAsNew,
    Decided,
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
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
from perdure.core.failures import details, reason
from perdure.host.dates import with_fraction
from perdure.host.json_values import Value, as_string, embed

Row = dict[str, Any]


def history_view(records: Iterable[TurnRecord], *, show_input: bool, show_output: bool) -> list[Row]:
    """The rows, ready to be encoded by msgspec."""
    return _View(show_input, show_output).rows(records)


def history_rows(records: Iterable[TurnRecord], show_input: bool, show_output: bool) -> list[dict[str, Any]]:
    """The rows as plain values, for the client of the programming model."""
    return json.loads(msgspec.json.encode(history_view(records, show_input=show_input, show_output=show_output)))


class _Scheduled(NamedTuple):
    task: TaskScheduled | SubOrchestrationInstanceCreated
    time: str
    place: int
    """Of its row, which its answer takes out."""


class _View:
    def __init__(self, show_input: bool, show_output: bool) -> None:
        self._show_input = show_input
        self._show_output = show_output
        self._rows: list[Row | None] = []
        self._open: dict[int, _Scheduled] = {}
        """The tasks without an answer, by task id."""

    def rows(self, records: Iterable[TurnRecord]) -> list[Row]:
        for record in records:
            time = with_fraction(record.at)
            for event in record.received:
                self._rows.append(self._received(event, time))
            for event in record.decided:
                if isinstance(event, (TaskScheduled, SubOrchestrationInstanceCreated)):
                    self._open[event.task_id] = _Scheduled(event, time, place=len(self._rows))
                self._rows.append(self._decided(event, time))
        return [row for row in self._rows if row is not None]

    def _received(self, event: Received, time: str) -> Row:
        row: Row = {"EventType": type(event).__name__}
        match event:
            case ExecutionStarted():
                row["Correlation"] = None
                row["ScheduledStartTime"] = None
                row["Generation"] = event.generation
                row["ParentTraceContext"] = None
                row["FunctionName"] = event.name
                self._put_input(row, event.input)
            case TaskCompleted() | SubOrchestrationInstanceCompleted():
                self._put_result(row, embed(event.result))
                self._put_task(row, event.task_id)
            case TaskFailed() | SubOrchestrationInstanceFailed():
                self._put_failure(row, event.failure)
                self._put_task(row, event.task_id)
            case TimerFired():
                row["FireAt"] = with_fraction(event.fire_at)
            case EventRaised():
                row["Name"] = event.name
                self._put_input(row, event.input)
                if event.late:
                    row["ReceivedTooLate"] = True
            case ExecutionTerminated():
                self._put_input(row, event.reason)
            case ExecutionSuspended() | ExecutionResumed():
                row["Reason"] = event.reason
        row["Timestamp"] = time
        return row

    def _decided(self, event: Decided, time: str) -> Row | None:
        row: Row = {"EventType": type(event).__name__}
        match event:
            case TaskScheduled():
                row["Name"] = event.name
                self._put_input(row, event.input)
            case SubOrchestrationInstanceCreated():
                row["Name"] = event.name
                row["InstanceId"] = event.instance_id
                self._put_input(row, event.input)
            case TimerCreated():
                row["FireAt"] = with_fraction(event.fire_at)
            case TimerCanceled():
                return None
            case ExecutionCompleted():
                row["OrchestrationStatus"] = event.status
                failure = event.failure
                self._put_result(row, embed(event.result) if failure is None else as_string(reason(failure)))
                row["FailureDetails"] = None
            case ContinueAsNew():
                row["OrchestrationStatus"] = "ContinuedAsNew"
                self._put_result(row, embed(event.input))
        row["Timestamp"] = time
        return row

    def _put_input(self, row: Row, text: str | None) -> None:
        if self._show_input:
            row["Input"] = None if text is None else as_string(text)

    def _put_result(self, row: Row, value: Value) -> None:
        if self._show_output:
            row["Result"] = value

    def _put_failure(self, row: Row, failure: Failure) -> None:
        row["Reason"] = as_string(reason(failure))
        text = details(failure)
        row["Details"] = None if text is None else as_string(text)
        row["FailureDetails"] = None

    def _put_task(self, row: Row, task_id: int) -> None:
        task, time, place = self._open.pop(task_id)
        self._rows[place] = None
        row["ScheduledTime"] = time
        row["FunctionName"] = task.name
        self._put_input(row, task.input)
