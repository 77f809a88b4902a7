"""Payloads: durable before a commit refers to them, and gone once nothing can."""

from __future__ import annotations

import threading

import pytest
from store_handles import LARGEST_VALUE, Database
from store_rows import Lane, history, instance, payload

from perdure.core.errors import LaneLost, RefusedData
from perdure.store.api import PayloadRow, Store, swept_rows


def test_payloads_are_read_back_by_their_ids(lane: Lane, store: Store) -> None:
    first = lane.first
    rows = [
        PayloadRow(first + 1, first + 9, first + 8, "utf-8", "ä\0€".encode()),
        PayloadRow(first + 2, first + 9, first + 8, "zlib", bytes(range(256))),
        PayloadRow(first + 3, first + 7, first + 7, "utf-8", b""),
    ]
    lane.write_payloads(*rows[:2])
    lane.write_payloads(rows[2])
    assert store.payloads([first + 3, first + 1, first + 4]) == {first + 3: rows[2], first + 1: rows[0]}
    assert store.payloads([row.id for row in rows]) == {row.id: row for row in rows}
    assert store.payloads([]) == {}


def test_a_payload_is_there_when_the_store_is_opened_again(lane: Lane, store: Store, database: Database) -> None:
    row = payload(lane.first + 1, lane.first)
    lane.commit(created=[instance(lane.first)])
    lane.write_payloads(row)
    store.close()
    assert database.open().payloads([row.id]) == {row.id: row}


def test_a_payload_of_twenty_megabytes_is_kept(lane: Lane, store: Store) -> None:
    small, large = payload(lane.first + 1, 1), payload(lane.first + 2, 1, body=b"\0\xff" * 10_000_000)
    lane.write_payloads(small, large, payload(lane.first + 3, 1))
    assert store.payloads([large.id, small.id]) == {large.id: large, small.id: small}


def test_a_payload_that_is_too_large_is_refused(lane: Lane, store: Store) -> None:
    with pytest.raises(RefusedData):
        lane.write_payloads(payload(lane.first + 1, 1, body=bytes(LARGEST_VALUE + 1)))
    assert store.payloads([lane.first + 1]) == {}
    lane.write_payloads(payload(lane.first + 1, 1))


def test_an_id_of_a_payload_is_used_once(lane: Lane, store: Store) -> None:
    row = payload(lane.first + 1, 1)
    lane.write_payloads(row)
    for rows in ([payload(row.id, 2)], [payload(row.id + 1, 1), payload(row.id + 1, 2)]):
        with pytest.raises(RefusedData):
            lane.write_payloads(*rows)
    assert store.payloads([row.id, row.id + 1]) == {row.id: row}


def test_only_a_living_host_writes_payloads(lane: Lane, store: Store) -> None:
    store.end_host(lane.host.id)
    with pytest.raises(LaneLost):
        lane.write_payloads(payload(lane.first + 1, 1))
    with pytest.raises(LaneLost):
        store.write_payloads("7-0", [payload(lane.first + 1, 1)])
    assert store.payloads([lane.first + 1]) == {}


def test_payloads_are_not_numbered(lane: Lane, store: Store) -> None:
    lane.commit()
    lane.write_payloads(payload(lane.first + 1, 1))
    lane.commit()
    assert store.end_host(lane.host.id) == 2


def test_payloads_are_written_beside_commits(lane: Lane, store: Store) -> None:
    ids = [lane.first + 1000 + n for n in range(40)]

    def write() -> None:
        for id in ids:
            lane.write_payloads(payload(id, lane.first, body=bytes(50_000)))

    thread = threading.Thread(target=write)
    thread.start()
    for n in range(100):
        lane.commit(history=[history(lane.first, n)])
    thread.join()
    assert store.payloads(ids).keys() == set(ids)
    assert len(store.history(lane.first)) == store.end_host(lane.host.id) == 100


# --- how they go -----------------------------------------------------------------------------------------------------


