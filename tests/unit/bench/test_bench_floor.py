"""The floor writes what the engine wrote, and computes what the app computes, without the engine."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.bench import floor as floor_module
from perdure.bench.bare import bare_functions, drive
from perdure.bench.counting import CommitLog
from perdure.bench.floor import Work, floor_figures, measure_floor, run_floor
from perdure.bench.hosting import Caller, Served, app_settings, served
from perdure.bench.measure import Meter
from perdure.bench.stores import BenchStore, sqlite_store
from perdure.core.protocols import InstanceQuery
from perdure.host.app import claim_store

pytestmark = pytest.mark.usefixtures("process")

GREETINGS = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
GREETINGS_TEXT = '["Hello Tokyo!", "Hello Seattle!", "Hello London!"]'
HELLO = Work("hello", None, GREETINGS, 60)
FANOUT = Work("fanout", 200, 200 * 199, 1)
CHAIN = Work("chain", 30, 30, 1)


def run_engine(store: BenchStore, work: Work) -> Served:
    """What the engine has done, with its host gone."""

    async def run(caller: Caller) -> None:
        output = GREETINGS_TEXT if work is HELLO else str(work.output)
        await asyncio.gather(*(caller.run(work.orchestrator, work.input, output) for _ in range(work.count)))

    with served(store) as host:
        asyncio.run(run(Caller(host.host)))
    return host


def floor_on(place: BenchStore, host: Served, work: Work) -> Meter:
    opened = claim_store(app_settings(place))
    try:
        return run_floor(bare_functions(host.functions), work, host.commits, opened)
    finally:
        opened.close()


@pytest.mark.parametrize("work", [HELLO, FANOUT, CHAIN], ids=lambda work: work.orchestrator)
def test_the_floor_writes_as_many_rows_and_bytes_as_the_engine(store: BenchStore, work: Work) -> None:
    host = run_engine(store, work)
    engine, floor = host.commits, measure_floor(host, work, store).commits
    wrote, writes = engine.total(), floor.total()
    assert writes.created == wrote.created == work.count
    assert writes.turns == wrote.turns
    assert (writes.updated, writes.advanced) == (wrote.updated, wrote.advanced)
    # The bodies have the engine's mean size, rounded down.
    assert wrote.history_bytes - wrote.turns < writes.history_bytes <= wrote.history_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was written")
def test_the_floor_has_the_system_write_as_many_bytes_as_the_engine(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "hub.db")
    with served(store) as host, Meter(host.commits) as engine:
        asyncio.run(Caller(host.host).run("chain", CHAIN.input, str(CHAIN.output)))
    floor = measure_floor(host, CHAIN, store)
    assert floor.bytes_written == pytest.approx(engine.bytes_written, rel=0.25)


def test_the_floor_commits_batches_of_the_engines_median_size(store: BenchStore) -> None:
    host = run_engine(store, HELLO)
    floor = measure_floor(host, HELLO, store).commits
    assert floor.commits[0].turns == max(commit.turns for commit in floor.commits) == host.commits.median_turns()


def test_a_chain_of_the_floor_is_durable_at_every_step(store: BenchStore) -> None:
    host = run_engine(store, CHAIN)
    assert len(measure_floor(host, CHAIN, store).commits.commits) == host.commits.total().turns


def test_the_store_that_the_floor_leaves_is_one_that_a_host_can_serve(tmp_path: Path) -> None:
    host = run_engine(sqlite_store(tmp_path / "hub.db"), HELLO)
    place = sqlite_store(tmp_path / "floor.db")
    floor_on(place, host, HELLO)
    with closing(sqlite3.connect(tmp_path / "floor.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def look(host: Served) -> None:
        rows = await host.host.hub.query(InstanceQuery(limit=1000))
        assert len(rows) == HELLO.count
        assert {(row.status, row.output) for row in rows} == {("Completed", GREETINGS_TEXT)}
        for row in rows:
            assert await host.host.hub.get(row.id) == row
            assert len(await host.host.hub.history(row.id)) == row.sequence

    with served(place) as serving:
        asyncio.run(look(serving))


def test_the_floor_takes_its_store_away(store: BenchStore, tmp_path: Path) -> None:
    host = run_engine(store, CHAIN)
    before = set(tmp_path.iterdir())
    measure_floor(host, CHAIN, store)
    assert set(tmp_path.iterdir()) == before


def test_a_function_that_returns_something_else_is_told(store: BenchStore) -> None:
    host = run_engine(store, CHAIN)
    with pytest.raises(RuntimeError, match="chain returned something else"):
        measure_floor(host, Work("chain", 30, 31, 1), store)


@pytest.mark.parametrize("work", [HELLO, FANOUT, CHAIN], ids=lambda work: work.orchestrator)
def test_called_directly_the_functions_return_what_they_return_when_they_are_durable(
    store: BenchStore, work: Work
) -> None:
    with served(store) as host:
        functions = bare_functions(host.functions)
    assert drive(functions, work.orchestrator, work.input) == work.output


def test_the_engine_is_not_asked_while_the_floor_is_measured(store: BenchStore) -> None:
    host = run_engine(store, CHAIN)
    before = list(host.commits.commits)
    run = measure_floor(host, CHAIN, store)
    assert host.commits.commits == before
    assert run.commits is not host.commits
    assert isinstance(run.commits, CommitLog)


def took(elapsed_seconds: float) -> Meter:
    meter = Meter(CommitLog())
    meter.elapsed_seconds = elapsed_seconds
    return meter


@pytest.mark.parametrize(
    ("rounds", "fastest", "number"),
    [([3.0, 1.0, 2.0], 1.0, 3), ([4.0, 6.0, 1.0], 4.0, 2), ([11.0, 1.0, 1.0], 11.0, 1)],
)
def test_the_fastest_round_is_the_floor_and_none_begins_after_ten_seconds(
    rounds: list[float], fastest: float, number: int, store: BenchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = run_engine(store, CHAIN)
    left = iter(rounds)
    run: list[Meter] = []

    def timed(*given: Any) -> Meter:
        run.append(run_floor(*given))
        run[-1].elapsed_seconds = next(left)
        return run[-1]

    monkeypatch.setattr(floor_module, "run_floor", timed)
    assert measure_floor(host, CHAIN, store).elapsed_seconds == fastest
    assert len(run) == number
    assert {meter.commits.total().turns for meter in run} == {host.commits.total().turns}


def test_a_floor_that_can_be_compared_has_no_warning() -> None:
    figures = floor_figures(took(0.4), took(0.2), 10)
    assert figures["floor_ratio"] == 0.5
    assert "floor_warning" not in figures


def test_a_run_that_is_too_short_has_a_warning() -> None:
    assert "less than 0.2 s" in floor_figures(took(0.19), took(0.1), 10)["floor_warning"]


def test_a_floor_that_was_slower_than_the_engine_has_a_warning() -> None:
    assert "took longer without an engine" in floor_figures(took(0.5), took(0.6), 10)["floor_warning"]
