"""Everything that Perdure raises by name. The base class says whose fault it is."""

from __future__ import annotations


class PerdureError(Exception):
    """Base of all."""


# --- the caller ------------------------------------------------------------------------------------------------------


class CallerError(PerdureError):
    """The request cannot be carried out as asked; nothing was changed."""


class InvalidRequest(CallerError):
    """A name, an id or a value that is not allowed. The text says which and why."""


class UnknownFunction(CallerError):
    """Nobody serves the function. The text is the one that Durable Functions gives."""


class InstanceNotFound(CallerError):
    """No instance has this id."""


class InstanceExists(CallerError):
    """The id belongs to an instance that is not at its end."""

    def __init__(self, status: str) -> None:
        super().__init__(f"An Orchestration instance with the status {status} already exists.")
        self.status = status


class InstanceEnded(CallerError):
    """The instance is at its end, so it can take nothing any more."""

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(f"The orchestration instance '{instance_id}' has ended: {status}.")
        self.status = status


class WrongStatus(CallerError):
    """The operation does not fit the instance's status."""

    def __init__(self, verb: str, instance_id: str, status: str) -> None:
        super().__init__(
            f"Cannot {verb} the orchestration instance {instance_id} because instance is in the {status} state."
        )
        self.status = status


class Overloaded(CallerError):
    """Too much is under way. Try again in a moment."""


class HostStopping(CallerError):
    """The host stops and takes nothing new."""


# --- user code -------------------------------------------------------------------------------------------------------


class UserCodeError(PerdureError):
    """The app's own code cannot be used as it is."""


class NonDeterminismError(UserCodeError):
    """An orchestrator, run again over its history, asked for something else than it had asked for."""


class TurnTimeout(UserCodeError):
    """An orchestrator did not yield in time."""


# --- the store -------------------------------------------------------------------------------------------------------


class StoreError(PerdureError):
    """Base of what a store raises; driver errors are its `__cause__`."""


class StoreUnavailable(StoreError):
    """The environment failed: disk, lock, connection. Whether the last write landed is unknown until asked."""


class LaneLost(StoreError):
    """The commit was refused: this host is not alive in the store, or its commit number is not the next one."""


class ShortCount(StoreError):
    """A counted delete or update met fewer rows than it must. Nothing was written."""


class RefusedData(StoreError):
    """The store cannot hold a value of this commit. Nothing was written."""


class IdTaken(StoreError):
    """An instance id that was to be inserted exists already. Nothing was written."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__("instance ids taken meanwhile: " + ", ".join(repr(i) for i in ids[:5]))
        self.ids = ids


class StoreHeld(StoreError):
    """Another process serves this store. The text says which, on what machine and since when."""


class StoreFormat(StoreError):
    """The store's format is newer than this version of Perdure, or is not a store of Perdure."""


class UnreadableRecord(StoreError):
    """A stored row does not decode."""
