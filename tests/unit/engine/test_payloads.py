"""What is taken out of a checkpoint, how it is packed, and how it is put back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from perdure.core.codec import decode_records, encode_failure, encode_record, join_records
from perdure.core.errors import UnreadableRecord
from perdure.core.events import EventRaised, ExecutionCompleted, ExecutionTerminated, Failure, TurnRecord
from perdure.core.state import InstanceRow, InstanceState
from perdure.core.turn import Checkpoint, Fresh, Start, begin, control, fail, receive_late
from perdure.engine.payloads import Draft, pack, put_back_records, take_out, unpack, whole_rows
from perdure.store.api import PayloadRow
from perdure.store.memory import MemoryDatabase, MemoryStore

LIMIT = 1000
LARGE = '"' + "x" * 2000 + '"'


class Taken:
    """A checkpoint, before and after its large texts were taken out."""

    def __init__(self, state: InstanceState, checkpoint: Checkpoint, record_limit: int = LIMIT) -> None:
        self.state, self.checkpoint = state, checkpoint
        self.record, self.row = checkpoint.record, replace(checkpoint.row)
        self.drafts = take_out(state, checkpoint, LIMIT, record_limit, count(100).__next__)

    @property
    def texts(self) -> dict[int, bytes | str]:
        return {draft.id: draft.text for draft in self.drafts}


def begun(input: str | None) -> tuple[InstanceState, Checkpoint]:
    return begin(Start("f", input=input), key=1, id="it", execution=Fresh(2, "e"), now=5)


# --- taking out ------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_out_of_a_small_checkpoint() -> None:
    taken = Taken(*begun('"small"'))
    assert taken.drafts == []
    assert (taken.checkpoint.record, taken.checkpoint.row) == (taken.record, taken.row)


def test_a_large_record_leaves_a_stub_with_its_time_and_the_id_of_the_payload() -> None:
    taken = Taken(*begun(LARGE))
    assert taken.checkpoint.record == b'{"at":5,"payload":100}'
    assert taken.texts == {100: taken.record, 101: LARGE}
    assert all((draft.instance, draft.execution) == (1, 2) for draft in taken.drafts)


def test_a_large_input_leaves_the_row_that_is_written_and_the_one_that_is_worked_on() -> None:
    taken = Taken(*begun(LARGE))
    for row in (taken.checkpoint.row, taken.state.row, taken.state.snapshot()):
        assert (row.input, row.input_payload) == (None, 101)


def test_a_large_input_leaves_the_row_though_its_record_is_not_large_enough_to_leave_the_history() -> None:
    taken = Taken(*begun(LARGE), record_limit=4 * LIMIT)
    assert taken.checkpoint.record == taken.record
    assert taken.texts == {100: LARGE}
    assert (taken.checkpoint.row.input, taken.checkpoint.row.input_payload) == (None, 100)


def test_a_record_may_be_large_though_the_input_is_not() -> None:
    """Its quotation marks are escaped in there."""
    text = '"' * 600
    taken = Taken(*begun(text))
    assert len(taken.drafts) == 1
    assert (taken.checkpoint.row.input, taken.checkpoint.row.input_payload) == (text, None)


def test_an_input_that_is_in_the_row_stays_there_for_the_rest_of_its_execution() -> None:
    """A turn does not write it, so it must not be said to be elsewhere."""
    state, _ = begun(LARGE)
    state.row.status = "Running"
    taken = Taken(state, fail(state, Failure("ValueError", LARGE), now=6))
    assert (taken.checkpoint.row.input, taken.checkpoint.row.input_payload) == (LARGE, None)


def test_a_large_output_and_a_large_failure_leave_the_row() -> None:
    state, _ = begun(None)
    taken = Taken(state, control(state, ExecutionTerminated(reason=LARGE), now=6))
    assert (taken.checkpoint.row.output, taken.checkpoint.row.output_payload) == (None, 101)
    assert taken.texts[101] == taken.row.output

    state, _ = begun(None)
    taken = Taken(state, fail(state, Failure("ValueError", LARGE), now=6))
    row = taken.checkpoint.row
    assert (row.status, row.failure, row.output, row.output_payload) == ("Failed", None, None, 101)
    assert taken.texts[101] == encode_failure(Failure("ValueError", LARGE))
    assert taken.checkpoint.failure == Failure("ValueError", LARGE), "for the log"


def test_what_comes_late_leaves_a_large_output_where_it_is() -> None:
    state, _ = begun(None)
    Taken(state, control(state, ExecutionTerminated(reason=LARGE), now=6))
    taken = Taken(state, receive_late(state, [EventRaised("late", LARGE)], now=7))
    assert len(taken.drafts) == 1
    assert (taken.checkpoint.row.output, taken.checkpoint.row.output_payload) == (None, 101)


@pytest.mark.parametrize("letter", ["x", "é"])
def test_the_size_of_a_text_is_that_of_its_bytes(letter: str) -> None:
    most = LIMIT // len(letter.encode())
    for length, apart in ((most, False), (most + 1, True)):
        taken = Taken(*begun(letter * length))
        assert (taken.checkpoint.row.input is None) == apart


# --- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "x" * 100_000, "päckchen " * 5000, random.Random(1).randbytes(50_000).hex()])
def test_what_is_packed_is_unpacked_unchanged(text: str) -> None:
    for given in (text, text.encode()):
        assert unpack(pack(Draft(1, 2, 3, given))) == text.encode()


def test_a_text_is_compressed_if_that_saves_a_quarter() -> None:
    noise = random.Random(1).randbytes(40_000)
    for share, encoding in ((0.20, "utf-8"), (0.30, "zlib")):
        zeros = int(40_000 * share / (1 - share))
        row = pack(Draft(1, 2, 3, noise + b"0" * zeros))
        assert row.encoding == encoding
        assert (row.id, row.instance, row.execution) == (1, 2, 3)


def test_a_long_text_whose_middle_does_not_pack_is_left_as_it_is() -> None:
    middle = random.Random(1).randbytes(40_000)
    assert pack(Draft(1, 2, 3, b"0" * 100_000 + middle + b"0" * 100_000)).encoding == "utf-8"
    assert pack(Draft(1, 2, 3, b"0" * 300_000 + middle)).encoding == "zlib"


def test_a_payload_that_cannot_be_unpacked_is_named() -> None:
    with pytest.raises(UnreadableRecord, match="payload 7 "):
        unpack(PayloadRow(7, 1, 2, "zlib", b"noise"))


# --- putting back ----------------------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """`asked` has how many payloads each read was for."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase(), "hub")
        self.asked: list[int] = []

    def payloads(self, ids: Sequence[int]) -> dict[int, PayloadRow]:
        self.asked.append(len(ids))
        return super().payloads(ids)

    def put(self, *drafts: Draft) -> None:
        self.write_payloads(self.register_host(1, 2).id, [pack(draft) for draft in drafts])


