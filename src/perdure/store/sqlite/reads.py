"""What is read. Each function is one statement, or several in one read transaction, run to its end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.core.ids import first_key
from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow
from perdure.store.api import HistoryRow, StoredMail, TimerRow
from perdure.store.sqlite.connections import snapshot
from perdure.store.sqlite.driver import Connection, Row, Value
from perdure.store.sqlite.statements import STATEMENTS

_INSTANCE = STATEMENTS["instance"]
_INSTANCE_OF_ID = STATEMENTS["instance_of_id"]
_HISTORY = STATEMENTS["history"]
_INBOX = STATEMENTS["inbox"]
_INBOX_OF = STATEMENTS["inbox_of"]
_TIMERS = STATEMENTS["timers"]
_DUE = STATEMENTS["due"]
_PARKED = STATEMENTS["parked"]
_CLIENT_KEY = STATEMENTS["client_key"]
_CREATED_BY_CLIENTS = STATEMENTS["created_by_clients"]

_LEAST, _MOST = -(2**63), 2**63 - 1
_BEHIND_ALL_TEXTS = b""  # SQLite orders any bytes behind any text
_BEFORE_ALL_TIMERS = TimerRow(_LEAST, _LEAST, _LEAST, _LEAST)
_READY = InstanceRow.__struct_fields__.index("ready")

# Up to so many, reading all that an index has for a query and sorting it beats walking over all instances.
_FEW = 10_000


def instance(connection: Connection, hub: int, key: int) -> InstanceRow | None:
    row = connection.execute(_INSTANCE, (key, hub)).fetchone()
    return None if row is None else _instance(row)


def instance_of_id(connection: Connection, hub: int, id: str) -> InstanceRow | None:
    row = connection.execute(_INSTANCE_OF_ID, (hub, id)).fetchone()
    return None if row is None else _instance(row)


def find(connection: Connection, hub: int, ids: Sequence[str]) -> dict[str, InstanceRow]:
    found: dict[str, InstanceRow] = {}
    with snapshot(connection):
        for id in ids:
            row = instance_of_id(connection, hub, id) if _storable(id) else None
            if row is not None:
                found[id] = row
    return found


def query(connection: Connection, hub: int, query: InstanceQuery) -> list[InstanceRow]:
    prefix = query.id_prefix or ""
    if not _storable(prefix):
        return []
    times = (
        _LEAST if query.created_from is None else query.created_from,
        _MOST if query.created_to is None else query.created_to,
    )
    ids = (prefix, _behind_prefix(prefix))
    statuses = msgspec.json.encode(query.statuses).decode() if query.statuses else None
    if times != (_LEAST, _MOST) and _is_few(connection, "count_created", (hub, *times)):
        statement = STATEMENTS["query_by_creation"]
    elif prefix and _is_few(connection, "count_ids", (hub, *ids)):
        statement = STATEMENTS["query_by_id"]
    else:
        statement = STATEMENTS["query_by_key"]
    return _instances(connection, statement, (hub, query.after_key, *times, *ids, statuses, query.limit))


def history(connection: Connection, execution: int, after: int, limit: int) -> list[HistoryRow]:
    return [HistoryRow(*row) for row in connection.execute(_HISTORY, (execution, after, limit))]


def inbox(connection: Connection, hub: int, after: int, limit: int) -> list[StoredMail]:
    return [_mail(row) for row in connection.execute(_INBOX, (hub, after, limit))]


def inbox_of(connection: Connection, hub: int, target: int, after: int, limit: int) -> list[StoredMail]:
    return [_mail(row) for row in connection.execute(_INBOX_OF, (hub, target, after, limit))]


def timers(connection: Connection, hub: int, until: int, after: TimerRow | None, limit: int) -> list[TimerRow]:
    behind = msgspec.structs.astuple(after or _BEFORE_ALL_TIMERS)
    return [TimerRow(*row) for row in connection.execute(_TIMERS, (hub, until, *behind, limit))]


def due(connection: Connection, hub: int, after_key: int, limit: int) -> list[InstanceRow]:
    return _instances(connection, _DUE, (hub, after_key, limit))


def parked(connection: Connection, hub: int, after_key: int, limit: int) -> list[InstanceRow]:
    return _instances(connection, _PARKED, (hub, after_key, limit))


def client_key(connection: Connection, hub: int) -> int:
    return connection.execute(_CLIENT_KEY, (hub,)).get


def created_by_clients(connection: Connection, hub: int, after_key: int, limit: int) -> list[InstanceRow]:
    return _instances(connection, _CREATED_BY_CLIENTS, (hub, after_key, first_key(1), limit))


def _instances(connection: Connection, statement: str, values: tuple[Value, ...]) -> list[InstanceRow]:
    return [_instance(row) for row in connection.execute(statement, values)]


def _instance(row: Row) -> InstanceRow:
    values = list(row)
    values[_READY] = bool(values[_READY])
    return InstanceRow(*values)


def _mail(row: Row) -> StoredMail:
    seq, id, target, execution, control, held, body = row
    return StoredMail(seq, id, target, execution, bool(control), bool(held), body)


def _is_few(connection: Connection, statement: str, values: tuple[Value, ...]) -> bool:
    return connection.execute(STATEMENTS[statement], (*values, _FEW + 1)).get <= _FEW


def _storable(text: str) -> bool:
    """Whether a row may have it: lone surrogates cannot be stored, so nothing that has them can be found."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _behind_prefix(prefix: str) -> str | bytes:
    """The least text behind all those that begin with `prefix`."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # What follows U+D7FF in UTF-8 is U+E000, as surrogates are no characters.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return _BEHIND_ALL_TEXTS
