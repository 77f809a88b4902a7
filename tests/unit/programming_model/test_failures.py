"""Exceptions, stored and raised again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from azure.durable_functions import TaskFailedError
from azure.durable_functions.failures import activity_failure, orchestrator_failure
from azure.durable_functions.registry import ActivityFunction
from orchestration_driver import boom

from perdure.core.events import Failure
from perdure.core.failures import exception_text


def raised_by(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it was to raise")


def test_a_failure_keeps_type_message_function_attempt_and_traceback() -> None:
    def fails() -> None:
        raise ValueError("boom")

    failure = activity_failure(raised_by(fails), "flaky", 2)

    assert (failure.type, failure.message, failure.kind, failure.function, failure.attempt) == (
        "ValueError",
        "boom",
        "activity",
        "flaky",
        2,
    )
    assert failure.traceback is not None
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert failure.traceback.endswith("ValueError: boom\n")


def test_a_traceback_begins_in_the_users_code() -> None:
    def flaky(value: int) -> None:
        raise ValueError(value)

    failure = ActivityFunction("flaky", flaky, "value").invoke("7", "abc123", 0, 1)

    assert isinstance(failure, Failure)
    first_frame = (failure.traceback or "").splitlines()[1]
    assert "test_failures.py" in first_frame
    assert "in flaky" in first_frame


def test_causes_are_kept_to_a_depth() -> None:
    def fails() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise OSError("second") from error
        except OSError:
            raise ValueError("third")  # noqa: B904

    failure = activity_failure(raised_by(fails), "flaky", 1)

    assert failure.cause == Failure("OSError", "second", cause=Failure("KeyError", "'first'"))


def test_a_suppressed_context_is_no_cause() -> None:
    def fails() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    assert activity_failure(raised_by(fails), "flaky", 1).cause is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first

    assert activity_failure(first, "flaky", 1).message == "first"


def test_lone_surrogates_become_escapes() -> None:
    failure = activity_failure(ValueError("file \udcff"), "flaky", 1)

    assert failure.message == "file \\udcff"
    assert (failure.traceback or "").isascii()


def test_an_exception_without_a_readable_text_is_still_a_failure() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert activity_failure(Mute(), "flaky", 1).message == "<a Mute whose text cannot be made>"


def test_the_exception_in_an_orchestrator_has_the_text_and_all_that_is_known() -> None:
    cause = Failure("OSError", "disk")
    failure = Failure("ValueError", "boom", "activity", "flaky", attempt=3, cause=cause)
    error = TaskFailedError(failure)

    assert str(error) == exception_text(failure)
    assert error.args == (exception_text(failure),)
    assert (error.function_name, error.error_type, error.message, error.attempt) == ("flaky", "ValueError", "boom", 3)
    assert error.cause == cause
    assert error.failure is failure
    assert pickle.loads(pickle.dumps(error)).failure == failure


def test_the_text_can_be_parsed_as_users_do() -> None:
    import json

    text = str(TaskFailedError(boom()))

    assert json.loads(text.split("\n")[1])["Message"].split(":", 1)[1].lstrip() == "boom"


def test_a_task_failure_that_is_raised_from_keeps_the_task_as_cause() -> None:
    def fails() -> None:
        raise ValueError("no stock") from TaskFailedError(boom())

    failure = orchestrator_failure(raised_by(fails), "orch")

    assert (failure.message, failure.cause) == ("no stock", boom())
