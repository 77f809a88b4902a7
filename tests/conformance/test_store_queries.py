"""Instances by time, status and prefix of their ids, in order of their keys."""

from __future__ import annotations

import pytest
from store_rows import NOW, Lane, everything, instance

from perdure.core.protocols import InstanceQuery
from perdure.store.api import Store

IDS = [
    "a",
    "ab",
    "abc",
    "aB",
    "b",
    "a%",
    "a_",
    "é",
    "e\u0301",
    "\ud7ff!",
    "\ue000",
    "\U0010ffff",
    "\U0010ffffz",
    "a\U0010ffff",
]
STATUSES = ["Pending", "Running", "Suspended", "Completed", "Failed", "Terminated"]


@pytest.fixture
def keys(lane: Lane) -> dict[str, int]:
    keys = {id: lane.first + n for n, id in enumerate(IDS, 1)}
    lane.commit(
        created=[
            instance(key, id, created_at=NOW + 10 * n, status=STATUSES[n % 6])
            for n, (id, key) in enumerate(sorted(keys.items()))
        ]
    )
    return keys


def ids(rows: list[object]) -> list[str]:
    return [row.id for row in rows]


def test_all_come_in_order_of_their_keys(store: Store, keys: dict[str, int]) -> None:
    assert ids(store.query(InstanceQuery())) == IDS


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_pages_join_without_gap(store: Store, keys: dict[str, int], limit: int) -> None:
    read = everything(lambda after: store.query(InstanceQuery(after_key=after, limit=limit)), lambda row: row.key)
    assert ids(read) == IDS


@pytest.mark.parametrize(
    "prefix", ["", "a", "ab", "abcd", "A", "a%", "%", "_", "e", "\ud7ff", "\U0010ffff", "a\U0010ffff"]
)
def test_a_prefix_is_compared_by_code_point(store: Store, keys: dict[str, int], prefix: str) -> None:
    assert ids(store.query(InstanceQuery(id_prefix=prefix))) == [id for id in IDS if id.startswith(prefix)]


def test_the_span_of_time_includes_both_its_ends(store: Store, keys: dict[str, int]) -> None:
    created = {row.id: row.created_at for row in store.query(InstanceQuery())}
    for low in (None, NOW - 1, NOW, NOW + 30, NOW + 31):
        for high in (None, NOW + 30, NOW + 60, NOW + 10_000, NOW):
            expected = [id for id in IDS if (low or 0) <= created[id] <= (high or 2**62)]
            assert ids(store.query(InstanceQuery(created_from=low, created_to=high))) == expected


def test_statuses_are_alternatives(store: Store, keys: dict[str, int]) -> None:
    status = {row.id: row.status for row in store.query(InstanceQuery())}
    for wanted in (("Failed",), ("Pending", "Running"), ("Nothing",), ("Completed", "Nothing")):
        assert ids(store.query(InstanceQuery(statuses=wanted))) == [id for id in IDS if status[id] in wanted]


def test_all_conditions_hold_at_once_page_by_page(store: Store, keys: dict[str, int]) -> None:
    everyone = store.query(InstanceQuery())
    for prefix in (None, "a", "b"):
        for statuses in ((), ("Pending", "Running", "Completed")):
            query = InstanceQuery(NOW + 10, NOW + 90, statuses, prefix, limit=2)
            expected = [
                row.id
                for row in everyone
                if NOW + 10 <= row.created_at <= NOW + 90
                and (not statuses or row.status in statuses)
                and row.id.startswith(prefix or "")
            ]
            read = everything(
                lambda after, query=query: store.query(
                    InstanceQuery(query.created_from, query.created_to, query.statuses, query.id_prefix, after, 2)
                ),
                lambda row: row.key,
            )
            assert ids(read) == expected
