"""Clients: processes that do not host insert instances and messages, and the host finds out."""

from __future__ import annotations

import threading

import pytest
from store_handles import Database
from store_rows import Lane, history, instance, message, snapshot

from perdure.core.codec import decode_records, encode_record
from perdure.core.errors import InstanceNotFound
from perdure.core.events import TurnRecord
from perdure.core.ids import first_key
from perdure.store.api import Store


@pytest.fixture
def client(database: Database) -> Store:
    return database.open()


def test_a_start_makes_an_instance_with_its_first_record(lane: Lane, store: Store, client: Store) -> None:
    record = TurnRecord(at=5, deferred=True)
    assert client.submit_start(instance(0, "a", ready=True), encode_record(record)) is None
    row = store.find(["a"])["a"]
    assert 0 < row.key < first_key(1)
    assert row == instance(row.key, "a", ready=True, execution_id=f"{0:032x}")
    assert row.execution == row.key
    (stored,) = store.history(row.execution)
    assert stored.first == 0
    assert decode_records(stored.body) == [record]
    assert store.due(0, 10) == [row]


def test_an_id_that_exists_is_answered_with_its_instance(lane: Lane, store: Store, client: Store) -> None:
    lane.commit(created=[instance(lane.first + 1, "mine")])
    assert client.submit_start(instance(0, "theirs"), b"{}") is None
    before = snapshot(store, range(5))
    assert client.submit_start(instance(0, "mine"), b"{}") == instance(lane.first + 1, "mine")
    assert client.submit_start(instance(0, "theirs", status="Failed"), b"{}") == store.find(["theirs"])["theirs"]
    assert snapshot(store, range(5)) == before


def test_a_message_waits_in_the_inbox(lane: Lane, store: Store, client: Store) -> None:
    lane.commit(created=[instance(lane.first + 1)], inbox_new=[message(lane.first + 2, lane.first + 1)])
    client.submit_message(message(0, lane.first + 1, execution=3, control=True, body=b"stop"))
    _, mail = store.inbox(0, 10)
    assert 0 < mail.id < first_key(1)
    assert (mail.target, mail.execution, mail.control, mail.body) == (lane.first + 1, 3, True, b"stop")
    lane.commit(inbox_done=[mail.id])


def test_a_message_to_nobody_is_refused(lane: Lane, store: Store, client: Store, database: Database) -> None:
    lane.commit(created=[instance(lane.first + 1)])
    for sender, target in ((client, lane.first + 2), (database.open("another hub"), lane.first + 1)):
        with pytest.raises(InstanceNotFound):
            sender.submit_message(message(0, target))
    assert store.inbox(0, 10) == []
    assert store.client_cursor() == 0


def test_client_keys_rise_and_the_cursor_follows(store: Store, client: Store, database: Database) -> None:
    assert store.client_cursor() == 0
    other = database.open()
    cursors = []
    for n, sender in enumerate((client, other, client)):
        assert sender.submit_start(instance(0, f"id {n}"), b"{}") is None
        cursors.append(store.client_cursor())
        sender.submit_message(message(0, cursors[-1]))
        cursors.append(store.client_cursor())
    assert cursors == sorted(set(cursors))
    keys = cursors[::2]
    assert [row.key for row in store.created_by_clients(0, 10)] == keys
    assert [row.key for row in store.created_by_clients(keys[0], 1)] == [keys[1]]
    assert store.created_by_clients(keys[2], 10) == []
    assert [mail.id for mail in store.inbox(0, 10)] == cursors[1::2]


def test_the_keys_of_two_hubs_are_different(client: Store, database: Database) -> None:
    other = database.open("another hub")
    for n in range(3):
        assert client.submit_start(instance(0, f"{n}"), b"{}") is None
        assert other.submit_start(instance(0, f"{n}"), b"{}") is None
    here, there = ({row.key for row in store.created_by_clients(0, 10)} for store in (client, other))
    assert len(here) == len(there) == 3
    assert not here & there


def test_what_the_host_makes_is_not_from_clients(lane: Lane, store: Store) -> None:
    lane.commit(created=[instance(lane.first), instance(lane.first + 1)])
    assert store.created_by_clients(0, 10) == []


def test_a_poll_tells_once_that_a_client_has_written(lane: Lane, store: Store, client: Store) -> None:
    assert not store.poll()
    assert client.submit_start(instance(0, "a"), b"{}") is None
    assert store.poll()
    assert not store.poll()
    client.submit_message(message(0, store.find(["a"])["a"].key))
    assert store.poll()
    assert not store.poll()


def test_a_poll_does_not_miss_what_came_before_the_first_one(store: Store, client: Store) -> None:
    assert client.submit_start(instance(0, "a"), b"{}") is None
    assert store.poll()


def test_a_poll_is_silent_on_commits_of_this_host_and_on_other_hubs(
    lane: Lane, store: Store, database: Database
) -> None:
    store.poll()
    for n in range(1, 4):
        lane.commit(created=[instance(lane.first + n)], history=[history(lane.first + n)])
        assert not store.poll()
    assert database.open("another hub").submit_start(instance(0, "a"), b"{}") is None
    assert not store.poll()


def test_a_hundred_starters_with_one_id_start_it_once(database: Database, store: Store) -> None:
    clients = [database.open() for _ in range(4)]
    answers: list[object] = []

    def start(client: Store) -> None:
        for _ in range(25):
            answers.append(client.submit_start(instance(0, "a"), b"{}"))

    threads = [threading.Thread(target=start, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 100
    assert answers.count(None) == 1
    (row,) = store.created_by_clients(0, 10)
    assert all(answer in (None, row) for answer in answers)


def test_clients_and_host_write_at_the_same_time(lane: Lane, store: Store, database: Database) -> None:
    client = database.open()
    polls = 0

    def start() -> None:
        for n in range(50):
            client.submit_start(instance(0, f"client {n}"), b"{}")

    thread = threading.Thread(target=start)
    thread.start()
    for n in range(1, 51):
        lane.commit(created=[instance(lane.first + n)])
        polls += store.poll()
    thread.join()
    polls += store.poll()
    assert polls
    assert not store.poll()
    assert len(store.created_by_clients(0, 100)) == 50
    assert store.end_host(lane.host.id) == 50