def test_payloads_go_with_their_instance(lane: Lane, store: Store) -> None:
    mine, other = instance(lane.first + 1, execution=lane.first + 3), instance(lane.first + 2)
    rows = [
        payload(lane.first + 11, mine.key, mine.execution),
        payload(lane.first + 12, mine.key, lane.first + 5),
        payload(lane.first + 13, other.key),
    ]
    lane.write_payloads(*rows)
    lane.commit(created=[mine, other])
    lane.commit(purged=[mine.key])
    assert store.payloads([row.id for row in rows]) == {rows[2].id: rows[2]}


def test_payloads_of_a_retired_execution_are_swept_and_those_of_a_living_one_kept(lane: Lane, store: Store) -> None:
    row, later = instance(lane.first + 1), lane.first + 2
    old = payload(lane.first + 11, row.key, row.execution)
    new = payload(lane.first + 12, row.key, later)
    ahead = payload(lane.first + 13, row.key, lane.first + 3)
    lane.write_payloads(old)
    lane.commit(created=[row], history=[history(row.execution)])
    lane.write_payloads(new)
    lane.sweep()
    assert store.payloads([old.id, new.id]) == {old.id: old, new.id: new}
    lane.commit(updated=[instance(row.key, execution=later)], history=[history(later)], retired=[row.execution])
    lane.write_payloads(ahead)
    lane.sweep()
    assert store.payloads([old.id, new.id, ahead.id]) == {new.id: new, ahead.id: ahead}


def test_a_sweep_deletes_no_more_payloads_than_it_may(lane: Lane, store: Store) -> None:
    sizes = [0, 4095, 4096, 100_000, 7, 7]
    rows = [payload(lane.first + 1 + n, lane.first, body=bytes(size)) for n, size in enumerate(sizes)]
    ids = [row.id for row in rows]
    lane.sweep()
    lane.write_payloads(*rows)
    lane.commit(history=[history(lane.first, n) for n in range(3)], retired=[lane.first])
    left = []
    while store.sweep(lane.host.id, 3):
        left.append((sorted(store.payloads(ids)), len(store.history(lane.first))))
    assert [swept_rows(size) for size in sizes] == [1, 1, 2, 25, 1, 1]
    assert left == [(ids[3:], 3), (ids[4:], 3), ([], 2)]
    assert store.history(lane.first) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_payloads_that_a_host_which_is_gone_wrote_for_nothing_are_swept(lane: Lane, store: Store, limit: int) -> None:
    first = lane.first
    row, client = instance(first + 1), instance(first + 2, execution=first + 7)
    kept = [payload(first + 20 + n, row.key) for n in range(4)] + [payload(first + 30, client.key, client.execution)]
    strays = [payload(first + 40 + n, first + 9) for n in range(4)] + [payload(first + 50, client.key, first + 8)]
    lane.write_payloads(*strays, *kept)
    lane.commit(created=[row, client])
    lane.sweep(limit)
    ids = [row.id for row in kept + strays]
    assert len(store.payloads(ids)) == 10

    successor = Lane(store)
    mine = payload(successor.first, first + 9)
    successor.write_payloads(mine)
    assert successor.sweep(limit) >= 11 // limit
    assert store.payloads([*ids, mine.id]) == {row.id: row for row in [*kept, mine]}


def test_payloads_are_looked_through_once_for_each_host(lane: Lane, store: Store) -> None:
    row = instance(lane.first + 1)
    lane.write_payloads(*[payload(lane.first + 10 + n, row.key) for n in range(10)])
    lane.commit(created=[row])
    successor = Lane(store)
    assert successor.sweep(2) == 6
    assert successor.sweep(2) == 1
    assert Lane(store).sweep(2) == 6


def test_payloads_of_another_hub_are_kept(lane: Lane, store: Store, database: Database) -> None:
    lane.write_payloads(payload(lane.first + 10, lane.first + 1))
    lane.commit(created=[instance(lane.first + 1)])
    store.close()
    other = Lane(database.open("another hub"))
    other.commit(retired=[lane.first + 8])
    other.sweep()
    other.store.close()
    assert len(database.open().payloads([lane.first + 10])) == 1
