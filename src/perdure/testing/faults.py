"""A store that fails as its environment may, at moments drawn from a seed.

Each fault is one of those a host can meet: a commit that fails and has not landed, one that landed but whose answer is
lost, a process that dies before or after the commit, a read or the end of a lane that fails. Large values are written
beside the commits, and meet the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from perdure.core.errors import RefusedData, StoreUnavailable
from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, PayloadRow, Store, StoredMail, TimerRow

T = TypeVar("T")


class ProcessDied(BaseException):
    """The simulated process ends here: what raised it had no time to report."""


class FaultRates(Struct, frozen=True):
    """Probabilities for each call."""

    crash_before_commit: float = 0.0
    crash_after_commit: float = 0.0
    commit_fails: float = 0.0
    answer_lost: float = 0.0
    crash_before_payloads: float = 0.0
    crash_after_payloads: float = 0.0
    payloads_fail: float = 0.0
    payloads_answer_lost: float = 0.0
    read_fails: float = 0.0
    end_host_fails: float = 0.0

    def none(self) -> bool:
        return not any(getattr(self, name) for name in self.__struct_fields__)


class FaultyStore:
    """Wraps a store. `die` ends the process at once; `counts` has how often each fault struck."""

    def __init__(
        self,
        store: Store,
        rates: FaultRates,
        random: random.Random,
        die: Callable[[], object],
        refuse: Callable[[Commit], str | None] = lambda _: None,
    ) -> None:
        self._store = store
        self.rates = rates
        self._random = random
        self._die = die
        self._refuse = refuse
        self.counts: dict[str, int] = {}
        self.commits: list[Commit] = []

    def _strikes(self, name: str) -> bool:
        rate: float = getattr(self.rates, name)
        if rate and self._random.random() < rate:
            self.counts[name] = self.counts.get(name, 0) + 1
            return True
        return False

    def _crash(self) -> None:
        self._die()
        raise ProcessDied

    def commit(self, commit: Commit) -> None:
        if self._strikes("crash_before_commit"):
            self._crash()
        if self._strikes("commit_fails"):
            raise StoreUnavailable("simulated: the commit failed")
        refusal = self._refuse(commit)
        if refusal is not None:
            raise RefusedData(refusal)
        self._store.commit(commit)
        self.commits.append(commit)
        if self._strikes("crash_after_commit"):
            self._crash()
        if self._strikes("answer_lost"):
            raise StoreUnavailable("simulated: the answer was lost")

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        if self._strikes("crash_before_payloads"):
            self._crash()
        if self._strikes("payloads_fail"):
            raise StoreUnavailable("simulated: the payloads were not written")
        self._store.write_payloads(host_id, rows)
        if self._strikes("crash_after_payloads"):
            self._crash()
        if self._strikes("payloads_answer_lost"):
            raise StoreUnavailable("simulated: the answer was lost")

    def end_host(self, host_id: str) -> int:
        if self._strikes("end_host_fails"):
            raise StoreUnavailable("simulated: the store does not answer")
        return self._store.end_host(host_id)

    def register_host(self, now: int, random_bits: int) -> Host:
        return self._store.register_host(now, random_bits)

    def sweep(self, host_id: str, limit: int) -> bool:
        return self._store.sweep(host_id, limit)

    def _read(self, read: Callable[[], T]) -> T:
        if self._strikes("read_fails"):
            raise StoreUnavailable("simulated: the read failed")
        return read()

    def instance(self, key: int) -> InstanceRow | None:
        return self._read(lambda: self._store.instance(key))

    def find(self, ids: Sequence[str]) -> dict[str, InstanceRow]:
        return self._read(lambda: self._store.find(ids))

    def query(self, query: InstanceQuery) -> list[InstanceRow]:
        return self._store.query(query)

    def history(self, execution: int, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        return self._read(lambda: self._store.history(execution, after, limit))

    def payloads(self, ids: Sequence[int]) -> dict[int, PayloadRow]:
        return self._read(lambda: self._store.payloads(ids))

    def inbox(self, after: int, limit: int) -> list[StoredMail]:
        return self._read(lambda: self._store.inbox(after, limit))

    def inbox_of(self, target: int, after: int, limit: int) -> list[StoredMail]:
        return self._read(lambda: self._store.inbox_of(target, after, limit))

    def timers(self, until: int, after: TimerRow | None, limit: int) -> list[TimerRow]:
        return self._read(lambda: self._store.timers(until, after, limit))

    def due(self, after_key: int, limit: int) -> list[InstanceRow]:
        return self._read(lambda: self._store.due(after_key, limit))

    def parked(self, after_key: int, limit: int) -> list[InstanceRow]:
        return self._read(lambda: self._store.parked(after_key, limit))

    def submit_start(self, row: InstanceRow, record: bytes) -> InstanceRow | None:
        return self._store.submit_start(row, record)

    def submit_message(self, message: InboxRow) -> None:
        self._store.submit_message(message)

    def client_cursor(self) -> int:
        return self._store.client_cursor()

    def created_by_clients(self, after_key: int, limit: int) -> list[InstanceRow]:
        return self._store.created_by_clients(after_key, limit)

    def poll(self) -> bool:
        return self._store.poll()

    def close(self) -> None:
        self._store.close()
