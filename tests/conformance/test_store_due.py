"""What a host reads when it starts: instances that are due, timers, the parked."""

from __future__ import annotations

from store_rows import NOW, Lane, everything, history, instance, timer

from perdure.store.api import Store, TimerRow


def test_due_are_those_not_held_that_are_ready_or_have_open_activities(lane: Lane, store: Store) -> None:
    key = lane.first
    rows = [
        instance(key + 1, ready=True),
        instance(key + 2, open_activities=1),
        instance(key + 3),
        instance(key + 4, ready=True, open_activities=3),
        instance(key + 5, ready=True, status="Suspended"),
        instance(key + 6, open_activities=1, status="Failed"),
        instance(key + 7, ready=True, parked="why"),
        instance(key + 8, ready=True, status="Pending"),
        instance(key + 9, status="Completed"),
    ]
    lane.commit(created=rows[::-1])
    assert [row.key - key for row in store.due(0, 100)] == [1, 2, 4, 8]
    assert [row.key - key for row in everything(lambda after: store.due(after, 1), lambda row: row.key)] == [1, 2, 4, 8]
    lane.commit(updated=[instance(key + 1), instance(key + 3, ready=True), instance(key + 5, ready=True)])
    assert [row.key - key for row in store.due(0, 100)] == [2, 3, 4, 5, 8]
    assert store.due(key + 3, 1) == [rows[3]]


def test_the_parked_are_listed_by_key(lane: Lane, store: Store) -> None:
    key = lane.first
    lane.commit(created=[instance(key + n, parked=(None, "", "why")[n % 3]) for n in (6, 5, 4, 3, 2, 1)])
    assert [row.key - key for row in store.parked(0, 100)] == [1, 2, 4, 5]
    assert [row.key - key for row in store.parked(key + 1, 2)] == [2, 4]
    lane.commit(updated=[instance(key + 2)])
    assert [row.key - key for row in store.parked(0, 100)] == [1, 4, 5]


def test_timers_are_read_in_order_of_all_their_fields(lane: Lane, store: Store) -> None:
    timers = [
        TimerRow(fire_at, lane.first + n, lane.first + execution, task_id)
        for fire_at in (NOW - 1, NOW)
        for n in (1, 2)
        for execution in (5, 6)
        for task_id in (0, 1, 2)
    ]
    lane.commit(timers_new=timers[::-1])
    assert store.timers(NOW, None, 100) == timers
    assert store.timers(NOW - 1, None, 100) == timers[:12]
    assert store.timers(NOW - 2, None, 100) == []
    assert everything(lambda after: store.timers(NOW, after, 5), lambda row: row, None) == timers
    assert everything(lambda after: store.timers(NOW, after, 1), lambda row: row, None) == timers


def test_a_page_of_timers_begins_behind_one_that_is_gone(lane: Lane, store: Store) -> None:
    timers = [timer(NOW, lane.first + n) for n in range(1, 6)]
    lane.commit(timers_new=timers)
    lane.commit(timers_done=[timers[2]])
    assert store.timers(NOW, timers[2], 10) == timers[3:]


def test_history_is_read_in_pages(lane: Lane, store: Store) -> None:
    rows = [history(lane.first + 1, first, b"%d" % first) for first in (0, 3, 4, 9, 20)]
    lane.commit(history=[rows[2], rows[0], history(lane.first + 2, 1)])
    lane.commit(history=[rows[4], rows[3], rows[1]])
    assert store.history(lane.first + 1) == rows
    assert store.history(lane.first + 1, 3, 2) == rows[2:4]
    assert store.history(lane.first + 1, 20) == []
    assert everything(lambda after: store.history(lane.first + 1, after, 2), lambda row: row.first, -1) == rows
