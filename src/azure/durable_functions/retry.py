"""How often, and after what pause, a failed activity or sub-orchestration is tried again."""

from __future__ import annotations

from azure.durable_functions.arguments import kind_of


class RetryOptions:
    """A constant pause between attempts.

    `max_number_of_attempts` counts the first one. Raises ValueError for a pause that is not above zero, TypeError for
    what is no number.
    """

    __slots__ = ("_first_retry_interval_in_milliseconds", "_max_number_of_attempts")

    def __init__(self, first_retry_interval_in_milliseconds: int, max_number_of_attempts: int) -> None:
        pause, attempts = first_retry_interval_in_milliseconds, max_number_of_attempts
        if not isinstance(pause, (int, float)):
            raise TypeError(
                f"RetryOptions: first_retry_interval_in_milliseconds must be a number, not {kind_of(pause)}"
            )
        if not isinstance(attempts, int):
            raise TypeError(f"RetryOptions: max_number_of_attempts must be an int, not {kind_of(attempts)}")
        if first_retry_interval_in_milliseconds <= 0:
            # The missing blank is part of the text that Durable Functions 1.x has.
            raise ValueError("first_retry_interval_in_milliseconds valuemust be greater than 0.")
        self._first_retry_interval_in_milliseconds = first_retry_interval_in_milliseconds
        self._max_number_of_attempts = max_number_of_attempts

    @property
    def first_retry_interval_in_milliseconds(self) -> int:
        return self._first_retry_interval_in_milliseconds

    @property
    def max_number_of_attempts(self) -> int:
        return self._max_number_of_attempts

    def to_json(self) -> dict[str, int]:
        return {
            "firstRetryIntervalInMilliseconds": self._first_retry_interval_in_milliseconds,
            "maxNumberOfAttempts": self._max_number_of_attempts,
        }
