"""A store that lives in this process and ends with it.

A `MemoryDatabase` is what a file is to the SQLite store: it outlives the handles that open it, so a host may be dropped
and another one started over what the first had committed. A commit is checked whole before anything of it is applied,
section by section in the order in which the SQLite store writes, so that both refuse the same commits with the same
error. There is no process to hold the database: registering a host ends every other one of the hub, and the fence
refuses what those may still send.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Iterable, Iterator, Sequence, Set
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from perdure.core.codec import join_records
from perdure.core.errors import IdTaken, InstanceNotFound, LaneLost, RefusedData, ShortCount, StoreUnavailable
from perdure.core.ids import KEY_BITS, first_key
from perdure.core.protocols import InstanceQuery
from perdure.core.state import PROGRESS, InstanceRow
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, PayloadRow, StoredMail, TimerRow, swept_rows

_first_of: Callable[[HistoryRow], int] = attrgetter("first")
_progress: Callable[[InstanceRow], tuple[Any, ...]] = attrgetter(*PROGRESS)
_INTEGERS = range(-(2**63), 2**63)

_Position = tuple[int, int, int]
_BEFORE_ALL: _Position = (_INTEGERS[0], _INTEGERS[0], _INTEGERS[0])


class _HostState(Struct):
    ordinal: int
    commit_number: int = 0
    alive: bool = True


class _Hub:
    """The tables of one task hub. Its methods apply what was checked and cannot fail."""

    def __init__(self) -> None:
        self.hosts: dict[str, _HostState] = {}
        self.client_key = 0
        self.instances: dict[int, InstanceRow] = {}
        self.keys: list[int] = []
        self.key_of: dict[str, int] = {}
        self.history: dict[int, list[HistoryRow]] = {}
        self.inbox: dict[int, InboxRow] = {}
        self.seq_of: dict[int, int] = {}
        self.inbox_by_target: dict[int, dict[int, InboxRow]] = {}
        self.timers: list[tuple[int, int, int, int]] = []
        self.timers_by_instance: dict[int, set[tuple[int, int, int, int]]] = {}
        self.garbage: dict[int, None] = {}
        self.payloads: dict[int, PayloadRow] = {}
        self.payload_order: list[_Position] = []
        self.payloads_of_execution: dict[int, list[int]] = {}

    def insert_instance(self, row: InstanceRow) -> None:
        self.instances[row.key] = row
        insort(self.keys, row.key)
        self.key_of[row.id] = row.key

    def advance_instance(self, row: InstanceRow) -> None:
        progress = dict(zip(PROGRESS, _progress(row), strict=True))
        self.instances[row.key] = msgspec.structs.replace(self.instances[row.key], **progress)

    def delete_instance(self, key: int) -> None:
        row = self.instances.pop(key)
        del self.keys[bisect_left(self.keys, key)]
        del self.key_of[row.id]
        self.garbage[row.execution] = None

    def delete_belongings(self, key: int) -> None:
        for seq, message in self.inbox_by_target.pop(key, {}).items():
            del self.inbox[seq]
            del self.seq_of[message.id]
        for timer in self.timers_by_instance.pop(key, ()):
            del self.timers[bisect_left(self.timers, timer)]
        first, end = (bisect_left(self.payload_order, (instance,)) for instance in (key, key + 1))
        for _, _, id in self.payload_order[first:end]:
            self.delete_payload(id)

    def insert_history(self, row: HistoryRow) -> None:
        insort(self.history.setdefault(row.execution, []), row, key=_first_of)

    def has_history(self, execution: int, first: int) -> bool:
        rows = self.history.get(execution, ())
        at = bisect_left(rows, first, key=_first_of)
        return at < len(rows) and rows[at].first == first

    def insert_message(self, seq: int, row: InboxRow) -> None:
        self.inbox[seq] = row
        self.seq_of[row.id] = seq
        self.inbox_by_target.setdefault(row.target, {})[seq] = row

    def delete_message(self, id: int) -> None:
        seq = self.seq_of.pop(id)
        target = self.inbox.pop(seq).target
        of_target = self.inbox_by_target[target]
        del of_target[seq]
        if not of_target:
            del self.inbox_by_target[target]

    def insert_timer(self, row: TimerRow) -> None:
        timer = _timer(row)
        insort(self.timers, timer)
        self.timers_by_instance.setdefault(row.instance, set()).add(timer)

    def has_timer(self, row: TimerRow) -> bool:
        return _timer(row) in self.timers_by_instance.get(row.instance, ())

    def delete_timer(self, row: TimerRow) -> None:
        if not self.has_timer(row):
            return
        timer = _timer(row)
        del self.timers[bisect_left(self.timers, timer)]
        of_instance = self.timers_by_instance[row.instance]
        of_instance.discard(timer)
        if not of_instance:
            del self.timers_by_instance[row.instance]

    def insert_payload(self, row: PayloadRow) -> None:
        self.payloads[row.id] = row
        insort(self.payload_order, _position(row))
        insort(self.payloads_of_execution.setdefault(row.execution, []), row.id)

    def delete_payload(self, id: int) -> int:
        """How many rows that counts as."""
        row = self.payloads.pop(id)
        del self.payload_order[bisect_left(self.payload_order, _position(row))]
        of_execution = self.payloads_of_execution[row.execution]
        of_execution.remove(id)
        if not of_execution:
            del self.payloads_of_execution[row.execution]
        return swept_rows(len(row.body))

    def is_stray(self, row: PayloadRow) -> bool:
        """No commit can refer to it: its execution is not its instance's, and its host is gone."""
        instance = self.instances.get(row.instance)
        if instance is not None and instance.execution == row.execution:
            return False
        return not any(host.alive for host in self.hosts.values() if host.ordinal == row.id >> KEY_BITS)

    def instances_after(self, key: int) -> Iterator[InstanceRow]:
        return (self.instances[k] for k in islice(self.keys, bisect_right(self.keys, key), None))

    def mail(self, rows: Iterable[tuple[int, InboxRow]], after: int, limit: int) -> list[StoredMail]:
        later = ((seq, row) for seq, row in rows if seq > after)
        return [
            StoredMail(seq, row.id, row.target, row.execution, row.control, self._held(row.target), row.body)
            for seq, row in islice(later, limit)
        ]

    def _held(self, key: int) -> bool:
        row = self.instances.get(key)
        return row is not None and _is_held(row)


