"""What the store cannot hold stops whoever wrote it, and nobody else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from virtual_hub import SILENT, VirtualHub, raising, serve, starting

from perdure.core.errors import InvalidRequest, RefusedData
from perdure.store.api import Commit

POISON = "what the store cannot hold"


def refuse_poison(commit: Commit) -> str | None:
    return "it cannot be held" if POISON.encode() in msgspec.json.encode(commit_texts(commit)) else None


def commit_texts(commit: Commit) -> list[Any]:
    rows = [[row.input, row.output, row.custom_status] for row in [*commit.created, *commit.updated, *commit.advanced]]
    return [rows, [row.body.decode() for row in commit.history], [row.body.decode() for row in commit.inbox_new]]


def chain(context: Any) -> Any:
    total = 0
    for n in range(5):
        total += yield context.call_activity("double", n)
    return total


def returns_poison(context: Any) -> Any:
    yield context.call_activity("double", 1)
    return POISON


def gives_poison_to_a_child(context: Any) -> Any:
    yield context.call_activity("double", 1)
    yield context.call_sub_orchestrator("chain", POISON)


def asks_for_poison(context: Any) -> Any:
    yield context.call_activity("fetch_poison")


def waits(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


APP = serve(
    {
        function.__name__: function
        for function in (
            chain,
            returns_poison,
            gives_poison_to_a_child,
            asks_for_poison,
            waits,
        )
    },
    {"double": lambda value: 2 * value, "fetch_poison": lambda value: POISON},
)


@pytest.mark.parametrize("culprit", ["returns_poison", "gives_poison_to_a_child", "asks_for_poison"])
@pytest.mark.parametrize("seed", range(4))
def test_data_that_the_store_refuses_parks_only_the_instance_that_wrote_it(culprit: str, seed: int) -> None:
    with VirtualHub(APP, seed=seed, refuse=refuse_poison) as hub:
        others = [f"chain-{n}" for n in range(12)]
        for instance_id in others[:6]:
            hub.send(starting("chain", instance_id))
        hub.send(starting(culprit, "culprit"))
        for instance_id in others[6:]:
            hub.send(starting("chain", instance_id))
        hub.run_to_end(*others)
        hub.run_until_parked("culprit")
        assert "the store refused" in (hub.row("culprit").parked or "")
        assert hub.start("chain", "another") == "another"
        hub.run_to_end("another")
        assert [row.id for row in hub.rows() if row.parked] == ["culprit"]
        assert all(hub.output(instance_id) == 20 for instance_id in others)


def test_a_parked_culprit_can_be_resumed_and_terminated() -> None:
    with VirtualHub(APP, refuse=refuse_poison) as hub:
        hub.start("returns_poison", "culprit")
        hub.run_until_parked("culprit")
        assert hub.resume("culprit") is None
        hub.rest()
        assert hub.row("culprit").parked is not None, "it wrote the same again"
        assert hub.terminate("culprit") is None
        assert hub.row("culprit").status == "Terminated"


def test_what_an_activity_gave_a_suspended_instance_and_the_store_refuses_stops_nobody() -> None:
    with VirtualHub(APP, refuse=refuse_poison) as hub:
        hub.world.process.runtime.jitter_us = 50_000  # the activity takes longer than the suspension
        hub.start("asks_for_poison", "culprit")
        assert hub.suspend("culprit") is None
        hub.world.process.runtime.jitter_us = 100
        hub.rest()
        assert hub.start("chain", "another") == "another"
        hub.run_to_end("another")
        assert hub.resume("culprit") is None
        hub.run_until_parked("culprit")


@pytest.mark.parametrize("seed", range(4))
def test_a_start_that_the_store_refuses_is_answered_with_its_words_and_does_not_disturb_others(seed: int) -> None:
    with VirtualHub(APP, seed=seed, refuse=refuse_poison) as hub:
        hub.start("chain", "ended")
        hub.run_to_end("ended")
        others = [hub.send(starting("chain", f"chain-{n}")) for n in range(10)]
        bad = [
            hub.send(starting("chain", "bad", POISON)),
            hub.send(starting("chain", "ended", POISON)),
            hub.send(starting("chain", None, POISON)),
        ]
        others += [hub.send(starting("chain", f"chain-{n}")) for n in range(10, 20)]
        assert hub.run(lambda: all(bad) and all(others))
        assert [answers[0] for answers in others] == [f"chain-{n}" for n in range(20)]
        assert all(isinstance(answers[0], RefusedData) for answers in bad), bad
        hub.run_to_end(*(f"chain-{n}" for n in range(20)))
        assert hub.find("bad") is None
        assert hub.output("ended") == 20
        assert not [row.id for row in hub.rows() if row.parked]


@pytest.mark.parametrize("seed", range(4))
def test_an_event_that_the_store_refuses_is_answered_with_its_words_and_parks_nobody(seed: int) -> None:
    with VirtualHub(APP, seed=seed, refuse=refuse_poison) as hub:
        for instance_id in ("running", "suspended", "innocent"):
            hub.start("waits", instance_id)
        hub.suspend("suspended")
        starts = [hub.send(starting("chain", f"chain-{n}")) for n in range(10)]
        bad = [hub.send(raising("running", "go", POISON)), hub.send(raising("suspended", "go", POISON))]
        good = hub.send(raising("innocent", "go", 1))
        assert hub.run(lambda: all([*starts, *bad, good]))
        assert all(isinstance(answers[0], RefusedData) for answers in bad), bad
        assert good == [None]
        hub.run_to_end("innocent", *(f"chain-{n}" for n in range(10)))
        assert not [row.id for row in hub.rows() if row.parked]
        hub.resume("suspended")
        for instance_id in ("running", "suspended"):
            assert hub.raise_event(instance_id, "go", 2) is None
        hub.run_to_end("running", "suspended")


@pytest.mark.parametrize("text", ["\ud800", '"\udc80"'])
def test_text_that_no_store_holds_is_refused_at_the_door(text: str) -> None:
    from perdure.core.events import EventRaised, ExecutionTerminated
    from perdure.core.protocols import StartRequest

    with VirtualHub(APP) as hub:
        hub.start("waits", "waits")
        requests = [
            lambda engine, reply: engine.doors.start(StartRequest("chain", "x", input=text), reply),
            lambda engine, reply: engine.doors.start(StartRequest("chain", "x", version=text), reply),
            lambda engine, reply: engine.doors.start(StartRequest("chain", "x", request_id=text), reply),
            lambda engine, reply: engine.doors.raise_event("waits", EventRaised("go", input=text), reply),
            lambda engine, reply: engine.doors.control("waits", ExecutionTerminated(reason=text), reply),
        ]
        for request in requests:
            answer = hub.ask(request, seconds=5)
            assert answer is not SILENT
            assert isinstance(answer, InvalidRequest), answer
        assert hub.raise_event("waits", "go", 1) is None
        hub.run_to_end("waits")
