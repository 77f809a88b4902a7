"""A task hub for tests of what stands in front of one: it keeps what it is told and gives what it is set to give."""

from __future__ import annotations

from typing import Any

from perdure.core.errors import InstanceEnded, InstanceNotFound, WrongStatus
from perdure.core.events import TurnRecord
from perdure.core.protocols import InstanceQuery, StartRequest
from perdure.core.state import ENDED, InstanceRow

CREATED = 1_714_564_800_999_999  # 2024-05-01T12:00:00.999999Z


def make_row(instance_id: str = "i1", **changes: Any) -> InstanceRow:
    fields: dict[str, Any] = {
        "key": 1,
        "partition": 0,
        "id": instance_id,
        "kind": "orchestration",
        "name": "Orchestrate",
        "version": None,
        "status": "Running",
        "created_at": CREATED,
        "updated_at": CREATED + 5_000_000,
        "completed_at": None,
        "execution": 1,
        "execution_id": "e" * 32,
        "generation": 0,
        "sequence": 1,
        "ready": False,
        "open_activities": 0,
        "parked": None,
        "request_id": None,
        "input": None,
        "output": None,
        "failure": None,
        "custom_status": None,
        "parent_key": None,
        "parent_execution": None,
        "parent_task": None,
        "parent_id": None,
        "parent_name": None,
    }
    return InstanceRow(**{**fields, **changes})


class FakeHub:
    """`refusal`, if set, is raised by whatever changes something."""

    def __init__(self, name: str = "Shop") -> None:
        self.name = name
        self.rows: dict[str, InstanceRow] = {}
        self.records: list[TurnRecord] = []
        self.told: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None

    def add(self, *rows: InstanceRow) -> None:
        self.rows.update({row.id: row for row in rows})

    async def start(self, request: StartRequest) -> str:
        self._note("start", request)
        return request.instance_id or "0123456789abcdef0123456789abcdef"

    async def raise_event(self, instance_id: str, name: str, input: str | None, source: str = "") -> None:
        self._note("raise_event", instance_id, name, input, source)

    async def terminate(self, instance_id: str, reason: str | None) -> None:
        self._steer("terminate", instance_id, reason)

    async def suspend(self, instance_id: str, reason: str | None) -> None:
        self._steer("suspend", instance_id, reason)

    async def resume(self, instance_id: str, reason: str | None) -> None:
        self._steer("resume", instance_id, reason)

    async def purge(self, instance_id: str) -> None:
        self._note("purge", instance_id)
        row = self._found(instance_id)
        if row.status not in ENDED:
            raise WrongStatus("purge", instance_id, row.status)

    async def get(self, instance_id: str) -> InstanceRow | None:
        return self.rows.get(instance_id)

    async def query(self, query: InstanceQuery) -> list[InstanceRow]:
        self._note("query", query)
        rows = sorted(self.rows.values(), key=lambda row: row.key)
        return [row for row in rows if row.key > query.after_key][: query.limit]

    async def history(self, instance_id: str) -> list[TurnRecord]:
        self._found(instance_id)
        return self.records

    async def wait(self, instance_id: str, timeout: float) -> InstanceRow:
        self._note("wait", instance_id, timeout)
        return self._found(instance_id)

    def _steer(self, verb: str, instance_id: str, reason: str | None) -> None:
        self._note(verb, instance_id, reason)
        row = self._found(instance_id)
        if row.status in ENDED:
            raise InstanceEnded(instance_id, row.status)

    def _found(self, instance_id: str) -> InstanceRow:
        if instance_id not in self.rows:
            raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
        return self.rows[instance_id]

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        if self.refusal is not None:
            raise self.refusal
