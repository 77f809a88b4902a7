"""Orchestrators that keep the turn thread: they are interrupted or left behind, parked durably, and can be resumed."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from thread_hub import PATIENCE_SECONDS, ThreadHub
from virtual_hub import controlling, raising, serve, starting

from perdure.core.errors import TurnTimeout
from perdure.core.events import ExecutionResumed
from perdure.engine import EngineSettings
from perdure.runtime import ThreadRuntime

LIMIT_SECONDS = 0.75
"""Long enough for a busy machine to let an innocent turn pass."""
SETTINGS = EngineSettings(turn_seconds=LIMIT_SECONDS, abandon_seconds=0.25)

# The interruption is raised wherever the thread is at that moment. That may be a callback of the garbage collector (a
# test library has one), where Python can only report it; the watchdog then gives the thread up.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Fault:
    """What makes the code misbehave, until it is mended."""

    def __init__(self) -> None:
        self.mended = threading.Event()
        self.met = threading.Event()


def chain(context: Any) -> Any:
    total = 0
    for n in range(5):
        total += yield context.call_activity("double", n)
    return total


def app(hold: Callable[[], None]) -> Any:
    def holds_at_once(context: Any) -> Any:
        hold()
        return (yield context.call_activity("double", 21))

    def holds_later(context: Any) -> Any:
        first = yield context.call_activity("double", 10)
        hold()
        return first + (yield context.call_activity("double", 11))

    def holds_in_replay(context: Any) -> Any:
        if context.is_replaying:
            hold()
        first = yield context.call_activity("double", 10)
        return first + (yield context.call_activity("double", 11))

    functions = (chain, holds_at_once, holds_later, holds_in_replay)
    return serve({f.__name__: f for f in functions}, {"double": lambda value: 2 * value})


def turn_for_ever(fault: Fault) -> None:
    fault.met.set()
    while not fault.mended.is_set():
        pass


def block(fault: Fault) -> None:
    """In C code, where no exception reaches it, as in `time.sleep`."""
    fault.met.set()
    fault.mended.wait()


@pytest.mark.parametrize("hold", [turn_for_ever, block])
@pytest.mark.parametrize("kind", ["holds_at_once", "holds_later", "holds_in_replay"])
def test_code_that_does_not_yield_is_parked_and_the_others_go_on(kind: str, hold: Callable[[Fault], None]) -> None:
    fault = Fault()
    settings = EngineSettings(turn_seconds=LIMIT_SECONDS, abandon_seconds=0.25, instances_in_memory=0)
    with ThreadHub(app(lambda: hold(fault)), settings) as hub:
        assert hub.ask(starting(kind, "holds")) == "holds"
        for n in range(20):
            assert hub.ask(starting("chain", f"chain-{n}")) == f"chain-{n}"
        for n in range(20):
            assert hub.wait(f"chain-{n}").output == "20"
        assert fault.met.wait(PATIENCE_SECONDS)
        row = hub.wait_until_parked("holds")
        assert f"did not yield within {LIMIT_SECONDS:g} s" in (row.parked or "")
        assert row.status in ("Pending", "Running")

        fault.mended.set()
        assert hub.ask(controlling("holds", ExecutionResumed())) is None
        row = hub.wait("holds")
        assert (row.status, json.loads(row.output or "")) == ("Completed", 42)


def test_a_parked_instance_stays_parked_when_the_host_starts_again() -> None:
    fault = Fault()
    with ThreadHub(app(lambda: turn_for_ever(fault)), SETTINGS) as hub:
        hub.ask(starting("holds_at_once", "holds"))
        hub.wait_until_parked("holds")
    with ThreadHub(app(lambda: turn_for_ever(fault)), SETTINGS, hub.database) as again:
        assert again.ask(starting("chain", "chain")) == "chain"
        assert again.wait("chain").output == "20"
        assert again.store.find(["holds"])["holds"].parked is not None
        fault.mended.set()
        assert again.ask(controlling("holds", ExecutionResumed())) is None
        assert again.wait("holds").output == "42"


def test_a_thread_that_comes_back_after_it_was_given_up_has_no_effect() -> None:
    """It goes on with the turn it was in, over a state that has been read anew since."""
    fault, others = Fault(), threading.Event()

    def hold() -> None:
        if threading.current_thread() not in known:
            known.append(threading.current_thread())
            if len(known) == 1:
                fault.met.set()
                fault.mended.wait()
                others.wait()

    known: list[threading.Thread] = []
    settings = EngineSettings(turn_seconds=LIMIT_SECONDS, abandon_seconds=0.25, instances_in_memory=0)
    with ThreadHub(app(hold), settings) as hub:
        hub.ask(starting("holds_in_replay", "holds"))
        hub.wait_until_parked("holds")
        fault.mended.set()
        assert hub.ask(controlling("holds", ExecutionResumed())) is None
        others.set()
        known[0].join(PATIENCE_SECONDS)
        assert hub.wait("holds").output == "42"


def test_time_sleep_in_an_orchestrator_does_not_outlast_the_limit() -> None:
    def sleeps(context: Any) -> Any:
        time.sleep(PATIENCE_SECONDS)
        return (yield context.call_activity("double", 1))

    functions = {"sleeps": sleeps, "chain": chain}
    with ThreadHub(serve(functions, {"double": lambda value: 2 * value}), SETTINGS) as hub:
        hub.ask(starting("sleeps", "sleeps"))
        hub.ask(starting("chain", "chain"))
        assert hub.wait("chain").output == "20"
        assert "did not yield" in (hub.wait_until_parked("sleeps").parked or "")


def test_code_that_swallows_the_interruption_is_left_behind() -> None:
    fault = Fault()

    def swallows(context: Any) -> Any:
        while not fault.mended.is_set():
            try:
                while not fault.mended.is_set():
                    pass
            except BaseException:
                continue
        return (yield context.call_activity("double", 1))

    functions = {"swallows": swallows, "chain": chain}
    with ThreadHub(serve(functions, {"double": lambda value: 2 * value}), SETTINGS) as hub:
        hub.ask(starting("swallows", "swallows"))
        hub.ask(starting("chain", "chain"))
        hub.wait_until_parked("swallows")
        fault.mended.set()
        assert hub.wait("chain").output == "20"


def test_a_way_out_that_does_not_end_holds_up_nobody() -> None:
    """A session is closed on the turn thread, under the same watch as a turn."""
    fault = Fault()

    def never_leaves(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("never")
        finally:
            turn_for_ever(fault)

    functions = {"never_leaves": never_leaves, "chain": chain}
    settings = EngineSettings(turn_seconds=LIMIT_SECONDS, abandon_seconds=0.25, instances_in_memory=0)
    with ThreadHub(serve(functions, {"double": lambda value: 2 * value}), settings) as hub:
        hub.ask(starting("never_leaves", "stays"))
        hub.ask(starting("chain", "chain"))
        assert hub.wait("chain").output == "20"
        fault.mended.set()


def test_an_event_is_acknowledged_while_its_receiver_computes() -> None:
    fault = Fault()

    def computes(context: Any) -> Any:
        fault.met.set()
        fault.mended.wait(PATIENCE_SECONDS)
        return (yield context.wait_for_external_event("go"))

    with ThreadHub(serve({"computes": computes})) as hub:
        hub.ask(starting("computes", "it"))
        assert fault.met.wait(PATIENCE_SECONDS)
        assert hub.ask(raising("it", "go", 7)) is None
        assert len(hub.store.inbox(0, 10)) == 1
        fault.mended.set()
        assert hub.wait("it").output == "7"


def test_an_interruption_that_comes_late_hits_no_other_call() -> None:
    """The call has ended, though home does not know yet, or it knows already."""
    runtime = ThreadRuntime()
    runtime.start()
    worker = runtime.worker("turns")
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def call(number: int) -> None:
        ended = threading.Event()
        worker.interrupt(TurnTimeout)

        def answered(_: Any) -> None:
            answers.put(number)
            if number < 200:
                call(number + 1)

        worker.submit(ended.set, answered)
        ended.wait()
        worker.interrupt(TurnTimeout)

    runtime.post(call, 0)
    assert [answers.get(timeout=PATIENCE_SECONDS) for _ in range(201)] == list(range(201))
    runtime.close()
