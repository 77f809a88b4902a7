"""What a client writes that is not the host: instances that did not exist, and messages. All else the host decides."""

from __future__ import annotations

from msgspec.structs import astuple, replace

from perdure.core.codec import join_records
from perdure.core.errors import InstanceNotFound
from perdure.core.state import InstanceRow
from perdure.store.api import InboxRow
from perdure.store.sqlite import reads
from perdure.store.sqlite.driver import Connection
from perdure.store.sqlite.statements import STATEMENTS


def start(connection: Connection, hub: int, row: InstanceRow, record: bytes) -> InstanceRow | None:
    existing = reads.instance_of_id(connection, hub, row.id)
    if existing is not None:
        return existing
    key = _next_key(connection, hub)
    row = replace(row, key=key, execution=key)
    connection.execute(STATEMENTS["insert_instance"], (*astuple(row), hub))
    connection.execute(STATEMENTS["insert_first_history"], (key, join_records([record])))
    return None


def send(connection: Connection, hub: int, message: InboxRow) -> None:
    if reads.instance(connection, hub, message.target) is None:
        raise InstanceNotFound(f"no instance has the key {message.target}")
    message = replace(message, id=_next_key(connection, hub))
    connection.execute(STATEMENTS["insert_message"], (*astuple(message), hub))


def _next_key(connection: Connection, hub: int) -> int:
    return connection.execute(STATEMENTS["next_client_key"], (hub,)).get
