"""The texts that users parse, to the letter."""

from __future__ import annotations

import json

import pytest

from perdure.core.events import Failure
from perdure.core.failures import (
    clean,
    details,
    exception_text,
    message_of,
    own_failure,
    reason,
    shortened,
    unknown_function,
)

ACTIVITY = Failure(type="ValueError", message="no", kind="activity", function="f", traceback="Traceback …\n")
CHILD = Failure(type="TaskFailedError", kind="orchestrator", function="child", cause=ACTIVITY)


def test_an_activity_is_reported_with_two_spaces_and_its_type() -> None:
    assert reason(ACTIVITY) == "Activity function 'f' failed:  ValueError: no"


def test_the_details_of_an_activity_are_one_line_of_json_in_the_shape_of_an_exception() -> None:
    text = details(ACTIVITY)
    assert text is not None
    assert "\n" not in text
    value = json.loads(text)
    assert value["Message"] == " ValueError: no"
    inner = value["InnerException"]
    assert inner["RemoteMessage"] == "ValueError: no"
    assert inner["RemoteStackTrace"] == "Traceback …\n"
    assert inner["Message"] == "Result: Failure\nType: \nException: ValueError: no\nStack: Traceback …\n"


def test_what_an_orchestrator_catches_has_reason_and_details() -> None:
    assert exception_text(ACTIVITY) == f"{reason(ACTIVITY)} \n {details(ACTIVITY)}"


def test_a_failure_that_was_let_through_is_told_once() -> None:
    assert message_of(CHILD) == exception_text(ACTIVITY)
    assert reason(CHILD) == f"Orchestrator function 'child' failed: {exception_text(ACTIVITY)}"
    assert details(CHILD) is None
    assert exception_text(CHILD) == f"{reason(CHILD)} \n None"


def test_a_failure_of_the_runtime_is_its_message() -> None:
    failure = own_failure("FunctionNotFound", "nobody serves it")
    assert (reason(failure), exception_text(failure), details(failure)) == (
        "nobody serves it",
        "nobody serves it",
        None,
    )


def test_a_failure_with_neither_message_nor_cause_has_an_empty_text() -> None:
    assert message_of(Failure(type="ValueError")) == ""


@pytest.mark.parametrize(
    ("kind", "known", "text"),
    [
        (
            "activity",
            [],
            "or is not an activity function. Additional info: No activity functions are currently registered!",
        ),
        (
            "orchestrator",
            ["b", "a"],
            "or is not an orchestrator function. "
            "Additional info: The following are the known orchestrator functions: 'a', 'b'.",
        ),
    ],
)
def test_an_unknown_function_is_named_with_those_that_are_known(kind: str, known: list[str], text: str) -> None:
    assert unknown_function("f", kind, known) == f"The function 'f' doesn't exist, is disabled, {text}"


@pytest.mark.parametrize(("given", "cleaned"), [("plain", "plain"), ("ä\udce4", "ä\\udce4"), ("", ""), ("\0", "\0")])
def test_lone_surrogates_become_escapes(given: str, cleaned: str) -> None:
    assert clean(given) == cleaned


def test_what_is_too_long_for_the_log_is_told_by_its_beginning_and_its_end() -> None:
    assert shortened("a" * 8000) == "a" * 8000
    text = shortened("a" * 5000 + "b" * 90_000 + "c" * 5000)
    assert text.startswith("aaa") and text.endswith("ccc") and " … 92,000 characters … " in text
    assert len(text) < 8100
