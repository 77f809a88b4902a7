"""User values in HTTP bodies: texts that are JSON already, and bodies that are to become such texts.

A stored text is put into a body as it is, never decoded and encoded again, so that big integers, long fractions and
the order of keys stay what they were. A text that is not JSON by the standard (a failure's text; `NaN`, which Python
writes and no standard reader takes) goes in as a JSON string that holds it, so the body is always valid JSON.
"""

from __future__ import annotations

import json
from typing import NoReturn, Union

import msgspec

Value = Union[msgspec.Raw, str, None]
"""Something that `msgspec.json.encode` writes as one JSON value."""


def embed(text: str | None) -> Value:
    """A stored JSON text as a value of a body; None is null."""
    if text is None:
        return None
    return msgspec.Raw(_escaped(text)) if _is_json(text, _refuse_constant) else as_string(text)


def as_string(text: str) -> msgspec.Raw:
    """`text` as a JSON string, lone surrogates as escapes, which an encoder to UTF-8 refuses otherwise."""
    return msgspec.Raw(_escaped(json.dumps(text, ensure_ascii=False)))


def output_body(text: str | None) -> bytes:
    """A stored JSON text as a whole body."""
    return msgspec.json.encode(embed(text))


def read_json_text(body: bytes) -> str:
    """The text of a body that must be one JSON value; `NaN` and `Infinity`, which Python writes, are let through.

    Raises ValueError.
    """
    text = body.decode("utf-8-sig")
    if not _is_json(text, float):
        raise ValueError("the body is not JSON")
    return text


def _is_json(text: str, constant: object) -> bool:
    """msgspec decides most cases fast; it refuses lone surrogates in escapes, which Python's `json` writes."""
    try:
        msgspec.json.decode(text.encode("utf-8", "backslashreplace"), type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        pass
    else:
        return True
    try:
        json.loads(text, parse_constant=constant)  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _escaped(text: str) -> bytes:
    """UTF-8. What it cannot hold stands inside a string, where the replacement is a JSON escape (`\\ud800`)."""
    return text.encode("utf-8", "backslashreplace")
