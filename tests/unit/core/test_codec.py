from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.codec import (
    decode_failure,
    decode_message,
    decode_records,
    encode_failure,
    encode_message,
    encode_record,
    encode_text,
    join_records,
)
from perdure.core.errors import UnreadableRecord
from perdure.core.events import (
    ContinueAsNew,
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    Failure,
    ParentLink,
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

text = st.text(st.characters(exclude_categories=["Cs"]))
maybe_text = st.none() | text
numbers = st.integers(-(2**63), 2**63 - 1)
failures = st.recursive(
    st.builds(Failure, type=text, message=maybe_text, kind=st.sampled_from(["", "activity", "orchestrator"])),
    lambda causes: st.builds(Failure, type=text, traceback=maybe_text, attempt=numbers, cause=st.none() | causes),
    max_leaves=4,
)
links = st.builds(ParentLink, key=numbers, instance_id=text, execution=numbers, task_id=numbers, name=text)
received = st.one_of(
    st.builds(ExecutionStarted, name=text, instance_id=text, execution_id=text, input=maybe_text, version=maybe_text,
              parent=st.none() | links, generation=numbers),
    st.builds(TaskCompleted, task_id=numbers, result=maybe_text),
    st.builds(TaskFailed, task_id=numbers, failure=failures),
    st.builds(SubOrchestrationInstanceCompleted, task_id=numbers, result=maybe_text),
    st.builds(SubOrchestrationInstanceFailed, task_id=numbers, failure=failures),
    st.builds(TimerFired, task_id=numbers, fire_at=numbers),
    st.builds(EventRaised, name=text, input=maybe_text, source=st.sampled_from(["", "client"]), late=st.booleans()),
    st.builds(ExecutionTerminated, reason=maybe_text),
    st.builds(ExecutionSuspended, reason=maybe_text),
    st.builds(ExecutionResumed, reason=maybe_text),
)  # fmt: skip
decided = st.one_of(
    st.builds(TaskScheduled, task_id=numbers, name=text, input=maybe_text, attempt=numbers),
    st.builds(TimerCreated, task_id=numbers, fire_at=numbers),
    st.builds(TimerCanceled, task_id=numbers),
    st.builds(SubOrchestrationInstanceCreated, task_id=numbers, name=text, instance_id=text, named=st.booleans()),
    st.builds(ExecutionCompleted, status=st.sampled_from(["Completed", "Failed", "Terminated"]), result=maybe_text,
              failure=st.none() | failures),
    st.builds(ContinueAsNew, input=maybe_text),
)  # fmt: skip
records = st.builds(
    TurnRecord, at=numbers, received=st.lists(received), decided=st.lists(decided), deferred=st.booleans()
)


@given(st.lists(records, max_size=5))
def test_records_come_back_as_they_were(given_records: list[TurnRecord]) -> None:
    body = join_records([encode_record(record) for record in given_records])
    assert decode_records(body) == given_records
    json.loads(body)


@given(received)
def test_messages_come_back_as_they_were(message: Any) -> None:
    assert decode_message(encode_message(message)) == message


@given(failures)
def test_failures_come_back_as_they_were(failure: Failure) -> None:
    assert decode_failure(encode_failure(failure)) == failure


def test_the_format_of_a_record_is_a_promise() -> None:
    """What was written once must be read by every later version: each struct by its name, defaults left out."""
    record = TurnRecord(
        at=5,
        received=[TaskFailed(1, Failure("ValueError", "no", "activity", "f")), EventRaised("go", '{"a":1}')],
        decided=[TaskScheduled(2, "f", "null"), TimerCreated(3, 9), ExecutionCompleted("Completed", "1")],
    )
    body = (
        b'[{"at":5,"received":[{"type":"TaskFailed","task_id":1,"failure":{"type":"ValueError","message":"no",'
        b'"kind":"activity","function":"f"}},{"type":"EventRaised","name":"go","input":"{\\"a\\":1}"}],'
        b'"decided":[{"type":"TaskScheduled","task_id":2,"name":"f","input":"null"},'
        b'{"type":"TimerCreated","task_id":3,"fire_at":9},'
        b'{"type":"ExecutionCompleted","status":"Completed","result":"1"}]}]'
    )
    assert join_records([encode_record(record)]) == body
    assert decode_records(body) == [record]


def test_fields_that_a_later_version_added_are_passed_over() -> None:
    body = b'[{"at":5,"mood":"good","received":[{"type":"TimerFired","task_id":1,"fire_at":2,"by":"hand"}]}]'
    assert decode_records(body) == [TurnRecord(at=5, received=[TimerFired(1, 2)])]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"null",
        b"[7]",
        b'[{"received":[]}]',
        b'[{"at":1,"received":[{"type":"New"}]}]',
        b"\xff",
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_no_record_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableRecord, match=f"history row of {len(body)} bytes"):
        decode_records(body)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"type":"TaskScheduled","task_id":1,"name":"a"}', b'{"type":7}', b"\xff"]
)
def test_what_is_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableRecord, match="message of"):
        decode_message(body)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"type":7}'])
def test_what_is_no_failure_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableRecord, match="failure of"):
        decode_failure(text)


def test_text_that_utf_8_cannot_hold_is_not_encoded() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_message(EventRaised("go", "\ud800"))


@given(text)
def test_a_text_becomes_a_json_string(value: str) -> None:
    assert json.loads(encode_text(value)) == value
