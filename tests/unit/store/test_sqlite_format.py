"""The format of the file: recognised, migrated after a copy was made, refused when it is none of ours."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest
from faulty_disk import Disk
from other_process import other_process
from store_rows import Lane, instance

from perdure.core.errors import StoreFormat, StoreHeld, StoreUnavailable
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.driver import connect
from perdure.store.sqlite.format import FORMAT, Format, prepare
from perdure.store.sqlite.host_lock import HostLock

N = FORMAT.number
NEXT = Format(N + 1, FORMAT.schema, {N: "ALTER TABLE instance ADD COLUMN tags TEXT; CREATE TABLE two (a INTEGER)"})
AFTER = Format(N + 2, FORMAT.schema, {**NEXT.steps, N + 1: "INSERT INTO two VALUES (3)"})
SAVED = Path(__file__).resolve().parents[2] / "stores"


@pytest.fixture
def old(path: Path) -> Path:
    """A store of our format with one instance, closed."""
    store = SqliteStore(path, "hub")
    Lane(store).commit(created=[instance(1 << 40)])
    store.close()
    return path


def numbers(path: Path) -> tuple[int, list[int]]:
    """The format of the file and those of its hubs."""
    connection = apsw.Connection(str(path))
    found = connection.pragma("user_version"), [row[0] for row in connection.execute("SELECT format FROM hub")]
    connection.close()
    return found


def test_a_file_says_its_format(old: Path) -> None:
    SqliteStore(old, "another hub").close()
    assert numbers(old) == (N, [N, N])


def test_an_older_format_is_migrated_step_by_step_after_a_copy_was_made(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(old, "hub", format=AFTER)
    assert store.instance(1 << 40) == instance(1 << 40)
    Lane(store).commit(created=[instance(2 << 40)])
    store.close()
    assert numbers(old) == (N + 2, [N + 2])
    connection = apsw.Connection(str(old))
    assert connection.execute("SELECT a FROM two").get == 3
    connection.close()

    copy = old.with_name(f"hub.db.format-{N}")
    assert numbers(copy) == (N, [N])
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in old.parent.iterdir()} == {"hub.db", "hub.db.lock", f"hub.db.format-{N}"}
    store = SqliteStore(copy, "hub")
    assert store.instance(1 << 40) == instance(1 << 40)
    assert store.instance(2 << 40) is None
    store.close()
    assert "as it was it is in" in caplog.text


@pytest.mark.parametrize("saved", sorted(SAVED.glob("format_*.db")), ids=lambda path: path.stem)
def test_a_migrated_store_has_the_same_tables_as_one_that_was_made_so(saved: Path, tmp_path: Path) -> None:
    def tables(path: Path) -> list[tuple[str, ...]]:
        SqliteStore(path, "Saved").close()
        connection = apsw.Connection(str(path))
        found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
        connection.close()
        return found

    assert tables(Path(shutil.copy(saved, tmp_path))) == tables(tmp_path / "made.db")


def test_the_copy_has_what_is_still_in_the_log(old: Path) -> None:
    writer = SqliteStore(old, "hub")
    assert writer.submit_start(instance(0, "last"), b"{}") is None
    assert old.with_name("hub.db-wal").stat().st_size > 0
    SqliteStore(old, "hub", format=NEXT).close()
    copy = SqliteStore(old.with_name(f"hub.db.format-{N}"), "hub")
    assert copy.find(["last"])
    copy.close()
    writer.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(old: Path) -> None:
    broken = Format(N + 1, FORMAT.schema, {N: "CREATE TABLE two (a INTEGER); INSERT INTO nowhere VALUES (1)"})
    with pytest.raises(StoreUnavailable, match="nowhere"):
        SqliteStore(old, "hub", format=broken)
    assert numbers(old) == (N, [N])
    store = SqliteStore(old, "hub")
    assert store.instance(1 << 40) == instance(1 << 40)
    store.close()
    SqliteStore(old, "hub", format=NEXT).close()
    assert numbers(old) == (N + 1, [N + 1])


def test_without_a_copy_there_is_no_migration(old: Path) -> None:
    disk = Disk("disk without room for a copy")
    disk.arm(lambda ordinal, kind: kind == "write")
    with pytest.raises(StoreUnavailable):
        SqliteStore(old, "hub", format=NEXT, connect=disk.connect)
    disk.disarm()
    assert numbers(old) == (N, [N])
    assert not old.with_name(f"hub.db.format-{N}").exists()
    SqliteStore(old, "hub", format=NEXT, connect=disk.connect).close()
    disk.unregister()
    assert numbers(old.with_name(f"hub.db.format-{N}")) == (N, [N])


def test_a_store_that_is_served_is_not_migrated(old: Path) -> None:
    with other_process(old) as other:
        other.ask("host")
        with pytest.raises(StoreHeld, match=f"Process {other.process.pid} "):
            SqliteStore(old, "hub", format=NEXT)
    assert numbers(old) == (N, [N])


def test_a_store_that_another_process_migrates_first_is_left_to_it(old: Path) -> None:
    class Overtaken:
        """Another process is faster once it is seen that the file is old."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *values: Any) -> Any:
            if statement == "BEGIN IMMEDIATE":
                SqliteStore(old, "hub", format=NEXT).close()
            return self._connection.execute(statement, *values)

    connection: Any = Overtaken(connect(str(old), apsw.SQLITE_OPEN_READWRITE))
    prepare(connection, connect, old, HostLock(old.with_name("hub.db.lock")), NEXT)
    connection.close()
    assert numbers(old) == (N + 1, [N + 1])
    assert not old.with_name(f"hub.db.format-{N + 1}").exists()


