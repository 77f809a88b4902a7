"""A history that is read while its execution is being replaced."""

from __future__ import annotations

from typing import Any, cast

from perdure.core.codec import join_records
from perdure.core.events import TurnRecord
from perdure.core.turn import Fresh, Start, begin, restart
from perdure.host.hub import LocalHub
from perdure.runtime import ThreadRuntime
from perdure.store.api import Commit, HistoryRow
from perdure.store.memory import MemoryDatabase, MemoryStore


def test_the_history_of_an_execution_that_was_swept_away_is_that_of_the_next() -> None:
    store = MemoryStore(MemoryDatabase(), "hub")
    host = store.register_host(1, 2)
    state, first = begin(Start("f"), key=7, id="it", execution=Fresh(8, "e"), now=1)
    assert first.record is not None
    history = [HistoryRow(8, 0, join_records([first.record]))]
    store.commit(Commit(host.id, 1, 1, created=[first.row], history=history))

    state.row.status = "Completed"
    second = restart(state, Start("f"), execution=Fresh(9, "e"), now=2)
    assert second.record is not None
    history = [HistoryRow(9, 0, join_records([second.record]))]
    store.commit(Commit(host.id, 2, 2, updated=[second.row], history=history, retired=[8]))
    while store.sweep(host.id, 100):
        pass

    hub = LocalHub("hub", ThreadRuntime(), store, cast(Any, None))
    for known in (8, 9, None):
        records: list[TurnRecord] | None = hub._history("it", known)
        assert records is not None and [record.at for record in records] == [2]
    assert hub._history("another", 8) is None
