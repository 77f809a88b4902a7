"""A store that went back in time, rows that cannot be read, clocks that disagree."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from virtual_hub import SETTINGS, VirtualHub, raising, serve, starting

from perdure.core.errors import StoreUnavailable
from perdure.core.events import EventRaised, TimerFired
from perdure.core.protocols import StartRequest
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.testing.faults import FaultRates
from perdure.testing.simulation import World

APP_ACTIVITIES = {"double": lambda value: 2 * value}


def chain(context: Any) -> Any:
    total = 0
    for n in range(context.get_input()):
        total += yield context.call_activity("double", n)
    return total


def waits(context: Any) -> Any:
    first = yield context.wait_for_external_event("go")
    return [first, (yield context.wait_for_external_event("go"))]


APP = serve({"chain": chain, "waits": waits}, APP_ACTIVITIES)


class Snapshot:
    """The content of a memory database, to which it can be taken back."""

    def __init__(self, database: MemoryDatabase) -> None:
        names = [name for name in vars(database) if name != "lock"]
        self._content = copy.deepcopy({name: getattr(database, name) for name in names})

    def restore(self, database: MemoryDatabase) -> None:
        """The handles that are open see the old content."""
        content = copy.deepcopy(self._content)
        tables = database.hubs["hub"]
        for name, value in vars(content["hubs"]["hub"]).items():
            setattr(tables, name, value)
        for name, value in content.items():
            if name != "hubs":
                setattr(database, name, value)


# --- a store that was taken back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_us", range(0, 6000, 300))
def test_a_store_that_is_taken_back_under_a_running_host_is_noticed_and_has_no_gaps(pause_us: int) -> None:
    """As after a failover to a replica that lagged behind: what came after is lost, and nothing is built upon it."""
    with VirtualHub(APP, seed=pause_us) as hub:
        for n in range(4):
            hub.start("chain", f"chain-{n}", 12)
        hub.rest(0.002)
        snapshot = Snapshot(hub.database)
        started = {row.id for row in hub.rows()}
        lane = hub.engine.commits.lane
        hub.start("chain", "lost", 3)
        hub.rest(pause_us / 1_000_000)
        snapshot.restore(hub.database)
        hub.start("chain", "after", 3)
        hub.run_to_end("after", *started)
        assert hub.engine.commits.lane is not lane
        assert {row.id for row in hub.rows()} == started | {"after"}
        for instance_id in started:
            assert hub.output(instance_id) == sum(2 * n for n in range(12))
            assert len(hub.history(instance_id)) == hub.row(instance_id).sequence


def test_keys_that_a_store_gives_out_again_after_it_was_taken_back_do_not_mix_executions() -> None:
    """An activity of the lost time is still running when another execution gets the key of its own."""
    answers: dict[str, list[str]] = {}

    def stamp(value: str) -> str:
        answers.setdefault(value, []).append(value)
        return value

    def stamped(context: Any) -> Any:
        return (yield context.call_activity("stamp", context.get_input()))

    app = serve({"stamped": stamped}, {"stamp": stamp})
    for seed in range(20):
        database = MemoryDatabase()
        with VirtualHub(app, seed=seed, database=database) as hub:
            hub.start("stamped", "first", "first")
            hub.run_to_end("first")
            snapshot = Snapshot(database)
            hub.world.process.engine.commits.end_lane(RuntimeError("so that another lane begins, which is lost"))
            hub.rest(0.05)
            hub.world.process.runtime.jitter_us = 20_000
            hub.start("stamped", "lost", "lost")
            assert hub.run(lambda: hub.engine.desk.running == 1)
            hub.world.process.runtime.jitter_us = 50
            snapshot.restore(database)
            hub.start("stamped", "found", "found")
            hub.run_to_end("found")
            assert hub.output("found") == "found"


# --- rows that cannot be read ----------------------------------------------------------------------------------------


def test_a_history_that_cannot_be_read_parks_its_instance_and_nobody_else() -> None:
    with VirtualHub(APP) as hub:
        for instance_id in ("torn", "whole"):
            hub.start("waits", instance_id)
            hub.raise_event(instance_id, "go", 1)
        tables: Any = hub.database.hubs["hub"]
        execution = hub.row("torn").execution
        tables.history[execution][-1] = replace(tables.history[execution][-1], body=b'[{"received": 7}]')
        hub.world.kill()
        hub.rest()
        assert hub.raise_event("torn", "go", 2) is None
        hub.run_until_parked("torn")
        assert "received" in (hub.row("torn").parked or "")
        assert hub.raise_event("whole", "go", 2) is None
        hub.run_to_end("whole")
        assert hub.output("whole") == [1, 2]

        assert hub.resume("torn") is None
        hub.rest()
        assert "received" in (hub.row("torn").parked or ""), "it can still not be read"
        assert hub.terminate("torn") is None
        assert hub.row("torn").status == "Terminated"
        assert hub.purge("torn") is None


def test_a_history_with_a_record_missing_parks_its_instance() -> None:
    with VirtualHub(APP) as hub:
        hub.start("waits", "torn")
        hub.raise_event("torn", "go", 1)
        tables: Any = hub.database.hubs["hub"]
        del tables.history[hub.row("torn").execution][-1]
        hub.world.kill()
        hub.rest()
        hub.send(raising("torn", "go", 2))
        hub.run_until_parked("torn")
        assert "history records" in (hub.row("torn").parked or "")


def test_a_message_that_cannot_be_read_parks_its_instance_and_nobody_else() -> None:
    with VirtualHub(APP) as hub:
        for instance_id in ("torn", "whole"):
            hub.start("waits", instance_id)
            hub.suspend(instance_id)
            hub.raise_event(instance_id, "go", 1)
        tables: Any = hub.database.hubs["hub"]
        key = hub.row("torn").key
        for seq, row in list(tables.inbox.items()):
            if row.target == key:
                tables.inbox[seq] = tables.inbox_by_target[key][seq] = replace(row, body=b'{"type":"Unheard"}')
        assert hub.resume("torn") is None
        hub.run_until_parked("torn")
        assert "unreadable message" in (hub.row("torn").parked or "")
        hub.world.kill()
        hub.rest()
        assert hub.resume("whole") is None
        assert hub.raise_event("whole", "go", 2) is None
        hub.run_to_end("whole")
        assert hub.output("whole") == [1, 2]
        hub.resume("torn")
        hub.run_until_parked("torn")
        assert hub.terminate("torn") is None
        assert hub.purge("torn") is None
        assert not tables.inbox


def test_an_internal_error_in_a_turn_parks_its_instance_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.durable_functions.replay import OrchestrationSession

    advance = OrchestrationSession.advance

    def fails(self: Any, at: int, received: Any) -> Any:
        if any(isinstance(event, EventRaised) and event.name == "boom" for event in received):
            raise AssertionError("a bug of ours")
        return advance(self, at, received)

    monkeypatch.setattr(OrchestrationSession, "advance", fails)
    with VirtualHub(APP) as hub:
        hub.start("waits", "it")
        hub.start("chain", "other", 5)
        assert hub.raise_event("it", "boom", 1) is None
        hub.run_until_parked("it")
        assert "internal error: AssertionError: a bug of ours" in (hub.row("it").parked or "")
        hub.run_to_end("other")
        monkeypatch.undo()
        assert hub.resume("it") is None
        for n in (1, 2):
            hub.raise_event("it", "go", n)
        hub.run_to_end("it")
        assert hub.output("it") == [1, 2], "what it was about to take had stayed in the inbox"
        names = [event.name for event in hub.received("it") if isinstance(event, EventRaised)]
        assert names == ["boom", "go", "go"]


def test_an_instance_whose_function_is_gone_is_parked_and_goes_on_when_it_is_back() -> None:
    database = MemoryDatabase()
    with VirtualHub(APP, database=database) as hub:
        hub.start("waits", "it")
        hub.raise_event("it", "go", 1)
        hub.rest()
        hub.world.process.runtime.kill()
    with VirtualHub(serve({"chain": chain}, APP_ACTIVITIES), database=database, seed=2) as hub:
        assert hub.raise_event("it", "go", 2) is None
        hub.run_until_parked("it")
        assert "The function 'waits' doesn't exist" in (hub.row("it").parked or "")
        hub.start("chain", "other", 3)
        hub.run_to_end("other")
        hub.world.process.runtime.kill()
    with VirtualHub(APP, database=database, seed=3) as hub:
        hub.run_to_end("it")
        assert hub.output("it") == [1, 2]


# --- recovery --------------------------------------------------------------------------------------------------------


def test_answers_that_fill_more_than_a_page_of_the_inbox_are_all_met_before_anything_is_started_again() -> None:
    runs: list[int] = []

    def note(value: int) -> int:
        runs.append(value)
        return value

    def fan(context: Any) -> Any:
        results = yield context.task_all([context.call_activity("note", n) for n in range(1300)])
        return sum(results)

    statuses: list[str] = []

    def strike(_: int, commit: Any) -> Any:
        statuses.extend(row.status for row in commit.advanced)
        return "dies after" if statuses[-2:] == ["Suspended", "Running"] else ""

    with VirtualHub(serve({"fan": fan}, {"note": note}), strike=strike) as hub:
        hub.start("fan", "it")
        hub.run(lambda: hub.row("it").open_activities == 1300)
        hub.suspend("it")
        hub.run(lambda: len(runs) == 1300)
        hub.rest()
        hub.resume("it")
        hub.run_to_end("it")
        assert hub.world.crashes == 1
        assert hub.output("it") == sum(range(1300))
        assert len(runs) == 1300


def test_a_commit_that_fails_under_a_thousand_running_activities_starts_none_of_them_again() -> None:
    runs: list[int] = []

    def note(value: int) -> int:
        runs.append(value)
        return value

    def fan(context: Any) -> Any:
        results = yield context.task_all([context.call_activity("note", n) for n in range(1000)])
        return sum(results)

    settings = replace(SETTINGS, activity_slots=1000)
    with VirtualHub(
        serve({"fan": fan, "waits": waits}, {"note": note}),
        settings=settings,
        strike=lambda n, _: "fails" if n % 3 == 0 else "answer lost" if n % 5 == 0 else "",
    ) as hub:
        hub.world.process.runtime.jitter_us = 100_000
        hub.start("fan", "it")
        hub.run_to_end("it")
        assert hub.output("it") == sum(range(1000))
        assert sorted(runs) == list(range(1000))


# --- time ------------------------------------------------------------------------------------------------------------


def test_time_never_goes_back_for_an_instance_and_no_timer_is_seen_before_its_time() -> None:
    """The next host's clock is 30 seconds behind."""

    def clock(context: Any) -> Any:
        times: list[datetime] = []
        for _ in range(6):
            fire_at = context.current_utc_datetime + timedelta(seconds=1)
            yield context.create_timer(fire_at)
            times.append(context.current_utc_datetime)
            assert context.current_utc_datetime >= fire_at
        return [time.timestamp() for time in times]

    with VirtualHub(serve({"clock": clock})) as hub:
        hub.start("clock", "it")
        hub.run(lambda: hub.row("it").sequence >= 4)
        for _ in range(2):
            hub.world.kill()
            hub.run(lambda: hub.world.process.runtime.alive)
            runtime, machine = hub.world.process.runtime, hub.world.machine
            runtime.now = lambda machine=machine: machine.now() - 30_000_000
            hub.rest(2)
        hub.run_to_end("it", seconds=100)
        times = hub.output("it")
        assert times == sorted(times)
        for record in hub.history("it"):
            fired = [event.fire_at for event in record.received if isinstance(event, TimerFired)]
            assert all(record.at >= fire_at for fire_at in fired)


