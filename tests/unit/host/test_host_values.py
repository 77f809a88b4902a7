"""JSON texts in bodies, and times."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.host.dates import parse_date, whole_seconds, with_fraction
from perdure.host.json_values import as_string, embed, output_body, read_json_text

NOON = 1_714_564_800_000_000


def embedded(text: str | None) -> bytes:
    return msgspec.json.encode({"value": embed(text)})


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "-0.1000000000000000055511151231257827",
        "123456789012345678901234567890",
        '{"b":1,"a":[null,"\\u00e9"]}',
        '" "',
    ],
)
def test_a_json_text_stands_in_a_body_as_it_is(text: str) -> None:
    assert embedded(text) == b'{"value":' + text.encode() + b"}"


def test_an_integer_of_five_thousand_digits_is_not_lost() -> None:
    text = "1" * 5000
    assert embedded(text) == b'{"value":' + text.encode() + b"}"


@pytest.mark.parametrize("text", ["NaN", "[1, Infinity]", "boom: it failed", "", "1 2", "{'a': 1}", '"\n"', "\ud800"])
def test_a_text_that_is_not_json_stands_as_a_string(text: str) -> None:
    assert json.loads(embedded(text)) == {"value": text}


def test_nothing_is_null() -> None:
    assert embedded(None) == b'{"value":null}'
    assert output_body(None) == b"null"


def test_a_lone_surrogate_in_a_json_text_survives() -> None:
    assert json.loads(embedded('"\\ud800"')) == {"value": "\ud800"}
    assert json.loads(embedded('"\ud800"')) == {"value": "\ud800"}


def test_json_nested_deeper_than_can_be_checked_becomes_a_string() -> None:
    text = "[" * 100_000 + "]" * 100_000
    assert json.loads(embedded(text)) == {"value": text}


@given(st.text())
def test_any_text_can_be_a_string_of_a_body(text: str) -> None:
    assert json.loads(msgspec.json.encode([as_string(text)])) == [text]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8))
def test_what_python_writes_as_json_means_the_same_in_a_body(value: object) -> None:
    assert json.loads(embedded(json.dumps(value))) == {"value": value}


@pytest.mark.parametrize("body", [b'{"a": 1}', b"\xef\xbb\xbf1", b"NaN", b'"\\ud800"', b" [1] "])
def test_a_body_that_is_json_is_taken(body: bytes) -> None:
    json.loads(read_json_text(body))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"text", b"1 2"])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_json_text(body)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T12:00:00.1234567Z", NOON + 123_456),
        ("2024-05-01T12:00:00.5", NOON + 500_000),
        ("2024-05-01 12:00", NOON),
        ("2024-05-01T14:00:00+02:00", NOON),
        ("2024-05-01T10:00:00-0200", NOON),
        ("2024-05-01", NOON - 12 * 3_600_000_000),
        ("05/01/2024 12:00:00", NOON),
        ("Wed, 01 May 2024 12:00:00 GMT", NOON),
        ("1969-12-31T23:59:59.999999Z", -1),
    ],
)
def test_times_are_read_in_the_usual_forms(text: str, micros: int) -> None:
    assert parse_date(text) == micros


@pytest.mark.parametrize("text", ["", "tomorrow", "2024-13-01", "2024-05-01T25:00:00Z", "2024-05-01Tnoon"])
def test_what_names_no_time_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_times_are_written_in_whole_seconds_or_with_a_fraction() -> None:
    assert whole_seconds(NOON + 999_999) == "2024-05-01T12:00:00Z"
    assert with_fraction(NOON + 1) == "2024-05-01T12:00:00.000001Z"
