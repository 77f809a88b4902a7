"""What is of no more use goes a few rows at a time: histories and payloads of retired executions, stray payloads."""

from __future__ import annotations

from msgspec import Struct

from perdure.store.sqlite import lane, payloads
from perdure.store.sqlite.driver import Connection
from perdure.store.sqlite.statements import STATEMENTS

_GARBAGE = STATEMENTS["garbage"]
_SWEEP_HISTORY = STATEMENTS["sweep_history"]
_FORGET_GARBAGE = STATEMENTS["forget_garbage"]


class Walk(Struct, frozen=True):
    """How far the payloads have been looked through for a host. Begun anew if it is lost: nothing depends on it."""

    host_id: str
    behind: payloads.Position | None = payloads.FIRST
    """None at the end."""


def sweep(connection: Connection, hub: int, walk: Walk, limit: int) -> tuple[Walk, bool]:
    """Delete up to `limit` rows, inside a transaction. Returns how far that got, and whether there is more to do."""
    lane.demand_alive(connection, hub, walk.host_id)
    room = limit
    for (execution,) in connection.execute(_GARBAGE, (hub, limit)).fetchall():
        room = payloads.sweep_execution(connection, execution, room)
        if room > 0:
            room -= lane.changes(connection, _SWEEP_HISTORY, (execution, room))
        if room <= 0:
            return walk, True
        connection.execute(_FORGET_GARBAGE, (execution,))
    if walk.behind is not None:
        walk = Walk(walk.host_id, payloads.sweep_strays(connection, walk.behind, room))
    more = walk.behind is not None or connection.execute(_GARBAGE, (hub, 1)).get is not None
    return walk, more
