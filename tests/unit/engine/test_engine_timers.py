"""Timers in memory: what is armed fires once, at its time, and what is cancelled does not."""

from __future__ import annotations

from hand_driven import HandRuntime
from hypothesis import given
from hypothesis import strategies as st

from perdure.engine.timers import Timers
from perdure.store.api import TimerRow

HORIZON_SECONDS = 60


class Clock:
    def __init__(self) -> None:
        self.runtime = HandRuntime()
        self.fired: list[tuple[float, TimerRow]] = []
        self.begun = self.runtime.time
        self.timers = Timers(self.runtime, HORIZON_SECONDS, self._fire)
        self.timers.advance_horizon()

    def _fire(self, row: TimerRow) -> None:
        self.fired.append(((self.runtime.time - self.begun) / 1_000_000, row))

    def row(self, seconds: float, task_id: int = 0) -> TimerRow:
        return TimerRow(self.begun + round(seconds * 1_000_000), 1, 2, task_id)

    def moments(self) -> list[tuple[float, int]]:
        return [(moment, row.task_id) for moment, row in self.fired]


@given(st.lists(st.integers(0, HORIZON_SECONDS * 1000), max_size=30), st.integers(1, 5))
def test_every_timer_fires_once_at_its_time_and_in_order(millis: list[int], portions: int) -> None:
    clock = Clock()
    rows = [clock.row(milli / 1000, task_id) for task_id, milli in enumerate(millis)]
    for portion in range(portions):
        clock.timers.arm(rows[portion::portions])
    clock.runtime.pass_time(HORIZON_SECONDS)
    assert sorted(clock.moments()) == sorted((milli / 1000, task_id) for task_id, milli in enumerate(millis))
    assert [moment for moment, _ in clock.moments()] == sorted(milli / 1000 for milli in millis)


def test_what_is_overdue_fires_at_once_but_not_within_arm() -> None:
    clock = Clock()
    clock.timers.arm([clock.row(-3600)])
    assert clock.fired == []
    clock.runtime.pass_time(0)
    assert clock.moments() == [(0.0, 0)]


def test_what_is_beyond_the_horizon_is_left_to_the_store() -> None:
    clock = Clock()
    clock.timers.arm([clock.row(HORIZON_SECONDS + 1)])
    clock.runtime.pass_time(HORIZON_SECONDS + 10)
    assert clock.fired == []
    clock.timers.advance_horizon()
    clock.timers.arm([clock.row(HORIZON_SECONDS + 1)])
    clock.runtime.pass_time(0)
    assert len(clock.fired) == 1


def test_a_timer_that_is_read_again_while_it_is_armed_fires_once() -> None:
    clock = Clock()
    clock.timers.arm([clock.row(5)])
    clock.timers.arm([clock.row(5)])
    clock.runtime.pass_time(10)
    assert len(clock.fired) == 1


def test_a_timer_that_is_disarmed_does_not_fire_and_can_be_armed_again() -> None:
    clock = Clock()
    clock.timers.arm([clock.row(5, 1), clock.row(5, 2)])
    clock.timers.disarm([clock.row(5, 1), clock.row(5, 3)])
    clock.runtime.pass_time(4)
    clock.timers.disarm([clock.row(5, 2)])
    clock.timers.arm([clock.row(5, 2)])
    clock.runtime.pass_time(4)
    assert clock.moments() == [(5.0, 2)]


def test_an_earlier_timer_is_not_held_up_by_a_later_one() -> None:
    clock = Clock()
    clock.timers.arm([clock.row(30, 1)])
    clock.runtime.pass_time(1)
    clock.timers.arm([clock.row(2, 2)])
    clock.runtime.pass_time(40)
    assert clock.moments() == [(2.0, 2), (30.0, 1)]


def test_nothing_fires_after_the_end_of_the_lane() -> None:
    clock = Clock()
    clock.timers.arm([clock.row(5)])
    clock.timers.clear()
    clock.timers.arm([clock.row(6)])
    clock.runtime.pass_time(60)
    assert clock.fired == []
    clock.timers.advance_horizon()
    clock.timers.arm([clock.row(6)])
    clock.runtime.pass_time(0)
    assert len(clock.fired) == 1
