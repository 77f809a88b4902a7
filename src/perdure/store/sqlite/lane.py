"""What a host writes. Each function runs inside a transaction; what it raises rolls that back."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from operator import attrgetter

import apsw
import msgspec
from msgspec.structs import astuple

from perdure.core.errors import IdTaken, LaneLost, ShortCount
from perdure.core.ids import PARTITIONS
from perdure.core.state import PROGRESS, InstanceRow
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, TimerRow
from perdure.store.sqlite import reads
from perdure.store.sqlite.bulk import Bulk
from perdure.store.sqlite.driver import Connection, Value
from perdure.store.sqlite.statements import STATEMENTS

_COLUMNS = InstanceRow.__struct_fields__
_progress: Callable[[InstanceRow], tuple[Value, ...]] = attrgetter("key", *PROGRESS)

_FENCE = STATEMENTS["fence"]
_IS_ALIVE = STATEMENTS["is_alive"]
_RETIRE_PURGED = STATEMENTS["retire_purged"]
_DELETE_INSTANCES = STATEMENTS["delete_instances"]
_INSERT_INSTANCES = Bulk[InstanceRow]("insert_instances", len(_COLUMNS), astuple)
_UPDATE_INSTANCES = Bulk[InstanceRow]("update_instances", len(_COLUMNS), astuple)
_ADVANCE_INSTANCES = Bulk("advance_instances", 1 + len(PROGRESS), _progress)
_INSERT_HISTORY = Bulk[HistoryRow]("insert_history", 3, astuple)
_DELETE_MESSAGES = STATEMENTS["delete_messages"]
_INSERT_MESSAGES = Bulk[InboxRow]("insert_messages", 5, astuple)
_DELETE_TIMERS = Bulk[TimerRow]("delete_timers", 4, astuple)
_INSERT_TIMERS = Bulk[TimerRow]("insert_timers", 4, astuple)
_RETIRE = STATEMENTS["retire"]
_PURGES = (STATEMENTS["purge_inbox"], STATEMENTS["purge_timers"], STATEMENTS["purge_payloads"])


def register(connection: Connection, hub: int, now: int, random_bits: int) -> Host:
    """A new host, and no other alive. The caller holds the host lock."""
    connection.execute(STATEMENTS["end_hosts"])
    ordinal: int = connection.execute(STATEMENTS["next_ordinal"]).get
    host = Host(f"{ordinal}-{random_bits:016x}", ordinal, random_bits)
    identity = (host.id, hub, ordinal, f"{random_bits:016x}", now, os.getpid(), platform.node())
    connection.execute(STATEMENTS["insert_host"], identity)
    connection.executemany(STATEMENTS["take_partition"], ((hub, number, host.id) for number in range(PARTITIONS)))
    return host


def end(connection: Connection, host_id: str) -> int:
    connection.execute(STATEMENTS["end_host"], (host_id,))
    # A store restored from an older copy does not know the host: then nothing of it has landed.
    return connection.execute(STATEMENTS["commit_number"], (host_id,)).get or 0


def apply(connection: Connection, hub: int, commit: Commit) -> None:
    """Order matters: an id that is purged may be created again, and what is purged goes with all it was sent."""
    if changes(connection, _FENCE, (commit.number, commit.now, commit.host, hub)) == 0:
        raise LaneLost(f"commit {commit.number} of host {commit.host} was refused")
    if commit.purged:
        keys = _json(commit.purged)
        connection.execute(_RETIRE_PURGED, (hub, keys))
        _demand(changes(connection, _DELETE_INSTANCES, (hub, keys)), commit.purged, "instances to be purged")
    if commit.created:
        _create(connection, hub, commit.created)
    if commit.updated:
        count = _UPDATE_INSTANCES.run(connection, commit.updated, after=(hub,))
        _demand(count, commit.updated, "instances to be updated")
    if commit.advanced:
        count = _ADVANCE_INSTANCES.run(connection, commit.advanced, after=(hub,))
        _demand(count, commit.advanced, "instances to be advanced")
    if commit.history:
        _INSERT_HISTORY.run(connection, commit.history)
    if commit.inbox_done:
        count = changes(connection, _DELETE_MESSAGES, (hub, _json(commit.inbox_done)))
        _demand(count, commit.inbox_done, "messages to be deleted")
    if commit.inbox_new:
        _INSERT_MESSAGES.run(connection, commit.inbox_new, before=(hub,))
    if commit.timers_done:
        _DELETE_TIMERS.run(connection, commit.timers_done, before=(hub,))
    if commit.timers_new:
        _INSERT_TIMERS.run(connection, commit.timers_new, before=(hub,))
    if commit.retired:
        connection.execute(_RETIRE, (hub, _json(commit.retired)))
    if commit.purged:
        for statement in _PURGES:
            connection.execute(statement, (_json(commit.purged),))


def demand_alive(connection: Connection, hub: int, host_id: str) -> None:
    if connection.execute(_IS_ALIVE, (host_id, hub)).get is None:
        raise LaneLost(f"host {host_id} is not alive")


def changes(connection: Connection, statement: str, values: Sequence[Value]) -> int:
    """How many rows of the table a statement inserted, updated or deleted."""
    before = connection.total_changes()
    connection.execute(statement, values)
    return connection.total_changes() - before


def _create(connection: Connection, hub: int, rows: list[InstanceRow]) -> None:
    try:
        _INSERT_INSTANCES.run(connection, rows, before=(hub,))
    except apsw.ConstraintError as error:
        owner: dict[str, int] = {}
        taken = [
            row.id for row in rows if owner.setdefault(row.id, row.key) != row.key or _has_other(connection, hub, row)
        ]
        if not taken:
            raise
        raise IdTaken(taken) from error


def _has_other(connection: Connection, hub: int, row: InstanceRow) -> bool:
    """Whether an instance other than `row`, which may have been inserted, has its id."""
    found = reads.instance_of_id(connection, hub, row.id)
    return found is not None and found.key != row.key


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()


def _demand(count: int, rows: Sequence[object], what: str) -> None:
    if count != len(rows):
        raise ShortCount(f"{len(rows) - count} of {len(rows)} {what} do not exist")
