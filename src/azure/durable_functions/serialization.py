"""User values to JSON text and back.

An object with a `to_json` method travels in an envelope, `{"__class__": …, "__module__": …, "__data__": …}`, and comes
back through its class's `from_json`. The class is looked up among the modules that are loaded already: a payload never
causes an import. With the app setting `AZURE_FUNCTIONS_DURABLE_STRICT_TYPING` (1, true or yes) a payload does not
choose a class at all: an envelope is opened only when the caller expects its class.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

import msgspec
from azure.durable_functions.tasks import TaskBase, TaskState

_STRICT = "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING"
_decode = msgspec.json.Decoder().decode
_ENVELOPE = frozenset({"__class__", "__module__", "__data__"})


def df_dumps(value: object) -> str:
    """JSON text, ASCII only. Raises TypeError for what is neither JSON nor has `to_json`, ValueError for cycles."""
    return "null" if value is None else _encode(value)


def df_dumps_of(method: str, what: str, value: object, function: str | None = None) -> str:
    """As `df_dumps`, in whose errors `method` and `what` tell the value, and `function` whose it is.

    Raises TypeError for all that cannot be serialized.
    """
    try:
        return "null" if value is None else _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        whose = "" if function is None else f" of '{function}'"
        raise TypeError(f"{method}: {what}{whose} ({type(value).__name__}) cannot be serialized: {error}") from None


def df_loads(text: str, expected_type: object = None) -> Any:
    """The value of `text`. `expected_type` matters in strict mode only.

    Raises json.JSONDecodeError if `text` is not JSON, and in the envelope's name: ValueError for a module that is not
    loaded, AttributeError for a class that it does not have, TypeError for a class without `from_json`; in strict mode
    TypeError for anything but the expected type.
    """
    enveloped = '"__class__"' in text
    if (enveloped or expected_type is not None) and strict_typing():
        return _loads_strictly(text, expected_type)
    if enveloped:
        return json.loads(text, object_hook=_open_envelope)
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return json.loads(text)  # as in json_loads, one call less for what is decoded most


def strict_typing() -> bool:
    return os.environ.get(_STRICT, "").strip().lower() in ("1", "true", "yes")


def json_loads(text: str) -> Any:
    """As `json.loads`, an order of magnitude faster for what is valid JSON, which is nearly everything."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # NaN, infinities and lone surrogates are no JSON to msgspec, but Durable Functions writes and reads them.
        return json.loads(text)


def return_type(function: Callable[..., Any]) -> object:
    """What `function` says it returns, None if it does not say or its annotation cannot be evaluated."""
    try:
        return typing.get_type_hints(inspect.unwrap(function)).get("return")
    except Exception:
        return None


def _seal_envelope(value: object) -> dict[str, object]:
    cls = type(value)
    to_json: Callable[[object], object] | None = getattr(cls, "to_json", None)
    if to_json is None:
        raise TypeError(_advised(f"class {cls} does not expose a `to_json` function", value))
    # Through the class, so that a static method that takes the object works as well.
    return {"__class__": cls.__name__, "__module__": cls.__module__, "__data__": to_json(value)}


_encode_text = json.encoder.encode_basestring_ascii
_encode_any = json.JSONEncoder(default=_seal_envelope).encode


def _encode(value: object) -> str:
    """The most frequent kinds need no encoder, whose making costs more than its work."""
    if type(value) is str:
        return _encode_text(value)
    if type(value) is int:
        return int.__repr__(value)
    return _encode_any(value)


def _refuse_envelope(value: object) -> object:
    raise TypeError(_advised(f"Object of type {type(value).__name__} is not JSON serializable", value))


plain_dumps = json.JSONEncoder(default=_refuse_envelope).encode
"""JSON text of what an orchestrator returns: envelopes are not allowed there."""


def _advised(refusal: str, value: object) -> str:
    """`refusal`, with what to write instead of `value` where that is known."""
    match value:
        case TaskBase():
            kind = type(value).__name__
            if value._state is TaskState.RUNNING:
                return f"a task ({kind}) was not yielded; write `yield ...` to get its result"
            return f"a task ({kind}) was given in place of its result; write `task.result`"
        case bytes() | bytearray() | memoryview():
            advice = "decode it, or write base64.b64encode(value).decode()"
        case set() | frozenset():
            advice = "write sorted(value)"
        case datetime() | date() | time():
            advice = "write value.isoformat()"
        case timedelta():
            advice = "write value.total_seconds()"
        case UUID() | Decimal():
            advice = "write str(value)"
        case Enum():
            advice = "write value.value"
        case _ if hasattr(type(value), "to_json"):
            advice = "what an orchestrator returns is plain JSON"
        case _ if is_dataclass(value) and not isinstance(value, type):
            advice = "write dataclasses.asdict(value), or give its class `to_json` and `from_json`"
        case _:
            return refusal
    return f"{refusal}; {advice}"


def _open_envelope(value: dict[str, Any]) -> Any:
    if not value.keys() >= _ENVELOPE:
        return value
    module_name, class_name = value["__module__"], value["__class__"]
    module = sys.modules.get(module_name)
    if module is None:
        raise ValueError(f"cannot deserialize custom object: module '{module_name}' is not loaded in sys.modules")
    cls = getattr(module, class_name, None)
    if cls is None:
        raise AttributeError(
            f"cannot deserialize custom object: class '{class_name}' not found in module '{module_name}'"
        )
    return _from_json(cls, value["__data__"])


def _from_json(cls: type, data: object) -> Any:
    from_json: Callable[[object], Any] | None = getattr(cls, "from_json", None)
    if from_json is None:
        raise TypeError(f"class {cls} does not expose a `from_json` function")
    return from_json(data)


def _loads_strictly(text: str, expected: object) -> Any:
    value = json_loads(text)
    if isinstance(value, dict) and cast("dict[str, Any]", value).keys() >= _ENVELOPE:
        declared = f"{value['__module__']}.{value['__class__']}"
        if expected is None:
            raise TypeError(
                "df_loads: strict mode requires expected_type to deserialize custom-object payloads, "
                f"but none was provided. Payload declares {declared}."
            )
        for cls in _alternatives(expected):
            if isinstance(cls, type) and declared == f"{cls.__module__}.{cls.__name__}":
                return _from_json(cls, value["__data__"])
        raise TypeError(f"df_loads: payload declares class {declared} but expected {_label(expected)}")
    if expected is None or any(_accepts(cls, value) for cls in _alternatives(expected)):
        return value
    raise TypeError(
        f"df_loads: deserialized value ({type(value).__name__}) is not compatible with expected type {expected}"
    )


def _alternatives(expected: object) -> tuple[object, ...]:
    if typing.get_origin(expected) in (typing.Union, types.UnionType):
        return typing.get_args(expected)
    return (expected,)


def _accepts(expected: object, value: object) -> bool:
    cls = typing.get_origin(expected) or expected
    if cls is None or cls is type(None):
        return value is None
    if cls is float:
        return isinstance(value, (int, float))
    return isinstance(value, cls) if isinstance(cls, type) else True


def _label(expected: object) -> str:
    name = getattr(expected, "__name__", None)
    return f"{getattr(expected, '__module__', '')}.{name}" if name else str(expected)
