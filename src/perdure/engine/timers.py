"""Timers that are due soon, in memory; all of them are in the store.

Memory holds what is due within the horizon. The store is asked for more each time half of that has passed. Delivery is
at least once: a timer that has fired or was cancelled is not open any more, and its message is dropped.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from perdure.core.runtime import Cancellable, Runtime
from perdure.store.api import TimerRow


class Timers:
    def __init__(self, runtime: Runtime, horizon_seconds: float, fire: Callable[[TimerRow], object]) -> None:
        self._runtime = runtime
        self._horizon = int(horizon_seconds * 1_000_000)
        self._fire = fire
        self._heap: list[tuple[int, int, int, TimerRow]] = []
        self._armed: set[tuple[int, int]] = set()
        self._next: Cancellable | None = None
        self._next_at = 0
        self.loaded_until = 0
        """Every stored timer due up to here is in memory; of later ones, those armed since are not."""

    def clear(self) -> None:
        self._heap.clear()
        self._armed.clear()
        self.loaded_until = 0
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def advance_horizon(self) -> int:
        """Move the horizon; the caller reads from the store what is due up to the returned time and arms it."""
        self.loaded_until = self._runtime.now() + self._horizon
        return self.loaded_until

    def arm(self, rows: Iterable[TimerRow]) -> None:
        for row in rows:
            name = (row.execution, row.task_id)
            if row.fire_at <= self.loaded_until and name not in self._armed:
                self._armed.add(name)
                heapq.heappush(self._heap, (row.fire_at, row.execution, row.task_id, row))
        self._schedule()

    def disarm(self, rows: Iterable[TimerRow]) -> None:
        for row in rows:
            self._armed.discard((row.execution, row.task_id))

    def _schedule(self) -> None:
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._next is not None:
            if self._next_at <= at:
                return
            self._next.cancel()
        self._next_at = at
        self._next = self._runtime.later(max(0.0, (at - self._runtime.now()) / 1_000_000), self._due)

    def _due(self) -> None:
        self._next = None
        now = self._runtime.now()
        while self._heap and self._heap[0][0] <= now:
            row = heapq.heappop(self._heap)[3]
            name = (row.execution, row.task_id)
            if name in self._armed:
                self._armed.discard(name)
                self._fire(row)
        self._schedule()
