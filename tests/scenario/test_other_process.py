"""A process that does not host the store starts and steers instances all the same: the host takes up what it wrote."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.registry import Registry, build_registry
from fix_host import HostProcess, StartHost, host_environment, write_app
from fix_virtual_host import VirtualHost, virtual_host

from perdure.core.errors import WrongStatus
from perdure.core.events import EventRaised, ExecutionResumed, ExecutionSuspended
from perdure.core.protocols import StartRequest
from perdure.engine import EngineSettings
from perdure.engine.outside import submit_message, submit_start
from perdure.store.api import Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.testing.runtime import SimulatedMachine

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
    milliseconds: list[float] = []
    for n in range(20):
        ((instance_id, written),) = outside.ask_all([{"start": "stamp", "id": f"stamp-{n}"}])
        ended = host.wait_for_end(instance_id)
        assert ended["runtimeStatus"] == "Completed"
        milliseconds.append((ended["output"] - written) * 1000)
    print(
        f"from a start to its first activity: median {statistics.median(milliseconds):.1f} ms, "
        f"longest {max(milliseconds):.1f} ms"
    )


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


@contextmanager
def simulated(seed: int, jitter_us: int = 300) -> Iterator[tuple[VirtualHost, Store]]:
    """A host, and the same store as another process has it."""
    database = MemoryDatabase()
    with virtual_host(
        SimulatedMachine(seed), MemoryStore(database, HUB), simulated_app(), EngineSettings(), jitter_us=jitter_us
    ) as host:
        yield host, MemoryStore(database, HUB)


def pass_some_steps(host: VirtualHost, most: int) -> None:
    steps = host.machine.steps + host.machine.random.randrange(most)
    host.run_until(lambda: host.machine.steps >= steps)


@pytest.mark.parametrize("seed", range(20))
def test_what_another_process_writes_is_taken_up_within_50_milliseconds(seed: int) -> None:
    with simulated(seed) as (host, outside):
        seconds: list[float] = []

        def measure(condition: Callable[[], bool]) -> None:
            begun = host.machine.seconds()
            host.run_until(condition)
            seconds.append(host.machine.seconds() - begun)
            pass_some_steps(host, 100)

        pass_some_steps(host, 100)
        submit_start(outside, host.runtime, StartRequest("collect", "one", "2"))
        measure(lambda: host.row("one").status == "Running")
        for number in range(2):
            submit_message(outside, "one", EventRaised("number", str(number)))
            measure(lambda: not outside.inbox(0, 10))
        assert host.row("one").output == "[0, 1]"
        assert max(seconds) < VISIBLE_SECONDS


def test_no_start_of_a_burst_is_overlooked() -> None:
    with simulated(seed=1) as (host, outside):
        host.run_until(lambda: host.machine.seconds() > 1)  # what was due at its start has been read
        ids = [f"burst-{n}" for n in range(1200)]
        for instance_id in ids:
            submit_start(outside, host.runtime, StartRequest("collect", instance_id, "0"))
        for instance_id in ids:
            host.wait_for(instance_id, lambda row: row.status == "Completed")


@pytest.mark.parametrize("seed", range(30))
def test_however_slow_the_store_is_read_a_message_comes_once_and_is_no_fault(seed: int) -> None:
    """With events that come while the instance is held and let go, from without and from within."""
    count = 12
    with simulated(seed, jitter_us=30_000) as (host, outside):
        submit_start(outside, host.runtime, StartRequest("collect", "one", str(count)))
        for number in range(count):
            verb = host.machine.random.choice([None, ExecutionSuspended(), ExecutionResumed()])
            try:
                if verb is not None:
                    submit_message(outside, "one", verb)
            except WrongStatus:
                pass
            submit_message(outside, "one", EventRaised("number", str(number)))
            pass_some_steps(host, 40)

        def completed() -> bool:
            if host.row("one").status == "Suspended":
                submit_message(outside, "one", ExecutionResumed())
            return host.row("one").status == "Completed"

        host.run_until(completed)
        assert host.row("one").output == json.dumps(list(range(count)))
        assert len(host.lanes) == 1
