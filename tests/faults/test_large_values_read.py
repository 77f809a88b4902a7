"""What clients are shown of large values, on real threads: the texts as they are, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from thread_hub import PATIENCE_SECONDS, ThreadHub
from virtual_hub import raising, serve, starting

from perdure.core.errors import InstanceNotFound, UnreadableRecord
from perdure.core.events import ExecutionStarted, SubOrchestrationInstanceCreated, TaskCompleted, TaskFailed
from perdure.core.protocols import InstanceQuery, Reply, StartRequest
from perdure.core.state import InstanceRow
from perdure.host.hub import LocalHub
from perdure.store.api import PayloadRow, Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.store.sqlite import SqliteStore

LARGE = "a large value " * 80_000
OTHER = "another value " * 80_000


def text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def echoes(context: Any) -> Any:
    return (yield context.call_activity("echo", context.get_input()))


def has_a_child(context: Any) -> Any:
    return (yield context.call_sub_orchestrator("echoes", LARGE, "child"))


def fails(context: Any) -> Any:
    try:
        yield context.call_activity("fail", LARGE)
    except Exception:
        raise ValueError(OTHER) from None


def waits(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def fail(value: str) -> None:
    raise ValueError(value)


APP = serve({f.__name__: f for f in (echoes, has_a_child, fails, waits)}, {"echo": lambda value: value, "fail": fail})


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = MemoryStore(MemoryDatabase(), "hub") if request.param == "memory" else SqliteStore(tmp_path / "a.db", "hub")
    yield store
    store.close()


def ask(hub: ThreadHub, then: Callable[[LocalHub], Coroutine[Any, Any, Any]]) -> Any:
    """What a client on an event loop is answered."""
    return asyncio.run(then(LocalHub("hub", hub.runtime, hub.store, hub.engine)))


# --- as they are -----------------------------------------------------------------------------------------------------


def test_status_and_history_show_large_values_as_they_are(store: Store) -> None:
    with ThreadHub(APP, store=store) as hub:

        async def run(client: LocalHub) -> None:
            await client.raise_event(await start(client, "waits", "waits", LARGE), "go", text(OTHER))
            await start(client, "echoes", "echoes", LARGE)
            await start(client, "has_a_child", "parent")
            await start(client, "fails", "fails")
            shown: dict[str, tuple[Any, Any]] = {
                "waits": (LARGE, OTHER),
                "echoes": (LARGE, LARGE),
                "parent": (None, LARGE),
                "child": (LARGE, LARGE),
            }
            for instance_id, (given, output) in shown.items():
                row = await client.wait(instance_id, PATIENCE_SECONDS)
                assert row.input == (None if given is None else text(given))
                assert (row.status, row.output) == ("Completed", text(output))
                assert await client.get(instance_id) == row
            failed = await client.wait("fails", PATIENCE_SECONDS)
            assert failed.status == "Failed" and OTHER in (failed.failure or "")
            assert await client.get("fails") == failed
            for row in await client.query(InstanceQuery()):
                assert row == await client.get(row.id)

            child = [event for record in await client.history("child") for event in (*record.received, *record.decided)]
            assert [event.input for event in child if isinstance(event, ExecutionStarted)] == [text(LARGE)]
            assert [event.result for event in child if isinstance(event, TaskCompleted)] == [text(LARGE)]
            decided = [event for record in await client.history("parent") for event in record.decided]
            assert [e.input for e in decided if isinstance(e, SubOrchestrationInstanceCreated)] == [text(LARGE)]
            received = [event for record in await client.history("fails") for event in record.received]
            assert [e.failure.message for e in received if isinstance(e, TaskFailed)] == [LARGE]

        ask(hub, run)


async def start(client: LocalHub, name: str, instance_id: str, given: str | None = None) -> str:
    return await client.start(StartRequest(name, instance_id, None if given is None else text(given)))


def test_an_instance_that_runs_is_shown_with_its_large_input(store: Store) -> None:
    with ThreadHub(APP, store=store) as hub:

        async def look(client: LocalHub) -> None:
            await start(client, "waits", "it", LARGE)
            for row in (await client.get("it"), await client.wait("it", 0.0), *await client.query(InstanceQuery())):
                assert row is not None
                assert row.status in ("Pending", "Running")
                assert row.input == text(LARGE)

        ask(hub, look)


def test_the_next_host_shows_and_uses_what_the_one_before_wrote(store: Store) -> None:
    with ThreadHub(APP, store=store) as hub:
        ask(hub, lambda client: start(client, "waits", "it", LARGE))
    with ThreadHub(APP, store=store) as hub:

        async def go_on(client: LocalHub) -> InstanceRow:
            await client.raise_event("it", "go", text(OTHER))
            return await client.wait("it", PATIENCE_SECONDS)

        row = ask(hub, go_on)
        assert (row.input, row.output) == (text(LARGE), text(OTHER))


# --- what changes while they are read --------------------------------------------------------------------------------


class InterposedStore(MemoryStore):
    """Calls `before` once, between the reading of a row or a history and that of its large values."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase(), "hub")
        self.before: Callable[[], object] | None = None

    def payloads(self, ids: Sequence[int]) -> dict[int, PayloadRow]:
        before, self.before = self.before, None
        if before is not None:
            before()
        return super().payloads(ids)


@pytest.fixture
def hub() -> Iterator[ThreadHub]:
    """With an ended instance whose input and output are large."""
    with ThreadHub(APP, store=InterposedStore()) as hub:
        hub.ask(starting("echoes", "it", LARGE))
        hub.wait("it")
        yield hub


