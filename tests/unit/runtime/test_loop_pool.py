"""The loop of the user's async code outlives what that code does to it."""

from __future__ import annotations

import asyncio
import logging
import queue

import pytest

from perdure.runtime.loop import LoopPool

SECONDS = 30.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("ending", ["a task raises SystemExit", "the loop is stopped"])
def test_a_loop_that_was_ended_by_user_code_goes_on(ending: str, caplog: pytest.LogCaptureFixture) -> None:
    pool = LoopPool("user")
    done: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def leave() -> None:
        raise SystemExit(1)

    async def end_the_loop() -> None:
        if ending == "the loop is stopped":
            asyncio.get_running_loop().stop()
        else:
            pool.task = asyncio.get_running_loop().create_task(leave())  # type: ignore[attr-defined]
        done.put("ended")

    async def go_on() -> None:
        done.put("goes on")

    with caplog.at_level(logging.CRITICAL, "perdure.runtime"):
        pool.submit([end_the_loop])
        assert done.get(timeout=SECONDS) == "ended"
        pool.submit([go_on])
        assert done.get(timeout=SECONDS) == "goes on"
    pool.close()
    task = getattr(pool, "task", None)
    if task is not None:
        assert isinstance(task.exception(), SystemExit)
        assert "goes on" in caplog.text
