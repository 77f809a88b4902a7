"""Waiting for answers with a limit: one alarm for all who wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from perdure.host.postbox import Postbox


class Alarm:
    def __init__(self, at: float, ring: Callable[[], Any]) -> None:
        self.at, self.ring, self.cancelled = at, ring, False

    def cancel(self) -> None:
        self.cancelled = True


class HandLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until the test moves it. What is due then is called."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = 1000.0
        self.alarms: list[Alarm] = []

    def time(self) -> float:
        return self.moment

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        self.alarms.append(Alarm(when, lambda: callback(*args)))
        return self.alarms[-1]

    async def lapse(self, seconds: float) -> None:
        self.moment += seconds
        due = [alarm for alarm in self.alarms if alarm.at <= self.moment and not alarm.cancelled]
        for alarm in due:
            self.alarms.remove(alarm)
            alarm.ring()
        for _ in range(3):
            await asyncio.sleep(0)


def on_a_hand_loop(scenario: Callable[[HandLoop, Postbox], Any]) -> None:
    loop = HandLoop()
    try:
        loop.run_until_complete(scenario(loop, Postbox(loop)))
    finally:
        loop.close()


def test_each_who_waits_is_let_go_at_its_own_limit() -> None:
    async def scenario(loop: HandLoop, postbox: Postbox) -> None:
        limits = [5.0, 1.0, 3.0, 3.0]
        waiting = [asyncio.ensure_future(postbox.get(postbox.slot()[0], limit)) for limit in limits]
        await asyncio.sleep(0)
        for seconds, over in [(0.5, 0), (0.6, 1), (1.0, 1), (1.0, 3), (1.0, 3), (1.0, 4)]:
            await loop.lapse(seconds)
            assert sum(task.done() for task in waiting) == over
        assert [task.result() for task in waiting] == [None] * 4
        assert all(alarm.cancelled for alarm in loop.alarms), "nobody waits"

    on_a_hand_loop(scenario)


def test_one_alarm_is_set_however_many_wait() -> None:
    async def scenario(loop: HandLoop, postbox: Postbox) -> None:
        slots = [postbox.slot() for _ in range(1000)]
        waiting = [asyncio.ensure_future(postbox.get(future, 60.0)) for future, _ in slots]
        await asyncio.sleep(0)
        assert len(loop.alarms) == 1
        for number, (_, reply) in enumerate(slots):
            reply(number)
        assert await asyncio.gather(*waiting) == list(range(1000))
        await loop.lapse(60.0)
        assert not loop.alarms, "the alarm that nobody needed is not set again"

    on_a_hand_loop(scenario)


def test_an_answer_comes_from_any_thread_and_an_exception_is_raised() -> None:
    async def scenario(loop: HandLoop, postbox: Postbox) -> None:
        (first, reply), (second, refuse) = postbox.slot(), postbox.slot()
        threading.Thread(target=lambda: (reply("yes"), refuse(ValueError("no")))).start()
        assert await postbox.get(first, 60.0) == "yes"
        with pytest.raises(ValueError, match="no"):
            await postbox.get(second, 60.0)

    on_a_hand_loop(scenario)


def test_who_is_cancelled_waits_no_longer_and_an_answer_for_it_is_dropped() -> None:
    async def scenario(loop: HandLoop, postbox: Postbox) -> None:
        future, reply = postbox.slot()
        waiting = asyncio.ensure_future(postbox.get(future, 60.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        reply("late")
        await loop.lapse(60.0)
        assert not loop.alarms

    on_a_hand_loop(scenario)
