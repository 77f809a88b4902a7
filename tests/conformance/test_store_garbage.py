"""What is of no more use goes: purged instances, and the histories of executions that are over."""

from __future__ import annotations

import pytest
from store_rows import NOW, Lane, history, instance, message, snapshot, timer

from perdure.core.errors import LaneLost
from perdure.store.api import Store


def test_a_purge_leaves_nothing(lane: Lane, store: Store) -> None:
    first, executions = lane.first, range(lane.first + 1, lane.first + 6)
    other = instance(first + 2, ready=True)
    lane.commit(created=[other], history=[history(other.execution)], inbox_new=[message(first + 20, other.key)])
    lane.commit(timers_new=[timer(NOW, other.key)])
    before = snapshot(store, executions)

    purged = instance(first + 1, parked="why", execution=first + 3)
    lane.commit(
        created=[purged],
        history=[history(first + 3, n) for n in range(5)],
        inbox_new=[message(first + 21, purged.key), message(first + 22, purged.key, execution=first + 3)],
        timers_new=[timer(NOW, purged.key, first + 3, task_id=n) for n in range(3)],
    )
    # Continued as new: an execution before the current one.
    lane.commit(
        updated=[instance(first + 1, execution=first + 4, ready=True)],
        history=[history(first + 4)],
        retired=[first + 3],
        timers_new=[timer(NOW, purged.key, first + 4)],
    )
    lane.commit(purged=[purged.key], inbox_done=[first + 21])
    while store.sweep(lane.host.id, 2):
        pass
    assert snapshot(store, executions) == before
    assert store.find([purged.id]) == {}
    assert store.inbox_of(purged.key, 0, 10) == []


def test_an_id_is_free_after_a_purge(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first + 1, "a")])
    lane.commit(purged=[lane.first + 1])
    lane.commit(created=[instance(lane.first + 2, "a")])
    assert store.find(["a"]) == {"a": instance(lane.first + 2, "a")}


def test_a_sweep_deletes_no_more_than_it_may(lane: Lane, store: Store) -> None:
    a, b, kept = lane.first + 1, lane.first + 2, lane.first + 3
    lane.commit(history=[history(execution, n) for execution in (a, b, kept) for n in range(5)], retired=[a, b])
    left = []
    while True:
        more = store.sweep(lane.host.id, 2)
        left.append(len(store.history(a)) + len(store.history(b)))
        if not more:
            break
    assert left[:5] == [8, 6, 4, 2, 0]
    assert len(store.history(kept)) == 5


def test_the_first_rows_of_an_execution_go_first(lane: Lane, store: Store) -> None:
    rows = [history(lane.first + 1, n) for n in range(5)]
    lane.commit(history=rows, retired=[lane.first + 1])
    assert store.sweep(lane.host.id, 2)
    assert store.history(lane.first + 1) == rows[2:]


def test_executions_without_history_are_swept_as_well(lane: Lane, store: Store) -> None:
    lane.commit(retired=[lane.first + n for n in range(5)])
    sweeps = 0
    while store.sweep(lane.host.id, 2):
        sweeps += 1
        assert sweeps < 10
    assert not store.sweep(lane.host.id, 2)


def test_an_execution_may_be_retired_twice(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first + 1)], history=[history(lane.first + 1)], retired=[lane.first + 1])
    lane.commit(purged=[lane.first + 1])
    assert not store.sweep(lane.host.id, 10)
    assert store.history(lane.first + 1) == []


def test_only_a_living_host_sweeps(lane: Lane, store: Store) -> None:
    lane.commit(history=[history(lane.first + 1)], retired=[lane.first + 1])
    store.end_host(lane.host.id)
    with pytest.raises(LaneLost):
        store.sweep(lane.host.id, 10)
    assert store.history(lane.first + 1) == [history(lane.first + 1)]
    assert not store.sweep(Lane(store).host.id, 10)
    assert store.history(lane.first + 1) == []


def test_a_sweep_is_not_numbered(lane: Lane, store: Store) -> None:
    lane.commit(history=[history(lane.first + 1)], retired=[lane.first + 1])
    store.sweep(lane.host.id, 10)
    lane.commit()
    assert store.end_host(lane.host.id) == 2
