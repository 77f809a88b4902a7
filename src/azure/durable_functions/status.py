"""What a client is told about instances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from azure.durable_functions.serialization import json_loads

from perdure.core.codec import decode_failure
from perdure.core.failures import reason
from perdure.core.state import InstanceRow

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class OrchestrationRuntimeStatus(Enum):
    """Where an instance is in its life. The values are the names that the HTTP API uses."""

    Running = "Running"
    Completed = "Completed"
    ContinuedAsNew = "ContinuedAsNew"
    Failed = "Failed"
    Canceled = "Canceled"
    Terminated = "Terminated"
    Pending = "Pending"
    Suspended = "Suspended"


class DurableOrchestrationStatus:
    """One instance at one moment; false if there is no such instance.

    Takes the fields of the HTTP API's status object; those it does not know become attributes.
    """

    def __init__(
        self,
        name: str | None = None,
        instanceId: str | None = None,
        createdTime: datetime | str | None = None,
        lastUpdatedTime: datetime | str | None = None,
        input: Any = None,
        output: Any = None,
        runtimeStatus: str | None = None,
        customStatus: Any = None,
        history: list[Any] | None = None,
        **extra: Any,
    ) -> None:
        self._name = name
        self._instance_id = instanceId
        self._created_time = _time(createdTime)
        self._last_updated_time = _time(lastUpdatedTime)
        self._input = input
        self._output = output
        self._runtime_status = OrchestrationRuntimeStatus(runtimeStatus) if runtimeStatus is not None else None
        self._custom_status = customStatus
        self._history = history
        for key, value in extra.items():
            setattr(self, key, value)

    def __bool__(self) -> bool:
        return self._created_time is not None

    @classmethod
    def from_json(cls, json_obj: Mapping[str, Any] | str) -> DurableOrchestrationStatus:
        """From the HTTP API's status object; text is kept as `message` of a false status."""
        return cls(message=json_obj) if isinstance(json_obj, str) else cls(**json_obj)

    @classmethod
    def from_row(
        cls, row: InstanceRow, history: Sequence[Mapping[str, Any]] | None = None
    ) -> DurableOrchestrationStatus:
        return cls(
            name=row.name,
            instanceId=row.id,
            createdTime=_EPOCH + timedelta(microseconds=row.created_at),
            lastUpdatedTime=_EPOCH + timedelta(microseconds=row.updated_at),
            input=_value(row.input),
            output=_output(row),
            runtimeStatus=row.status,
            customStatus=_value(row.custom_status),
            history=None if history is None else list(history),
            **({} if history is None else {"historyEvents": list(history)}),
        )

    def to_json(self) -> dict[str, Any]:
        """The fields that are known, under the HTTP API's names."""
        fields: dict[str, Any] = {
            "name": self._name,
            "instanceId": self._instance_id,
            "createdTime": None if self._created_time is None else self._created_time.strftime(_TIME_FORMAT),
            "lastUpdatedTime": (
                None if self._last_updated_time is None else self._last_updated_time.strftime(_TIME_FORMAT)
            ),
            "output": self._output,
            "input": self._input,
            "runtimeStatus": None if self._runtime_status is None else self._runtime_status.name,
            "customStatus": self._custom_status,
            "history": self._history,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def instance_id(self) -> str | None:
        return self._instance_id

    @property
    def created_time(self) -> datetime | None:
        """Aware, in UTC."""
        return self._created_time

    @property
    def last_updated_time(self) -> datetime | None:
        """Aware, in UTC."""
        return self._last_updated_time

    @property
    def input_(self) -> Any:
        return self._input

    @property
    def output(self) -> Any:
        """The return value of a Completed instance, the failure's text of a Failed one, the reason of a Terminated."""
        return self._output

    @property
    def runtime_status(self) -> OrchestrationRuntimeStatus | None:
        return self._runtime_status

    @property
    def custom_status(self) -> Any:
        return self._custom_status

    @property
    def history(self) -> list[Any] | None:
        """The events, in the form of the HTTP API's `historyEvents`, if they were asked for."""
        return self._history


class PurgeHistoryResult:
    """How many instances were deleted."""

    def __init__(self, instancesDeleted: int, **extra: Any) -> None:
        self._instances_deleted = instancesDeleted
        for key, value in extra.items():
            setattr(self, key, value)

    @classmethod
    def from_json(cls, json_obj: Mapping[str, Any]) -> PurgeHistoryResult:
        return cls(**json_obj)

    @property
    def instances_deleted(self) -> int:
        return self._instances_deleted


def _time(value: datetime | str | None) -> datetime | None:
    if not isinstance(value, str):
        return value
    # datetime.fromisoformat reads a trailing Z, and fractions of any length, only since Python 3.11.
    text, _, fraction = value.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(f"{text}.{fraction[:6]:0<6}" if fraction else text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _value(text: str | None) -> Any:
    """A stored value as plain JSON; text that is not JSON as it is."""
    if text is None:
        return None
    try:
        return json_loads(text)
    except json.JSONDecodeError:
        return text


def _output(row: InstanceRow) -> Any:
    match row.status:
        case "Completed":
            return _value(row.output)
        case "Failed":
            return row.output if row.failure is None else reason(decode_failure(row.failure))
        case _:
            return row.output
