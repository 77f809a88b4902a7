"""Exceptions into stored failures, and stored failures into the exceptions that orchestrators catch."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from perdure.core.events import Failure
from perdure.core.failures import clean, exception_text, message_of, text_of

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MAX_CAUSES = 8


class TaskFailedError(Exception):
    """An activity or a sub-orchestration failed; raised at the `yield` that waits for it.

    `str()` is the text that Durable Functions has for it. `failure` is all that is known, structured.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(exception_text(failure))
        self.failure = failure

    @property
    def function_name(self) -> str:
        return self.failure.function

    @property
    def error_type(self) -> str:
        """Name of the class that the function raised."""
        return self.failure.type

    @property
    def message(self) -> str:
        """What the function's exception said, without what was put around it."""
        return message_of(self.failure)

    @property
    def attempt(self) -> int:
        """The attempt that failed, from 1."""
        return self.failure.attempt

    @property
    def cause(self) -> Failure | None:
        """Why the function raised: the failure it could not handle, or its exception's own cause."""
        return self.failure.cause

    def __reduce__(self) -> tuple[type[TaskFailedError], tuple[Failure]]:
        return TaskFailedError, (self.failure,)


def activity_failure(error: BaseException, function: str, attempt: int) -> Failure:
    return Failure(
        type=type(error).__name__,
        message=text_of(error),
        kind="activity",
        function=function,
        traceback=user_traceback(error),
        attempt=attempt,
        cause=_cause(error, _MAX_CAUSES),
    )


def orchestrator_failure(error: BaseException, function: str) -> Failure:
    """A failed task that the orchestrator let through is its cause, and its text is not stored a second time."""
    if isinstance(error, TaskFailedError):
        return Failure(
            type=type(error).__name__,
            kind="orchestrator",
            function=function,
            traceback=user_traceback(error),
            cause=error.failure,
        )
    return Failure(
        type=type(error).__name__,
        message=text_of(error) or str(type(error)),
        kind="orchestrator",
        function=function,
        traceback=user_traceback(error),
        cause=_cause(error, _MAX_CAUSES),
    )


def user_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of this package that lead to the user's code."""
    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename.startswith(_HERE):
        start = start.tb_next
    return _format(error, start)


def _format(error: BaseException, start: TracebackType | None) -> str:
    if isinstance(error, TaskFailedError):
        # Its text is long, and kept as the cause already.
        stack = "".join(traceback.format_tb(start))
        return clean(f"Traceback (most recent call last):\n{stack}TaskFailedError: '{error.function_name}' failed\n")
    try:
        return clean("".join(traceback.format_exception(type(error), error, start)))
    except BaseException:  # the text of an exception is made by code of the user
        return f"{type(error).__name__}: {text_of(error)}\n"


def _cause(error: BaseException, depth: int) -> Failure | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None or depth == 0:
        return None
    if isinstance(cause, TaskFailedError):
        return cause.failure
    return Failure(type=type(cause).__name__, message=text_of(cause), cause=_cause(cause, depth - 1))
