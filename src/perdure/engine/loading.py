"""Reading instances into memory, many at once, on a thread of its own.

A read shows whole commits only. An instance is read when no turn of it is on the way to the store, so what is read is
the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

from msgspec import Struct

from perdure.core.codec import decode_message, decode_records
from perdure.core.errors import UnreadableRecord
from perdure.core.events import TurnRecord
from perdure.core.ids import first_key
from perdure.core.runtime import Runtime
from perdure.core.state import ENDED, InstanceRow, InstanceState, fold, from_row
from perdure.engine.instances import Instance, Mail
from perdure.engine.payloads import put_back_records
from perdure.store.api import Store, StoredMail

_PAGE = 1000


class Loaded(Struct):
    """An instance as the store has it; `row` None if it has none. `unreadable` says why it cannot be used."""

    row: InstanceRow | None
    state: InstanceState | None = None
    records: list[TurnRecord] = []
    unreadable: str | None = None


class Loader:
    """`loaded` gets each instance read; `failed` what the store raised, after which nothing more is reported."""

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        loaded: Callable[[Instance, Loaded], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._store = store
        self._loaded = loaded
        self._failed = failed
        self._worker = runtime.worker("reader")
        self._wanted: dict[int, Instance] = {}
        self._reading = 0
        self._epoch = 0

    @property
    def waiting(self) -> int:
        return len(self._wanted) + self._reading

    def reset(self) -> None:
        self._wanted = {}
        self._reading = 0
        self._epoch += 1

    def want(self, instance: Instance) -> None:
        self._wanted[instance.key] = instance

    def pump(self) -> None:
        if not self._wanted or self._reading:
            return
        batch = list(self._wanted.values())[:256]
        for instance in batch:
            del self._wanted[instance.key]
        self._reading = len(batch)
        epoch = self._epoch

        def done(result: Union[list[Loaded], BaseException]) -> None:
            if epoch != self._epoch:
                return
            self._reading = 0
            if isinstance(result, BaseException):
                self._failed(result)
                return
            for instance, loaded in zip(batch, result, strict=True):
                self._loaded(instance, loaded)

        self._worker.submit(lambda: [read_instance(self._store, instance.key) for instance in batch], done)

    def find(self, ids: Sequence[str], then: Callable[[dict[str, InstanceRow]], object]) -> None:
        self.ask(lambda: self._store.find(ids), then)

    def inbox_of(self, key: int, polled_until: int, then: Callable[[Waiting], object]) -> None:
        self.ask(lambda: read_inbox_of(self._store, key, polled_until), then)

    def ask(self, read: Callable[[], object], then: Callable[..., object]) -> None:
        """Run `read` on the reading thread and `then` with its result at home, unless the lane ended meanwhile."""
        epoch = self._epoch

        def done(result: object) -> None:
            if epoch != self._epoch:
                return
            if isinstance(result, BaseException):
                self._failed(result)
            else:
                then(result)

        self._worker.submit(read, done)


def read_instance(store: Store, key: int) -> Loaded:
    row = store.instance(key)
    if row is None:
        return Loaded(None)
    try:
        state = from_row(row)
        if row.status in ENDED:
            return Loaded(row, state)
        records = read_history(store, row.execution)
        if len(records) != row.sequence:
            raise UnreadableRecord(f"there are {len(records)} history records, the instance row says {row.sequence}")
    except UnreadableRecord as error:
        return Loaded(row, from_row(row), [], str(error))
    return Loaded(row, fold(state, records), records)


def read_history(store: Store, execution: int) -> list[TurnRecord]:
    """All records of an execution, the large ones included. Raises UnreadableRecord."""
    records: list[TurnRecord] = []
    after = -1
    while True:
        page = store.history(execution, after, _PAGE)
        for part in page:
            records.extend(decode_records(part.body))
            after = part.first
        if len(page) < _PAGE:
            break
    put_back_records(store, execution, records)
    return records


def to_mail(stored: StoredMail) -> Mail:
    """Raises UnreadableRecord."""
    return Mail(stored.id, stored.target, stored.execution, decode_message(stored.body), None, True)


class Waiting(Struct):
    """What the inbox holds for one instance, up to a message that cannot be read."""

    mails: list[Mail] = []
    unreadable: str | None = None


def read_inbox_of(store: Store, key: int, polled_until: int) -> Waiting:
    """What other processes wrote with an arrival number above `polled_until` is left to the poller: it comes once."""
    waiting = Waiting([])
    after = 0
    while True:
        page = store.inbox_of(key, after, _PAGE)
        for stored in page:
            after = stored.seq
            if stored.seq > polled_until and stored.id < first_key(1):
                continue
            try:
                waiting.mails.append(to_mail(stored))
            except UnreadableRecord as error:
                waiting.unreadable = f"unreadable message {stored.id}: {error}"
                return waiting
        if len(page) < _PAGE:
            return waiting
