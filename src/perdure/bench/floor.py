"""The floor of a benchmark: what its work costs without an engine.

It is what Python and the disk ask for however durability is made: the app's own generator and activities, called
directly, and as many rows of the same sizes as the engine has written, put through the same kind of store in commits as
large as the engine's median. Nothing of the engine runs. What an engine might do without is left out: messages that
wait in the inbox, and threads.

Its shape is learned from the engine's commits. Each orchestration has its share of the turns: the first creates the row
of its instance, later ones write it again, the last one as ended, each with a row of history. As many orchestrations as
the median commit has turns are under way at once, and each goes one turn further in every commit.

The whole work is done up to three times, and the fastest counts: a floor is what is possible, and what disturbs a round
only makes it slower.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from perdure.bench.bare import Functions, bare_functions, drive
from perdure.bench.counting import CommitLog, counted
from perdure.bench.hosting import Served, app_settings
from perdure.bench.measure import Figures, Meter
from perdure.bench.stores import BenchStore
from perdure.core.codec import encode_record, join_records
from perdure.core.events import EventRaised, TurnRecord
from perdure.core.ids import RANDOM_ID_BITS, first_key, new_instance_id, partition_of
from perdure.core.state import InstanceRow
from perdure.host.app import claim_store
from perdure.store.api import Commit, HistoryRow, Host, Store

_ROUNDS = 3
_ENOUGH_SECONDS = 10.0
"""When rounds have taken as long, no other one begins."""
_SHORT_SECONDS = 0.2


class Work(Struct, frozen=True):
    """`count` runs of one orchestrator, each of which returns `output`."""

    orchestrator: str
    input: Any
    output: Any
    count: int


def measure_floor(served: Served, work: Work, store: BenchStore) -> Meter:
    """Do `work`, which a host has just done on `store`, on stores beside it, which are removed. The fastest round.

    `served.commits` are those of that work alone. Raises RuntimeError if an output is wrong.
    """
    rounds: list[Meter] = []
    while len(rounds) < _ROUNDS and sum(meter.elapsed_seconds for meter in rounds) < _ENOUGH_SECONDS:
        rounds.append(_measure_round(served, work, store.beside("floor")))
    return min(rounds, key=lambda meter: meter.elapsed_seconds)


def _measure_round(served: Served, work: Work, place: BenchStore) -> Meter:
    gc.collect()
    try:
        opened = claim_store(app_settings(place))
        try:
            return run_floor(bare_functions(served.functions), work, served.commits, opened)
        finally:
            opened.close()
    finally:
        place.remove()


def floor_figures(engine: Meter, floor: Meter, steps: int) -> Figures:
    """`floor_ratio` is how much of the floor's speed the engine has reached: 1 is all of it.

    `floor_warning` is there only if the two should not be compared, and says why.
    """
    told = floor.figures(steps)
    names = ("activities_per_second", "cpu_us_per_activity", "bytes_per_step")
    figures: Figures = {f"floor_{name}": told[name] for name in names}
    figures["floor_ratio"] = round(floor.elapsed_seconds / engine.elapsed_seconds, 4)
    if engine.elapsed_seconds < _SHORT_SECONDS:
        figures["floor_warning"] = (
            f"what was measured took less than {_SHORT_SECONDS} s: too small to be compared, take a larger run"
        )
    elif floor.elapsed_seconds > engine.elapsed_seconds:
        figures["floor_warning"] = (
            "the work took longer without an engine: something disturbed it, or the run is too small to be compared"
        )
    return figures


def run_floor(functions: Functions, work: Work, engine: CommitLog, store: Store) -> Meter:
    """Do `work` in the shape of the `engine`'s commits, on a store that nobody serves."""
    shape, log = _Shape(engine, work.count), CommitLog()
    store = counted(store, log)
    host = store.register_host(_now(), random.getrandbits(64))
    with Meter(log) as meter:
        for commit in _commits(functions, work, shape, host):
            store.commit(commit)
    store.end_host(host.id)
    return meter


class _Shape:
    """What an engine wrote, to be shared out evenly among `count` instances."""

    def __init__(self, engine: CommitLog, count: int) -> None:
        assert engine.created and engine.ended, "every instance was created and has ended"
        total = engine.total()
        self.created, self.moved, self.ended = engine.created, engine.moved or engine.created, engine.ended
        self.advances = total.advanced > total.updated
        """Rows are written again as Commit.advanced and not as Commit.updated."""
        self.body = _body(total.history_bytes // total.turns)
        self.width = engine.median_turns()
        """Turns in a commit."""
        self._count = count
        self._turns = total.turns
        self._moves = total.updated + total.advanced

    def turns_of(self, number: int) -> int:
        return max(2, self._share(self._turns, number))

    def moves_of(self, number: int) -> int:
        """How many of its turns write the row again."""
        return max(1, self._share(self._moves, number))

    def _share(self, total: int, number: int) -> int:
        return total * (number + 1) // self._count - total * number // self._count


_Turn = tuple[InstanceRow | None, HistoryRow]
"""What a turn writes: the row of its instance, if it does, and a row of history."""


def _commits(functions: Functions, work: Work, shape: _Shape, host: Host) -> Iterator[Commit]:
    started = number = 0
    under_way: list[Iterator[_Turn]] = []
    while True:
        number += 1
        commit = Commit(host.id, number, _now())
        again = commit.advanced if shape.advances else commit.updated
        going: list[Iterator[_Turn]] = []
        for turns in under_way:
            turn = next(turns, None)
            if turn is not None:
                row, history = turn
                commit.history.append(history)
                if row is not None:
                    again.append(row)
                going.append(turns)
        for _ in range(min(shape.width - len(going), work.count - started)):
            if drive(functions, work.orchestrator, work.input) != work.output:
                raise RuntimeError(f"{work.orchestrator} returned something else when it was called directly")
            turns = _turns(shape, host, started, commit.now)
            row, history = next(turns)
            assert row is not None
            commit.history.append(history)
            commit.created.append(row)
            going.append(turns)
            started += 1
        if not going:
            return
        yield commit
        under_way = going


def _turns(shape: _Shape, host: Host, number: int, now: int) -> Iterator[_Turn]:
    """The turns of the `number`th instance, from its creation at `now` to its end."""
    key = first_key(host.ordinal) + 2 * number
    execution = key + 1
    id = new_instance_id(now, random.getrandbits(RANDOM_ID_BITS))
    own = {
        "key": key,
        "id": id,
        "partition": partition_of(id),
        "execution": execution,
        "execution_id": f"{execution:032x}",
        "created_at": now,
    }
    yield replace(shape.created, **own), HistoryRow(execution, 0, shape.body)
    turns, moves = shape.turns_of(number), shape.moves_of(number)
    for turn in range(1, turns):
        row = None
        if turn >= turns - moves:
            row = replace(shape.ended if turn == turns - 1 else shape.moved, sequence=turn + 1, **own)
        yield row, HistoryRow(execution, turn, shape.body)


def _body(size: int) -> bytes:
    """A history row of `size` bytes, or of the fewest that a record takes."""

    def filled(text: str) -> bytes:
        return join_records([encode_record(TurnRecord(_now(), [EventRaised("floor", text)]))])

    return filled("x" * max(0, size - len(filled(""))))


def _now() -> int:
    return time.time_ns() // 1000
