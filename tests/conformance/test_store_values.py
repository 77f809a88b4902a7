"""Values are kept to the last bit, or refused."""

from __future__ import annotations

import pytest
from store_handles import LARGEST_VALUE
from store_rows import NOW, Lane, history, instance, message, timer

from perdure.core.errors import RefusedData
from perdure.store.api import Store

TEXTS = {
    "empty": "",
    "NUL": "a\0b\0",
    "only NUL": "\0",
    "NaN": "NaN",
    "infinities": "[Infinity, -Infinity, -0.0, 1e400]",
    "a big integer": str(10**400),
    "what looks like a number": "007",
    "blanks at the end": "a  \n\t ",
    "line ends": "a\r\nb\rc\n",
    "beyond the basic plane": "𝄞😀\U0010ffff",
    "not normalised": "e\u0301\u00e9",
    "noncharacters": "\ufffe\uffff\ufeff",
    "quotes": "'\"`;--\\",
    "surrogates as text": "\\ud800",
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_come_back_as_they_were(lane: Lane, store: Store, name: str) -> None:
    text = TEXTS[name]
    columns = ("name", "version", "input", "output", "failure", "custom_status", "request_id", "parked", "parent_name")
    row = instance(lane.first + 1, "id " + text, **dict.fromkeys(columns, text))
    lane.commit(created=[row])
    assert store.instance(row.key) == row
    assert store.find([row.id]) == {row.id: row}
    lane.commit(updated=[row])
    assert store.instance(row.key) == row
    lane.commit(advanced=[row])
    assert store.instance(row.key) == row


def test_bytes_come_back_as_they_were(lane: Lane, store: Store) -> None:
    body = bytes(range(256)) * 2
    lane.commit(history=[history(lane.first + 1, 0, body)], inbox_new=[message(lane.first, lane.first + 1, body=body)])
    assert store.history(lane.first + 1) == [history(lane.first + 1, 0, body)]
    assert [mail.body for mail in store.inbox(0, 10)] == [body]


def test_no_text_is_not_the_empty_text(lane: Lane, store: Store) -> None:
    rows = [instance(lane.first + 1, input=None, output=""), instance(lane.first + 2, input="", output=None)]
    lane.commit(created=rows)
    assert [store.instance(row.key) for row in rows] == rows


@pytest.mark.parametrize("value", [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1])
def test_integers_of_64_bits_are_exact(lane: Lane, store: Store, value: int) -> None:
    row = instance(lane.first + 1, created_at=value, completed_at=value, parent_key=value)
    lane.commit(created=[row], timers_new=[timer(value, row.key, task_id=value)])
    assert store.instance(row.key) == row
    assert store.timers(2**63 - 1, None, 10) == [timer(value, row.key, task_id=value)]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_larger_integers_are_refused(lane: Lane, store: Store, value: int) -> None:
    for parts in (
        {"created": [instance(lane.first + 1, updated_at=value)]},
        {"timers_new": [timer(value, lane.first + 1)]},
        {"inbox_new": [message(lane.first + 1, lane.first + 1, execution=value)]},
        {"history": [history(lane.first + 1, value)]},
    ):
        with pytest.raises(RefusedData):
            lane.commit(**parts)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udcff"])
def test_lone_surrogates_are_refused(lane: Lane, store: Store, text: str) -> None:
    lane.commit(created=[instance(lane.first + 1)])
    for parts in (
        {"created": [instance(lane.first + 2, text)]},
        {"created": [instance(lane.first + 2, input=text)]},
        {"updated": [instance(lane.first + 1, custom_status=text)]},
    ):
        with pytest.raises(RefusedData):
            lane.commit(**parts)
    with pytest.raises(RefusedData):
        store.submit_start(instance(0, text), b"{}")
    assert store.instance(lane.first + 1) == instance(lane.first + 1)


def test_ten_megabytes_are_kept(lane: Lane, store: Store) -> None:
    text, body = "ä" * 5_000_000, b"\0\xff" * 5_000_000
    row = instance(lane.first + 1, input=text)
    lane.commit(created=[row], history=[history(row.execution, 0, body)])
    lane.commit(updated=[instance(lane.first + 1, input=text, output=text)])
    assert store.instance(row.key) == instance(lane.first + 1, input=text, output=text)
    assert store.history(row.execution) == [history(row.execution, 0, body)]


def test_a_value_that_is_too_large_is_refused(lane: Lane, store: Store) -> None:
    large = LARGEST_VALUE + 1
    for parts in (
        {"created": [instance(lane.first + 2, input="a" * large)]},
        {"history": [history(lane.first + 1, 0, bytes(large))]},
        {"inbox_new": [message(lane.first + 3, lane.first + 1, body=bytes(large))]},
    ):
        with pytest.raises(RefusedData):
            lane.commit(created=parts.pop("created", [instance(lane.first + 1)]), timers_new=[timer(NOW, 1)], **parts)
    assert store.instance(lane.first + 1) is None
    assert store.timers(NOW, None, 10) == []
    with pytest.raises(RefusedData):
        store.submit_start(instance(0, "a"), bytes(large))
    assert store.find(["a"]) == {}
