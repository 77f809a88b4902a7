"""A process that does not host the store starts and steers instances all the same: the host takes up what it wrote."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.registry import Registry, build_registry
from fix_host import HostProcess, StartHost, host_environment, until, write_app

from perdure.core.events import EventRaised
from perdure.core.protocols import StartRequest
from perdure.core.state import ENDED
from perdure.engine import EngineSettings
from perdure.engine.outside import submit_message, submit_start
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.testing.simulation import World

VISIBLE_SECONDS = 0.05
"""What other processes write is taken up within this time."""

APP = """
    import time
    import azure.durable_functions as df

    app = df.DFApp()


    @app.orchestration_trigger(context_name="context")
    def collect(context):
        seen = []
        for _ in range(context.get_input()):
            seen.append((yield context.wait_for_external_event("Number")))
        return seen


    @app.orchestration_trigger(context_name="context")
    def stamp(context):
        return (yield context.call_activity("clock"))


    @app.activity_trigger(input_name="nothing")
    def clock(nothing):
        return time.time()
"""
HUB = "Shop"


class OutsideClient:
    """A process of `outside_client.py`."""

    def __init__(self, database: Path) -> None:
        script = Path(__file__).with_name("outside_client.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(database), HUB],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=host_environment(),
        )

    def ask(self, **request: Any) -> Any:
        """What came of one request."""
        return self.ask_all([request])[0][0]

    def ask_all(self, requests: list[dict[str, Any]]) -> list[tuple[Any, float]]:
        """What came of each, and when it was written."""
        sent, answers = self._process.stdin, self._process.stdout
        assert sent is not None and answers is not None
        sent.write("".join(json.dumps(request) + "\n" for request in requests))
        sent.flush()
        return [tuple(json.loads(answers.readline())) for _ in requests]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(
        tmp_path / "shop", APP, host__json='{"version": "2.0", "extensions": {"durableTask": {"hubName": "Shop"}}}'
    )


@pytest.fixture
def database(app: Path) -> Path:
    return app / ".perdure" / "hub.db"


@pytest.fixture
def outside(database: Path) -> Iterator[OutsideClient]:
    client = OutsideClient(database)
    yield client
    client.close()


def raised(instance_id: str, number: int) -> dict[str, Any]:
    return {"verb": "raise", "id": instance_id, "message": {"name": "number", "input": str(number)}}


def assert_one_lane(host: HostProcess) -> None:
    """Nothing that the other process did was a fault of the host's."""
    assert "the lane of host" not in host.log, host.log


# --- real processes --------------------------------------------------------------------------------------------------


def test_a_start_and_its_events_reach_a_running_host_in_order(
    app: Path, start_host: StartHost, outside: OutsideClient
) -> None:
    host = start_host(app)
    count = 300
    assert outside.ask(start="collect", id="numbers", input=count) == "numbers"
    outside.ask_all([raised("numbers", n) for n in range(count)])
    assert host.wait_for_end("numbers")["output"] == list(range(count))
    assert_one_lane(host)


def test_what_was_written_before_the_host_starts_is_taken_up_in_order(
    app: Path, start_host: StartHost, outside: OutsideClient
) -> None:
    assert outside.ask(start="collect", id="early", input=3) == "early"
    outside.ask_all([raised("early", n) for n in range(3)])
    assert start_host(app).wait_for_end("early")["output"] == [0, 1, 2]


def test_no_start_of_a_burst_is_overlooked(app: Path, start_host: StartHost, outside: OutsideClient) -> None:
    host = start_host(app)
    count = 1200
    outside.ask_all([{"start": "stamp", "id": f"burst-{n}"} for n in range(count)])

    def completed() -> bool:
        query = {"runtimeStatus": "Pending,Running", "instanceIdPrefix": "burst-", "top": "1"}
        return host.ask("GET", "/instances", params=query).json() == []

    until(completed, lambda: f"some of the burst were never run:\n{host.log}")
    assert len(host.ask("GET", "/instances", params={"top": "1000"}).json()) == 1000
    assert_one_lane(host)


