"""Ids are compared by code point, and two instances never share one."""

from __future__ import annotations

import pytest
from store_handles import Database
from store_rows import Lane, instance, snapshot

from perdure.core.errors import IdTaken
from perdure.core.protocols import InstanceQuery
from perdure.store.api import Store

ALIKE = ["order", "Order", "ORDER", "order ", " order", "order\t", "o\u0308rder", "\u00f6rder", "ﬀ", "ff", "ß", "ss"]


def test_ids_that_look_alike_are_different_instances(lane: Lane, store: Store) -> None:
    rows = [instance(lane.first + n, id) for n, id in enumerate(ALIKE, 1)]
    lane.commit(created=rows)
    assert store.find(ALIKE) == {row.id: row for row in rows}
    for row in rows:
        assert store.find([row.id]) == {row.id: row}


def test_every_id_that_is_taken_is_named(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first + 1, "a"), instance(lane.first + 2, "c")])
    before = snapshot(store, [])
    with pytest.raises(IdTaken) as caught:
        lane.commit(created=[instance(lane.first + 10 + n, id) for n, id in enumerate(["a", "b", "c", "d"])])
    assert caught.value.ids == ["a", "c"]
    assert snapshot(store, []) == before
    lane.commit(created=[instance(lane.first + 20, "b")])


def test_an_id_that_a_client_took_meanwhile_is_named(lane: Lane, store: Store, database: Database) -> None:
    assert database.open().submit_start(instance(0, "a"), b"{}") is None
    with pytest.raises(IdTaken) as caught:
        lane.commit(created=[instance(lane.first + 1, "a")])
    assert caught.value.ids == ["a"]


def test_an_id_of_another_hub_is_free(lane: Lane, store: Store, database: Database) -> None:
    other = database.open("another hub")
    assert other.submit_start(instance(0, "a"), b"{}") is None
    lane.commit(created=[instance(lane.first + 1, "a")])
    assert store.find(["a"]) == {"a": instance(lane.first + 1, "a")}


def test_what_no_store_can_hold_is_not_found(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first + 1, "a")])
    assert store.find(["\ud800", "a"]).keys() == {"a"}
    assert store.query(InstanceQuery(id_prefix="\ud800")) == []
