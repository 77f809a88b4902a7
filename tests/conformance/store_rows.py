"""Valid rows for the tests of stores, a lane that counts its commits, and all that a store shows at one moment."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from perdure.core.ids import first_key, partition_of
from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, PayloadRow, Store, TimerRow

NOW = 1_700_000_000_000_000
BITS = 0xFEDC_BA98_7654_3210


def instance(key: int, id: str | None = None, **changes: Any) -> InstanceRow:
    id = f"instance-{key}" if id is None else id
    row = InstanceRow(
        key=key,
        partition=partition_of(id),
        id=id,
        kind="orchestration",
        name="hello",
        version=None,
        status="Running",
        created_at=NOW,
        updated_at=NOW,
        completed_at=None,
        execution=key,
        execution_id=f"{key:032x}",
        generation=0,
        sequence=1,
        ready=False,
        open_activities=0,
        parked=None,
        request_id=None,
        input='"Tokyo"',
        output=None,
        failure=None,
        custom_status=None,
        parent_key=None,
        parent_execution=None,
        parent_task=None,
        parent_id=None,
        parent_name=None,
    )
    return replace(row, **changes)


def history(execution: int, first: int = 0, body: bytes = b"[]") -> HistoryRow:
    return HistoryRow(execution, first, body)


def message(id: int, target: int, *, execution: int = 0, control: bool = False, body: bytes = b"{}") -> InboxRow:
    return InboxRow(id, target, execution, control, body)


def timer(fire_at: int, instance: int, execution: int | None = None, task_id: int = 0) -> TimerRow:
    return TimerRow(fire_at, instance, instance if execution is None else execution, task_id)


def payload(id: int, instance: int, execution: int | None = None, body: bytes = b"text") -> PayloadRow:
    return PayloadRow(id, instance, instance if execution is None else execution, "utf-8", body)


class Lane:
    """A registered host and the number of its last commit that landed. `first` is its first key."""

    def __init__(self, store: Store, bits: int = BITS) -> None:
        self.store = store
        self.host: Host = store.register_host(NOW, bits)
        self.number = 0
        self.first = first_key(self.host.ordinal)

    def next(self, **parts: Any) -> Commit:
        return Commit(self.host.id, self.number + 1, NOW, **parts)

    def commit(self, **parts: Any) -> None:
        self.store.commit(self.next(**parts))
        self.number += 1

    def write_payloads(self, *rows: PayloadRow) -> None:
        self.store.write_payloads(self.host.id, rows)

    def sweep(self, limit: int = 1000) -> int:
        """Until nothing is left to do; how many calls that took."""
        calls = 1
        while self.store.sweep(self.host.id, limit):
            calls += 1
        return calls


def snapshot(
    store: Store, executions: range | list[int], page: int = 3, *, payloads: list[int] | None = None
) -> dict[str, Any]:
    """All that the store shows, read in pages of `page` rows; `executions` are those whose history is looked at, and
    `payloads` the ids of the payloads that are."""
    instances = everything(lambda after: store.query(InstanceQuery(after_key=after, limit=page)), lambda row: row.key)
    return {
        "instances": instances,
        "by key": [store.instance(row.key) for row in instances],
        "by id": store.find([row.id for row in instances]),
        "due": everything(lambda after: store.due(after, page), lambda row: row.key),
        "parked": everything(lambda after: store.parked(after, page), lambda row: row.key),
        "from clients": everything(lambda after: store.created_by_clients(after, page), lambda row: row.key),
        "inbox": everything(lambda after: store.inbox(after, page), lambda row: row.seq),
        "inbox of": {
            row.key: everything(lambda after, key=row.key: store.inbox_of(key, after, page), lambda mail: mail.seq)
            for row in instances
        },
        "timers": everything(lambda after: store.timers(2**62, after, page), lambda row: row, None),
        "history": {
            execution: everything(lambda after, of=execution: store.history(of, after, page), lambda row: row.first, -1)
            for execution in executions
        },
        "payloads": store.payloads(payloads or []),
        "client cursor": store.client_cursor(),
    }


def everything(read: Any, cursor: Any, start: Any = 0) -> list[Any]:
    """All pages of `read`, each read from behind the cursor of the last row before it."""
    rows: list[Any] = []
    while True:
        page = read(cursor(rows[-1]) if rows else start)
        if not page:
            return rows
        assert not rows or cursor(page[0]) != cursor(rows[-1]), "a page begins where the one before it ended"
        rows.extend(page)