def test_messages_that_come_while_an_instance_is_held_and_let_go_arrive_once_and_in_order(
    app: Path, start_host: StartHost, outside: OutsideClient
) -> None:
    host = start_host(app)
    count = 120
    outside.ask(start="collect", id="held", input=count)
    host.wait_for_status("held", "Running")
    for n in range(0, count, 4):
        outside.ask(verb="suspend", id="held", message={})
        host.wait_for_status("held", "Suspended")
        let_go = {"verb": "resume", "id": "held", "message": {}}
        outside.ask_all(
            [raised("held", n), raised("held", n + 1), let_go, raised("held", n + 2), raised("held", n + 3)]
        )
        host.wait_for_status("held", "Running", "Completed")
    assert host.wait_for_end("held")["output"] == list(range(count))
    assert_one_lane(host)


def test_a_process_outside_is_refused_what_cannot_be(app: Path, start_host: StartHost, outside: OutsideClient) -> None:
    host = start_host(app)
    assert outside.ask(start="collect", id="one", input=1, by="me") == "one"
    assert outside.ask(start="collect", id="one", input=1, by="me") == "one"
    assert outside.ask(start="collect", id="one", input=1, by="another") == "InstanceExists"
    assert outside.ask(start="collect", id="a/b", input=1) == "InvalidRequest"
    assert outside.ask(**raised("nobody", 1)) == "InstanceNotFound"
    host.wait_for_status("one", "Running")
    assert outside.ask(verb="resume", id="one", message={}) == "WrongStatus"
    assert outside.ask(verb="terminate", id="one", message={"reason": "enough"}) is None
    assert host.wait_for_end("one")["output"] == "enough"
    assert outside.ask(**raised("one", 1)) == "InstanceEnded"


def test_how_soon_a_start_is_taken_up_is_measured(app: Path, start_host: StartHost, outside: OutsideClient) -> None:
    host = start_host(app)
    seconds: list[float] = []
    for n in range(20):
        ((instance_id, written),) = outside.ask_all([{"start": "stamp", "id": f"stamp-{n}"}])
        seconds.append(host.wait_for_end(instance_id)["output"] - written)
    milliseconds = [value * 1000 for value in sorted(seconds)]
    print(
        f"from a start to its first activity: median {statistics.median(milliseconds):.1f} ms, "
        f"longest {milliseconds[-1]:.1f} ms"
    )
    assert len(seconds) == 20


# --- the same in virtual time ----------------------------------------------------------------------------------------


def simulated_app() -> Registry:
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context")
    def collect(context: df.DurableOrchestrationContext) -> Any:
        seen = []
        for _ in range(context.get_input()):
            seen.append((yield context.wait_for_external_event("Number")))
        return seen

    return build_registry(app.get_functions())


@pytest.mark.parametrize("seed", range(10))
def test_what_is_written_is_visible_within_50_milliseconds(seed: int) -> None:
    memory = MemoryDatabase()
    registry = simulated_app()
    world = World(
        seed, lambda: MemoryStore(memory, HUB), registry.orchestrators, registry.activities, settings=EngineSettings()
    )
    outside = MemoryStore(memory, HUB)
    machine, runtime = world.machine, world.process.runtime
    assert world.run_until(lambda: world.process.running)

    def seconds_until(condition: Callable[[], bool]) -> float:
        begun = machine.seconds()
        assert world.run_until(condition)
        return machine.seconds() - begun

    def status() -> str:
        row = world.row("one")
        return row.status if row is not None else ""

    # At any time of a poll's round, which the seed draws.
    for _ in range(machine.random.randrange(100)):
        machine.step()
    submit_start(outside, runtime, StartRequest("collect", "one", "2"))
    assert seconds_until(lambda: status() == "Running") < VISIBLE_SECONDS
    for number in range(2):
        for _ in range(machine.random.randrange(100)):
            machine.step()
        submit_message(outside, "one", EventRaised("number", str(number)))
        assert seconds_until(lambda: not outside.inbox(0, 10)) < VISIBLE_SECONDS
    assert status() in ENDED
