"""Hosts: their names are never used twice, and how far each got can be asked for ever."""

from __future__ import annotations

import pytest
from store_handles import Database
from store_rows import BITS, NOW, Lane, instance, payload

from perdure.core.errors import LaneLost, StoreUnavailable
from perdure.store.api import Store


def test_a_host_has_an_ordinal_and_its_random_bits(store: Store) -> None:
    host = store.register_host(NOW, BITS)
    assert host.prefix == BITS
    assert host.id == f"{host.ordinal}-{BITS:016x}"
    assert host.ordinal >= 1


def test_ordinals_rise_over_handles_and_hubs(database: Database) -> None:
    ordinals: list[int] = []
    ids: set[str] = set()
    for hub in ("a", "a", "b", "a"):
        store = database.open(hub)
        for bits in (0, 0, 2**64 - 1):
            host = store.register_host(NOW, bits)
            ordinals.append(host.ordinal)
            ids.add(host.id)
            assert host.prefix == bits
            store.end_host(host.id)
        store.close()
    assert ordinals == sorted(set(ordinals))
    assert len(ids) == len(ordinals)


def test_the_end_of_a_host_tells_how_far_it_got_and_may_be_repeated(lane: Lane, store: Store) -> None:
    for _ in range(3):
        lane.commit()
    assert [store.end_host(lane.host.id) for _ in range(3)] == [3, 3, 3]


def test_a_lane_goes_on_under_another_host(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first + 1)])
    store.end_host(lane.host.id)
    second = Lane(store)
    second.commit(updated=[instance(lane.first + 1, status="Completed")])
    assert store.end_host(lane.host.id) == 1
    assert store.end_host(second.host.id) == 1


def test_registering_ends_a_host_whose_process_is_gone(lane: Lane, store: Store, database: Database) -> None:
    lane.commit(created=[instance(lane.first + 1)])
    store.close()
    successor = Lane(database.open())
    assert successor.store.instance(lane.first + 1) is not None
    late = lane.next(updated=[instance(lane.first + 1, status="Completed")])
    with pytest.raises(LaneLost):
        successor.store.commit(late)
    assert successor.store.end_host(lane.host.id) == 1


def test_a_host_that_the_store_does_not_know_has_landed_nothing(store: Store) -> None:
    assert store.end_host("7-0000000000000000") == 0


def test_a_closed_store_refuses_everything(lane: Lane, store: Store) -> None:
    store.close()
    for call in (
        lambda: lane.commit(),
        lambda: store.end_host(lane.host.id),
        lambda: store.instance(1),
        lambda: store.inbox(0, 1),
        lambda: store.payloads([1]),
        lambda: store.write_payloads(lane.host.id, [payload(1, 1)]),
        lambda: store.poll(),
        lambda: store.submit_start(instance(0), b"{}"),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    store.close()