class MemoryDatabase:
    """What handles open, and what outlives them. `largest_value` is the most bytes that one value may have."""

    def __init__(self, largest_value: int = 1_000_000_000) -> None:
        self.lock = threading.Lock()
        self.largest_value = largest_value
        self.hubs: dict[str, _Hub] = {}
        self._ordinal = 0
        self._client_key = 0
        self._seq = 0

    def next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    def next_client_key(self) -> int:
        self._client_key += 1
        return self._client_key

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq


class MemoryStore:
    """One task hub of a `MemoryDatabase`, opened. See `perdure.store.api.Store`."""

    def __init__(self, database: MemoryDatabase, hub: str) -> None:
        self._database = database
        self._lock = database.lock
        self._closed = False
        with self._lock:
            self._tables = database.hubs.setdefault(hub, _Hub())
            self._polled_key = self._tables.client_key
        self._walked: dict[str, _Position | None] = {}

    # --- the host's side ---------------------------------------------------------------------------------------------

    def register_host(self, now: int, random_bits: int) -> Host:
        with self._lock:
            hub = self._hub()
            for other in hub.hosts.values():
                other.alive = False
            ordinal = self._database.next_ordinal()
            host = Host(f"{ordinal}-{random_bits:016x}", ordinal, random_bits)
            hub.hosts[host.id] = _HostState(ordinal)
            return host

    def end_host(self, host_id: str) -> int:
        with self._lock:
            host = self._hub().hosts.get(host_id)
            if host is None:
                return 0
            host.alive = False
            return host.commit_number

    def commit(self, commit: Commit) -> None:
        with self._lock:
            hub = self._hub()
            host = hub.hosts.get(commit.host)
            if host is None or not host.alive or host.commit_number != commit.number - 1:
                raise LaneLost(f"commit {commit.number} of host {commit.host} was refused")
            self._check(hub, commit)
            host.commit_number = commit.number
            self._apply(hub, commit)

    def sweep(self, host_id: str, limit: int) -> bool:
        with self._lock:
            hub = self._living(host_id)
            room = limit
            for execution in sorted(hub.garbage)[:limit]:
                for id in hub.payloads_of_execution.get(execution, [])[:room]:
                    if room > 0:
                        room -= hub.delete_payload(id)
                if room > 0:
                    rows = hub.history.get(execution, [])
                    count = min(room, len(rows))
                    del rows[:count]
                    room -= count
                if room <= 0:
                    return True
                hub.history.pop(execution, None)
                del hub.garbage[execution]
            more = self._sweep_strays(hub, host_id, room)
            return more or bool(hub.garbage)

    def _sweep_strays(self, hub: _Hub, host_id: str, room: int) -> bool:
        behind = self._walked.get(host_id, _BEFORE_ALL)
        if behind is None:
            return False
        start = bisect_right(hub.payload_order, behind)
        page = hub.payload_order[start : start + room]
        more = len(page) == room
        for position in page:
            if room <= 0:
                more = True
                break
            row = hub.payloads[position[2]]
            room -= hub.delete_payload(row.id) if hub.is_stray(row) else 1
            behind = position
        self._walked = {host_id: behind if more else None}
        return more

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        with self._lock:
            hub = self._living(host_id)
            self._check_new(rows, lambda row: row.id, lambda row: row.id in hub.payloads)
            for row in rows:
                hub.insert_payload(row)

    def _living(self, host_id: str) -> _Hub:
        hub = self._hub()
        host = hub.hosts.get(host_id)
        if host is None or not host.alive:
            raise LaneLost(f"host {host_id} is not alive")
        return hub

    def _check(self, hub: _Hub, commit: Commit) -> None:
        """Raise what keeps `commit` from being applied, if anything does."""
        if not _all_exist(commit.purged, hub.instances):
            raise ShortCount("an instance to be purged does not exist")
        freed = {hub.instances[key].id for key in commit.purged}
        ids: set[str] = set()
        keys: set[int] = set()
        self._check_values(commit.created)
        for row in commit.created:
            has_key = row.key in keys or (row.key in hub.instances and row.key not in commit.purged)
            if has_key or row.id in ids or (row.id in hub.key_of and row.id not in freed):
                taken = _taken(hub, commit.created, freed)
                if taken:
                    raise IdTaken(taken)
                raise RefusedData(f"instance key {row.key} exists already")
            ids.add(row.id)
            keys.add(row.key)
        purged = set(commit.purged)
        self._check_values(commit.updated)
        if not _all_exist([row.key for row in commit.updated], hub.instances, purged):
            raise ShortCount("an instance to be updated does not exist")
        for row in commit.updated:
            old = hub.instances[row.key]
            assert (row.id, row.partition, row.kind) == (old.id, old.partition, old.kind), row
        for row in commit.advanced:
            self._check_fields(PROGRESS, _progress(row))
        if not _all_exist([row.key for row in commit.advanced], hub.instances, purged):
            raise ShortCount("an instance to be advanced does not exist")
        self._check_new(
            commit.history, lambda r: (r.execution, r.first), lambda r: hub.has_history(r.execution, r.first)
        )
        if not _all_exist(commit.inbox_done, hub.seq_of):
            raise ShortCount("a message to be deleted does not exist")
        self._check_new(commit.inbox_new, lambda r: r.id, lambda r: r.id in hub.seq_of)
        self._check_new(commit.timers_new, _timer, hub.has_timer)

    def _check_new(self, rows: Sequence[Any], key: Callable[[Any], Any], exists: Callable[[Any], bool]) -> None:
        self._check_values(rows)
        seen: set[Any] = set()
        for row in rows:
            if key(row) in seen or exists(row):
                raise RefusedData(f"row exists already: {type(row).__name__} {key(row)}")
            seen.add(key(row))

    def _check_values(self, rows: Iterable[Struct]) -> None:
        for row in rows:
            self._check_row(row)

    def _check_row(self, row: Struct) -> None:
        self._check_fields(row.__struct_fields__, msgspec.structs.astuple(row))

    def _check_fields(self, names: Sequence[str], values: Sequence[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            match value:
                case str():
                    try:
                        size = len(value) if value.isascii() else len(value.encode())
                    except UnicodeEncodeError as error:
                        raise RefusedData(f"{name}: {error}") from error
                case bytes():
                    size = len(value)
                case int():
                    if value not in _INTEGERS:
                        raise RefusedData(f"{name}: the integer {value} has more than 64 bits")
                    continue
                case _:
                    continue
            if size > self._database.largest_value:
                raise RefusedData(f"{name}: {size} bytes are too many")

    def _apply(self, hub: _Hub, commit: Commit) -> None:
        for key in commit.purged:
            hub.delete_instance(key)
        for row in commit.created:
            hub.insert_instance(row)
        for row in commit.updated:
            hub.instances[row.key] = row
        for row in commit.advanced:
            hub.advance_instance(row)
        for row in commit.history:
            hub.insert_history(row)
        for id in commit.inbox_done:
            hub.delete_message(id)
        for row in commit.inbox_new:
            hub.insert_message(self._database.next_seq(), row)
        for row in commit.timers_done:
            hub.delete_timer(row)
        for row in commit.timers_new:
            hub.insert_timer(row)
        for execution in commit.retired:
            hub.garbage[execution] = None
        for key in commit.purged:
            hub.delete_belongings(key)

    # --- reads -------------------------------------------------------------------------------------------------------

    def instance(self, key: int) -> InstanceRow | None:
        with self._lock:
            return self._hub().instances.get(key)

    def find(self, ids: Sequence[str]) -> dict[str, InstanceRow]:
        with self._lock:
            hub = self._hub()
            return {id: hub.instances[hub.key_of[id]] for id in ids if id in hub.key_of}

    def query(self, query: InstanceQuery) -> list[InstanceRow]:
        with self._lock:
            found = (row for row in self._hub().instances_after(query.after_key) if _matches(row, query))
            return list(islice(found, query.limit))

    def history(self, execution: int, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        with self._lock:
            rows = self._hub().history.get(execution, [])
            start = bisect_right(rows, after, key=_first_of)
            return rows[start : start + limit]

    def payloads(self, ids: Sequence[int]) -> dict[int, PayloadRow]:
        with self._lock:
            payloads = self._hub().payloads
            return {id: payloads[id] for id in ids if id in payloads}

    def inbox(self, after: int, limit: int) -> list[StoredMail]:
        with self._lock:
            hub = self._hub()
            return hub.mail(hub.inbox.items(), after, limit)

    def inbox_of(self, target: int, after: int, limit: int) -> list[StoredMail]:
        with self._lock:
            hub = self._hub()
            return hub.mail(hub.inbox_by_target.get(target, {}).items(), after, limit)

    def timers(self, until: int, after: TimerRow | None, limit: int) -> list[TimerRow]:
        with self._lock:
            timers = self._hub().timers
            start = 0 if after is None else bisect_right(timers, _timer(after))
            end = bisect_left(timers, (until + 1,))
            return [TimerRow(*timer) for timer in timers[start : min(end, start + limit)]]

    def due(self, after_key: int, limit: int) -> list[InstanceRow]:
        with self._lock:
            found = (
                row
                for row in self._hub().instances_after(after_key)
                if (row.ready or row.open_activities > 0) and not _is_held(row)
            )
            return list(islice(found, limit))

    def parked(self, after_key: int, limit: int) -> list[InstanceRow]:
        with self._lock:
            found = (row for row in self._hub().instances_after(after_key) if row.parked is not None)
            return list(islice(found, limit))

    # --- clients that are not the host -------------------------------------------------------------------------------

    def submit_start(self, row: InstanceRow, record: bytes) -> InstanceRow | None:
        with self._lock:
            hub = self._hub()
            taken = hub.key_of.get(row.id)
            if taken is not None:
                return hub.instances[taken]
            self._check_row(row)
            body = join_records([record])
            self._check_row(HistoryRow(0, 0, body))
            key = hub.client_key = self._database.next_client_key()
            hub.insert_instance(msgspec.structs.replace(row, key=key, execution=key))
            hub.insert_history(HistoryRow(key, 0, body))
            return None

    def submit_message(self, message: InboxRow) -> None:
        with self._lock:
            hub = self._hub()
            if message.target not in hub.instances:
                raise InstanceNotFound(f"no instance has the key {message.target}")
            self._check_row(message)
            key = hub.client_key = self._database.next_client_key()
            hub.insert_message(self._database.next_seq(), msgspec.structs.replace(message, id=key))

    def client_cursor(self) -> int:
        with self._lock:
            return self._hub().client_key

    def created_by_clients(self, after_key: int, limit: int) -> list[InstanceRow]:
        with self._lock:
            hub = self._hub()
            end = bisect_left(hub.keys, first_key(1))
            keys = hub.keys[bisect_right(hub.keys, after_key) : end]
            return [hub.instances[key] for key in keys[:limit]]

    def poll(self) -> bool:
        with self._lock:
            before, self._polled_key = self._polled_key, self._hub().client_key
            return self._polled_key != before

    def close(self) -> None:
        self._closed = True

    def _hub(self) -> _Hub:
        if self._closed:
            raise StoreUnavailable("the store was closed")
        return self._tables


def _all_exist(keys: Sequence[int], table: Container[int], gone: Set[int] = frozenset()) -> bool:
    return len(set(keys)) == len(keys) and all(key in table and key not in gone for key in keys)


def _timer(row: TimerRow) -> tuple[int, int, int, int]:
    return (row.fire_at, row.instance, row.execution, row.task_id)


def _position(row: PayloadRow) -> _Position:
    return (row.instance, row.execution, row.id)


def _is_held(row: InstanceRow) -> bool:
    return row.status in ("Suspended", "Failed") or row.parked is not None


def _matches(row: InstanceRow, query: InstanceQuery) -> bool:
    return (
        (query.created_from is None or row.created_at >= query.created_from)
        and (query.created_to is None or row.created_at <= query.created_to)
        and (not query.statuses or row.status in query.statuses)
        and (query.id_prefix is None or row.id.startswith(query.id_prefix))
    )


def _taken(hub: _Hub, created: Sequence[InstanceRow], freed: set[str]) -> list[str]:
    """Ids of `created` that another instance has, or an earlier one of `created`."""
    owner: dict[str, int] = {}
    return [
        row.id
        for row in created
        if owner.setdefault(row.id, row.key) != row.key
        or (row.id not in freed and hub.key_of.get(row.id, row.key) != row.key)
    ]
