"""Instances in memory, and the messages on their way to them.

What is held here is a cache: a fault of the lane drops all of it, and it is read again from the store. An instance is
`pinned` while a turn of it is not durable, because the store does not yet have what its state says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from perdure.core.events import CONTROLS, ExecutionTerminated, Received, TurnRecord
from perdure.core.protocols import Session
from perdure.core.state import InstanceRow, InstanceState


class Mail(Struct, eq=False, gc=False):
    """A message to an instance.

    `execution` 0 meets whatever execution is current. `row`: an inbox row holds it (or will, with the commit under
    way). `backed`: something else in the store brings it again after a fault, a timer or the history, so it needs no
    row. `activity`: the (execution, task id) whose result it brings. `waited`: it has waited for one commit without a
    row. `held`: it is for a held instance, so it is not kept in memory and needs its row.
    """

    id: int
    target: int
    execution: int
    event: Received
    activity: tuple[int, int] | None = None
    row: bool = False
    backed: bool = False
    waited: bool = False
    held: bool = False

    @property
    def control(self) -> bool:
        return type(self.event) in CONTROL_TYPES


CONTROL_TYPES: frozenset[type] = frozenset(CONTROLS)


class Instance:
    """One instance in memory.

    `state` is None while it is being read. `records` is the history that a session still has to be brought through.
    `row` is what was last gathered for the store, `committed` what is durable; clients read nothing else. While `side`
    is a list, the inbox is being read for this instance, and what arrives meanwhile waits there. `unreadable` says why
    its history cannot be used.
    """

    __slots__ = (
        "busy",
        "committed",
        "id",
        "key",
        "last_batch",
        "mailbox",
        "on_load",
        "queued",
        "records",
        "reset",
        "row",
        "session",
        "side",
        "state",
        "unreadable",
    )

    def __init__(self, key: int) -> None:
        self.key = key
        self.id: str | None = None
        self.state: InstanceState | None = None
        self.row: InstanceRow | None = None
        self.committed: InstanceRow | None = None
        self.mailbox: list[Mail] = []
        self.session: Session | None = None
        self.records: Sequence[TurnRecord] = ()
        self.busy = False
        self.queued = False
        self.reset = False
        self.side: list[Mail] | None = None
        self.unreadable: str | None = None
        self.last_batch = 0
        self.on_load: list[Callable[[Instance | None], object]] = []

    @property
    def wants_turn(self) -> bool:
        state = self.state
        if state is None or self.side is not None:
            return False
        return bool(self.mailbox) or (bool(state.unrun) and not state.held)

    @property
    def engaged(self) -> bool:
        """Something in memory is about to use it."""
        return self.busy or self.queued or bool(self.mailbox) or bool(self.on_load) or self.side is not None

    def take(self, limit: int) -> list[Mail]:
        """The next messages for one turn: a control message alone, or what comes before the next one.

        A terminate overtakes everything while no code of the execution has run, and a held instance is reached by
        control messages only.
        """
        mailbox, state = self.mailbox, self.state
        assert state is not None
        if not mailbox:
            return []
        if type(mailbox[0].event) in CONTROL_TYPES:
            return [mailbox.pop(0)]
        held = state.held
        if held or state.row.status == "Pending":
            for place, mail in enumerate(mailbox):
                if isinstance(mail.event, ExecutionTerminated) or (held and mail.control):
                    return [mailbox.pop(place)]
            if held:
                return []
        count = 0
        for mail in mailbox:
            if type(mail.event) in CONTROL_TYPES or count == limit:
                break
            count += 1
        taken = mailbox[:count]
        del mailbox[:count]
        return taken

    def put_back(self, mails: Sequence[Mail]) -> None:
        self.mailbox[:0] = mails


class InstanceTable:
    """Instances by key and by id, in order of use."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[int, Instance] = OrderedDict()
        self._by_id: dict[str, Instance] = {}
        self.get: Callable[[int], Instance | None] = self._by_key.get

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._by_key.values())

    def find(self, id: str) -> Instance | None:
        """May be called from any thread."""
        return self._by_id.get(id)

    def add(self, instance: Instance) -> None:
        self._by_key[instance.key] = instance
        if instance.id is not None:
            self._by_id[instance.id] = instance

    def name(self, instance: Instance, id: str) -> None:
        instance.id = id
        self._by_id[id] = instance

    def used(self, instance: Instance) -> None:
        if instance.key in self._by_key:
            self._by_key.move_to_end(instance.key)

    def remove(self, instance: Instance) -> None:
        if self._by_key.get(instance.key) is instance:
            del self._by_key[instance.key]
        if instance.id is not None and self._by_id.get(instance.id) is instance:
            del self._by_id[instance.id]

    def evictable(self, limit: int, durable: int) -> list[Instance]:
        """The least recently used instances above `limit` that have nothing under way."""
        surplus = len(self._by_key) - limit
        found: list[Instance] = []
        if surplus <= 0:
            return found
        for looked, instance in enumerate(self._by_key.values()):
            if len(found) >= surplus or looked > 2 * surplus + 64:
                break
            if not instance.engaged and instance.state is not None and instance.last_batch <= durable:
                found.append(instance)
        return found
