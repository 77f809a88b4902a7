"""What is learned of an engine's commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.bench.counting import CommitLog, counted
from perdure.core.errors import LaneLost
from perdure.core.state import InstanceRow
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, Store
from perdure.store.urls import open_store

NOW = 1_700_000_000_000_000


def row(key: int, **changes: Any) -> InstanceRow:
    texts = dict.fromkeys(InstanceRow.__struct_fields__)
    numbers = {"key": key, "execution": key, "created_at": NOW, "updated_at": NOW, "partition": 0, "generation": 0}
    required = {"sequence": 1, "ready": False, "open_activities": 0, "kind": "orchestration", "status": "Running"}
    return InstanceRow(**{**texts, **numbers, **required, "id": f"i{key}", "name": "n", "execution_id": "e", **changes})


@pytest.fixture
def log() -> CommitLog:
    return CommitLog()


@pytest.fixture
def store(log: CommitLog, tmp_path: Path) -> Store:
    return counted(open_store("memory://", hub="hub", base_dir=tmp_path), log)


@pytest.fixture
def host(store: Store) -> Host:
    return store.register_host(NOW, 1)


def test_rows_and_bytes_of_each_commit_are_counted(log: CommitLog, store: Store, host: Host) -> None:
    store.commit(
        Commit(
            host.id,
            1,
            NOW,
            created=[row(1), row(2)],
            history=[HistoryRow(1, 0, b"[]"), HistoryRow(2, 0, b"[...]")],
            inbox_new=[InboxRow(7, 1, 0, False, b"{}")],
        )
    )
    store.commit(Commit(host.id, 2, NOW, advanced=[row(1)], updated=[row(2)], inbox_done=[7]))
    first, second = log.commits
    assert (first.turns, first.created, first.updated, first.advanced) == (2, 2, 0, 0)
    assert (first.history_bytes, first.messages, first.message_bytes, first.messages_done) == (7, 1, 2, 0)
    assert (second.turns, second.created, second.updated, second.advanced, second.messages_done) == (0, 0, 1, 1, 1)
    assert first.rows == 5
    assert second.rows == 3
    assert log.total().rows == 8
    assert log.total().history_bytes == 7
    assert log.total().seconds == first.seconds + second.seconds > 0


def test_the_median_of_turns_leaves_out_commits_without_any(log: CommitLog, store: Store, host: Host) -> None:
    for number, turns in enumerate((0, 3, 0, 5, 3, 0), 1):
        history = [HistoryRow(number * 10 + n, 0, b"[]") for n in range(turns)]
        store.commit(Commit(host.id, number, NOW, history=history))
    assert log.median_turns() == 3


def test_a_commit_that_did_not_land_is_not_counted(log: CommitLog, store: Store, host: Host) -> None:
    with pytest.raises(LaneLost):
        store.commit(Commit(host.id, 9, NOW, created=[row(1)]))
    assert log.commits == []
    assert log.created is None


def test_the_last_row_of_each_kind_is_kept(log: CommitLog, store: Store, host: Host) -> None:
    running = row(1, status="Running", sequence=2)
    ended = replace(running, status="Completed", completed_at=NOW, sequence=3)
    for number, commit in enumerate((Commit("", 0, 0, created=[row(1)]), Commit("", 0, 0, advanced=[running])), 1):
        store.commit(replace(commit, host=host.id, number=number, now=NOW))
    store.commit(Commit(host.id, 3, NOW, advanced=[ended]))
    assert (log.created, log.moved, log.ended) == (row(1), running, ended)


def test_a_log_that_was_reset_begins_anew(log: CommitLog, store: Store, host: Host) -> None:
    store.commit(Commit(host.id, 1, NOW, created=[row(1)]))
    log.reset()
    assert log.total().rows == 0
    assert log.median_seconds() == 0
    store.commit(Commit(host.id, 2, NOW, advanced=[row(1)]))
    assert log.total().rows == 1


def test_everything_but_commits_is_the_store_itself(store: Store, host: Host) -> None:
    store.commit(Commit(host.id, 1, NOW, created=[row(1)]))
    assert store.instance(1) == row(1)
    assert store.end_host(host.id) == 1
