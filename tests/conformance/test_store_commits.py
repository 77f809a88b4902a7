"""A commit lands whole and in its turn, or not at all."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from msgspec.structs import replace
from store_handles import Database
from store_rows import NOW, Lane, history, instance, message, snapshot, timer

from perdure.core.errors import LaneLost, RefusedData, ShortCount
from perdure.core.protocols import InstanceQuery
from perdure.core.state import PROGRESS
from perdure.store.api import Commit, Store, TimerRow

FIXED = ["key", "partition", "id", "kind"]


def test_what_a_commit_writes_is_read_back(lane: Lane, store: Store) -> None:
    a, b = instance(lane.first + 1, ready=True), instance(lane.first + 2)
    lane.commit(
        created=[a, b],
        history=[history(a.execution, 0, b"[1]"), history(b.execution, 0, b"[2]")],
        inbox_new=[message(lane.first + 3, b.key, execution=7, control=True, body=b"hello")],
        timers_new=[timer(NOW, b.key, task_id=4)],
    )
    assert store.instance(a.key) == a
    assert store.find([b.id, "nobody"]) == {b.id: b}
    assert store.history(a.execution) == [history(a.execution, 0, b"[1]")]
    (mail,) = store.inbox(0, 10)
    assert (mail.id, mail.target, mail.execution, mail.control, mail.held, mail.body) == (
        lane.first + 3,
        b.key,
        7,
        True,
        False,
        b"hello",
    )
    assert store.timers(NOW, None, 10) == [timer(NOW, b.key, task_id=4)]
    assert store.due(0, 10) == [a]


def test_an_update_writes_all_that_may_change(lane: Lane, store: Store) -> None:
    before = instance(lane.first + 1)
    lane.commit(created=[before])
    after = replace(
        before,
        name="other",
        version="2",
        status="Failed",
        created_at=1,
        updated_at=2,
        completed_at=3,
        execution=lane.first + 4,
        execution_id="5",
        generation=6,
        sequence=7,
        ready=True,
        open_activities=8,
        parked="parked",
        request_id="9",
        input="input",
        output="output",
        failure="failure",
        custom_status="status",
        parent_key=10,
        parent_execution=11,
        parent_task=12,
        parent_id="13",
        parent_name="14",
        input_payload=15,
        output_payload=16,
        status_payload=17,
    )
    assert [name for name in before.__struct_fields__ if getattr(before, name) == getattr(after, name)] == FIXED
    lane.commit(updated=[after])
    assert store.instance(before.key) == after
    assert type(store.instance(before.key).ready) is bool
    lane.commit(updated=[before])
    assert store.instance(before.key) == before


def test_a_row_that_is_advanced_changes_in_its_progress_alone(lane: Lane, store: Store) -> None:
    before, other = instance(lane.first + 1), instance(lane.first + 2)
    lane.commit(created=[before, other])
    progress: dict[str, Any] = {
        "status": "Failed",
        "updated_at": 2,
        "completed_at": 3,
        "sequence": 7,
        "ready": True,
        "open_activities": 8,
        "parked": "parked",
        "output": "output",
        "failure": "failure",
        "custom_status": "status",
        "output_payload": 16,
        "status_payload": 17,
    }
    assert tuple(progress) == PROGRESS
    rest: dict[str, Any] = {
        "partition": 1 << 70,
        "id": "\ud800",
        "kind": "entity",
        "name": other.name + "!",
        "version": "2",
        "created_at": 1,
        "execution": lane.first + 4,
        "execution_id": "5",
        "generation": 6,
        "request_id": "9",
        "input": "input",
        "parent_key": 10,
        "parent_execution": 11,
        "parent_task": 12,
        "parent_id": "13",
        "parent_name": "14",
        "input_payload": 15,
    }
    assert {"key", *progress, *rest} == set(before.__struct_fields__)
    lane.commit(advanced=[replace(before, **progress, **rest)])
    assert store.instance(before.key) == replace(before, **progress)
    assert store.find([before.id]) == {before.id: replace(before, **progress)}
    assert type(store.instance(before.key).ready) is bool
    assert store.instance(other.key) == other
    lane.commit(advanced=[before])
    assert store.instance(before.key) == before


def test_one_commit_creates_updates_advances_and_purges(lane: Lane, store: Store) -> None:
    a, b, c, d = (instance(lane.first + n) for n in range(1, 5))
    lane.commit(created=[a, b, c])
    after_b = replace(b, name="other", status="Completed")
    after_c = replace(c, status="Completed", output='"done"')
    lane.commit(purged=[a.key], created=[d], updated=[after_b], advanced=[after_c])
    assert store.query(InstanceQuery()) == [after_b, after_c, d]


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_a_number_that_is_not_the_next_is_refused(lane: Lane, store: Store, number: int) -> None:
    lane.commit()
    with pytest.raises(LaneLost):
        store.commit(Commit(lane.host.id, number, NOW, created=[instance(lane.first + 1)]))
    assert store.instance(lane.first + 1) is None
    lane.commit(created=[instance(lane.first + 1)])
    assert store.end_host(lane.host.id) == 2


def test_a_host_that_is_not_alive_is_refused(lane: Lane, store: Store) -> None:
    lane.commit()
    store.end_host(lane.host.id)
    with pytest.raises(LaneLost):
        lane.commit(created=[instance(lane.first + 1)])
    assert store.instance(lane.first + 1) is None
    assert store.end_host(lane.host.id) == 1


def test_a_host_that_was_never_registered_is_refused(lane: Lane, store: Store) -> None:
    with pytest.raises(LaneLost):
        store.commit(Commit("1-0", 1, NOW, created=[instance(lane.first + 1)]))
    assert store.instance(lane.first + 1) is None


FAULTS = {
    "a purged instance is missing": (ShortCount, lambda first: {"purged": [first + 1, first + 99]}),
    "an instance is purged twice": (ShortCount, lambda first: {"purged": [first + 1, first + 1]}),
    "an updated instance is missing": (ShortCount, lambda first: {"updated": [instance(first + 99)]}),
    "an advanced instance is missing": (ShortCount, lambda first: {"advanced": [instance(first + 99)]}),
    "an instance is advanced twice": (ShortCount, lambda first: {"advanced": [instance(first + 1)] * 2}),
    "a purged instance is advanced": (
        ShortCount,
        lambda first: {"purged": [first + 1], "advanced": [instance(first + 1)]},
    ),
    "the progress of an advanced instance is no text": (
        RefusedData,
        lambda first: {"advanced": [instance(first + 1, output="\ud800")]},
    ),
    "the progress of an advanced instance is too large": (
        RefusedData,
        lambda first: {"advanced": [instance(first + 1, sequence=2**63)]},
    ),
    "a message is missing": (ShortCount, lambda first: {"inbox_done": [first + 10, first + 99]}),
    "a message is taken twice": (ShortCount, lambda first: {"inbox_done": [first + 10, first + 10]}),
    "a history row is there already": (RefusedData, lambda first: {"history": [history(first + 1, 0)]}),
    "a history row comes twice": (RefusedData, lambda first: {"history": [history(first + 5, 0)] * 2}),
    "a message id is there already": (RefusedData, lambda first: {"inbox_new": [message(first + 10, first + 1)]}),
    "a timer is there already": (RefusedData, lambda first: {"timers_new": [timer(NOW, first + 1)]}),
    "an instance key is there already": (RefusedData, lambda first: {"created": [instance(first + 1, "new id")]}),
    "a text is no text": (RefusedData, lambda first: {"created": [instance(first + 5, input="\ud800")]}),
    "an integer is too large": (RefusedData, lambda first: {"timers_new": [timer(2**63, first + 1)]}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_commit_with_one_fault_writes_nothing_and_leaves_the_lane_as_it_was(
    lane: Lane, store: Store, fault: str
) -> None:
    first = lane.first
    lane.commit(
        created=[instance(first + 1), instance(first + 2), instance(first + 4)],
        history=[history(first + 1)],
        inbox_new=[message(first + 10, first + 1), message(first + 11, first + 2)],
        timers_new=[timer(NOW, first + 1), timer(NOW, first + 2)],
    )
    before = snapshot(store, [first + 1, first + 3])
    error, make = FAULTS[fault]
    parts: dict[str, Any] = {
        "created": [instance(first + 3)],
        "updated": [instance(first + 2, status="Completed")],
        "advanced": [instance(first + 4, status="Completed")],
        "history": [history(first + 3)],
        "inbox_new": [message(first + 12, first + 2)],
        "inbox_done": [first + 11],
        "timers_new": [timer(NOW, first + 3)],
        "timers_done": [timer(NOW, first + 2)],
        "retired": [first + 2],
    }
    for name, rows in make(first).items():
        parts[name] = parts.get(name, []) + rows
    with pytest.raises(error):
        lane.commit(**parts)
    assert snapshot(store, [first + 1, first + 3]) == before
    assert not store.sweep(lane.host.id, 10)
    lane.commit(updated=[instance(first + 1, status="Completed")])


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 700, 2500])
def test_commits_of_any_size_are_written_whole_and_in_order(lane: Lane, store: Store, count: int) -> None:
    keys = [lane.first + n for n in range(1, count + 1)]
    target = instance(lane.first + 10_000)
    lane.commit(
        created=[target, *(instance(key) for key in keys)],
        history=[history(key) for key in keys],
        inbox_new=[message(key, target.key) for key in reversed(keys)],
        timers_new=[timer(NOW, key) for key in keys],
    )
    assert [mail.id for mail in store.inbox(0, count + 1)] == list(reversed(keys))
    lane.commit(
        updated=[instance(key, status="Completed") for key in keys[::2]],
        advanced=[instance(key, status="Completed") for key in keys[1::2]],
        inbox_done=keys[1:],
        timers_done=[timer(NOW, key) for key in keys[1:]],
        purged=[target.key],
    )
    rows = store.query(InstanceQuery(limit=count + 1))
    assert [(row.key, row.status) for row in rows] == [(key, "Completed") for key in keys]
    assert store.inbox(0, count) == []
    assert store.timers(NOW, None, count) == [timer(NOW, keys[0])]
    assert all(store.history(key) == [history(key)] for key in keys[:3] + keys[-3:])


def test_timers_are_deleted_where_they_exist(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first + 1)], timers_new=[timer(NOW, lane.first + 1, task_id=n) for n in (1, 2)])
    other = TimerRow(NOW, lane.first + 1, lane.first + 9, 2)
    lane.commit(timers_done=[timer(NOW, lane.first + 1, task_id=1), timer(NOW, lane.first + 1, task_id=9), other])
    assert store.timers(NOW, None, 10) == [timer(NOW, lane.first + 1, task_id=2)]


def test_an_id_that_is_purged_may_be_created_in_the_same_commit(lane: Lane, store: Store) -> None:
    old, new = instance(lane.first + 1, "id"), instance(lane.first + 2, "id")
    lane.commit(created=[old], inbox_new=[message(lane.first + 3, old.key)])
    lane.commit(purged=[old.key], created=[new], inbox_new=[message(lane.first + 4, new.key)])
    assert store.find(["id"]) == {"id": new}
    assert store.instance(old.key) is None
    assert [mail.target for mail in store.inbox(0, 10)] == [new.key]


def test_a_commit_of_another_handle_is_seen_at_once(lane: Lane, database: Database) -> None:
    other = database.open()
    assert other.instance(lane.first + 1) is None
    lane.commit(created=[instance(lane.first + 1)])
    assert other.instance(lane.first + 1) == instance(lane.first + 1)


def test_hubs_of_one_database_do_not_see_each_other(lane: Lane, store: Store, database: Database) -> None:
    other = database.open("another hub")
    before = snapshot(other, [])
    lane.commit(
        created=[instance(lane.first + 1, ready=True), instance(lane.first + 2, parked="why")],
        inbox_new=[message(lane.first + 3, lane.first + 1)],
        timers_new=[timer(NOW, lane.first + 1)],
    )
    assert snapshot(other, []) == before
    assert other.instance(lane.first + 1) is None
    assert other.find([instance(lane.first + 1).id]) == {}
    assert other.inbox_of(lane.first + 1, 0, 10) == []
    assert database.open().instance(lane.first + 1) == instance(lane.first + 1, ready=True)


def test_keys_of_another_hub_are_nobodys(lane: Lane, store: Store, database: Database) -> None:
    other = database.open("another hub")
    assert other.submit_start(instance(0, "a"), b"{}") is None
    (row,) = other.created_by_clients(0, 10)
    other.submit_message(message(0, row.key))
    (mail,) = other.inbox(0, 10)
    before = snapshot(other, [row.key])
    for parts in (
        {"updated": [replace(row, status="Failed")]},
        {"advanced": [replace(row, status="Failed")]},
        {"purged": [row.key]},
        {"inbox_done": [mail.id]},
    ):
        with pytest.raises(ShortCount):
            lane.commit(**parts)
    lane.commit(retired=[lane.first + 1])
    assert snapshot(other, [row.key]) == before


def test_a_commit_is_seen_whole_or_not_at_all(lane: Lane, database: Database) -> None:
    """Pairs of instances are moved on together, while others look."""
    rows = [instance(lane.first + n) for n in range(1, 301)]
    lane.commit(created=rows, inbox_new=[message(rows[0].key, rows[0].key)])
    ended = threading.Event()
    seen: list[set[int]] = []
    faults: list[object] = []

    def look() -> None:
        store = database.open()
        while not ended.is_set():
            states = {row.sequence for row in store.query(InstanceQuery(limit=1000))}
            found = {row.sequence for row in store.find([rows[0].id, rows[-1].id]).values()}
            seen.append(states)
            if len(states) != 1 or len(found) != 1 or len(store.inbox(0, 10)) != 1:
                faults.append((states, found))

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for sequence in range(2, 60):
        done, new = rows[0].key + 1000 * (sequence - 1), rows[0].key + 1000 * sequence
        lane.commit(
            updated=[replace(row, sequence=sequence) for row in rows],
            inbox_done=[rows[0].key if sequence == 2 else done],
            inbox_new=[message(new, rows[0].key)],
        )
    ended.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert seen