def interpose(hub: ThreadHub, before: Callable[[], object]) -> None:
    assert isinstance(hub.store, InterposedStore)
    hub.store.before = before


def purge(hub: ThreadHub) -> None:
    hub.ask(lambda engine, reply: engine.doors.purge("it", reply))


def begin_anew(hub: ThreadHub) -> None:
    """And wait until what it had before is swept away."""
    before = hub.store.find(["it"])["it"]
    assert before.input_payload is not None
    hub.ask(starting("waits", "it", "small"))

    def look(reply: Reply) -> None:
        gone = not hub.store.payloads([before.input_payload or 0])
        reply(None) if gone else hub.runtime.later(0.01, look, reply)

    hub.await_call(look)


def test_an_instance_that_is_purged_while_it_is_read_is_not_there(hub: ThreadHub) -> None:
    async def look(client: LocalHub) -> None:
        interpose(hub, lambda: purge(hub))
        assert await client.get("it") is None

    ask(hub, look)


def test_who_waits_for_an_instance_that_is_purged_meanwhile_is_told(hub: ThreadHub) -> None:
    async def look(client: LocalHub) -> None:
        interpose(hub, lambda: purge(hub))
        with pytest.raises(InstanceNotFound):
            await client.wait("it", PATIENCE_SECONDS)

    ask(hub, look)


def test_a_listing_leaves_out_what_is_purged_meanwhile(hub: ThreadHub) -> None:
    hub.ask(starting("echoes", "other", OTHER))
    hub.wait("other")

    async def look(client: LocalHub) -> None:
        interpose(hub, lambda: purge(hub))
        assert [(row.id, row.input) for row in await client.query(InstanceQuery())] == [("other", text(OTHER))]

    ask(hub, look)


def test_the_history_of_what_is_purged_meanwhile_is_not_there(hub: ThreadHub) -> None:
    async def look(client: LocalHub) -> None:
        interpose(hub, lambda: purge(hub))
        with pytest.raises(InstanceNotFound):
            await client.history("it")

    ask(hub, look)


def test_an_instance_that_is_begun_anew_while_it_is_read_is_shown_as_it_is_then(hub: ThreadHub) -> None:
    async def look(client: LocalHub) -> None:
        interpose(hub, lambda: begin_anew(hub))
        row = await client.get("it")
        assert row is not None
        assert (row.name, row.input, row.output) == ("waits", text("small"), None)
        interpose(hub, lambda: None)
        assert [row.name for row in await client.query(InstanceQuery())] == ["waits"]

    ask(hub, look)


def test_the_history_is_that_of_the_execution_that_was_begun_meanwhile(hub: ThreadHub) -> None:
    async def look(client: LocalHub) -> None:
        interpose(hub, lambda: begin_anew(hub))
        first = (await client.history("it"))[0].received[0]
        assert isinstance(first, ExecutionStarted)
        assert (first.name, first.input) == ("waits", text("small"))

    ask(hub, look)


def test_who_waits_for_what_is_begun_anew_meanwhile_waits_on(hub: ThreadHub) -> None:
    def begin_anew_and_end() -> None:
        begin_anew(hub)
        hub.runtime.post(raising("it", "go", "done"), hub.engine, lambda _: None)

    async def look(client: LocalHub) -> None:
        interpose(hub, begin_anew_and_end)
        row = await client.wait("it", PATIENCE_SECONDS)
        assert (row.status, row.output) == ("Completed", text("done"))

    ask(hub, look)


@pytest.mark.parametrize("spoil", ["delete", "noise", "no text"])
def test_a_large_value_that_is_damaged_is_an_error_that_names_it(hub: ThreadHub, spoil: str) -> None:
    row = hub.store.find(["it"])["it"]
    tables: Any = hub.store._tables  # type: ignore[attr-defined]
    damaged = tables.payloads[row.input_payload]
    if spoil == "delete":
        tables.delete_payload(row.input_payload)
    else:
        body, encoding = (b"noise", "zlib") if spoil == "noise" else (b"\xff", "utf-8")
        tables.payloads[row.input_payload] = msgspec.structs.replace(damaged, body=body, encoding=encoding)

    async def look(client: LocalHub) -> None:
        for read in (client.get("it"), client.query(InstanceQuery()), client.wait("it", PATIENCE_SECONDS)):
            with pytest.raises(UnreadableRecord, match=f"payload {row.input_payload}"):
                await read

    ask(hub, look)


# --- while one is written --------------------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """Writes large values only when it is told to."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase(), "hub")
        self.asked, self.told = threading.Event(), threading.Event()

    def write_payloads(self, host_id: str, rows: Sequence[PayloadRow]) -> None:
        self.asked.set()
        assert self.told.wait(PATIENCE_SECONDS)
        super().write_payloads(host_id, rows)


def test_the_others_go_on_while_a_large_value_is_being_written() -> None:
    store = SlowStore()
    with ThreadHub(APP, store=store) as hub:
        answers: list[Any] = []
        hub.runtime.post(starting("echoes", "large", LARGE), hub.engine, answers.append)
        assert store.asked.wait(PATIENCE_SECONDS)
        for n in range(3):
            hub.ask(starting("echoes", f"small-{n}", n))
            assert hub.wait(f"small-{n}").output == str(n)
        assert not answers
        store.told.set()
        assert hub.wait("large").output is None
        row = ask(hub, lambda client: client.get("large"))
        assert row.output == text(LARGE)
        assert answers == ["large"]
