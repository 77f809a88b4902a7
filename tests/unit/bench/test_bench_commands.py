"""The benchmarks as commands, small, each in a process of its own: what they tell and that it agrees."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fix_host import host_environment

from perdure.bench.hosting import served
from perdure.bench.parked import EVENT, bench_parked, instance_id
from perdure.bench.stores import sqlite_store
from perdure.bench.summary import summary
from perdure.core.errors import InvalidRequest
from perdure.host.app import Host

METERED = {
    "benchmark",
    "store",
    "elapsed_seconds",
    "cpu_seconds",
    "activities_per_second",
    "cpu_us_per_activity",
    "bytes_per_step",
    "commits_per_step",
    "peak_rss_mb",
}
FLOOR = {"floor_activities_per_second", "floor_cpu_us_per_activity", "floor_bytes_per_step", "floor_ratio"}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")


def perdure_bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perdure", "bench", *arguments]
    return subprocess.run(command, cwd=folder, env=host_environment(), capture_output=True, text=True)


def measured(folder: Path, *arguments: str) -> dict[str, Any]:
    done = perdure_bench(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    figures = json.loads(done.stdout)
    figures.pop("floor_warning", None)  # whether such small runs have one is a matter of how fast the machine is
    return figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def hello(folder: Path) -> dict[str, Any]:
    return measured(folder, "hello", "--clients", "4", "--count", "50")


@pytest.fixture(scope="module")
def fanout(folder: Path) -> dict[str, Any]:
    return measured(folder, "fanout", "--width", "200")


@pytest.fixture(scope="module")
def chain(folder: Path) -> dict[str, Any]:
    return measured(folder, "chain", "--length", "40")


@pytest.fixture(scope="module")
def parked(folder: Path) -> dict[str, Any]:
    return measured(folder, "parked", "--count", "30")


@pytest.fixture(scope="module")
def replay(folder: Path) -> dict[str, Any]:
    return measured(folder, "replay", "--events", "100")


def test_hello_tells_all_its_figures(hello: dict[str, Any]) -> None:
    assert set(hello) == METERED | FLOOR | {
        "clients",
        "count",
        "orchestrations_per_second",
        "latency_ms",
        "floor_orchestrations_per_second",
    }
    assert (hello["benchmark"], hello["store"], hello["clients"], hello["count"]) == ("hello", "sqlite", 4, 50)


def test_fanout_tells_all_its_figures(fanout: dict[str, Any]) -> None:
    assert set(fanout) == METERED | FLOOR | {"width", "commit_ms", "disk_sync_ms"}


def test_chain_tells_all_its_figures(chain: dict[str, Any]) -> None:
    assert set(chain) == METERED | FLOOR | {"length", "commit_ms", "disk_sync_ms", "commit_sync_ratio"}


def test_parked_tells_all_its_figures(parked: dict[str, Any]) -> None:
    assert set(parked) == {
        "benchmark",
        "store",
        "count",
        "timers",
        "fill_seconds",
        "starts_per_second",
        "command_to_ready_seconds",
        "ready_seconds",
        "rss_before_host_mb",
        "rss_mb",
        "one_event_ms",
        "all_events_seconds",
        "all_events_cpu_seconds",
        "peak_rss_mb",
    }
    assert parked["timers"] == parked["count"] == 30


def test_replay_tells_all_its_figures(replay: dict[str, Any]) -> None:
    assert set(replay) == {
        "benchmark",
        "store",
        "history_events",
        "runs",
        "replay_ms",
        "replay_cpu_ms",
        "events_per_second",
    }


@pytest.mark.parametrize("name", ["hello", "fanout", "chain"])
def test_rates_follow_from_the_time_and_the_number_of_activities(name: str, request: pytest.FixtureRequest) -> None:
    figures = request.getfixturevalue(name)
    activities = {"hello": 150, "fanout": 200, "chain": 40}[name]
    # Times are rounded to a ten-thousandth of a second, which is much of what so few activities take.
    assert activities / figures["activities_per_second"] == pytest.approx(figures["elapsed_seconds"], abs=1e-4)
    assert figures["cpu_us_per_activity"] * activities / 1e6 == pytest.approx(figures["cpu_seconds"], abs=1e-4)
    assert figures["floor_ratio"] == pytest.approx(
        figures["activities_per_second"] / figures["floor_activities_per_second"], rel=0.01
    )


def test_latencies_rise_and_are_part_of_the_whole(hello: dict[str, Any]) -> None:
    latency = hello["latency_ms"]
    assert list(latency) == ["p50", "p95", "p99"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= hello["elapsed_seconds"] * 1000


def test_orchestrations_of_hello_have_three_activities(hello: dict[str, Any]) -> None:
    assert hello["activities_per_second"] == pytest.approx(3 * hello["orchestrations_per_second"], rel=0.01)


def test_each_step_of_a_chain_is_a_commit(chain: dict[str, Any]) -> None:
    assert chain["commits_per_step"] >= 1


def test_the_activities_of_a_fanout_share_commits(fanout: dict[str, Any]) -> None:
    assert 0 < fanout["commits_per_step"] < 1


def test_a_chain_compares_its_commits_with_the_disk(chain: dict[str, Any]) -> None:
    expected = chain["commit_ms"] * chain["commits_per_step"] / chain["disk_sync_ms"]
    assert chain["commit_sync_ratio"] == pytest.approx(expected, rel=0.05)


@on_linux
@pytest.mark.parametrize("name", ["hello", "fanout", "chain"])
def test_bytes_and_memory_are_told(name: str, request: pytest.FixtureRequest) -> None:
    figures = request.getfixturevalue(name)
    assert figures["bytes_per_step"] > 0
    assert figures["peak_rss_mb"] > 1


@on_linux
def test_memory_of_a_host_on_parked_instances_is_told(parked: dict[str, Any]) -> None:
    assert 1 < parked["rss_before_host_mb"] < parked["rss_mb"]
    assert parked["peak_rss_mb"] > 1


def test_a_host_is_ready_before_the_whole_process_is_timed(parked: dict[str, Any]) -> None:
    assert 0 < parked["ready_seconds"] < parked["command_to_ready_seconds"]


def test_replayed_histories_are_as_long_as_asked_for(replay: dict[str, Any]) -> None:
    assert replay["history_events"] >= 100
    assert replay["events_per_second"] == pytest.approx(
        replay["history_events"] / (replay["replay_ms"] / 1000), rel=0.01
    )


@pytest.mark.parametrize("name", ["hello", "fanout", "chain", "parked", "replay"])
def test_a_store_that_was_not_named_is_removed(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(name)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["hello", "fanout", "chain", "parked", "replay"])
def test_every_figure_has_its_words(name: str, request: pytest.FixtureRequest) -> None:
    figures = request.getfixturevalue(name)
    given = {"clients", "count", "timers", "width", "length", "history_events", "runs"}
    floor = {key for key in figures if key.startswith("floor_") and key != "floor_ratio"}
    first, *lines = summary(figures).splitlines()
    assert first.startswith(f"{name}: ")
    for key in given & set(figures):
        assert f" {figures[key]:,} " in first
    header = 1 if floor else 0
    latencies = figures.get("latency_ms", {})
    assert len(lines) == header + len(
        set(figures) - given - floor - {"benchmark", "store", "latency_ms"} | set(latencies)
    )


def test_without_json_a_summary_is_printed(tmp_path: Path) -> None:
    done = perdure_bench(tmp_path, "hello", "--clients", "2", "--count", "4", "--no-floor", "--store", "memory://")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hello: 2 clients, 4 orchestrations, memory\n")
    assert "without an engine" not in done.stdout


def test_the_floor_has_a_column_of_its_own() -> None:
    figures = {"activities_per_second": 1000.0, "floor_activities_per_second": 4000.0, "elapsed_seconds": 1.5}
    shown = {"benchmark": "fanout", "store": "sqlite", **figures, "floor_warning": "too small"}
    assert summary(shown).splitlines() == [
        "fanout: sqlite",
        "         Perdure  without an engine",
        "           1,000              4,000  activities a second",
        "           1.500                     s in all",
        "  warning: too small",
    ]


def test_the_activities_of_a_commit_are_told_and_not_its_parts() -> None:
    assert "4.00 activities a commit" in summary({"benchmark": "hello", "store": "sqlite", "commits_per_step": 0.25})


def test_what_the_system_does_not_tell_is_said() -> None:
    text = summary({"benchmark": "hello", "store": "sqlite", "bytes_per_step": None})
    assert "not known here bytes written for each activity" in text


def test_a_named_store_stays_and_is_not_taken_twice(tmp_path: Path) -> None:
    arguments = ("hello", "--clients", "1", "--count", "1", "--no-floor", "--store", "sqlite:///mine.db")
    assert perdure_bench(tmp_path, *arguments).returncode == 0
    assert (tmp_path / "mine.db").is_file()
    again = perdure_bench(tmp_path, *arguments)
    assert again.returncode == 1
    assert "sqlite:///mine.db exists" in again.stderr


def test_a_store_is_filled_once_and_measured_later(tmp_path: Path) -> None:
    store = ("--store", "sqlite:///parked.db")
    filled = measured(tmp_path, "parked", "--count", "5", "--timers", "3", "--fill-only", *store)
    assert filled["starts_per_second"] > 0
    assert "ready_seconds" not in filled
    ready = measured(tmp_path, "parked", "--count", "5", "--timers", "3", "--filled", "--ready-only", *store)
    assert ready["ready_seconds"] > 0
    assert "one_event_ms" not in ready
    others = perdure_bench(tmp_path, "parked", "--count", "4", "--filled", *store)
    assert "has 5 instances that wait for an event and 3" in refusal(others)
    raised = measured(tmp_path, "parked", "--count", "5", "--timers", "3", "--filled", *store)
    assert raised["all_events_seconds"] > 0
    again = perdure_bench(tmp_path, "parked", "--count", "5", "--timers", "3", "--filled", *store)
    assert "has 5 instances that do not wait" in refusal(again)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a run that was refused."""
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_store_that_was_filled_for_something_else_is_refused(tmp_path: Path) -> None:
    store = ("--store", "sqlite:///hello.db")
    assert perdure_bench(tmp_path, "hello", "--clients", "1", "--count", "2", "--no-floor", *store).returncode == 0
    assert "instances that do not wait" in refusal(perdure_bench(tmp_path, "parked", "--filled", *store))


