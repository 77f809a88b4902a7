"""Requests under faults: said twice, said at the same time as others, refused, and answered to nobody."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from virtual_hub import SETTINGS, SILENT, Strike, VirtualHub, raising, serve, starting, strike_at

from perdure.core.errors import HostStopping, InstanceExists, InstanceNotFound, Overloaded, UnknownFunction, WrongStatus
from perdure.core.events import EventRaised, ExecutionResumed, SubOrchestrationInstanceCompleted, TaskCompleted
from perdure.core.protocols import Reply, StartRequest
from perdure.engine import Engine
from perdure.engine.members import Begun, Members
from perdure.engine.outside import submit_message, submit_start
from perdure.store.api import Commit
from perdure.testing.runtime import SimulatedRuntime


def chain(context: Any) -> Any:
    total = 0
    for n in range(3):
        total += yield context.call_activity("double", n)
    return total


def waits(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def parent(context: Any) -> Any:
    return (yield context.call_sub_orchestrator("waits", None, "child"))


def fan(context: Any) -> Any:
    results = yield context.task_all([context.call_sub_orchestrator("chain") for _ in range(10)])
    return sum(results)


APP = serve({f.__name__: f for f in (chain, waits, parent, fan)}, {"double": lambda value: 2 * value})


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_that_raises_does_not_stop_the_others() -> None:
    with VirtualHub(APP) as hub:
        answers: list[Any] = []

        def hung_up(_: Any) -> None:
            raise RuntimeError("nobody listens")

        def ask(engine: Engine) -> None:
            for n in range(9):
                starting("chain", f"chain-{n}")(engine, hung_up if n % 2 else answers.append)
            engine.doors.wait("chain-0", hung_up)
            engine.doors.wait("chain-0", answers.append)

        hub.engine.runtime.post(ask, hub.engine)
        hub.run_to_end(*(f"chain-{n}" for n in range(9)))
        hub.rest()
        assert sorted(a for a in answers if isinstance(a, str)) == [f"chain-{n}" for n in range(0, 9, 2)]
        assert [a.status for a in answers if not isinstance(a, str)] == ["Completed"]
        assert hub.world.crashes == 0


def test_nobody_is_told_of_what_is_not_durable() -> None:
    """The answer comes after the commit, the row that is shown included."""
    told: list[str] = []

    def strike(ordinal: int, commit: Commit) -> Strike:
        assert not told, "the start was answered before its commit"
        return "fails" if ordinal < 5 else ""

    with VirtualHub(APP, strike=strike) as hub:
        answers = hub.send(starting("chain", "chain"))
        hub.run(lambda: hub.commits == 4)
        assert not answers
        assert hub.engine.committed("chain") is None
        hub.run(lambda: bool(answers))
        told.extend(answers)
        assert told == ["chain"]


# --- starts ----------------------------------------------------------------------------------------------------------


def test_a_start_said_again_gets_the_same_answer_and_another_is_refused() -> None:
    with VirtualHub(APP) as hub:
        assert hub.start("waits", "it", request_id="one") == "it"
        assert hub.start("waits", "it", request_id="one") == "it"
        for request_id in ("two", None):
            assert isinstance(hub.start("waits", "it", request_id=request_id), InstanceExists)
        hub.raise_event("it", "go", 7)
        hub.run_to_end("it")
        assert hub.start("waits", "it", request_id="one") == "it", "its own success, said again"
        assert hub.output("it") == 7
        assert hub.start("waits", "it", request_id="three") == "it"
        hub.run_until_status("it", "Running")


@pytest.mark.parametrize("strike", ["dies before", "dies after", "fails", "answer lost"])
def test_a_start_is_done_once_whatever_becomes_of_its_commit(strike: Strike) -> None:
    for place in range(1, 4):
        with VirtualHub(APP, strike=strike_at(place, strike)) as hub:
            assert hub.start("chain", "it", request_id="one") == "it"
            hub.run_to_end("it")
            assert [row.id for row in hub.rows()] == ["it"]


@pytest.mark.parametrize("strike", ["fails", "answer lost"])
def test_a_start_without_an_id_keeps_the_one_it_was_given(strike: Strike) -> None:
    for place in range(1, 4):
        with VirtualHub(APP, strike=strike_at(place, strike)) as hub:
            instance_id = hub.start("chain", None)  # type: ignore[arg-type]
            hub.run_to_end(instance_id)
            assert [row.id for row in hub.rows()] == [instance_id]


def test_two_starts_of_one_id_at_the_same_moment_make_one_instance() -> None:
    for seed in range(20):
        with VirtualHub(APP, seed=seed) as hub:
            first, second = hub.send(starting("chain", "it")), hub.send(starting("chain", "it"))
            hub.wait_for(first, second)
            outcomes = [*first, *second]
            assert "it" in outcomes
            assert any(isinstance(answer, InstanceExists) for answer in outcomes)
            hub.run_to_end("it")


@pytest.mark.parametrize("after_us", range(0, 1200, 40))
def test_another_process_that_takes_an_id_at_the_same_moment_refuses_one_start_and_disturbs_no_other(
    after_us: int,
) -> None:
    with VirtualHub(APP, settings=replace(SETTINGS, poll_seconds=0.001), seed=after_us) as hub:
        hub.start("chain", "before")
        outcome: list[str] = []

        def insert() -> None:
            request = StartRequest(name="chain", instance_id="it", request_id="outside")
            try:
                outcome.append(submit_start(hub.open_store(), SimulatedRuntime(hub.world.machine), request))
            except InstanceExists:
                outcome.append("refused")

        others = [hub.send(starting("chain", f"chain-{n}")) for n in range(5)]
        inside = hub.send(starting("chain", "it", request_id="inside"))
        hub.world.machine.at(after_us, insert)
        assert hub.run(lambda: all([inside, outcome, *others]))
        refused = [isinstance(inside[0], InstanceExists), outcome == ["refused"]]
        late = hub.row("it").request_id == "inside" and outcome == ["it"]  # it began anew what had ended
        assert sorted(refused) == [False, True] or late
        hub.run_to_end("it", "before", *(f"chain-{n}" for n in range(5)))
        assert [answers[0] for answers in others] == [f"chain-{n}" for n in range(5)]


def test_an_unknown_orchestrator_is_refused_at_the_door() -> None:
    with VirtualHub(APP) as hub:
        assert isinstance(hub.start("nobody", "it"), UnknownFunction)
        assert hub.find("it") is None


# --- limits ----------------------------------------------------------------------------------------------------------


def test_an_overloaded_host_refuses_at_the_door_and_goes_on_inside() -> None:
    with VirtualHub(APP, settings=replace(SETTINGS, backlog=5)) as hub:
        hub.start("fan", "fan")
        answers: list[Any] = []
        raised: list[Any] = []

        def crowd(engine: Engine) -> None:
            for n in range(40):
                starting("chain", f"chain-{n}")(engine, answers.append)
            raising("fan", "any")(engine, raised.append)

        hub.engine.runtime.post(crowd, hub.engine)
        assert hub.run(lambda: len(answers) == 40 and bool(raised))
        taken = [answer for answer in answers if isinstance(answer, str)]
        assert 0 < len(taken) < 40
        assert all(isinstance(answer, Overloaded) for answer in answers if answer not in taken)
        assert isinstance(raised[0], Overloaded)
        hub.run_to_end("fan", *taken)
        assert hub.output("fan") == 60
        assert sum(row.id.startswith("chain") for row in hub.rows()) == len(taken)


def test_a_host_that_stops_refuses_what_comes() -> None:
    with VirtualHub(APP) as hub:
        hub.start("waits", "it")
        answers: list[Any] = []
        hub.engine.runtime.post(hub.engine.stop, 0.0, lambda: answers.append("stopped"))
        hub.engine.runtime.post(starting("chain", "late"), hub.engine, answers.append)
        hub.engine.runtime.post(lambda: hub.engine.doors.wait("it", answers.append))
        hub.run(lambda: len(answers) == 3)
        hub.rest(0.1)
        assert "stopped" in answers
        assert sum(isinstance(answer, HostStopping) for answer in answers) == 2
        assert hub.find("late") is None


# --- purge -----------------------------------------------------------------------------------------------------------


def left_behind(hub: VirtualHub) -> list[Any]:
    tables: Any = hub.database.hubs["hub"]
    executions = {row.execution for row in hub.rows()}
    history = [execution for execution, parts in tables.history.items() if parts and execution not in executions]
    return [*tables.inbox.values(), *tables.timers, *tables.garbage, *history]


@pytest.mark.parametrize("seed", range(10))
def test_purge_leaves_nothing_and_what_arrives_later_is_dropped(seed: int) -> None:
    """A result, a timer, a child's answer and an event are on their way to what is terminated and purged."""

    def entangled(context: Any) -> Any:
        tasks = [
            context.call_activity("double", 1),
            context.call_sub_orchestrator("waits", None, "child"),
            context.create_timer(context.current_utc_datetime),
            context.wait_for_external_event("go"),
        ]
        return (yield context.task_all(tasks))

    app = serve({"entangled": entangled, "waits": waits}, {"double": lambda value: 2 * value})
    with VirtualHub(app, seed=seed) as hub:
        hub.world.process.runtime.jitter_us = 2000
        hub.start("entangled", "it")
        key, execution = hub.row("it").key, hub.row("it").execution
        hub.run(lambda: hub.find("child") is not None)
        hub.send(raising("child", "go", 1))
        hub.send(raising("it", "noise", 1))
        hub.terminate("it")
        assert hub.purge("it") is None
        assert hub.find("it") is None
        assert hub.engine.committed("it") is None
        engine = hub.engine
        for event in (TaskCompleted(0, "2"), SubOrchestrationInstanceCompleted(1, "1"), EventRaised("go")):
            engine.runtime.post(lambda e=event: engine.deliver(engine.make_mail(key, execution, e)))
        hub.run_to_end("child")
        hub.rest(5)
        assert left_behind(hub) == []
        assert isinstance(hub.raise_event("it", "go"), InstanceNotFound)
        assert isinstance(hub.purge("it"), InstanceNotFound)
        assert hub.start("entangled", "it") == "it"
        assert hub.row("it").key != key


