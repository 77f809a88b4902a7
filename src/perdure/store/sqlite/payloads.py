"""Payloads: written beside the lane, read by id, deleted a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import astuple

from perdure.store.api import PayloadRow, swept_rows
from perdure.store.sqlite.driver import Connection
from perdure.store.sqlite.statements import STATEMENTS

GROUP_BYTES = 1 << 20
"""What is written in one transaction, or one payload that is larger. Commits wait for no more."""

Position = tuple[int, int, int]
"""Instance, execution and id of a payload: the order in which all of them are walked over."""

_LEAST = -(2**63)
FIRST: Position = (_LEAST, _LEAST, _LEAST)

_INSERT = STATEMENTS["insert_payload"]
_PAYLOADS = STATEMENTS["payloads"]
_OF_EXECUTION = STATEMENTS["payloads_of_execution"]
_WALK = STATEMENTS["walk_payloads"]
_DELETE = STATEMENTS["delete_payload"]


def groups(rows: Iterable[PayloadRow]) -> Iterator[list[PayloadRow]]:
    """`rows` in order, as many at once as one transaction is to write."""
    group: list[PayloadRow] = []
    size = 0
    for row in rows:
        if group and size + len(row.body) > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row.body)
    if group:
        yield group


def insert(connection: Connection, rows: Iterable[PayloadRow]) -> None:
    connection.executemany(_INSERT, map(astuple, rows))


def read(connection: Connection, ids: Sequence[int]) -> dict[int, PayloadRow]:
    keys = msgspec.json.encode(ids).decode()
    return {row[0]: PayloadRow(*row) for row in connection.execute(_PAYLOADS, (keys,))}


def sweep_execution(connection: Connection, execution: int, room: int) -> int:
    """Delete payloads of `execution` as long as there is `room`, in rows; what is left of it, none if it is below 1."""
    for id, size in connection.execute(_OF_EXECUTION, (execution, room)).fetchall():
        if room <= 0:
            break
        room -= _delete(connection, id, size)
    return room


def sweep_strays(connection: Connection, behind: Position, room: int) -> Position | None:
    """Go on from `behind` as long as there is `room`, in rows, and delete what no commit can refer to.

    Returns where to go on the next time, None at the end.
    """
    page = connection.execute(_WALK, (*behind, room)).fetchall()
    limit = room
    for instance, execution, id, size in page:
        if room <= 0:
            return behind
        room -= 1 if size is None else _delete(connection, id, size)
        behind = (instance, execution, id)
    return behind if len(page) == limit else None


def _delete(connection: Connection, id: int, size: int) -> int:
    connection.execute(_DELETE, (id,))
    return swept_rows(size)
