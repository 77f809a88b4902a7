"""What a host writes. Each function runs inside a transaction; what it raises rolls that back."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from perdure.core.errors import IdTaken, LaneLost, ShortCount
from perdure.core.ids import PARTITIONS
from perdure.core.state import PROGRESS, InstanceRow
from perdure.store.api import Commit, Host
from perdure.store.sqlite import reads
from perdure.store.sqlite.bulk import Bulk
from perdure.store.sqlite.driver import Connection, Value
from perdure.store.sqlite.statements import STATEMENTS

_FENCE = STATEMENTS["fence"]
_RETIRE_PURGED = STATEMENTS["retire_purged"]
_DELETE_INSTANCES = STATEMENTS["delete_instances"]
_INSERT_INSTANCES = Bulk("insert_instances", width=len(InstanceRow.__struct_fields__) + 1)
_UPDATE_INSTANCES = Bulk("update_instances", width=len(InstanceRow.__struct_fields__) + 1)
_ADVANCE_INSTANCES = Bulk("advance_instances", width=len(PROGRESS) + 2)
_INSERT_HISTORY = Bulk("insert_history", width=3)
_DELETE_MESSAGES = STATEMENTS["delete_messages"]
_INSERT_MESSAGES = Bulk("insert_messages", width=6)
_DELETE_TIMERS = Bulk("delete_timers", width=4)
_INSERT_TIMERS = Bulk("insert_timers", width=5)
_RETIRE = STATEMENTS["retire"]
_PURGES = (STATEMENTS["purge_inbox"], STATEMENTS["purge_timers"], STATEMENTS["purge_payloads"])

_progress: Callable[[InstanceRow], tuple[Any, ...]] = attrgetter("key", *PROGRESS)


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
    if _changes(connection, _FENCE, (commit.number, commit.now, commit.host, hub)) == 0:
        raise LaneLost(f"commit {commit.number} of host {commit.host} was refused")
    if commit.purged:
        keys = _json(commit.purged)
        connection.execute(_RETIRE_PURGED, (hub, keys))
        _demand(_changes(connection, _DELETE_INSTANCES, (hub, keys)), commit.purged, "instances to be purged")
    if commit.created:
        _create(connection, hub, commit.created)
    if commit.updated:
        count = _UPDATE_INSTANCES.run(connection, _with_hub(commit.updated, hub))
        _demand(count, commit.updated, "instances to be updated")
    if commit.advanced:
        count = _ADVANCE_INSTANCES.run(connection, [(*_progress(row), hub) for row in commit.advanced])
        _demand(count, commit.advanced, "instances to be advanced")
    if commit.history:
        _INSERT_HISTORY.run(connection, [astuple(row) for row in commit.history])
    if commit.inbox_done:
        count = _changes(connection, _DELETE_MESSAGES, (hub, _json(commit.inbox_done)))
        _demand(count, commit.inbox_done, "messages to be deleted")
    if commit.inbox_new:
        _INSERT_MESSAGES.run(connection, _with_hub(commit.inbox_new, hub))
    if commit.timers_done:
        _DELETE_TIMERS.run(connection, [astuple(row) for row in commit.timers_done], hub)
    if commit.timers_new:
        _INSERT_TIMERS.run(connection, _with_hub(commit.timers_new, hub))
    if commit.retired:
        connection.execute(_RETIRE, (hub, _json(commit.retired)))
    if commit.purged:
        for statement in _PURGES:
            connection.execute(statement, (_json(commit.purged),))


def sweep(connection: Connection, hub: int, host_id: str, limit: int) -> bool:
    if connection.execute(STATEMENTS["is_alive"], (host_id, hub)).get is None:
        raise LaneLost(f"host {host_id} is not alive")
    room = limit
    for (execution,) in connection.execute(STATEMENTS["garbage"], (hub, limit)).fetchall():
        room -= _changes(connection, STATEMENTS["sweep_history"], (execution, room))
        if room == 0:
            break
        connection.execute(STATEMENTS["forget_garbage"], (execution,))
    return connection.execute(STATEMENTS["garbage"], (hub, 1)).get is not None


def _create(connection: Connection, hub: int, rows: list[InstanceRow]) -> None:
    try:
        _INSERT_INSTANCES.run(connection, _with_hub(rows, hub))
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


def _with_hub(rows: Iterable[Struct], hub: int) -> list[tuple[Value, ...]]:
    return [(*astuple(row), hub) for row in rows]


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()


def _changes(connection: Connection, statement: str, values: Sequence[Value]) -> int:
    before = connection.total_changes()
    connection.execute(statement, values)
    return connection.total_changes() - before


def _demand(count: int, rows: Sequence[object], what: str) -> None:
    if count != len(rows):
        raise ShortCount(f"{len(rows) - count} of {len(rows)} {what} do not exist")