def test_only_what_has_ended_is_purged() -> None:
    with VirtualHub(APP) as hub:
        hub.start("waits", "it")
        assert isinstance(hub.purge("it"), WrongStatus)
        assert hub.raise_event("it", "go", 1) is None
        hub.run_to_end("it")
        assert hub.purge("it") is None


def test_a_purge_of_what_is_just_ending_waits_until_that_is_durable() -> None:
    for seed in range(20):
        with VirtualHub(APP, seed=seed) as hub:
            hub.start("waits", "it")
            purged = hub.send(lambda engine, reply: engine.doors.purge("it", reply))
            hub.raise_event("it", "go", 1)
            hub.wait_for(purged)
            if isinstance(purged[0], WrongStatus):
                hub.run_to_end("it")
                assert hub.purge("it") is None
            hub.rest()
            assert hub.rows() == []
            assert left_behind(hub) == []


# --- other processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 499, 500, 501, 1200])
def test_everything_that_another_process_inserts_is_taken_up(count: int) -> None:
    settings = replace(SETTINGS, poll_seconds=0.02, instances_in_memory=50)
    with VirtualHub(APP, settings=settings) as hub:
        hub.start("waits", "here")
        other = SimulatedRuntime(hub.world.machine)
        store = hub.open_store()
        for n in range(count):
            submit_start(store, other, StartRequest(name="waits", instance_id=f"waits-{n}"))
            submit_message(store, f"waits-{n}", EventRaised("go", str(n)))
        hub.run_to_end(*(f"waits-{n}" for n in range(count)), seconds=5)
        assert [hub.output(f"waits-{n}") for n in range(count)] == list(range(count))
        assert hub.world.machine.steps < 60 * count + 2000


