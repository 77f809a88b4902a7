"""Values of a megabyte: where they lie, what is written of them and how often, and what faults make of them."""

from __future__ import annotations

import random
from base64 import b85encode
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from simulation.programs import MODEL, Ledger, build_app
from virtual_hub import SETTINGS, Strike, VirtualHub, controlling, raising, serve, starting, strike_at

from perdure.core.errors import InstanceExists, RefusedData
from perdure.core.events import EventRaised, ExecutionTerminated
from perdure.core.ids import KEY_BITS
from perdure.core.protocols import StartRequest
from perdure.core.state import InstanceRow
from perdure.engine import EngineSettings
from perdure.engine.outside import submit_start
from perdure.engine.payloads import unpack
from perdure.store.api import Commit, PayloadRow
from perdure.store.memory import MemoryDatabase
from perdure.testing.runtime import SimulatedRuntime

LIMIT = EngineSettings().payload_bytes


def large(name: str) -> str:
    """A megabyte of text that says what it is, and packs well."""
    return f"{name} " * (1_000_000 // (len(name) + 1))


def noise(name: str) -> str:
    """The same, of text that hardly packs."""
    return f"{name} {b85encode(random.Random(name).randbytes(800_000)).decode()}"


# --- programs that hand large values about ---------------------------------------------------------------------------


def takes(context: Any) -> Any:
    """A large input, kept through small steps."""
    given = context.get_input()
    for n in range(8):
        yield context.call_activity("note", n)
    return given[:5]


def echoes(context: Any) -> Any:
    """A large input to an activity, its result, and the output."""
    result = yield context.call_activity("echo", context.get_input())
    yield context.call_activity("note", 1)
    return result


def hears(context: Any) -> Any:
    first = yield context.wait_for_external_event("go")
    yield context.call_activity("note", 1)
    return first


def has_a_child(context: Any) -> Any:
    result = yield context.call_sub_orchestrator("echoes", context.get_input())
    yield context.call_activity("note", 1)
    return result


def has_a_named_child(context: Any) -> Any:
    return (yield context.call_sub_orchestrator("echoes", large("of the child"), "child"))


def goes_on(context: Any) -> Any:
    """Hands a large value from one generation to the next."""
    given = context.get_input()
    yield context.call_activity("note", given["lap"])
    if given["lap"] < 3:
        context.continue_as_new({"lap": given["lap"] + 1, "text": large("of the parent" if given["lap"] else "0")})
    return [given["lap"], given["text"]]


def catches(context: Any) -> Any:
    """The error of an activity with a large text, and a large text of its own."""
    try:
        yield context.call_activity("break_loudly", large("an error"))
    except Exception as error:
        raise ValueError(f"{'an error' in str(error)} {large('of the orchestrator')}") from None


def small(context: Any) -> Any:
    total = 0
    for n in range(5):
        total += yield context.call_activity("note", n)
    return total


def break_loudly(value: str) -> None:
    raise ValueError(value)


APP = serve(
    {f.__name__: f for f in (takes, echoes, hears, has_a_child, has_a_named_child, goes_on, catches, small)},
    {"note": lambda value: value, "echo": lambda value: value, "break_loudly": break_loudly},
)

PROGRAMS: dict[str, tuple[Any, Any]] = {
    "takes": (large("input"), "input"),
    "echoes": (large("input"), large("input")),
    "hears": (None, large("event")),
    "has_a_child": (large("input"), large("input")),
    "has_a_named_child": (None, large("of the child")),
    "goes_on": ({"lap": 0, "text": ""}, [3, large("of the parent")]),
    "catches": (None, None),
}
"""What each is given, and what it gives."""


def begin(hub: VirtualHub, name: str) -> None:
    assert hub.start(name, "it", PROGRAMS[name][0], "the one request") == "it"
    if name == "hears":
        assert hub.raise_event("it", "go", large("event")) is None


def check(hub: VirtualHub, name: str) -> None:
    if name == "catches":
        row = hub.row("it")
        assert (row.status, row.output) == ("Failed", None)
        assert f"True {large('of the orchestrator')}" in (row.failure or "")
    else:
        assert hub.output("it") == PROGRAMS[name][1]
    for instance_id in ("it", "child"):
        if hub.find(instance_id) is not None:
            assert len(hub.history(instance_id)) == hub.row(instance_id).sequence
    assert hub.open_store().inbox(0, 100) == []
    assert payloads(hub), "nothing was large"


def stored_rows(hub: VirtualHub) -> list[InstanceRow]:
    """As they lie in the store."""
    return hub.rows()


def payloads(hub: VirtualHub) -> dict[int, PayloadRow]:
    tables: Any = hub.database.hubs["hub"]
    return tables.payloads


def size(commit: Commit) -> int:
    return len(msgspec.msgpack.encode(commit))


class Written:
    """A `strike` that keeps what goes to the store."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def __call__(self, _: int, commit: Commit) -> Strike:
        self.commits.append(commit)
        return ""


# --- where they lie --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [20_000, 0])
@pytest.mark.parametrize("name", PROGRAMS)
def test_large_values_come_through_unchanged_and_lie_apart(name: str, in_memory: int) -> None:
    """With every instance in memory throughout, and with each read again for each of its turns."""
    written = Written()
    with VirtualHub(APP, strike=written, settings=replace(SETTINGS, instances_in_memory=in_memory)) as hub:
        begin(hub, name)
        hub.run_to_end("it")
        check(hub, name)
        for row in stored_rows(hub):
            assert len(msgspec.msgpack.encode(row)) < LIMIT
            for part in hub.open_store().history(row.execution):
                assert len(part.body) < LIMIT
        for commit in written.commits:
            assert size(replace(commit, inbox_new=[])) < 2 * LIMIT


def test_the_history_of_a_large_turn_is_the_whole_of_it() -> None:
    with VirtualHub(APP) as hub:
        begin(hub, "echoes")
        hub.run_to_end("it")
        started, answered = hub.received("it")[:2]
        assert msgspec.json.decode(started.input) == large("input")
        assert msgspec.json.decode(answered.result) == large("input")
        scheduled = [decision for record in hub.history("it") for decision in record.decided]
        assert [msgspec.json.decode(decision.input) for decision in scheduled[:2]] == [large("input"), 1]
        assert msgspec.json.decode(scheduled[-1].result) == large("input")
        assert hub.history("it")[0].deferred, "a stub says nothing of that, the record does"


def test_a_large_input_is_written_with_the_start_and_never_again() -> None:
    written = Written()
    with VirtualHub(APP, strike=written) as hub:
        begin(hub, "takes")
        hub.run_to_end("it")
        assert hub.row("it").sequence > 8
        assert len(hub.payloads) == 2, "the record and the input of the row"
        assert sum(map(size, written.commits)) < 50_000


def test_an_event_lies_in_the_inbox_once_at_most() -> None:
    written = Written()
    with VirtualHub(APP, strike=written) as hub:
        hub.start("hears", "it")
        assert hub.suspend("it") is None
        assert hub.raise_event("it", "go", large("event")) is None
        hub.rest()
        assert hub.resume("it") is None
        hub.run_to_end("it")
        assert hub.output("it") == large("event")
        assert sum(len(commit.inbox_new) for commit in written.commits if size(commit) > LIMIT) == 1


def test_the_result_of_an_activity_goes_into_no_commit() -> None:
    """However long it takes to write, though the lane would give it a row if its turn did not have it."""
    written = Written()
    with VirtualHub(APP, strike=written) as hub:
        hub.start("takes", "other", "small")
        begin(hub, "echoes")
        for _ in range(50):
            hub.send(starting("small", None))
        hub.run_to_end("it")
        assert max(map(size, written.commits)) < 2 * LIMIT


def test_a_value_that_packs_is_packed() -> None:
    with VirtualHub(APP) as hub:
        hub.start("echoes", "packs", large("input"))
        hub.start("echoes", "hardly packs", noise("input"))
        hub.run_to_end("packs", "hardly packs")
        assert hub.row("packs").input == f'"{large("input")}"'
        assert hub.row("hardly packs").input == f'"{noise("input")}"'
        assert hub.output("hardly packs") == noise("input")
        packs = next(row.key for row in hub.rows() if row.id == "packs")
        for row in hub.payloads:
            assert row.encoding == ("zlib" if row.instance == packs else "utf-8")
            assert (len(row.body) < 20_000) == (row.encoding == "zlib")


def test_texts_up_to_the_limit_stay_where_they_are() -> None:
    """Bytes count, not characters."""
    settings = replace(SETTINGS, payload_bytes=1000, record_bytes=1000)
    for text, apart in (("a" * 998, False), ("a" * 999, True), ("é" * 499, False), ("é" * 500, True)):
        with VirtualHub(APP, settings=settings) as hub:
            request = StartRequest("takes", "it", input=msgspec.json.encode(text).decode())
            hub.ask(lambda engine, reply, request=request: engine.doors.start(request, reply))
            row = stored_rows(hub)[0]
            assert (row.input is None, row.input_payload is not None) == (apart, apart)
            assert hub.row("it").input == request.input


def test_a_session_that_waits_leaves_nothing_large_in_the_engine() -> None:
    def waits(context: Any) -> Any:
        context.get_input()
        child = context.call_sub_orchestrator("hears", large("of the child"), "child")
        yield context.task_any([child, context.wait_for_external_event("go")])

    with VirtualHub(serve({"waits": waits, "hears": hears}, {"note": lambda value: value})) as hub:
        hub.start("waits", "it", large("input"))
        assert hub.run(lambda: hub.find("child") is not None)
        hub.rest()
        engine = hub.engine
        assert len(engine.members.table) == 2
        for instance in engine.members.table:
            assert instance.state is not None and instance.records == () and not instance.mailbox
            kept = [instance.state, instance.row, instance.committed]
            assert len(msgspec.msgpack.encode(kept)) < 5000
        assert engine.holds.count == engine.holds.bytes == 0


# --- faults ----------------------------------------------------------------------------------------------------------

STRIKES: list[Strike] = ["dies before", "dies after", "fails", "answer lost"]


def survives(name: str, **strikes: Any) -> tuple[int, int]:
    """Run a program through these faults; how many commits and how many other writes were tried."""
    with VirtualHub(APP, **strikes) as hub:
        begin(hub, name)
        hub.run_to_end("it")
        hub.rest(0.1)
        check(hub, name)
        assert {row.id for row in hub.rows()} <= {"it", "child", *(row.id for row in hub.rows() if ":" in row.id)}
        for row in hub.rows():
            assert hub.purge(row.id) is None or strikes, "said twice, the second finds nothing"
        hub.world.kill()
        hub.rest()
        assert payloads(hub) == {}, "what belonged to nobody is swept once its host is gone"
        return hub.commits, hub.payload_writes


def bears(name: str, strike: Strike) -> bool:
    """An event whose acknowledgement is lost with the process is raised twice by a client that asks again."""
    return not (name == "hears" and strike in ("dies before", "dies after"))


@pytest.mark.parametrize(("name", "strike"), [(n, s) for n in PROGRAMS for s in STRIKES if bears(n, s)])
def test_a_fault_at_any_write_of_a_large_value_changes_nothing(name: str, strike: Strike) -> None:
    for place in range(1, 100):
        _, writes = survives(name, seed=place, strike_payloads=strike_at(place, strike))
        if writes < place:
            return
    pytest.fail("no run got through")


@pytest.mark.parametrize(("name", "strike"), [(n, s) for n in PROGRAMS for s in STRIKES if bears(n, s)])
def test_a_fault_at_any_commit_that_refers_to_large_values_changes_nothing(name: str, strike: Strike) -> None:
    for place in range(1, 100):
        commits, _ = survives(name, seed=place, strike=strike_at(place, strike))
        if commits < place:
            return
    pytest.fail("no run got through")


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize("kind", ["chain", "fan", "tree", "relay", "namesakes", "nested"])
def test_a_fault_at_any_write_changes_nothing_where_everything_is_large(kind: str, strike: Strike) -> None:
    given = {"key": kind, "length": 3, "width": 3, "depth": 1, "lap": 1, "laps": 3}
    settings = replace(SETTINGS, payload_bytes=20, record_bytes=20)
    for place in range(1, 200):
        with VirtualHub(
            build_app(Ledger()), seed=place, settings=settings, strike_payloads=strike_at(place, strike)
        ) as hub:
            assert hub.start(kind, kind, given, "the one request") == kind
            hub.run_to_end(kind)
            assert hub.output(kind) == MODEL[kind](given)
            if hub.payload_writes < place:
                return
    pytest.fail("no run got through")


def test_a_turn_that_is_redone_uses_nothing_of_what_was_written_for_it_before() -> None:
    with VirtualHub(APP, strike_payloads=strike_at(2, "answer lost")) as hub:
        begin(hub, "echoes")
        hub.run_to_end("it")
        check(hub, "echoes")
        ordinals = {id >> KEY_BITS for id in payloads(hub)}
        assert len(ordinals) == 2, "the first lane wrote some, too"
        row = stored_rows(hub)[0]
        assert (row.output_payload or 0) >> KEY_BITS == max(ordinals)


def test_what_a_payload_has_lost_parks_its_instance_and_says_which() -> None:
    for spoil in (spoil_by_deletion, spoil_by_another_text, spoil_by_noise):
        with VirtualHub(APP) as hub:
            hub.start("hears", "it", large("input"))
            hub.start("hears", "other", large("input"))
            stub = hub.open_store().history(stored_rows(hub)[0].execution)[0]
            id = msgspec.json.decode(stub.body)[0]["payload"]
            spoil(hub, id)
            hub.world.kill()
            hub.send(raising("it", "go", 1))
            hub.send(raising("other", "go", 1))
            hub.run_to_end("other")
            hub.run_until_parked("it")
            assert f"payload {id}" in (stored_rows(hub)[0].parked or "")


def spoil_by_deletion(hub: VirtualHub, id: int) -> None:
    tables: Any = hub.database.hubs["hub"]
    tables.delete_payload(id)


def spoil_by_another_text(hub: VirtualHub, id: int) -> None:
    payloads(hub)[id] = replace(payloads(hub)[id], encoding="utf-8", body=b'{"at": "soon"}')


def spoil_by_noise(hub: VirtualHub, id: int) -> None:
    payloads(hub)[id] = replace(payloads(hub)[id], encoding="zlib", body=b"noise")


# --- values that the store refuses -----------------------------------------------------------------------------------

POISON = "what the store cannot hold"


def refuse_poison(_: int, rows: Sequence[PayloadRow]) -> Strike:
    return "refused" if any(POISON.encode() in unpack(row) for row in rows) else ""


def poisoned(name: str) -> str:
    return POISON + large(name)


def returns_poison(context: Any) -> Any:
    yield context.call_activity("note", 1)
    return poisoned("output")


def fetches_poison(context: Any) -> Any:
    yield context.call_activity("fetch_poison")


def gives_poison_to_a_child(context: Any) -> Any:
    yield context.call_activity("note", 1)
    yield context.call_sub_orchestrator("hears", poisoned("input"))


REFUSED = serve(
    {f.__name__: f for f in (returns_poison, fetches_poison, gives_poison_to_a_child, hears, echoes)},
    {
        "note": lambda value: value,
        "echo": lambda value: value,
        "fetch_poison": lambda value: poisoned("result"),
    },
)


@pytest.mark.parametrize("culprit", ["returns_poison", "fetches_poison", "gives_poison_to_a_child"])
@pytest.mark.parametrize("seed", range(3))
def test_a_large_value_that_is_refused_parks_only_the_instance_that_wrote_it(culprit: str, seed: int) -> None:
    with VirtualHub(REFUSED, seed=seed, strike_payloads=refuse_poison) as hub:
        others = [f"echoes-{n}" for n in range(6)]
        for instance_id in others[:3]:
            hub.send(starting("echoes", instance_id, large(instance_id)))
        hub.send(starting(culprit, "culprit"))
        for instance_id in others[3:]:
            hub.send(starting("echoes", instance_id, large(instance_id)))
        hub.run_to_end(*others)
        hub.run_until_parked("culprit")
        assert "the store refused" in (hub.row("culprit").parked or "")
        assert all(hub.output(instance_id) == large(instance_id) for instance_id in others)
        assert [row.id for row in hub.rows() if row.parked] == ["culprit"]
        assert len(hub.engine.members.table) <= 7
        assert hub.resume("culprit") is None
        hub.run_until_parked("culprit")
        assert hub.terminate("culprit") is None
        assert hub.purge("culprit") is None


def test_a_large_start_that_is_refused_is_answered_with_that_and_disturbs_nobody() -> None:
    for seed in range(4):
        with VirtualHub(REFUSED, seed=seed, strike_payloads=refuse_poison) as hub:
            hub.start("hears", "ended")
            hub.raise_event("ended", "go", 1)
            hub.run_to_end("ended")
            good = [hub.send(starting("echoes", f"good-{n}", large(str(n)))) for n in range(5)]
            bad = [hub.send(starting("hears", name, poisoned("input"))) for name in ("bad", "ended", None)]
            good += [hub.send(starting("echoes", f"good-{n}", large(str(n)))) for n in range(5, 10)]
            hub.wait_for(*good, *bad)
            assert all(isinstance(answers[0], RefusedData) for answers in bad), bad
            assert [answers[0] for answers in good] == [f"good-{n}" for n in range(10)]
            hub.run_to_end(*(f"good-{n}" for n in range(10)))
            assert [hub.output(f"good-{n}") for n in range(10)] == [large(str(n)) for n in range(10)]
            assert hub.find("bad") is None
            assert hub.output("ended") == 1
            assert hub.start("hears", "bad") == "bad", "the name is free again"


# --- requests for an id while something large is written for it ------------------------------------------------------


class Gate:
    """Holds every write of large values up, until it is opened, by as much virtual time as it takes."""

    def __init__(self, hub: VirtualHub) -> None:
        self._hub = hub
        self._free = hub.engine.holds._worker
        hub.engine.holds._worker = self  # type: ignore[assignment]
        self._waiting: list[Any] = []

    def submit(self, *given: Any) -> None:
        self._waiting.append(given)

    def open(self) -> None:
        self._hub.engine.holds._worker = self._free
        for given in self._waiting:
            self._free.submit(*given)


def test_while_a_large_value_is_written_the_others_go_on() -> None:
    with VirtualHub(APP) as hub:
        gate = Gate(hub)
        large_one = hub.send(starting("echoes", "large", large("input")))
        hub.rest()
        assert hub.start("small", "small") == "small"
        hub.run_to_end("small")
        assert not large_one
        assert hub.find("large") is None
        gate.open()
        hub.wait_for(large_one)
        hub.run_to_end("large")
        assert hub.output("large") == large("input")


def test_what_asks_for_an_instance_that_is_being_made_waits_and_finds_it_whole() -> None:
    with VirtualHub(APP) as hub:
        gate = Gate(hub)
        requests = [
            starting("hears", "it", large("input"), "one"),
            starting("hears", "it", large("input"), "one"),
            starting("hears", "it", large("input"), "two"),
            starting("hears", "it", None, "three"),
            raising("it", "go", "hello"),
            lambda engine, reply: engine.doors.wait("it", reply),
        ]
        answers = [[] for _ in requests]

        def ask_all() -> None:
            for request, answer in zip(requests, answers, strict=True):
                request(hub.engine, answer.append)

        hub.engine.runtime.post(ask_all)
        hub.rest()
        assert not any(answers)
        assert hub.engine.committed("it") is None
        gate.open()
        hub.wait_for(*answers)
        first, again, second, third, raised, ended = (answer[0] for answer in answers)
        assert (first, again, raised) == ("it", "it", None)
        assert isinstance(second, InstanceExists) and isinstance(third, InstanceExists)
        assert ended.status == "Completed"
        assert hub.output("it") == "hello"
        assert hub.row("it").input == msgspec.json.encode(large("input")).decode()


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize("seed", range(3))
def test_of_two_large_starts_of_one_id_one_wins_whatever_fails(strike: Strike, seed: int) -> None:
    for place in range(1, 4):
        with VirtualHub(APP, seed=seed, strike_payloads=strike_at(place, strike)) as hub:
            one = hub.send(starting("takes", "it", large("one"), "one"))
            two = hub.send(starting("takes", "it", large("two"), "two"))
            hub.wait_for(one, two)
            assert sorted(isinstance(answers[0], InstanceExists) for answers in (one, two)) == [False, True]
            hub.run_to_end("it")
            winner = "one" if one == ["it"] else "two"
            assert (hub.row("it").request_id, hub.output("it")) == (winner, large(winner)[:5])


def test_an_instance_is_begun_anew_with_a_large_input() -> None:
    for seed in range(5):
        with VirtualHub(APP, seed=seed) as hub:
            begin(hub, "takes")
            hub.run_to_end("it")
            before = hub.row("it")
            assert hub.start("echoes", "it", large("again")) == "it"
            hub.run_to_end("it")
            assert hub.output("it") == large("again")
            assert hub.row("it").key == before.key
            hub.rest()
            assert {row.execution for row in payloads(hub).values()} == {hub.row("it").execution}, "the old ones go"


def test_a_child_in_the_place_of_an_ended_instance_gets_its_large_input() -> None:
    for in_memory in (0, 1000):
        settings = replace(SETTINGS, instances_in_memory=in_memory)
        with VirtualHub(APP, settings=settings) as hub:
            hub.start("takes", "child", "small")
            hub.run_to_end("child")
            hub.start("has_a_named_child", "it")
            hub.run_to_end("it")
            assert hub.output("it") == large("of the child")
            assert hub.row("child").parent_id == "it"


def test_a_child_gets_its_large_input_though_its_parent_continues_as_new_in_the_same_turn() -> None:
    """What asked for it is in no record then."""

    def goes_on_at_once(context: Any) -> Any:
        if context.get_input() == "on":
            return "done"
        child = context.call_sub_orchestrator("hears", large("of the child"), "child")
        yield context.task_any([child, context.wait_for_external_event("next")])
        context.continue_as_new("on")

    written = Written()
    with VirtualHub(serve({"goes_on_at_once": goes_on_at_once, "hears": hears}), strike=written) as hub:

        def start_and_raise() -> None:
            starting("goes_on_at_once", None)(hub.engine, lambda _: None)
            instance = next(iter(hub.engine.members.table))
            raising(str(instance.id), "next")(hub.engine, lambda _: None)

        hub.run(lambda: hub.engine.doors._let_in)
        hub.engine.runtime.post(start_and_raise)
        assert hub.run(lambda: hub.find("child") is not None)
        assert hub.row("child").input == msgspec.json.encode(large("of the child")).decode()
        assert {row.instance for row in hub.payloads} == {hub.row("child").key}
        assert max(map(size, written.commits)) < LIMIT


def test_an_id_that_another_process_takes_while_a_large_start_is_written_is_seen() -> None:
    for ends in (False, True):
        with VirtualHub(APP, settings=replace(SETTINGS, poll_seconds=0.01)) as hub:
            gate = Gate(hub)
            answers = hub.send(starting("hears", "it", large("inside"), "inside"))
            hub.rest()
            other = SimulatedRuntime(hub.world.machine)
            submit_start(hub.open_store(), other, StartRequest("small" if ends else "hears", "it", request_id="other"))
            hub.rest()
            assert hub.ended("it") == ends
            gate.open()
            hub.wait_for(answers)
            if ends:
                assert answers == ["it"]
                assert hub.row("it").input == msgspec.json.encode(large("inside")).decode()
            else:
                assert isinstance(answers[0], InstanceExists)
                assert hub.row("it").request_id == "other"


def end_and_raise(hub: VirtualHub, event: str) -> None:
    """Terminate an instance, and send it an event that is accepted and finds it ended."""

    def both() -> None:
        controlling("it", ExecutionTerminated())(hub.engine, lambda _: None)
        raising("it", "noise", event)(hub.engine, lambda _: None)

    hub.engine.runtime.post(both)
    hub.run_until_status("it", "Terminated")
    hub.rest()


def test_a_large_event_that_comes_too_late_is_kept() -> None:
    with VirtualHub(APP) as hub:
        hub.start("hears", "it")
        end_and_raise(hub, large("late"))
        late = [event for event in hub.received("it") if isinstance(event, EventRaised)]
        assert [(event.late, msgspec.json.decode(event.input or "")) for event in late] == [(True, large("late"))]
        assert payloads(hub)


@pytest.mark.parametrize("then", ["purge", "small start", "large start"])
@pytest.mark.parametrize("opened", [True, False])
def test_who_asks_for_an_ended_instance_waits_for_the_large_event_that_came_too_late(then: str, opened: bool) -> None:
    verbs: dict[str, Callable[..., object]] = {
        "purge": lambda engine, reply: engine.doors.purge("it", reply),
        "small start": starting("hears", "it"),
        "large start": starting("hears", "it", large("again")),
    }
    with VirtualHub(APP) as hub:
        hub.start("hears", "it")
        gate = Gate(hub)
        end_and_raise(hub, large("late"))
        answers = hub.send(verbs[then])
        hub.rest()
        assert (answers, hub.engine.holds.count) == ([], 1)
        if opened:
            gate.open()
        else:
            hub.world.kill()
        hub.wait_for(answers)
        hub.rest()
        assert answers == [None if then == "purge" else "it"]
        assert hub.open_store().inbox(0, 100) == []
        assert not payloads(hub) or then == "large start"


def test_late_events_that_are_refused_stay_in_the_inbox() -> None:
    with VirtualHub(APP, strike_payloads=refuse_poison) as hub:
        hub.start("hears", "it")
        end_and_raise(hub, poisoned("late"))
        assert len(hub.open_store().inbox(0, 100)) == 1
        assert hub.start("small", "small") == "small"
        hub.run_to_end("small")
        assert hub.purge("it") is None
        assert hub.open_store().inbox(0, 100) == []


# --- purge, stop, limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_purge_takes_the_large_values_with_it(name: str) -> None:
    with VirtualHub(APP) as hub:
        begin(hub, name)
        hub.run_to_end("it")
        for row in hub.rows():
            assert hub.purge(row.id) is None
        hub.rest()
        assert payloads(hub) == {}


def test_a_host_that_stops_waits_for_what_is_being_written() -> None:
    with VirtualHub(APP) as hub:
        gate = Gate(hub)
        started = hub.send(starting("echoes", "it", large("input")))
        hub.rest(0.1)
        stopped: list[Any] = []
        hub.engine.runtime.post(hub.engine.stop, 30.0, lambda: stopped.append(True))
        hub.rest()
        assert not stopped and not started
        gate.open()
        hub.wait_for(started, stopped)
        assert started == ["it"]


def test_no_turn_is_begun_while_too_much_waits_to_be_written() -> None:
    """Or a fan-out of large results would fill the memory faster than the disk takes them."""

    def fans_out(context: Any) -> Any:
        tasks = [context.call_sub_orchestrator("grows", n) for n in range(30)]
        return [text[:2] for text in (yield context.task_all(tasks))]

    def grows(context: Any) -> Any:
        return large(f"{context.get_input():02}")

    settings = replace(SETTINGS, payload_bytes_waiting=3_000_000, turns_in_chunk=1)
    most = 0
    with VirtualHub(serve({"fans_out": fans_out, "grows": grows}), settings=settings) as hub:
        hub.send(starting("fans_out", "it"))

        def look() -> bool:
            nonlocal most
            most = max(most, hub.engine.holds.bytes)
            return hub.ended("it")

        assert hub.run(look)
        assert hub.output("it") == [f"{n:02}" for n in range(30)]
    assert 3_000_000 <= most < 36_000_000


def test_a_database_that_outlives_its_host_gives_them_to_the_next() -> None:
    database = MemoryDatabase()
    with VirtualHub(APP, database=database) as hub:
        hub.start("hears", "it", large("input"))
        hub.world.process.runtime.kill()
    with VirtualHub(APP, database=database, seed=2) as hub:
        assert hub.raise_event("it", "go", large("event")) is None
        hub.run_to_end("it")
        assert hub.output("it") == large("event")
        assert hub.row("it").input == msgspec.json.encode(large("input")).decode()
