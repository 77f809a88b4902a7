"""Instances at their end, and what reaches them there: events, terminations, answers, namesakes."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from virtual_hub import SETTINGS, Strike, VirtualHub, raising, serve, starting

from perdure.core.codec import decode_message
from perdure.core.errors import InstanceEnded, WrongStatus
from perdure.core.events import (
    EventRaised,
    ExecutionSuspended,
    ExecutionTerminated,
    SubOrchestrationInstanceCompleted,
    TaskCompleted,
)
from perdure.engine import Engine
from perdure.engine.outside import submit_message
from perdure.store.api import Commit
from perdure.store.memory import MemoryDatabase


def waits(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def late_events(hub: VirtualHub, instance_id: str) -> list[Any]:
    events = [event for event in hub.received(instance_id) if isinstance(event, EventRaised) and event.late]
    return [json.loads(event.input or "null") for event in events]


def test_an_instance_that_begins_and_ends_within_one_commit_has_ended() -> None:
    with VirtualHub(serve({"at_once": lambda context: context.get_input()})) as hub:
        hub.start("at_once", "it", 7)
        hub.rest()
        assert (hub.output("it"), hub.row("it").sequence, hub.commits) == (7, 2, 1)


# --- events ----------------------------------------------------------------------------------------------------------


def test_an_event_for_an_instance_that_has_not_begun_waits_for_it() -> None:
    for seed in range(10):
        with VirtualHub(serve({"waits": waits}), seed=seed) as hub:
            hub.send(starting("waits", "it"))
            hub.run(partial(is_in_memory, hub, "it"))
            assert hub.raise_event("it", "go", 7) is None
            hub.run_to_end("it")
            assert hub.output("it") == 7


def ends(context: Any) -> Any:
    value = yield context.wait_for_external_event("go")
    if value == "fail":
        raise ValueError("as told")
    return value


@pytest.mark.parametrize("how", ["complete", "fail"])
def test_an_event_that_races_with_the_end_is_either_refused_or_kept_as_late(how: str) -> None:
    outcomes: set[str] = set()
    for seed in range(40):
        with VirtualHub(serve({"ends": ends}), seed=seed) as hub:
            hub.start("ends", "it")
            answers = [hub.send(raising("it", "go", how)), *(hub.send(raising("it", "go", n)) for n in range(4))]
            hub.wait_for(*answers)
            hub.run_to_end("it")
            hub.rest()
            if hub.row("it").output == json.dumps(how) or hub.row("it").status == "Failed":
                kept = [n for n in range(4) if answers[n + 1] == [None]]
                assert sorted(late_events(hub, "it")) == kept
                refused = [answers[n + 1][0] for n in range(4) if n not in kept]
                assert all(isinstance(answer, InstanceEnded) for answer in refused)
                outcomes.add("late" if kept else "refused")
            assert not hub.open_store().inbox(0, 100)
    assert "late" in outcomes


@pytest.mark.parametrize("how", ["complete", "fail"])
def test_an_event_that_was_acknowledged_before_a_crash_is_late_when_the_instance_ended_meanwhile(how: str) -> None:
    assert sum(crash_with_an_event_behind_the_end(how, seed) for seed in range(40))


def crash_with_an_event_behind_the_end(how: str, seed: int) -> int:
    """How many crashes there were, each with events in the inbox of an instance that has just ended."""
    database = MemoryDatabase()

    def strike(_: int, commit: Commit) -> Strike:
        tables: Any = database.hubs["hub"]
        over = any(row.status in ("Completed", "Failed") for row in commit.advanced)
        return "dies after" if over and tables.inbox else ""

    settings = replace(SETTINGS, turns_in_batch=1, seal_seconds=0.0)
    app = serve({"ends": ends})
    with VirtualHub(app, seed=seed, strike=strike, settings=settings, database=database) as hub:
        hub.start("ends", "it")
        answers = [hub.send(raising("it", "go", how)), *(hub.send(raising("it", "other", n)) for n in range(3))]
        hub.run_to_end("it")
        hub.rest()
        assert not hub.open_store().inbox(0, 100)
        kept = [event.input for event in hub.received("it") if isinstance(event, EventRaised) and event.name == "other"]
        assert len(kept) >= sum(answer == [None] for answer in answers[1:])
        return hub.world.crashes


@pytest.mark.parametrize("how", ["complete", "fail"])
def test_an_event_from_another_process_that_finds_its_instance_ended_is_kept_as_late(how: str) -> None:
    with VirtualHub(serve({"ends": ends}), settings=replace(SETTINGS, poll_seconds=0.02)) as hub:
        hub.start("ends", "it")
        store = hub.open_store()
        submit_message(store, "it", EventRaised("go", json.dumps(how)))
        submit_message(store, "it", EventRaised("go", '"behind it"'))
        hub.run_to_end("it")
        hub.rest()
        assert late_events(hub, "it") == ["behind it"]
        with pytest.raises(InstanceEnded):
            submit_message(store, "it", EventRaised("go", "1"))


def test_an_event_for_a_failed_instance_does_not_reach_the_one_that_is_started_in_its_place() -> None:
    with VirtualHub(serve({"ends": ends})) as hub:
        hub.start("ends", "it")
        for value in ("fail", "behind it"):
            hub.send(raising("it", "go", value))
        hub.run_to_end("it")
        assert hub.start("ends", "it") == "it"
        hub.raise_event("it", "go", "anew")
        hub.run_to_end("it")
        assert hub.output("it") == "anew"


def test_events_that_wait_go_to_the_next_generation_in_order() -> None:
    def generations(context: Any) -> Any:
        seen = context.get_input()
        seen.append((yield context.wait_for_external_event("go")))
        if len(seen) == 6:
            return seen
        context.continue_as_new(seen)

    for seed in range(20):
        with VirtualHub(serve({"generations": generations}), seed=seed) as hub:
            hub.start("generations", "it", [])

            def raise_all(engine: Engine) -> None:
                for n in range(6):
                    raising("it", "GO", n)(engine, lambda _: None)

            hub.engine.runtime.post(raise_all, hub.engine)
            hub.run_to_end("it")
            assert hub.output("it") == list(range(6))


# --- terminate and suspend -------------------------------------------------------------------------------------------


def test_terminate_before_the_first_turn_runs_no_code() -> None:
    ran: list[str] = []

    def runs(context: Any) -> Any:
        ran.append(context.instance_id)
        yield context.create_timer(timedelta(hours=1))

    with VirtualHub(serve({"runs": runs})) as hub:
        hub.send(starting("runs", "it"))
        hub.run(partial(is_in_memory, hub, "it"))
        hub.engine.doors.control("it", ExecutionTerminated(reason="no need"), ignore)
        hub.run_to_end("it")
        assert (hub.row("it").status, hub.row("it").output) == ("Terminated", '"no need"')
        assert ran == []


def test_a_pending_instance_that_was_suspended_is_terminated_without_running_its_code() -> None:
    ran: list[str] = []

    def runs(context: Any) -> Any:
        ran.append(context.instance_id)
        yield context.create_timer(timedelta(hours=1))

    statuses: set[str] = set()
    for seed in range(30):
        ran.clear()
        with VirtualHub(serve({"runs": runs}), seed=seed) as hub:
            hub.send(starting("runs", "it"))
            hub.run(partial(is_in_memory, hub, "it"))
            for event in (ExecutionSuspended(), ExecutionTerminated(reason="no need")):
                hub.engine.doors.control("it", event, ignore)
            hub.run_to_end("it")
            assert hub.row("it").status == "Terminated"
            statuses.add("ran" if ran else "did not run")
    assert "did not run" in statuses


def is_in_memory(hub: VirtualHub, instance_id: str) -> bool:
    return hub.engine.members.table.find(instance_id) is not None


def ignore(_: Any) -> None:
    pass


def test_terminate_beats_suspension() -> None:
    with VirtualHub(serve({"waits": waits})) as hub:
        hub.start("waits", "it")
        assert hub.suspend("it") is None
        assert hub.raise_event("it", "go", 1) is None
        assert isinstance(hub.suspend("it"), WrongStatus)
        assert hub.terminate("it", "at once") is None
        row = hub.row("it")
        assert (row.status, row.output) == ("Terminated", '"at once"')
        hub.rest()
        assert isinstance(hub.resume("it"), InstanceEnded)
        assert isinstance(hub.terminate("it"), InstanceEnded)
        assert not hub.open_store().inbox(0, 100), "the event that waited is late now"


def test_a_suspended_instance_does_nothing_and_goes_on_where_it_was() -> None:
    def busy(context: Any) -> Any:
        first = yield context.call_activity("double", 1)
        timer = context.create_timer(timedelta(minutes=5))
        event = context.wait_for_external_event("go")
        yield context.task_all([timer, event])
        return [first, event.result, (yield context.call_activity("double", 2))]

    for seed in range(10):
        with VirtualHub(serve({"busy": busy}, {"double": lambda value: 2 * value}), seed=seed) as hub:
            hub.start("busy", "it")
            assert hub.suspend("it") is None
            before = hub.row("it")
            assert hub.raise_event("it", "go", 7) is None
            hub.rest(600)
            assert (hub.row("it").status, hub.row("it").sequence) == ("Suspended", before.sequence)
            assert hub.resume("it") is None
            hub.run_to_end("it", seconds=600)
            assert hub.output("it") == [2, 7, 4]


def test_a_terminated_instance_starts_no_activity_that_was_only_queued() -> None:
    runs: list[int] = []

    def fan(context: Any) -> Any:
        yield context.task_all([context.call_activity("note", n) for n in range(500)])

    settings = replace(SETTINGS, activity_slots=2)
    with VirtualHub(serve({"fan": fan}, {"note": runs.append}), settings=settings) as hub:
        hub.start("fan", "it")
        hub.run(lambda: len(runs) > 3)
        hub.terminate("it")
        hub.rest(0.1)
        after = len(runs)
        hub.rest()
        assert len(runs) == after < 500
        assert hub.engine.desk.queued == hub.engine.desk.running == 0
        assert not hub.engine.desk.finished()


# --- children --------------------------------------------------------------------------------------------------------


def parent(context: Any) -> Any:
    try:
        return (yield context.call_sub_orchestrator("waits", None, "child"))
    except Exception as error:
        return str(error)


def test_a_child_whose_name_belongs_to_somebody_fails_the_task_of_its_parent() -> None:
    with VirtualHub(serve({"parent": parent, "waits": waits})) as hub:
        hub.start("waits", "child")
        hub.start("parent", "it")
        hub.run_to_end("it")
        assert hub.output("it") == "An Orchestration instance with the status Running already exists."
        assert hub.raise_event("child", "go", 1) is None
        hub.run_to_end("child")
        assert hub.output("child") == 1


@pytest.mark.parametrize("in_memory", [0, 1000])
def test_a_child_whose_namesake_has_ended_is_started_anew(in_memory: int) -> None:
    with VirtualHub(
        serve({"parent": parent, "waits": waits}), settings=replace(SETTINGS, instances_in_memory=in_memory)
    ) as hub:
        hub.start("waits", "child")
        hub.raise_event("child", "go", "the first")
        hub.run_to_end("child")
        hub.start("parent", "it")
        assert hub.run(lambda: hub.row("child").parent_id == "it")
        hub.raise_event("child", "go", "the second")
        hub.run_to_end("it")
        assert (hub.output("it"), hub.output("child")) == ("the second", "the second")


def test_two_parents_that_want_a_child_of_one_name_at_once_get_one_child() -> None:
    for seed in range(20):
        with VirtualHub(serve({"parent": parent, "waits": waits}), seed=seed) as hub:
            first, second = hub.send(starting("parent", "one")), hub.send(starting("parent", "two"))
            hub.wait_for(first, second)
            assert hub.run(lambda: hub.find("child") is not None)
            hub.rest(0.1)
            hub.raise_event("child", "go", "only one")
            hub.run_to_end("one", "two")
            outputs = sorted([hub.output("one"), hub.output("two")])
            assert outputs[1] == "only one"
            assert outputs[0].startswith("An Orchestration instance with the status ")


def test_a_child_that_nobody_serves_fails_the_task_of_its_parent() -> None:
    def calls(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("nobody")
        except Exception as error:
            return str(error)

    with VirtualHub(serve({"calls": calls})) as hub:
        hub.start("calls", "it")
        hub.run_to_end("it")
        assert "The function 'nobody' doesn't exist" in hub.output("it")


def test_the_termination_of_a_child_fails_the_task_of_its_parent() -> None:
    with VirtualHub(serve({"parent": parent, "waits": waits})) as hub:
        hub.start("parent", "it")
        hub.run(lambda: hub.find("child") is not None)
        hub.terminate("child", "not wanted")
        hub.run_to_end("it")
        assert hub.output("it") == "not wanted"


def test_answers_for_a_failed_parent_wait_in_the_inbox_and_go_when_it_is_begun_anew() -> None:
    """So that a rewind finds them; an answer to another execution is of no use to anybody."""

    def fails(context: Any) -> Any:
        child = context.call_sub_orchestrator("waits", None, "child")
        slow = context.call_activity("double", 1)
        yield context.task_any([child, slow, context.wait_for_external_event("fail")])
        raise ValueError("too early")

    app = serve({"fails": fails, "waits": waits}, {"double": lambda value: 2 * value})
    with VirtualHub(app, seed=3) as hub:
        hub.start("fails", "it")
        hub.run(lambda: hub.find("child") is not None)
        hub.run_to_end("it")
        hub.raise_event("child", "go", 5)
        hub.run_to_end("child")
        hub.rest()
        waiting = hub.open_store().inbox(0, 100)
        assert [type(decode_message(mail.body)) for mail in waiting] == [SubOrchestrationInstanceCompleted]
        hub.world.kill()
        hub.rest()
        assert hub.open_store().inbox(0, 100) == waiting
        hub.terminate("child")
        assert hub.start("fails", "it") == "it"
        hub.rest(0.5)
        assert not [m for m in hub.open_store().inbox(0, 100) if m.execution != hub.row("it").execution]


@pytest.mark.parametrize("buffered", [True, False])
def test_a_child_runs_on_when_its_parent_continues_as_new_in_the_very_turn_that_asked_for_it(buffered: bool) -> None:
    """So that it does not depend on how early the event came that the parent went on with."""

    def starts_children(context: Any) -> Any:
        lap = context.get_input()
        if lap == 3:
            return lap
        child = context.call_sub_orchestrator("waits", None, f"child-{lap}")
        yield context.task_any([child, context.wait_for_external_event("next")])
        context.continue_as_new(lap + 1)

    with VirtualHub(serve({"starts_children": starts_children, "waits": waits})) as hub:
        hub.send(starting("starts_children", "it", 0))
        hub.run(partial(is_in_memory, hub, "it"))
        for _ in range(3):
            if not buffered:
                hub.rest()
            hub.send(raising("it", "next"))
        hub.run_to_end("it")
        assert hub.output("it") == 3
        for lap in range(3):
            assert hub.raise_event(f"child-{lap}", "go", lap) is None
        hub.run_to_end("child-0", "child-1", "child-2")
        hub.rest()
        assert not hub.open_store().inbox(0, 100)


# --- answers to another execution ------------------------------------------------------------------------------------


def test_an_answer_to_an_execution_that_is_gone_is_dropped() -> None:
    def twice(context: Any) -> Any:
        lap = context.get_input()
        if lap == 1:
            yield context.wait_for_external_event("again")
            context.continue_as_new(2)
            return None
        return (yield context.call_sub_orchestrator("waits", None, "child"))

    with VirtualHub(serve({"twice": twice, "waits": waits})) as hub:
        hub.start("twice", "it", 1)
        old = hub.row("it")
        hub.raise_event("it", "again")
        hub.run(lambda: hub.find("child") is not None)
        engine = hub.engine
        for event in (SubOrchestrationInstanceCompleted(0, '"of another execution"'), TaskCompleted(0, '"of no task"')):
            engine.runtime.post(lambda e=event: engine.deliver(engine.make_mail(old.key, old.execution, e)))
        hub.rest()
        hub.raise_event("child", "go", "the right one")
        hub.run_to_end("it")
        assert hub.output("it") == "the right one"