def test_what_another_process_inserts_is_seen_within_fifty_milliseconds() -> None:
    with VirtualHub(APP, settings=replace(SETTINGS, poll_seconds=0.02)) as hub:
        hub.start("waits", "it")
        hub.rest()
        submit_message(hub.open_store(), "it", EventRaised("go", "1"))
        hub.run_to_end("it", seconds=0.05)


def test_an_event_from_another_process_for_a_suspended_instance_is_seen_once() -> None:
    def pair(context: Any) -> Any:
        first = yield context.wait_for_external_event("go")
        second = yield context.wait_for_external_event("go")
        return [first, second]

    for seed in range(20):
        with VirtualHub(serve({"pair": pair}), seed=seed, settings=replace(SETTINGS, poll_seconds=0.002)) as hub:
            hub.start("pair", "it")
            hub.suspend("it")
            resumed = hub.send(lambda engine, reply: engine.doors.control("it", ExecutionResumed(), reply))
            hub.world.machine.at(seed * 60, submit_message, hub.open_store(), "it", EventRaised("go", "1"))
            hub.wait_for(resumed)
            hub.rest(0.1)
            hub.raise_event("it", "go", 2)
            hub.run_to_end("it")
            assert hub.output("it") == [1, 2]


def test_silence_is_told_from_an_answer() -> None:
    with VirtualHub(APP) as hub:
        hub.world.process.runtime.kill()
        assert hub.ask(starting("chain", "it"), seconds=0.5) is SILENT


