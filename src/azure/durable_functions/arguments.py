"""Arguments of a wrong type are refused where they are passed, in words that name the method and the parameter.

Left alone they would travel on, and fail in a place that the user's code has nothing to do with.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID


def require_text(method: str, parameter: str, value: object, hint: str = "") -> None:
    """Raises TypeError unless `value` is a str. `hint` says what the user may have meant."""
    if isinstance(value, str):
        return
    if isinstance(value, UUID):
        hint = f"; write str({parameter})"
    raise TypeError(f"{method}: {parameter} must be a str, not {kind_of(value)}{hint}")


def require_text_or_none(method: str, parameter: str, value: object, hint: str = "") -> None:
    if value is not None:
        require_text(method, parameter, value, hint)


def exact(text: str) -> str:
    """`text` itself, or a plain copy of what is of a subclass (a str enum, markup), which the history cannot hold."""
    return text if type(text) is str else str.__str__(text)


def require_moment_or_none(method: str, parameter: str, value: object) -> None:
    if value is not None and not isinstance(value, datetime):
        raise TypeError(f"{method}: {parameter} must be a datetime, not {kind_of(value)}")


def kind_of(value: object) -> str:
    return "None" if value is None else type(value).__name__
