"""Where the two sides meet: the programming model runs functions, the engine keeps state.

`Orchestrators` and `Activities` are what the engine needs of an app; `TaskHub` is what a client needs of the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, Union

from msgspec import UNSET, Struct, UnsetType

from perdure.core.events import Decided, EventRaised, Failure, Received, TurnRecord
from perdure.core.state import InstanceRow


class Step(Struct, gc=False):
    """What an orchestrator did with the events it was given.

    `decided` is in the order in which it asked; an `ExecutionCompleted` or `ContinueAsNew`, if any, is the last.
    `consumed` counts the received events that were applied: fewer than given only when the execution ended on the way.
    `custom_status` is the JSON text set during this step (None clears it), UNSET if it was not set.
    `carried` has, for a ContinueAsNew, the external events that were applied but that nobody waited for, in order.
    """

    decided: list[Decided]
    consumed: int
    custom_status: str | UnsetType | None = UNSET
    carried: list[EventRaised] = []


class Session(Protocol):
    """An orchestrator function part-way through one execution. Used by one thread at a time."""

    def replay(self, records: Sequence[TurnRecord]) -> None:
        """Bring a fresh session to where `records`, the execution's whole history, leave it.

        The events of deferred records are applied with those of the next record that is not deferred, at its time;
        those of trailing deferred records are left out, as the next `advance` will bring them.
        Raises NonDeterminismError.
        """
        ...

    def advance(self, at: int, received: Sequence[Received]) -> Step:
        """Apply `received` one by one, resuming the function whenever what it waits for is there.

        Decisions that history has already (recorded but not yet reproduced) are matched and not returned.
        An exception of the function is an ExecutionCompleted with a failure. Raises NonDeterminismError.
        """
        ...

    def close(self) -> None:
        """Drop the function. Whatever its code does on the way out has no effect; never raises."""
        ...


class Orchestrators(Protocol):
    def names(self) -> Iterable[str]: ...

    def knows(self, name: str) -> bool:
        """Names are compared without regard to case."""
        ...

    def open(self, name: str, instance_id: str) -> Session:
        """A fresh session, which knows the rest from its ExecutionStarted. Raises KeyError if `name` is unknown."""
        ...


ActivityResult = Union[str, None, Failure]
"""JSON text, None, or why it failed."""


class Activity(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def is_async(self) -> bool: ...

    def invoke(
        self, input: str | None, instance_id: str, task_id: int, attempt: int
    ) -> ActivityResult | Awaitable[ActivityResult]:
        """Run the function; awaitable if `is_async`. Failures are returned, never raised."""
        ...


class Activities(Protocol):
    def names(self) -> Iterable[str]: ...

    def find(self, name: str) -> Activity | None:
        """Names are compared without regard to case."""
        ...


# --- the client's side -----------------------------------------------------------------------------------------------


class StartRequest(Struct, frozen=True):
    name: str
    instance_id: str | None = None
    """None: one is made."""
    input: str | None = None
    version: str | None = None
    request_id: str | None = None
    """The same id and request id again is the same start: it gets the same answer."""


class InstanceQuery(Struct, frozen=True):
    """Which instances, in order of their keys. `created_from` and `created_to` are inclusive microseconds."""

    created_from: int | None = None
    created_to: int | None = None
    statuses: tuple[str, ...] = ()
    id_prefix: str | None = None
    after_key: int = 0
    limit: int = 100


class TaskHub(Protocol):
    """Starts, steers and reads the instances of one task hub.

    Every call that changes something returns once the change is durable. Reads show what is durable and nothing else.
    All raise CallerError subclasses for requests that cannot be carried out, StoreError when the store does not answer.
    """

    @property
    def name(self) -> str: ...

    async def start(self, request: StartRequest) -> str:
        """The instance id. Raises InvalidRequest, UnknownFunction, InstanceExists, Overloaded, HostStopping."""
        ...

    async def raise_event(
        self, instance_id: str, name: str, input: str | None, source: Literal["", "client"] = ""
    ) -> None:
        """Raises InstanceNotFound, InstanceEnded, InvalidRequest, Overloaded."""
        ...

    async def terminate(self, instance_id: str, reason: str | None) -> None:
        """Raises InstanceNotFound, InstanceEnded."""
        ...

    async def suspend(self, instance_id: str, reason: str | None) -> None:
        """Raises InstanceNotFound, InstanceEnded, WrongStatus."""
        ...

    async def resume(self, instance_id: str, reason: str | None) -> None:
        """Also releases a parked instance. Raises InstanceNotFound, InstanceEnded, WrongStatus."""
        ...

    async def purge(self, instance_id: str) -> None:
        """Raises InstanceNotFound, WrongStatus if it has not ended."""
        ...

    async def get(self, instance_id: str) -> InstanceRow | None: ...

    async def query(self, query: InstanceQuery) -> list[InstanceRow]: ...

    async def history(self, instance_id: str) -> list[TurnRecord]:
        """Of the current execution. Raises InstanceNotFound."""
        ...

    async def wait(self, instance_id: str, timeout: float) -> InstanceRow:
        """The instance once it has ended, or as it is after `timeout` seconds. Raises InstanceNotFound."""
        ...


Reply = Callable[[Any], object]
"""Takes the result of a request, or the exception that refuses it."""