def test_an_internal_error_in_a_request_is_its_answer_and_hurts_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    create = Members.create

    def fails(self: Members, begun: Begun) -> Any:
        instance = create(self, begun)
        if begun.state.row.id.startswith("cursed"):
            raise ZeroDivisionError("a bug of ours")
        return instance

    monkeypatch.setattr(Members, "create", fails)
    names = ["before", "cursed-1", "between", "cursed-2", "after"]
    with VirtualHub(APP, strike=strike_at(2, "fails")) as hub:
        answers: dict[str, Any] = {}

        def ask_all(engine: Engine) -> None:
            for name in names:
                starting("chain", name)(engine, partial(answers.__setitem__, name))

        for _ in range(2):  # at once, before a lane is there, and later
            hub.engine.runtime.post(ask_all, hub.engine)
            assert hub.run(lambda: len(answers) == 5)
            assert [name for name, answer in answers.items() if isinstance(answer, ZeroDivisionError)] == [
                "cursed-1",
                "cursed-2",
            ]
            assert [answers[name] for name in names[::2]] == names[::2]
            hub.run_to_end(*names[::2])
            hub.rest()
            answers.clear()
        assert sorted(row.id for row in hub.rows()) == sorted(names[::2])


# --- several requests for one instance that has left memory ----------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_purges_and_a_start_of_one_id_at_once_are_all_answered_and_the_host_goes_on(seed: int) -> None:
    def purge(engine: Engine, reply: Reply) -> None:
        engine.doors.purge("it", reply)

    app = serve({"quick": lambda context: 1})
    with VirtualHub(app, seed=seed) as hub:
        hub.ask(starting("quick", "it"))
        hub.run_to_end("it")
        answers = [hub.send(purge), hub.send(purge), hub.send(starting("quick", "it"))]
        hub.wait_for(*answers)
        *purges, started = (answer[0] for answer in answers)
        assert all(answer is None or isinstance(answer, (InstanceNotFound, WrongStatus)) for answer in purges)
        assert started == "it"
        hub.ask(starting("quick", "other"))
        hub.run_to_end("other")
