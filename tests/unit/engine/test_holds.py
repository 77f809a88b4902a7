"""Large values wait for their writing one group after the other, and what waits for them goes on in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hand_driven import HandRuntime, HandWorker

from perdure.core.errors import LaneLost, RefusedData, StoreUnavailable
from perdure.engine.engine import Engine
from perdure.engine.payloads import Draft
from perdure.store.api import PayloadRow
from perdure.store.memory import MemoryDatabase, MemoryStore


class Nobody:
    """An app without functions."""

    def names(self) -> list[str]:
        return []

    def knows(self, name: str) -> bool:
        return False

    def open(self, name: str, instance_id: str) -> Any:
        raise KeyError(name)

    def find(self, name: str) -> None:
        return None


class WatchedStore(MemoryStore):
    """Keeps which payloads were written together; `refused` are ids that it does not take."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase(), "hub")
        self.groups: list[list[int]] = []
        self.refused: set[int] = set()
        self.half_written = False
        self.error: Exception | None = None

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        self.groups.append([row.id for row in rows])
        if self.error is not None:
            raise self.error
        if self.refused & {row.id for row in rows}:
            if self.half_written:
                super().write_payloads(host_id, [row for row in rows if row.id not in self.refused])
            raise RefusedData("it cannot be held")
        super().write_payloads(host_id, rows)


class Holding:
    def __init__(self) -> None:
        self.runtime = HandRuntime()
        self.store = WatchedStore()
        self.engine = Engine(self.runtime, self.store, Nobody(), Nobody())
        self.engine.start(lambda: None)
        while self.engine.recovery is None or not self.engine.recovery.done:
            self.step()
        self.told: list[tuple[str, object]] = []

    @property
    def worker(self) -> HandWorker:
        return self.runtime.workers["payloads"]

    def step(self) -> None:
        """All that can be done, but for the writing of payloads."""
        self.runtime.run_home()
        for name, worker in self.runtime.workers.items():
            while worker.calls and name != "payloads":
                worker.run_next()
                self.runtime.run_home()

    def hold(self, name: str, *ids: int, size: int = 10) -> None:
        drafts = [Draft(id, 1, 2, b"x" * size) for id in ids]
        self.engine.holds.hold(drafts, lambda refusal: self.told.append((name, refusal)))

    def write(self) -> None:
        self.worker.run_next()
        self.step()


@pytest.fixture
def holding() -> Holding:
    return Holding()


def test_one_write_is_under_way_and_what_comes_meanwhile_goes_out_together(holding: Holding) -> None:
    holding.hold("a", 1, 2)
    holding.hold("b", 3)
    holding.hold("c", 4, 5)
    assert len(holding.worker.calls) == 1
    assert (holding.engine.holds.count, holding.engine.holds.bytes) == (3, 30)
    holding.write()
    assert holding.told == [("a", None)]
    holding.write()
    assert holding.told == [("a", None), ("b", None), ("c", None)]
    assert holding.store.groups == [[1, 2], [3, 4, 5]]
    assert (holding.engine.holds.count, holding.engine.holds.bytes) == (0, 0)
    assert not holding.worker.calls


def test_a_group_does_not_grow_without_bounds(holding: Holding) -> None:
    holding.hold("first", 1)
    for id in range(2, 8):
        holding.hold(f"{id}", id, size=1_500_000)
    holding.hold("huge", 8, size=9_000_000)
    for _ in range(5):
        holding.write()
    assert holding.store.groups == [[1], [2, 3], [4, 5], [6, 7], [8]]


def test_of_a_group_that_is_refused_only_what_cannot_be_held_is_refused(holding: Holding) -> None:
    for half_written in (False, True):
        holding.told.clear()
        start = 100 * half_written
        holding.store.refused, holding.store.half_written = {start + 3}, half_written
        holding.hold("before", start + 1)
        for name, ids in (("a", [2]), ("bad", [3, 4]), ("c", [5])):
            holding.hold(name, *(start + id for id in ids))
        holding.write()
        holding.write()
        assert holding.told == [("before", None)]
        holding.hold("later", start + 6)
        while holding.worker.calls:
            holding.write()
        assert [name for name, refusal in holding.told if refusal is None] == ["before", "a", "c", "later"]
        assert [name for name, refusal in holding.told if isinstance(refusal, RefusedData)] == ["bad"]


@pytest.mark.parametrize("error", [StoreUnavailable("no"), LaneLost("no"), ZeroDivisionError("a bug")])
def test_any_other_error_ends_the_lane_and_whoever_waits_is_dropped_with_it(holding: Holding, error: Exception) -> None:
    lane = holding.engine.commits.lane
    holding.store.error = error
    holding.hold("a", 1)
    holding.hold("b", 2)
    holding.write()
    assert holding.engine.commits.lane is not lane
    assert (holding.told, holding.engine.holds.count, holding.engine.holds.bytes) == ([], 0, 0)


def test_what_is_written_when_the_lane_has_ended_is_nobodys(holding: Holding) -> None:
    holding.hold("a", 1)
    holding.engine.commits.end_lane(StoreUnavailable("a commit failed"))
    holding.step()
    holding.runtime.pass_time(1.0)
    holding.step()
    assert holding.engine.commits.lane is not None
    holding.hold("b", 2)
    while holding.worker.calls:
        holding.write()
    assert holding.told == [("b", None)]


def test_what_goes_wrong_behind_a_hold_ends_the_lane(holding: Holding) -> None:
    lane = holding.engine.commits.lane

    def fails(_: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    holding.engine.holds.hold([Draft(1, 1, 2, b"x")], fails)
    holding.write()
    assert holding.engine.commits.lane is not lane
