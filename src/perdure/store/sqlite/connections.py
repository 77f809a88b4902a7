"""Connections: how they are made, set up, shared between threads, and dropped after a fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import apsw

from perdure.core.errors import StoreUnavailable
from perdure.store.sqlite.driver import Connection
from perdure.store.sqlite.errors import is_clean, raise_translated

Synchronous = Literal["FULL", "NORMAL", "OFF"]

OPEN = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
CREATE = OPEN | apsw.SQLITE_OPEN_CREATE

# A checkpoint runs in the commit that brings the write-ahead log to this many pages, and holds it up: by 10 ms for
# 1,000 pages (4 MB) under full load, by 20 ms for 4,000, where the gain in rows a second is 5 %.
_CHECKPOINT_PAGES = 1000
CHECKPOINT_BYTES = _CHECKPOINT_PAGES * 4096
_LARGEST_IDLE_LOG = 16 << 20  # bytes: what a burst leaves of the log is cut back to this


def uri(path: Path, mode_of: Path) -> str:
    """The URI of a database whose file, if it has to be created, gets the permissions of `mode_of`.

    SQLite creates it so at once, and the log and its index with the same permissions: there is no moment at which
    others may open them, and no umask of the process to be set aside.
    """
    return f"{path.as_uri()}?modeof={mode_of.as_uri().removeprefix('file://')}"


def configure(connection: Connection, synchronous: Synchronous, busy_timeout_ms: int) -> Connection:
    connection.set_busy_timeout(busy_timeout_ms)
    connection.pragma("synchronous", synchronous)
    connection.pragma("fullfsync", True)  # macOS: fsync alone leaves the data in the drive's cache
    connection.pragma("wal_autocheckpoint", _CHECKPOINT_PAGES)
    connection.pragma("journal_size_limit", _LARGEST_IDLE_LOG)
    # SQLite keeps each page that a statement over many rows changes as it was, to be able to take back that statement
    # alone. In a file, as it does beyond 64 KiB, that would be a quarter of all that a commit writes.
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("trusted_schema", False)
    return connection


def leave_checkpoints(connection: Connection) -> Connection:
    """Let no commit of it run a checkpoint: `Channel.checkpoint` does, when nobody has to wait for it."""
    connection.pragma("wal_autocheckpoint", 0)
    return connection


@contextmanager
def transaction(connection: Connection) -> Generator[None]:
    """All that is written inside is committed at its end, or nothing if it raises.

    The write lock is taken first: a transaction that began by reading could not go on once another process has written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: Connection) -> Generator[None]:
    """All that is read inside is of one state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class Channel:
    """One connection, opened when it is needed, for one thread at a time.

    An error that may have left the connection, or the file, other than SQLite believes drops the connection and puts
    the channel `in_doubt`, until its owner has settled what is in the file. Channels that write share `writing`, or one
    would look for the end of the other's transaction again and again, asleep in between.
    """

    def __init__(self, path: Path, open: Callable[[], Connection], writing: threading.Lock) -> None:
        self._path = path
        self._open = open
        self._writing = writing
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False
        self.in_doubt = False

    @contextmanager
    def use(self) -> Generator[Connection]:
        """Errors come out translated."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._opened()
                yield self._connection
            except BaseException as error:
                if not is_clean(error):
                    self.in_doubt = True
                    self._drop()
                raise_translated(error, self._path)

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """See the function of this name."""
        with self.use() as connection, self._writing, transaction(connection):
            yield connection

    def checkpoint(self) -> None:
        """Move what is in the log into the database, as far as nobody reads it, while others write.

        SQLite does the same after a commit that leaves the log long, and passes over what fails in it just so: all of
        it is still in the log.
        """
        with self.use() as connection:
            try:
                connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error:
                pass

    def drop(self) -> None:
        with self._lock:
            self._drop()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def _opened(self) -> Connection:
        if self._closed:
            raise StoreUnavailable(f"{self._path}: the store was closed")
        return self._open()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close(True)
            except apsw.Error:
                # The last connection to a file writes its log into it. What of that fails is still in the log.
                pass
