"""The contract of a store. Its docstrings are the specification, `tests/conformance` is the proof.

A `Store` is one task hub, opened. It is used from several threads, but `commit`, `register_host` and `end_host` are
called by one thread at a time. All calls block. Driver errors are translated into `core.errors`, the driver's own as
`__cause__`; whatever a store cannot name is StoreUnavailable.

**The lane.** A host writes through one ordered stream of commits. `Commit.number` must be one more than that of the
host's last commit that landed, and the host must be alive; else LaneLost. A commit is all or nothing. After any error
but ShortCount, RefusedData and IdTaken it is unknown whether it landed; `end_host` tells.

**Keys.** Instance and execution keys are made by hosts (`core.ids`). Inbox rows get an arrival number (`seq`) from the
store, in the order in which they were committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow


class Host(Struct, frozen=True):
    """A registration of a host. `ordinal` is above that of every earlier one; `id` is never used twice."""

    id: str
    ordinal: int
    prefix: int
    """64 random bits, the upper half of every execution id it makes."""


class HistoryRow(Struct, frozen=True, gc=False):
    """Records `first`, `first` + 1, … of an execution, encoded together."""

    execution: int
    first: int
    body: bytes


class InboxRow(Struct, frozen=True, gc=False):
    """A message not yet applied. `execution` 0 meets whatever execution is current."""

    id: int
    target: int
    """Instance key."""
    execution: int
    control: bool
    """It reaches the instance although that is held."""
    body: bytes


class StoredMail(Struct, frozen=True, gc=False):
    seq: int
    id: int
    target: int
    execution: int
    control: bool
    held: bool
    """The target is suspended, parked or failed, so that only control messages are of use to it."""
    body: bytes


class TimerRow(Struct, frozen=True, gc=False):
    fire_at: int
    instance: int
    execution: int
    task_id: int


class PayloadRow(Struct, frozen=True, gc=False):
    """A large text of one execution, kept apart from the rows that refer to it by its id."""

    id: int
    """Made by the host, like the ids of messages."""
    instance: int
    execution: int
    encoding: Literal["utf-8", "zlib"]
    """How `body` holds the text: its UTF-8, as it is or compressed."""
    body: bytes


def swept_rows(size: int) -> int:
    """How many rows the deletion of a payload of `size` bytes counts as: one, and one more for each 4,096 bytes."""
    return 1 + size // 4096


class Commit(Struct, gc=False):
    """All that a batch of turns changes. No row occurs twice, and none both as new and as done."""

    host: str
    number: int
    now: int
    created: list[InstanceRow] = []
    """Inserted, after `purged`; an id that exists is IdTaken."""
    updated: list[InstanceRow] = []
    """Written over the row of the same key, which must exist (ShortCount). Key, id, partition and kind never
    change."""
    advanced: list[InstanceRow] = []
    """As `updated`, for rows that differ from what is stored in `core.state.PROGRESS` at most. Nothing else is written
    or looked at, whatever the row has there."""
    purged: list[int] = []
    """Instance keys, deleted with all that belongs to them; must exist (ShortCount)."""
    history: list[HistoryRow] = []
    inbox_new: list[InboxRow] = []
    inbox_done: list[int] = []
    """Message ids, deleted; every one must exist (ShortCount)."""
    timers_new: list[TimerRow] = []
    timers_done: list[TimerRow] = []
    """Deleted where they exist."""
    retired: list[int] = []
    """Executions whose history is of no more use: put on the garbage list, deleted later by `sweep`."""

    def empty(self) -> bool:
        return not (
            self.created
            or self.updated
            or self.advanced
            or self.purged
            or self.history
            or self.inbox_new
            or self.inbox_done
            or self.timers_new
            or self.timers_done
            or self.retired
        )


class Store(Protocol):
    # --- the host's side ---------------------------------------------------------------------------------------------

    def register_host(self, now: int, random_bits: int) -> Host:
        """A new lane, alive, at commit number 0. `random_bits` are 64 fresh ones.

        No other host of this process may be alive. Raises StoreHeld if another process hosts this store.
        """
        ...

    def end_host(self, host_id: str) -> int:
        """Mark the host dead, for ever, and return the number of its last commit that landed.

        Waits for a commit of it that is still under way. May be repeated. What the environment has in doubt (an fsync
        that failed) is settled here: when this returns, what a read shows is durable. A host that the store does not
        know (it was restored from an older copy) has landed nothing: 0.
        """
        ...

    def commit(self, commit: Commit) -> None:
        """Raises LaneLost, ShortCount, RefusedData, IdTaken, StoreUnavailable."""
        ...

    def sweep(self, host_id: str, limit: int) -> bool:
        """Delete up to `limit` rows that are of no more use; True if there is more to do. Not numbered.

        First the histories of retired executions and their payloads, found by the execution. Then payloads that no
        commit came to refer to: those of an instance or an execution that does not exist, written by a host that is
        gone. To find these, each host has the payloads that are there looked through once, by keys, from where the
        call before ended; one that is looked at counts as a row, one that is deleted as `swept_rows` says. Raises
        LaneLost if the host is not alive.
        """
        ...

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        """Durable when it returns. Not numbered: it may be called beside `commit`, by another thread.

        A commit of the same host may refer to them from then on; what none refers to is swept, at the latest with its
        instance. After an error some of them may be there. Raises LaneLost if the host is not alive, RefusedData
        (also of an id that exists), StoreUnavailable.
        """
        ...

    # --- reads: each sees one state, made of whole commits -----------------------------------------------------------

    def instance(self, key: int) -> InstanceRow | None: ...

    def find(self, ids: Sequence[str]) -> dict[str, InstanceRow]:
        """By id, compared by code point, blanks and case included."""
        ...

    def query(self, query: InstanceQuery) -> list[InstanceRow]: ...

    def history(self, execution: int, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        """Rows with `first` > `after`, in order."""
        ...

    def payloads(self, ids: Sequence[int]) -> dict[int, PayloadRow]:
        """By id, those that exist."""
        ...

    def inbox(self, after: int, limit: int) -> list[StoredMail]:
        """Rows with `seq` > `after`, in order."""
        ...

    def inbox_of(self, target: int, after: int, limit: int) -> list[StoredMail]:
        """Rows for one instance with `seq` > `after`, in order."""
        ...

    def timers(self, until: int, after: TimerRow | None, limit: int) -> list[TimerRow]:
        """Timers with `fire_at` <= `until`, in order of all their fields, from behind `after`."""
        ...

    def due(self, after_key: int, limit: int) -> list[InstanceRow]:
        """Instances, by key, that are not held and are `ready` or have open activities."""
        ...

    def parked(self, after_key: int, limit: int) -> list[InstanceRow]:
        """Parked instances, by key."""
        ...

    # --- clients that are not the host -------------------------------------------------------------------------------

    def submit_start(self, row: InstanceRow, record: bytes) -> InstanceRow | None:
        """Insert a new instance with its first, deferred record, from a process that is not the host.

        `row.key`, `row.execution` are replaced by the store's next client key. Returns None when it was inserted, or
        the row that has the id already: then nothing was written.
        """
        ...

    def submit_message(self, message: InboxRow) -> None:
        """Insert an inbox row from a process that is not the host; its id is replaced by the next client key.

        Raises InstanceNotFound if no instance has the target's key.
        """
        ...

    def client_cursor(self) -> int:
        """The last client key given out."""
        ...

    def created_by_clients(self, after_key: int, limit: int) -> list[InstanceRow]:
        """Instances inserted by `submit_start`, by key."""
        ...

    def poll(self) -> bool:
        """Whether a client has written to this hub since the last call, or since the store was opened.

        Cheap: called every few milliseconds.
        """
        ...

    def close(self) -> None: ...