@pytest.mark.usefixtures("process")
def test_a_store_that_was_filled_with_gaps_is_refused(tmp_path: Path) -> None:
    async def fill(host: Host) -> None:
        for number in (0, 2):
            await host.connect().start_new(EVENT, instance_id(EVENT, number))

    store = sqlite_store(tmp_path / "parked.db")
    with served(store) as serving:
        asyncio.run(fill(serving.host))
    with pytest.raises(InvalidRequest, match="not filled to its end"):
        bench_parked(2, 0, store.url, fill=False)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("notes", encoding="utf-8")
    done = perdure_bench(tmp_path, "parked", "--filled", "--store", "sqlite:///notes.db")
    assert "not a SQLite database" in refusal(done)


def test_a_file_that_was_named_without_its_scheme_is_told_its_url(tmp_path: Path) -> None:
    said = refusal(perdure_bench(tmp_path, "hello", "--store", "foo.db"))
    assert "The file foo.db is sqlite:///foo.db" in said
    assert "PERDURE_STORE" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process that is sent a signal by another")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_and_takes_its_folder_away(number: signal.Signals, code: int, tmp_path: Path) -> None:
    # A test run in the background would have its children ignore Ctrl-C.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from perdure.cli import main; main(['bench', 'hello', '--count', '100000000', '--no-floor'])"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=tmp_path, env=host_environment(), stderr=subprocess.PIPE, text=True) as run:
        while not list(tmp_path.glob(".perdure-bench-*/hub.db")):
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(number)
        _, said = run.communicate()
    assert run.returncode == code
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["parked", "--fill-only"], 2, "need --store"),
        (["parked", "--filled"], 2, "need --store"),
        (["parked", "--filled", "--fill-only", "--store", "sqlite:///a.db"], 2, "one of them"),
        (["parked", "--filled", "--store", "sqlite:///none.db"], 1, "does not exist"),
        (["parked", "--store", "memory://"], 1, "ends with its process"),
        (["replay", "--store", "memory://"], 1, "ends with its host"),
        (["parked", "--filled", "--store", "memory://"], 1, "ends with its process"),
        (["hello", "--store", "nothing://"], 1, "--store takes memory://"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    done = perdure_bench(tmp_path, *arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_figure_is_explained(request: pytest.FixtureRequest) -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in ("hello", "fanout", "chain", "parked", "replay"):
        for key in {*request.getfixturevalue(name), "floor_warning"}:
            assert f"`{key}`" in page, f"docs/cli.md does not explain {key}"