def test_all_who_open_an_old_store_at_once_find_it_migrated(old: Path) -> None:
    together = threading.Barrier(4)

    def open_it(_: int) -> None:
        together.wait()
        SqliteStore(old, "hub", format=NEXT).close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_it, range(4)))
    assert numbers(old) == (N + 1, [N + 1])


def test_a_client_that_knows_the_old_format_writes_nothing_after_a_migration(old: Path) -> None:
    client = SqliteStore(old, "hub")
    SqliteStore(old, "hub", format=NEXT).close()
    with pytest.raises(StoreFormat, match=f"from format {N} to {N + 1}"):
        client.submit_start(instance(0, "a"), b"{}")
    client.close()
    store = SqliteStore(old, "hub", format=NEXT)
    assert store.find(["a"]) == {}
    store.close()


def test_a_newer_format_is_refused_with_both_numbers(old: Path) -> None:
    SqliteStore(old, "hub", format=AFTER).close()
    before = old.read_bytes()
    with pytest.raises(StoreFormat, match=f"has store format {N + 2}; this version of Perdure knows formats up to {N}"):
        SqliteStore(old, "hub")
    assert old.read_bytes() == before


def test_a_format_that_has_no_way_to_ours_is_refused(old: Path) -> None:
    with pytest.raises(StoreFormat, match=f"has store format {N}; this version of Perdure cannot migrate it"):
        SqliteStore(old, "hub", format=Format(N + 2, FORMAT.schema, {N + 1: ""}))
    assert numbers(old) == (N, [N])


def test_a_hub_of_another_format_than_its_file_is_refused(old: Path) -> None:
    connection = apsw.Connection(str(old))
    connection.execute("UPDATE hub SET format = 7")
    connection.close()
    with pytest.raises(StoreFormat, match=f"'hub' has format 7 in a file of format {N}"):
        SqliteStore(old, "hub")


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("not a database\n" * 100)
    with pytest.raises(StoreFormat, match="is not a SQLite database"):
        SqliteStore(path, "hub")
    assert path.read_text() == "not a database\n" * 100


@pytest.mark.parametrize("change", ["CREATE TABLE t (a)", "PRAGMA user_version = 1", "PRAGMA application_id = 5"])
def test_a_database_of_something_else_is_refused_and_left_alone(path: Path, change: str) -> None:
    path.parent.mkdir()
    connection = apsw.Connection(str(path))
    connection.execute(change)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreFormat, match="is a SQLite database, but not a store of Perdure"):
        SqliteStore(path, "hub")
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    SqliteStore(path, "hub").close()
    assert numbers(path) == (N, [N])


def test_a_copy_without_a_log_gets_one(old: Path) -> None:
    connection = apsw.Connection(str(old))
    copy = old.with_name("copy.db")
    connection.execute("VACUUM INTO ?", (str(copy),))
    connection.close()
    store = SqliteStore(copy, "hub")
    assert store.submit_start(instance(0, "a"), b"{}") is None
    assert copy.with_name("copy.db-wal").exists()
    store.close()


def test_a_store_that_is_made_while_it_is_looked_at_is_recognised(path: Path) -> None:
    """Another process comes in between the two numbers by which a file is recognised."""

    def connect_slowly(filename: str, flags: int) -> apsw.Connection:
        def trace(_: object, statement: str, __: object) -> bool:
            if "user_version" in statement:
                connection.exec_trace = None
                try:
                    SqliteStore(path, "hub", busy_timeout_ms=1).close()
                except StoreUnavailable:
                    # It has to wait, and that is as good.
                    pass
            return True

        connection = apsw.Connection(filename, flags)
        connection.exec_trace = trace
        return connection

    SqliteStore(path, "hub", connect=connect_slowly).close()
    assert numbers(path) == (N, [N])


def test_two_processes_may_make_the_same_store_at_once(path: Path) -> None:
    with other_process(path) as a, other_process(path) as b:
        assert a.ask("start a") == "None"
        assert b.ask("start b") == "None"
    assert numbers(path) == (N, [N])
