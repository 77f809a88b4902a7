"""A host that stops in good order: what runs may finish, what does not is done again, and nothing is a failure."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from msgspec.structs import replace
from thread_hub import PATIENCE_SECONDS, ThreadHub
from virtual_hub import SETTINGS, VirtualHub, serve, starting

from perdure.core.errors import HostStopping
from perdure.core.events import TaskCompleted, TaskFailed
from perdure.engine import EngineSettings
from perdure.engine.loading import read_history


class Work:
    """An activity that runs until it is released; `runs` counts how often it began."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.runs = 0

    def plain(self, value: int) -> int:
        self.runs += 1
        self.begun.set()
        self.release.wait(PATIENCE_SECONDS)
        return 2 * value

    async def awaited(self, value: int) -> int:
        self.runs += 1
        self.begun.set()
        while not self.release.is_set():
            await asyncio.sleep(0.001)
        return 2 * value


def app(work: Work) -> Any:
    def plain(context: Any) -> Any:
        return (yield context.call_activity("plain", 21))

    def awaited(context: Any) -> Any:
        return (yield context.call_activity("awaited", 21))

    def many(context: Any) -> Any:
        return (yield context.task_all([context.call_activity("plain", n) for n in range(8)]))

    functions = {"plain": plain, "awaited": awaited, "many": many}
    return serve(functions, {"plain": work.plain, "awaited": work.awaited})


def answers(hub: ThreadHub, instance_id: str) -> list[Any]:
    row = hub.store.find([instance_id])[instance_id]
    events = [event for record in read_history(hub.store, row.execution) for event in record.received]
    return [event for event in events if isinstance(event, (TaskCompleted, TaskFailed))]


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_an_activity_that_ends_within_the_grace_is_recorded_and_not_run_again(kind: str) -> None:
    work = Work()
    with ThreadHub(app(work)) as hub:
        hub.ask(starting(kind, "it"))
        assert work.begun.wait(PATIENCE_SECONDS)
        stopped = hub.begin_to_stop(PATIENCE_SECONDS)
        assert isinstance(hub.ask(starting(kind, "late")), HostStopping)
        assert stopped.empty()
        work.release.set()
        stopped.get(timeout=PATIENCE_SECONDS)
        hub.runtime.close()
        assert answers(hub, "it") == [TaskCompleted(0, "42")]
    with ThreadHub(app(work), database=hub.database) as again:
        assert again.wait("it").output == "42"
    assert work.runs == 1


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_an_activity_that_outlasts_the_grace_runs_again_and_is_no_failure(kind: str) -> None:
    work, second = Work(), Work()
    second.release.set()
    with ThreadHub(app(work)) as hub:
        hub.ask(starting(kind, "it"))
        assert work.begun.wait(PATIENCE_SECONDS)
        hub.stop(0.0)
        assert answers(hub, "it") == []
        work.release.set()
    with ThreadHub(app(second), database=hub.database) as again:
        row = again.wait("it")
        assert (row.status, json.loads(row.output or "")) == ("Completed", 42)
        assert answers(again, "it") == [TaskCompleted(0, "42")]
    assert (work.runs, second.runs) == (1, 1)


def test_activities_that_have_not_begun_wait_for_the_next_start() -> None:
    work, second = Work(), Work()
    second.release.set()
    settings = EngineSettings(activity_slots=2, activity_threads=2)
    with ThreadHub(app(work), settings) as hub:
        hub.ask(starting("many", "it"))
        assert work.begun.wait(PATIENCE_SECONDS)
        stopped = hub.begin_to_stop(PATIENCE_SECONDS)
        work.release.set()
        stopped.get(timeout=PATIENCE_SECONDS)
        hub.runtime.close()
        assert work.runs == len(answers(hub, "it")) == 2
    with ThreadHub(app(second), database=hub.database) as again:
        assert again.wait("it").output == json.dumps([2 * n for n in range(8)])
    assert second.runs == 6


def test_a_host_stops_though_an_orchestrator_does_not_yield() -> None:
    mended = threading.Event()

    def holds(context: Any) -> Any:
        mended.wait()
        return (yield context.call_activity("double", 21))

    served = serve({"holds": holds}, {"double": lambda value: 2 * value})
    with ThreadHub(served) as hub:
        hub.ask(starting("holds", "it"))
        hub.stop(0.0)
        mended.set()
    with ThreadHub(served, database=hub.database) as again:
        assert again.wait("it").output == "42"


@pytest.mark.parametrize("seed", range(30))
def test_hosts_that_stop_in_the_midst_of_everything_lose_nothing(seed: int) -> None:
    """With any grace, none included; what they leave behind the next one finishes."""
    runs: list[int] = []

    def note(value: int) -> int:
        runs.append(value)
        return value

    def mixed(context: Any) -> Any:
        total = 0
        for lap in range(4):
            results = yield context.task_all([context.call_activity("note", 10 * lap + n) for n in range(5)])
            total += sum(results)
            yield context.create_timer(context.current_utc_datetime)
        return total

    grace = [0.0, 0.001, 60.0][seed % 3]
    with VirtualHub(
        serve({"mixed": mixed}, {"note": note}), seed=seed, settings=replace(SETTINGS, activity_slots=3)
    ) as hub:
        for n in range(3):
            hub.start("mixed", f"mixed-{n}")
        for _ in range(5):
            stopped: list[int] = []
            process = hub.world.process
            hub.rest(0.001 * (seed % 7))
            process.runtime.post(process.engine.stop, grace, lambda stopped=stopped: stopped.append(1))
            hub.wait_for(stopped)
            hub.world.kill()
            hub.run(lambda: hub.world.process.runtime.alive)
        hub.run_to_end(*(f"mixed-{n}" for n in range(3)))
        expected = sorted(10 * lap + n for lap in range(4) for n in range(5))
        for n in range(3):
            assert hub.output(f"mixed-{n}") == sum(expected)
            failed = [event for event in hub.received(f"mixed-{n}") if isinstance(event, TaskFailed)]
            assert not failed
        if grace == 60.0:
            assert sorted(runs) == sorted(expected * 3), "nothing had to run again"
