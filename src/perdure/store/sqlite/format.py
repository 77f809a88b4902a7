"""The format of a file: made, recognised, brought up to date.

The format is a number in the file's header (`user_version`), beside the mark that the file is ours (`application_id`).
Each hub repeats it, so that a hub can be told apart once it is taken out of its file. Migrations go forward only, one
number at a time, all in one transaction, and after the file was copied.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from msgspec import Struct

from perdure.core.errors import StoreFormat, StoreUnavailable
from perdure.store.sqlite.connections import CREATE, OPEN, snapshot, transaction, uri
from perdure.store.sqlite.driver import Connect, Connection
from perdure.store.sqlite.host_lock import HostLock
from perdure.store.sqlite.statements import STATEMENTS, read_sql

log = logging.getLogger("perdure.store")

APPLICATION_ID = 0x50657264  # "Perd"


class Format(Struct, frozen=True):
    """`steps[n]` is the SQL that turns format n into n + 1."""

    number: int
    schema: str
    steps: Mapping[int, str] = {}


FORMAT = Format(number=2, schema=read_sql("schema.sql"), steps={1: read_sql("format_1_to_2.sql")})


def prepare(connection: Connection, connect: Connect, path: Path, lock: HostLock, format: Format) -> None:
    """Make the file behind `connection` a store of `format`, unless it is one.

    Raises StoreFormat if the file is none of ours, or newer; StoreHeld if it is older and a process serves it.
    """
    with snapshot(connection):  # another process may be making it
        found = _recognise(connection, path, format)
    # A copy that was made by VACUUM INTO, say, has lost this mode.
    mode = connection.pragma("journal_mode", "WAL")
    if mode != "wal":
        raise StoreUnavailable(f"{path}: the file system has no shared memory for SQLite's write-ahead log.")
    if found == format.number:
        return
    if found is None:
        with transaction(connection):
            if _recognise(connection, path, format) is None:
                connection.execute(format.schema)
                _stamp(connection, format)
        return
    with ExitStack() as leave, transaction(connection):  # it waits for another process that migrates the file
        if _recognise(connection, path, format) == format.number:
            return
        lock.acquire(since=None)
        leave.callback(lock.release)  # once the transaction is over
        copy = _migrate(connection, connect, path, lock.path, format)
    log.warning("%s was brought from format %d to %d; as it was it is in %s", path, found, format.number, copy)


def check_unchanged(connection: Connection, format: Format) -> None:
    """Raises StoreFormat if a later version of Perdure has migrated the file since it was opened."""
    number = connection.pragma("user_version")
    if number != format.number:
        raise StoreFormat(f"The store was migrated from format {format.number} to {number} meanwhile. Open it again.")


def _recognise(connection: Connection, path: Path, format: Format) -> int | None:
    """The number of the file's format, or None if the file is empty."""
    mark = connection.pragma("application_id")
    number = connection.pragma("user_version")
    if mark != APPLICATION_ID:
        if mark == 0 and number == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
            return None
        raise StoreFormat(f"{path} is a SQLite database, but not a store of Perdure.")
    if number > format.number:
        raise StoreFormat(
            f"{path} has store format {number}; this version of Perdure knows formats up to {format.number}. "
            "Run the version that wrote it, or a later one."
        )
    for older in range(number, format.number):
        if older not in format.steps:
            raise StoreFormat(f"{path} has store format {number}; this version of Perdure cannot migrate it.")
    return number


def _migrate(connection: Connection, connect: Connect, path: Path, mode_of: Path, format: Format) -> Path:
    """Where the copy is. Inside a transaction, so that nobody writes between the copy and the migration."""
    found = _recognise(connection, path, format)
    assert found is not None
    copy = path.with_name(f"{path.name}.format-{found}")
    _copy(connect, path, copy, mode_of)
    for older in range(found, format.number):
        connection.execute(format.steps[older])
    _stamp(connection, format)
    return copy


def _stamp(connection: Connection, format: Format) -> None:
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", format.number)
    connection.execute(STATEMENTS["stamp_hubs"], (format.number,))


def _copy(connect: Connect, path: Path, target: Path, mode_of: Path) -> None:
    """The copy appears under its name only once it is whole. It is read through a connection of its own, as SQLite lets
    none be copied from that is about to write."""
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with (
        closing(connect(uri(path, mode_of), OPEN)) as source,
        closing(connect(uri(unfinished, mode_of), CREATE)) as destination,
    ):
        backup = destination.backup("main", source, "main")
        try:
            backup.step()
        finally:
            backup.finish()
    os.replace(unfinished, target)
