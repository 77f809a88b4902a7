"""Large texts, taken out of what a commit writes and put back where it is read.

A record above its limit is large. It is taken out whole: the history gets a stub, a record with nothing but its time
and the id of a payload, and the payload has the true record. An input or output above a lower limit leaves the row of
its instance in the same way. So a large text is not written again with every turn, and rows and pages of histories stay
small.

A payload is read in a later moment than what refers to it. By then its instance may have been purged or begun anew;
who reads for a client looks again, and who reads for the engine has an instance that nobody else changes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.codec import decode_record, encode_record
from perdure.core.errors import UnreadableRecord
from perdure.core.events import TurnRecord
from perdure.core.state import InstanceRow, InstanceState
from perdure.core.turn import Checkpoint
from perdure.store.api import PayloadRow, Store

_GROUP = 16
"""Payloads read at once: what is compressed and what is decoded are in memory together for so many."""

_SAMPLE = 16_384
"""Bytes from the middle of a long text that tell whether it is worth compressing: what hardly packs takes longest."""


class Draft(Struct, frozen=True, gc=False):
    """A payload to be written."""

    id: int
    instance: int
    execution: int
    text: bytes | str


# --- taking out ------------------------------------------------------------------------------------------------------


def take_out(
    state: InstanceState, checkpoint: Checkpoint, limit: int, record_limit: int, make_id: Callable[[], int]
) -> list[Draft]:
    """Put ids in the place of a record above `record_limit` bytes and of texts above `limit`, which is not the larger
    one: in the checkpoint, and in the row that `state` goes on with.

    A record has all that its turn puts into the row, so where it is not above `limit` nothing is.
    """
    record, shown, own = checkpoint.record, checkpoint.row, state.row
    if record is None or len(record) <= limit:
        return []
    drafts: list[Draft] = []

    def draft(text: bytes | str) -> int:
        id = make_id()
        drafts.append(Draft(id, shown.key, checkpoint.execution, text))
        return id

    if len(record) > record_limit:
        checkpoint.record = encode_record(TurnRecord(state.last_now, payload=draft(record)))
    # The row's input is written when an execution begins and at no other time.
    if checkpoint.first == 0 and shown.input is not None and _is_large(shown.input, limit):
        shown.input_payload = own.input_payload = draft(shown.input)
        shown.input = own.input = None
    if shown.output is not None and _is_large(shown.output, limit):
        shown.output_payload = own.output_payload = draft(shown.output)
        shown.output = own.output = None
    elif shown.failure is not None and _is_large(shown.failure, limit):
        shown.output_payload = own.output_payload = draft(shown.failure)
        shown.failure = own.failure = None
    return drafts


def _is_large(text: str, limit: int) -> bool:
    return len(text) > limit or len(text.encode()) > limit


def pack(draft: Draft) -> PayloadRow:
    """The row of a payload, compressed if that saves a quarter. Takes a while: not for the home thread."""
    body = draft.text.encode() if isinstance(draft.text, str) else draft.text
    if len(body) <= 4 * _SAMPLE or _compressed(body[len(body) // 2 :][:_SAMPLE]) is not None:
        packed = _compressed(body)
        if packed is not None:
            return PayloadRow(draft.id, draft.instance, draft.execution, "zlib", packed)
    return PayloadRow(draft.id, draft.instance, draft.execution, "utf-8", body)


def _compressed(body: bytes) -> bytes | None:
    """None if it would not save a quarter."""
    packed = zlib.compress(body, 1)
    return packed if len(packed) <= len(body) - len(body) // 4 else None


# --- putting back ----------------------------------------------------------------------------------------------------


def unpack(payload: PayloadRow) -> bytes:
    """The UTF-8 of its text. Raises UnreadableRecord."""
    if payload.encoding == "utf-8":
        return payload.body
    try:
        return zlib.decompress(payload.body)
    except zlib.error as error:
        raise UnreadableRecord(f"payload {payload.id} of {len(payload.body)} bytes: {error}") from error


def put_back_records(store: Store, execution: int, records: list[TurnRecord]) -> None:
    """Replace the stubs among the records of an execution by the true ones. Raises UnreadableRecord."""
    stubs = [place for place, record in enumerate(records) if record.payload]
    for places in _groups(stubs):
        payloads = store.payloads([records[place].payload for place in places])
        for place in places:
            payload = payloads.get(records[place].payload)
            if payload is None or payload.execution != execution:
                raise UnreadableRecord(f"payload {records[place].payload} of history record {place} is missing")
            body = unpack(payload)
            try:
                records[place] = decode_record(body)
            except UnreadableRecord as error:
                raise UnreadableRecord(f"payload {payload.id}: {error}") from error


def is_whole(row: InstanceRow) -> bool:
    """No text of the row is in a payload."""
    return row.input_payload is None and row.output_payload is None


def whole_rows(store: Store, rows: list[InstanceRow], again: Callable[[], list[InstanceRow]]) -> list[InstanceRow]:
    """`rows` with their large texts in place, for a client.

    Where a payload is gone its instance has been purged or begun anew since the rows were read: `again` reads them
    anew. Raises UnreadableRecord if a payload that is referred to now cannot be read.
    """
    missed: set[int] = set()
    while True:
        wanted = [id for row in rows for id in (row.input_payload, row.output_payload) if id is not None]
        if not wanted:
            return rows
        texts: dict[int, str] = {}
        for ids in _groups(wanted):
            texts.update((id, _text(payload)) for id, payload in store.payloads(ids).items())
        missing = set(wanted).difference(texts)
        if not missing:
            return [_with_texts(row, texts) for row in rows]
        for row in rows:
            for id in (row.input_payload, row.output_payload):
                if id in missing & missed:
                    raise UnreadableRecord(f"payload {id} of instance {row.id!r} is missing")
        missed |= missing
        rows = again()


def _text(payload: PayloadRow) -> str:
    try:
        return unpack(payload).decode()
    except UnicodeDecodeError as error:
        raise UnreadableRecord(f"payload {payload.id} of {len(payload.body)} bytes: {error}") from error


def _with_texts(row: InstanceRow, texts: dict[int, str]) -> InstanceRow:
    if is_whole(row):
        return row
    row = replace(row)
    if row.input_payload is not None:
        row.input = texts[row.input_payload]
    if row.output_payload is not None:
        text = texts[row.output_payload]
        if row.status == "Failed":
            row.failure = text
        else:
            row.output = text
    return row


def _groups(items: Sequence[int]) -> Iterable[Sequence[int]]:
    return (items[start : start + _GROUP] for start in range(0, len(items), _GROUP))
