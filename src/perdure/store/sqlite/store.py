"""The store in one SQLite file.

Writes go through one connection, reads through another, so that a page being read does not hold up a commit; a third
one looks out for other processes, a fourth writes payloads. Whoever hosts holds the lock beside the file; clients take
none.

**Doubt.** When a write or an fsync fails, what was to be committed may or may not be in the log, and may become visible
when the log is next recovered. The kernel, having reported the failure once, may say of the same pages that they are on
disk. So after such a failure all connections are dropped, and `end_host` moves the whole log into the database and cuts
it to nothing before it looks: the pages are written anew, to another file, and what is left behind is nowhere.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from perdure.core.errors import StoreFormat, StoreUnavailable
from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, PayloadRow, StoredMail, TimerRow
from perdure.store.sqlite import clients, lane, payloads, reads
from perdure.store.sqlite.connections import (
    CHECKPOINT_BYTES,
    CREATE,
    OPEN,
    Channel,
    Synchronous,
    configure,
    leave_checkpoints,
    transaction,
    uri,
)
from perdure.store.sqlite.directory import make_private
from perdure.store.sqlite.driver import Connect, Connection, connect
from perdure.store.sqlite.errors import translated
from perdure.store.sqlite.format import FORMAT, Format, check_unchanged, prepare
from perdure.store.sqlite.host_lock import HostLock
from perdure.store.sqlite.mounts import read_mounts, refuse_network
from perdure.store.sqlite.statements import STATEMENTS
from perdure.store.sqlite.sweeping import Walk, sweep


class SqliteStore:
    """One task hub in a file, opened. See `perdure.store.api.Store`.

    The file, its directory and the hub are made when they are missing. `busy_timeout_ms` is how long a call waits for
    the locks of other processes. `mounts` gives the kernel's table of mounts. Raises StoreFormat, StoreUnavailable;
    StoreHeld if the file has to be migrated and a process serves it.
    """

    def __init__(
        self,
        path: Path,
        hub: str,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout_ms: int = 10_000,
        connect: Connect = connect,
        mounts: Callable[[], str] = read_mounts,
        format: Format = FORMAT,
    ) -> None:
        path = path.resolve()
        self._path = path
        self._format = format
        self._lock = HostLock(path.with_name(path.name + ".lock"))

        def open(flags: int = OPEN) -> Connection:
            connection = connect(uri(path, self._lock.path), flags)
            return configure(connection, synchronous, busy_timeout_ms)

        with translated(path):
            refuse_network(path.parent, mounts())
            make_private(path.parent)
            self._lock.create_file()
            connection = open(CREATE)
            try:
                prepare(connection, connect, path, self._lock, format)
                self._hub = _open_hub(connection, hub, format)
                # Whatever a client does from here on is news to `poll`.
                self._polled_key = reads.client_key(connection, self._hub)
            finally:
                connection.close(True)
            self._identity = os.stat(path)
        writing = threading.Lock()
        self._writer, self._reader, self._watcher = (Channel(path, open, writing) for _ in range(3))
        self._payload_writer = Channel(path, lambda: leave_checkpoints(open()), writing)
        self._channels = (self._watcher, self._reader, self._payload_writer, self._writer)
        self._payload_bytes = 0
        self._walk = Walk("")

    # --- the host's side ---------------------------------------------------------------------------------------------

    def register_host(self, now: int, random_bits: int) -> Host:
        if self._lock.held:
            self._demand_own_files()
            if self._in_doubt:
                self._settle()
            return self._register(now, random_bits)
        with translated(self._path):
            self._lock.acquire(now)
        try:
            self._settle_for_predecessor()
            return self._register(now, random_bits)
        except BaseException:
            self._lock.release()
            raise

    def end_host(self, host_id: str) -> int:
        if self._lock.held:
            self._demand_own_files()
        if self._in_doubt:
            self._settle()
        with self._writer.transaction() as connection:
            return lane.end(connection, host_id)

    def commit(self, commit: Commit) -> None:
        with self._writer.transaction() as connection:
            lane.apply(connection, self._hub, commit)
        self._demand_own_files()

    def sweep(self, host_id: str, limit: int) -> bool:
        walk = self._walk if self._walk.host_id == host_id else Walk(host_id)
        with self._writer.transaction() as connection:
            walk, more = sweep(connection, self._hub, walk, limit)
        self._walk = walk
        return more

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        if self._lock.held:
            # Before it opens a connection: what is there now may be another file, with the log of ours beside it.
            self._demand_own_files()
        for group in payloads.groups(rows):
            with self._payload_writer.transaction() as connection:
                lane.demand_alive(connection, self._hub, host_id)
                payloads.insert(connection, group)
        self._demand_own_files()
        self._payload_bytes += sum(len(row.body) for row in rows)
        if self._payload_bytes >= CHECKPOINT_BYTES:
            # Or it would be the next commit that is held up.
            self._payload_bytes = 0
            self._payload_writer.checkpoint()

    # --- reads -------------------------------------------------------------------------------------------------------

    def instance(self, key: int) -> InstanceRow | None:
        with self._reader.use() as connection:
            return reads.instance(connection, self._hub, key)

    def find(self, ids: Sequence[str]) -> dict[str, InstanceRow]:
        with self._reader.use() as connection:
            return reads.find(connection, self._hub, ids)

    def query(self, query: InstanceQuery) -> list[InstanceRow]:
        with self._reader.use() as connection:
            return reads.query(connection, self._hub, query)

    def history(self, execution: int, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        with self._reader.use() as connection:
            return reads.history(connection, execution, after, limit)

    def payloads(self, ids: Sequence[int]) -> dict[int, PayloadRow]:
        with self._reader.use() as connection:
            return payloads.read(connection, ids)

    def inbox(self, after: int, limit: int) -> list[StoredMail]:
        with self._reader.use() as connection:
            return reads.inbox(connection, self._hub, after, limit)

    def inbox_of(self, target: int, after: int, limit: int) -> list[StoredMail]:
        with self._reader.use() as connection:
            return reads.inbox_of(connection, self._hub, target, after, limit)

    def timers(self, until: int, after: TimerRow | None, limit: int) -> list[TimerRow]:
        with self._reader.use() as connection:
            return reads.timers(connection, self._hub, until, after, limit)

    def due(self, after_key: int, limit: int) -> list[InstanceRow]:
        with self._reader.use() as connection:
            return reads.due(connection, self._hub, after_key, limit)

    def parked(self, after_key: int, limit: int) -> list[InstanceRow]:
        with self._reader.use() as connection:
            return reads.parked(connection, self._hub, after_key, limit)

    # --- clients that are not the host -------------------------------------------------------------------------------

    def submit_start(self, row: InstanceRow, record: bytes) -> InstanceRow | None:
        with self._writer.transaction() as connection:
            check_unchanged(connection, self._format)
            return clients.start(connection, self._hub, row, record)

    def submit_message(self, message: InboxRow) -> None:
        with self._writer.transaction() as connection:
            check_unchanged(connection, self._format)
            clients.send(connection, self._hub, message)

    def client_cursor(self) -> int:
        with self._reader.use() as connection:
            return reads.client_key(connection, self._hub)

    def created_by_clients(self, after_key: int, limit: int) -> list[InstanceRow]:
        with self._reader.use() as connection:
            return reads.created_by_clients(connection, self._hub, after_key, limit)

    def poll(self) -> bool:
        """Every write of a client takes a key of one counter, and nothing else does. To read one row costs no more than
        to ask SQLite for `data_version`, which our own commits would change too."""
        if self._lock.held:
            self._demand_own_files()
        with self._watcher.use() as connection:
            key = reads.client_key(connection, self._hub)
            before, self._polled_key = self._polled_key, key
            return key != before

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self._lock.release()

    def _demand_own_files(self) -> None:
        """What is written to a file that was deleted is gone with the process, and a lock on one holds nobody back."""
        try:
            same = os.path.samestat(self._identity, os.stat(self._path))
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"{self._path} was deleted or replaced while this process serves it; put it back, or start again"
            )
        if not self._lock.intact:
            raise StoreUnavailable(
                f"{self._lock.path} was deleted or replaced, so that another process may serve the store; start again"
            )

    # --- the lane's ends ---------------------------------------------------------------------------------------------

    @property
    def _in_doubt(self) -> bool:
        return self._writer.in_doubt or self._payload_writer.in_doubt

    def _register(self, now: int, random_bits: int) -> Host:
        with self._writer.transaction() as connection:
            return lane.register(connection, self._hub, now, random_bits)

    def _settle(self) -> None:
        """Leave nothing in the log, so that what is read from here on is what a power cut would leave."""
        for channel in self._channels:
            channel.drop()
        with self._writer.use() as connection:
            connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._writer.in_doubt = self._payload_writer.in_doubt = False

    def _settle_for_predecessor(self) -> None:
        """The process that hosted before may have died in doubt. It is no reason not to start that somebody makes a
        backup: reading it keeps the log from being cut, and nothing says that there was a fault."""
        in_doubt = self._in_doubt
        try:
            self._settle()
        except StoreUnavailable as error:
            if in_doubt or not isinstance(error.__cause__, apsw.BusyError):
                raise


def _open_hub(connection: Connection, name: str, format: Format) -> int:
    found = connection.execute(STATEMENTS["find_hub"], (name,)).fetchone()
    if found is None:
        with transaction(connection):
            check_unchanged(connection, format)
            connection.execute(STATEMENTS["insert_hub"], (name, format.number))
        found = connection.execute(STATEMENTS["find_hub"], (name,)).fetchone()
    assert found is not None
    key, number = found
    if number != format.number:
        raise StoreFormat(f"The task hub {name!r} has format {number} in a file of format {format.number}.")
    return key
