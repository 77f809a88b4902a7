"""Threads that run plain calls: who is woken, and that nothing is left lying."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.runtime.threads import ThreadPool

PATIENCE = 30.0


class Pool(ThreadPool):
    """A pool whose second looks are taken by hand."""

    def __init__(self, size: int) -> None:
        self.looks: deque[Callable[[], Any]] = deque()
        super().__init__("test", size, lambda _, look: self.looks.append(look))

    def look(self) -> None:
        self.looks.popleft()()


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(3)
    yield pool
    pool.close()


class Blocked:
    """A call that is under way until it is let go."""

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.free.wait(PATIENCE)


def test_calls_run_side_by_side_up_to_the_size(pool: Pool) -> None:
    calls = [Blocked() for _ in range(4)]
    pool.submit(calls)
    assert all(call.begun.wait(PATIENCE) for call in calls[:3])
    assert not calls[3].begun.is_set()
    calls[1].free.set()
    assert calls[3].begun.wait(PATIENCE)
    for call in calls:
        call.free.set()


def test_short_calls_are_run_by_one_thread(pool: Pool) -> None:
    ran: list[str] = []
    over = threading.Event()
    pool.submit([lambda: ran.append(threading.current_thread().name)] * 1000, short=True)
    pool.submit([over.set], short=True)
    assert over.wait(PATIENCE)
    assert ran == ["perdure-test-0"] * 1000


def test_a_short_call_behind_one_that_takes_long_is_run_by_another_thread(pool: Pool) -> None:
    slow, behind = Blocked(), threading.Event()
    pool.submit([slow], short=True)
    assert slow.begun.wait(PATIENCE)
    pool.submit([behind.set], short=True)
    pool.look()
    assert behind.wait(PATIENCE)
    slow.free.set()


def test_a_pool_looks_again_for_as_long_as_short_calls_wait(pool: Pool) -> None:
    slow = [Blocked() for _ in range(4)]
    pool.submit(slow, short=True)
    pool.look()
    assert all(call.begun.wait(PATIENCE) for call in slow[:3])
    assert len(pool.looks) == 1, "the fourth waits"
    for call in slow:
        call.free.set()
    assert slow[3].begun.wait(PATIENCE)
    pool.look()
    assert not pool.looks


def test_what_waits_when_the_pool_is_closed_is_still_run() -> None:
    pool, slow, last = Pool(1), Blocked(), threading.Event()
    pool.submit([slow, last.set])
    pool.close()
    slow.free.set()
    assert last.wait(PATIENCE)


def test_a_call_that_raises_costs_no_thread(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise SystemExit

    last = threading.Event()
    pool.submit([broken] * 10)
    pool.submit([last.set])
    assert last.wait(PATIENCE)
    assert "internal error in a pool call" in caplog.text


def test_a_thread_that_cannot_be_started_is_tried_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(10):
            pool.submit([lambda: None])
        pool.submit([done.set])
        pool.look()
    assert "could not be started" in caplog.text and not done.is_set()
    pool.look()
    assert done.wait(PATIENCE)