def test_a_timer_of_thirty_days_fires_to_the_millisecond() -> None:
    def month(context: Any) -> Any:
        begun = context.current_utc_datetime
        yield context.create_timer(begun + timedelta(days=30))
        return (context.current_utc_datetime - begun).total_seconds()

    with VirtualHub(serve({"month": month})) as hub:
        hub.start("month", "it")
        hub.run_to_end("it", seconds=31 * 86_400)
        assert 0 <= hub.output("it") - 30 * 86_400 < 0.001
        assert hub.world.machine.steps < 10_000


def test_timers_survive_the_host_and_fire_at_once_if_their_time_has_passed() -> None:
    def naps(context: Any) -> Any:
        yield context.create_timer(timedelta(hours=context.get_input()))
        return context.get_input()

    database = MemoryDatabase()
    with VirtualHub(serve({"naps": naps}), database=database) as hub:
        for hours in range(1, 1200):
            hub.send(starting("naps", f"nap-{hours}", hours))
        hub.rest()
        assert len(hub.open_store().timers(2**62, None, 2000)) == 1199
        hub.world.process.runtime.kill()
    with VirtualHub(serve({"naps": naps}), database=database, seed=2) as hub:
        hub.world.machine.at(600 * 3600 * 1_000_000, int)
        hub.rest(1201 * 3600)
        assert {row.output for row in hub.rows()} == {str(hours) for hours in range(1, 1200)}
        assert not hub.open_store().timers(2**62, None, 10)


