"""What only the tables show."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from store_rows import BITS, NOW, Lane, history, instance, message, payload, timer

from perdure.core.ids import PARTITIONS
from perdure.store.sqlite import SqliteStore


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, "hub")
    yield store
    store.close()


@pytest.fixture
def tables(store: SqliteStore, path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path))
    yield connection
    connection.close()


def test_a_host_says_who_it_is_and_owns_all_partitions(store: SqliteStore, tables: apsw.Connection) -> None:
    dead, host = store.register_host(NOW, 1), store.register_host(NOW, BITS)
    rows = tables.execute(
        "SELECT id, ordinal, prefix, alive, pid, machine, since FROM host ORDER BY ordinal"
    ).fetchall()
    process = os.getpid(), platform.node(), NOW
    assert rows == [
        (dead.id, dead.ordinal, "0000000000000001", 0, *process),
        (host.id, host.ordinal, f"{BITS:016x}", 1, *process),
    ]
    owners = tables.execute("SELECT number, host FROM partition").fetchall()
    assert owners == [(number, host.id) for number in range(PARTITIONS)]


def test_a_commit_leaves_its_number_and_time_with_the_host(store: SqliteStore, tables: apsw.Connection) -> None:
    lane = Lane(store)
    lane.commit()
    lane.commit()
    assert tables.execute("SELECT commit_number, committed_at FROM host").fetchall() == [(2, NOW)]


def test_nothing_of_a_purged_instance_is_left_in_any_table(store: SqliteStore, tables: apsw.Connection) -> None:
    lane = Lane(store)
    key = lane.first + 1
    lane.commit(
        created=[instance(key)],
        history=[history(key, n) for n in range(3)],
        inbox_new=[message(key, key)],
        timers_new=[timer(NOW, key)],
    )
    lane.write_payloads(payload(key + 1, key), payload(key + 2, key, 7))
    lane.commit(purged=[key])
    assert not store.sweep(lane.host.id, 10)
    for table in ("instance", "history", "inbox", "timer", "garbage", "payload"):
        assert tables.execute(f"SELECT * FROM {table}").fetchall() == []


def test_statements_are_prepared_for_few_numbers_of_rows(path: Path) -> None:
    prepared: set[str] = set()

    def connect(filename: str, flags: int) -> apsw.Connection:
        def trace(_: object, statement: str, __: object) -> bool:
            prepared.add(statement)
            return True

        connection = apsw.Connection(filename, flags)
        connection.exec_trace = trace
        return connection

    store = SqliteStore(path, "hub", connect=connect)
    lane = Lane(store)
    lane.commit(created=[instance(lane.first)])
    prepared.clear()
    for count in range(1, 400):
        lane.commit(history=[history(lane.first, 1000 * count + n) for n in range(count)])
    inserts = {statement for statement in prepared if "history" in statement}
    assert len(inserts) == 18
    store.close()
