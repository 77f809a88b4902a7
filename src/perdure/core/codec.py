"""Events and messages to bytes and back: JSON, one object for each event, tagged with its type."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from perdure.core.errors import UnreadableRecord
from perdure.core.events import Failure, Received, TurnRecord

_encoder = msgspec.json.Encoder()
_record = msgspec.json.Decoder(TurnRecord)
_records = msgspec.json.Decoder(list[TurnRecord])
_received = msgspec.json.Decoder(Received)
_failure = msgspec.json.Decoder(Failure)


encode_record: Callable[[TurnRecord], bytes] = _encoder.encode
"""Raises UnicodeEncodeError on text that UTF-8 cannot hold (a lone surrogate)."""


def decode_record(body: bytes) -> TurnRecord:
    """Raises UnreadableRecord."""
    try:
        return _record.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableRecord(f"history record of {len(body)} bytes: {error}") from error


def join_records(encoded: Iterable[bytes]) -> bytes:
    """The body of one history row: the records of one execution that became durable together."""
    return b"[" + b",".join(encoded) + b"]"


def decode_records(body: bytes) -> list[TurnRecord]:
    """Raises UnreadableRecord."""
    try:
        return _records.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableRecord(f"history row of {len(body)} bytes: {error}") from error


encode_message: Callable[[Received], bytes] = _encoder.encode


def decode_message(body: bytes) -> Received:
    """Raises UnreadableRecord."""
    try:
        return _received.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableRecord(f"message of {len(body)} bytes: {error}") from error


def encode_failure(failure: Failure) -> str:
    return _encoder.encode(failure).decode()


def decode_failure(text: str) -> Failure:
    """Raises UnreadableRecord."""
    try:
        return _failure.decode(text)
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(f"failure of {len(text)} characters: {error}") from error


def encode_text(text: str) -> str:
    """`text` as a JSON string."""
    return _encoder.encode(text).decode()