def test_a_wide_fan_out_that_is_due_does_not_keep_others_from_being_read() -> None:
    """Its activities fill the queue for hours; what stands behind it in the store is read all the same."""

    def fan(context: Any) -> Any:
        yield context.task_all([context.call_activity("double", n) for n in range(5000)])

    with VirtualHub(serve({"fan": fan, "chain": chain}, APP_ACTIVITIES)) as hub:
        hub.engine.desk.stop()
        hub.start("fan", "fan")
        for n in range(1200):
            hub.send(starting("chain", f"chain-{n}", 1))
        hub.rest(5)
        due = hub.open_store().due(0, 10_000)
        assert len(due) == 1201
        hub.world.kill()
        hub.run(lambda: hub.world.process.runtime.alive)
        hub.engine.desk.stop()
        hub.rest(5)
        assert hub.engine.desk.queued == 6200
        assert all(hub.engine.members.table.get(row.key) is not None for row in due)


def test_a_suspended_instance_whose_function_is_back_stays_suspended() -> None:
    database = MemoryDatabase()
    with VirtualHub(APP, database=database) as hub:
        hub.start("waits", "it")
        hub.rest()
        hub.world.process.runtime.kill()
    with VirtualHub(serve({"chain": chain}, APP_ACTIVITIES), database=database, seed=2) as hub:
        hub.raise_event("it", "go", 1)
        hub.run_until_parked("it")
        assert hub.suspend("it") is None
        hub.world.process.runtime.kill()
    with VirtualHub(APP, database=database, seed=3) as hub:
        hub.rest()
        assert hub.row("it").status == "Suspended"
        assert hub.resume("it") is None
        hub.raise_event("it", "go", 2)
        hub.run_to_end("it")
        assert hub.output("it") == [1, 2]


