"""One process hosts; others are told which it is, and may insert."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from other_process import other_process
from store_rows import BITS, NOW, Lane, instance

from perdure.core.errors import StoreHeld
from perdure.store.sqlite import SqliteStore


def test_a_second_process_is_told_who_hosts(path: Path) -> None:
    store = SqliteStore(path, "hub")
    with other_process(path) as other:
        other.ask("host")
        with pytest.raises(StoreHeld) as caught:
            store.register_host(NOW, BITS)
        text = str(caught.value)
        assert f"Process {other.process.pid} on {platform.node()} serves {path}" in text
        assert "2023-11-14 22:13:20+00:00" in text
    store.close()


def test_another_hub_of_the_file_waits_for_the_process_that_hosts(path: Path) -> None:
    with other_process(path) as other:
        other.ask("host")
        store = SqliteStore(path, "another hub")
        with pytest.raises(StoreHeld):
            store.register_host(NOW, BITS)
        store.close()


def test_a_second_handle_of_this_process_is_refused_as_well(path: Path) -> None:
    first, second = SqliteStore(path, "hub"), SqliteStore(path, "hub")
    lane = Lane(first)
    with pytest.raises(StoreHeld, match=f"Process {os.getpid()} "):
        second.register_host(NOW, BITS)
    second.close()
    lane.commit()
    first.close()
    third = SqliteStore(path, "hub")
    third.register_host(NOW, BITS)
    third.close()


def test_the_lock_goes_with_a_process_that_is_killed(path: Path) -> None:
    with other_process(path) as other:
        host_id = other.ask("host")
        other.ask("commit 1")
        store = SqliteStore(path, "hub")
        other.kill()
        lane = Lane(store)
        assert store.end_host(host_id) == 1
        lane.commit(created=[instance(lane.first + 1)])
        store.close()


def test_a_process_killed_between_commits_leaves_those_it_had_answered(path: Path) -> None:
    with other_process(path) as other:
        host_id = other.ask("host")
        other.ask("commit 100000")
        answered = 1
        while answered < 50:
            answered = int(other.answer()) + 1
        other.kill()
        store = SqliteStore(path, "hub")
        landed = store.end_host(host_id)
        assert landed >= answered
        rows = store.history(Lane(store).first - (1 << 40) + 1, limit=1_000_000)
        assert [row.first for row in rows] == list(range(landed))
        store.close()


def test_a_host_and_a_client_of_two_processes_see_each_other(path: Path) -> None:
    store = SqliteStore(path, "hub")
    lane = Lane(store)
    with other_process(path) as other:
        assert other.ask("start theirs") == "None"
        assert store.poll()
        assert not store.poll()
        (row,) = store.created_by_clients(0, 10)
        assert row.id == "theirs"
        lane.commit(created=[instance(lane.first + 1, "mine")])
        assert "mine" in other.ask("start mine")
        assert other.ask("poll") == "True"
        client = SqliteStore(path, "hub")
        assert client.submit_start(instance(0, "another"), b"{}") is None
        client.close()
        assert other.ask("poll") == "True"
        assert other.ask("poll") == "False"
    assert store.poll()
    store.close()


def test_a_holder_that_has_not_written_its_name_yet_is_called_so(path: Path) -> None:
    store, other = SqliteStore(path, "hub"), SqliteStore(path, "hub")
    Lane(other)
    os.truncate(path.with_name("hub.db.lock"), 0)
    with pytest.raises(StoreHeld, match="Another process, which has not said yet who it is, serves"):
        store.register_host(NOW, BITS)
    other.close()
    store.close()