def records(number: int) -> list[TurnRecord]:
    return [TurnRecord(n, [EventRaised("go", str(n))], deferred=n % 2 == 0) for n in range(number)]


def test_stubs_are_replaced_where_they_stand_and_a_few_are_read_at_once() -> None:
    store, whole = CountingStore(), records(100)
    store.put(*(Draft(1000 + n, 1, 2, encode_record(whole[n])) for n in range(0, 100, 2)))
    body = join_records(
        encode_record(TurnRecord(record.at, payload=1000 + n) if n % 2 == 0 else record)
        for n, record in enumerate(whole)
    )
    found = decode_records(body)
    put_back_records(store, 2, found)
    assert found == whole
    assert sum(store.asked) == 50 and max(store.asked) <= 16


def test_a_history_without_stubs_asks_for_nothing() -> None:
    store = CountingStore()
    put_back_records(store, 2, records(10))
    assert store.asked == []


@pytest.mark.parametrize(
    ("draft", "what"),
    [
        (Draft(8, 1, 2, encode_record(TurnRecord(1))), "payload 7 of history record 3 is missing"),
        (Draft(7, 1, 99, encode_record(TurnRecord(1))), "payload 7 of history record 3 is missing"),
        (Draft(7, 1, 2, b'{"at":"soon"}'), "payload 7: history record"),
    ],
    ids=["not there", "of another execution", "no record"],
)
def test_a_stub_without_its_record_is_unreadable_and_named(draft: Draft, what: str) -> None:
    store = CountingStore()
    store.put(draft)
    with pytest.raises(UnreadableRecord, match=what):
        put_back_records(store, 2, [*records(3), TurnRecord(3, payload=7)])


def row(id: str, **given: Any) -> InstanceRow:
    state, _ = begun(None)
    return replace(state.row, id=id, **given)


def unasked() -> list[InstanceRow]:
    raise AssertionError("the rows are read again for no reason")


def test_rows_get_their_texts_and_whole_ones_stay_as_they_are() -> None:
    store = CountingStore()
    failure = encode_failure(Failure("ValueError", "no"))
    store.put(Draft(10, 1, 2, "input"), Draft(11, 1, 2, "output"), Draft(12, 1, 2, failure))
    rows = [
        row("whole", input="1"),
        row("both", status="Completed", input_payload=10, output_payload=11),
        row("failed", status="Failed", output_payload=12),
    ]
    whole = whole_rows(store, rows, unasked)
    assert whole[0] is rows[0]
    assert (whole[1].input, whole[1].output) == ("input", "output")
    assert (whole[2].output, whole[2].failure) == (None, failure)
    assert rows[1].input is None, "what the engine has is not changed"
    assert len(store.asked) == 1


def test_rows_without_large_texts_are_not_touched() -> None:
    store, rows = CountingStore(), [row("a"), row("b")]
    assert whole_rows(store, rows, unasked) is rows
    assert store.asked == []


def test_rows_are_read_again_until_what_they_refer_to_is_there() -> None:
    store = CountingStore()
    store.put(Draft(12, 1, 2, "there"))
    later = iter([[row("a", input_payload=11)], [row("a", input_payload=12)]])
    assert whole_rows(store, [row("a", input_payload=10)], later.__next__)[0].input == "there"


def test_what_is_missing_twice_is_an_error() -> None:
    rows = [row("whole"), row("torn", output_payload=10)]
    with pytest.raises(UnreadableRecord, match="payload 10 of instance 'torn' is missing"):
        whole_rows(CountingStore(), rows, lambda: rows)


def test_a_stub_is_as_small_as_it_can_be_and_a_record_says_nothing_of_payloads() -> None:
    ended = TurnRecord(5, decided=[ExecutionCompleted("Completed")])
    assert b"payload" not in msgspec.json.encode(ended)
    assert msgspec.json.encode(TurnRecord(5, payload=7)) == b'{"at":5,"payload":7}'