# --- a store that is away for long -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rates",
    [FaultRates(commit_fails=1.0), FaultRates(commit_fails=1.0, end_host_fails=1.0)],
    ids=["a disk that is full", "a store that does not answer"],
)
def test_a_caller_is_told_when_the_store_stays_away_and_the_host_goes_on_when_it_is_back(rates: FaultRates) -> None:
    app = serve({"chain": chain, "waits": waits}, APP_ACTIVITIES)
    database = MemoryDatabase()
    world = World(1, lambda: MemoryStore(database, "hub"), app.orchestrators, app.activities)
    answers: list[Any] = []

    def start(instance_id: str) -> None:
        request = StartRequest(name="chain", instance_id=instance_id, input="3")
        world.process.runtime.post(world.engine.doors.start, request, answers.append)

    assert world.run_until(lambda: world.process.running)
    world.strike_with(rates)
    start("lost")
    assert world.run_until(lambda: bool(answers))
    assert isinstance(answers[0], StoreUnavailable)
    assert world.machine.seconds() < 60
    world.calm()
    start("found")
    assert world.run_until(lambda: world.ended("found"))
    assert answers[1] == "found"
    assert world.row("lost") is None


def test_a_short_fault_is_not_told_to_anybody() -> None:
    app = serve({"chain": chain, "waits": waits}, APP_ACTIVITIES)
    database = MemoryDatabase()
    world = World(2, lambda: MemoryStore(database, "hub"), app.orchestrators, app.activities)
    answers: list[Any] = []
    assert world.run_until(lambda: world.process.running)
    world.strike_with(FaultRates(commit_fails=1.0, end_host_fails=1.0))
    request = StartRequest(name="chain", instance_id="it", input="3")
    world.process.runtime.post(world.engine.doors.start, request, answers.append)
    until = world.machine.now() + 2_000_000
    assert world.run_until(lambda: world.machine.now() >= until)
    assert not answers
    world.calm()
    assert world.run_until(lambda: world.ended("it"))
    assert answers == ["it"]
