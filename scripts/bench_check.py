"""Check that Perdure is as fast, on this machine, as it is meant to be: `make bench-check`.

Every figure that must hold is measured in fresh processes, three times over, and its median set against its mark. The
table at the end tells which are met; one that is missed makes the exit status 1. Beside the marks stand aims, which may
be missed.

It takes ten minutes and 2 GB of disk, and needs a machine that does nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 3
Figures = dict[str, Any]
"""What one run tells, by name."""


# --- what must hold --------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """How figures are come by: `measure` is called in each round."""

    measure: Callable[[Path], Figures]
    """It may write below the folder that it is given."""
    slow: bool = False
    """It takes minutes."""


class AtMost(NamedTuple):
    bound: float
    aim: float | None = None

    def met(self, number: float, bound: float) -> bool:
        return number <= bound


class AtLeast(NamedTuple):
    bound: float
    aim: float | None = None

    def met(self, number: float, bound: float) -> bool:
        return number >= bound


class Figure(NamedTuple):
    words: str
    """What the table calls it, its unit included."""
    run: str
    """Name in RUNS."""
    key: str
    mark: AtMost | AtLeast | None
    """None is told and not judged."""
    less: str | None = None
    """For growth: the run that is smaller by `factor`. The figure is then how often the key grows for each factor of
    ten."""
    factor: float = 10.0


def bench(*arguments: object) -> Run:
    return Run(lambda folder: run_bench(folder, *arguments))


RUNS: dict[str, Run] = {
    "hello-1": bench("hello", "--clients", 1, "--count", 2_000, "--no-floor"),
    "hello-64": bench("hello", "--clients", 64, "--count", 20_000),
    "hello-256": bench("hello", "--clients", 256, "--count", 30_000),
    "fanout-1000": bench("fanout", "--width", 1_000, "--no-floor"),
    "fanout-10000": bench("fanout", "--width", 10_000, "--no-floor"),
    "fanout-100000": bench("fanout", "--width", 100_000, "--no-floor"),
    "chain-1000": bench("chain", "--length", 1_000, "--no-floor"),
    "chain-10000": bench("chain", "--length", 10_000, "--no-floor"),
    "chain-50000": bench("chain", "--length", 50_000, "--no-floor")._replace(slow=True),
    "replay": bench("replay", "--events", 20_000),
    "parked-100000": Run(lambda folder: parked(folder, 100_000), slow=True),
    "parked-500000": Run(lambda folder: parked_start(folder, 500_000), slow=True),
    "start": Run(lambda folder: first_answer(folder)),
    "import": Run(lambda folder: import_cost()),
}

FIGURES = [
    Figure("hello, 64 clients: orchestrations/s", "hello-64", "orchestrations_per_second", AtLeast(4_000, 7_000)),
    Figure("hello, 256 clients: orchestrations/s", "hello-256", "orchestrations_per_second", AtLeast(5_000, 10_000)),
    Figure("hello, 64 clients: of the floor", "hello-64", "floor_ratio", AtLeast(0.4, 0.6)),
    Figure("hello, 256 clients: of the floor", "hello-256", "floor_ratio", AtLeast(0.4, 0.6)),
    Figure("the floor itself: orchestrations/s", "hello-256", "floor_orchestrations_per_second", AtLeast(9_000)),
    Figure("hello, 1 client: p50 ms", "hello-1", "latency_ms.p50", AtMost(3.5, 2.5)),
    Figure("hello, 64 clients: CPU us an activity", "hello-64", "cpu_us_per_activity", AtMost(120, 60)),
    Figure("hello, 64 clients: bytes an activity", "hello-64", "bytes_per_step", AtMost(3_000)),
    Figure("fanout 10,000: s", "fanout-10000", "elapsed_seconds", AtMost(1.0, 0.3)),
    Figure("fanout 1,000 to 10,000: times", "fanout-10000", "elapsed_seconds", AtMost(11), "fanout-1000"),
    Figure("fanout 1,000 to 10,000: times in CPU", "fanout-10000", "cpu_seconds", AtMost(11), "fanout-1000"),
    Figure("fanout 10,000 to 100,000: times", "fanout-100000", "elapsed_seconds", AtMost(11), "fanout-10000"),
    Figure("fanout 10,000 to 100,000: times in CPU", "fanout-100000", "cpu_seconds", AtMost(11), "fanout-10000"),
    Figure("chain 10,000: s", "chain-10000", "elapsed_seconds", AtMost(10.0, 5.0)),
    Figure("chain 10,000: commit of a step / disk sync", "chain-10000", "commit_sync_ratio", None),
    Figure("chain 1,000 to 10,000: times", "chain-10000", "elapsed_seconds", AtMost(11), "chain-1000"),
    Figure("chain 1,000 to 10,000: times in CPU", "chain-10000", "cpu_seconds", AtMost(11), "chain-1000"),
    Figure("chain 10,000 to 50,000: times for ten", "chain-50000", "elapsed_seconds", AtMost(11), "chain-10000", 5),
    Figure("chain 10,000 to 50,000: times in CPU", "chain-50000", "cpu_seconds", AtMost(11), "chain-10000", 5),
    Figure("parked 100,000 + 100,000: s until ready", "parked-100000", "command_to_ready_seconds", AtMost(1.5)),
    Figure("parked 100,000 + 100,000: MB", "parked-100000", "rss_mb", AtMost(300, 150)),
    Figure("parked 100,000 + 100,000: ms for one event", "parked-100000", "one_event_ms", AtMost(50)),
    Figure("parked 100,000 + 100,000: s for all events", "parked-100000", "all_events_seconds", AtMost(40, 15)),
    Figure("parked 100,000 + 100,000: MB at most", "parked-100000", "peak_rss_mb", None),
    Figure("parked 1,000,000: s until ready", "parked-500000", "command_to_ready_seconds", AtMost(3.0)),
    Figure("replay: history events/s", "replay", "events_per_second", AtLeast(200_000)),
    Figure("start of the quickstart: s to the first answer", "start", "first_answer_seconds", AtMost(1.0)),
    Figure("import azure.durable_functions: ms", "import", "import_ms", AtMost(150)),
]


# --- measuring -------------------------------------------------------------------------------------------------------


def run_bench(folder: Path, *arguments: object) -> Figures:
    """`perdure bench` with `arguments` in a process of its own."""
    command = [sys.executable, "-m", "perdure", "bench", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def parked(folder: Path, count: int) -> Figures:
    """`count` instances that wait for an event and `count` that wait for a timer; the events are raised, on a copy."""
    copy = folder / "copy.db"
    shutil.copyfile(filled(folder, count), copy)
    try:
        return run_bench(folder, "parked", "--count", count, "--filled", "--store", f"sqlite:///{copy}")
    finally:
        for left in folder.glob("copy.db*"):
            left.unlink()


def parked_start(folder: Path, count: int) -> Figures:
    """The same without events: a start changes nothing of what is parked."""
    store = f"sqlite:///{filled(folder, count)}"
    return run_bench(folder, "parked", "--count", count, "--filled", "--ready-only", "--store", store)


def filled(folder: Path, count: int) -> Path:
    """The store with the parked instances. It is filled in the first round."""
    file = folder / f"parked-{count}.db"
    if not file.exists():
        run_bench(folder, "parked", "--count", count, "--fill-only", "--store", f"sqlite:///{file}")
    return file


def first_answer(folder: Path) -> Figures:
    """From the command `perdure start` to the answer to a request that starts an orchestration of the quickstart."""
    app = folder / "quickstart"
    shutil.copytree(ROOT / "examples" / "quickstart", app, ignore=shutil.ignore_patterns(".perdure", "__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    begun = time.perf_counter()
    host = subprocess.Popen(
        [sys.executable, "-m", "perdure", "start", str(app), "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            if host.poll() is not None:
                raise RuntimeError(f"perdure start ended with code {host.returncode}")
            time.sleep(0.001)
        return {"first_answer_seconds": time.perf_counter() - begun}
    finally:
        host.kill()  # its store goes with the folder
        host.wait()
        shutil.rmtree(app)


def answers(port: int) -> bool:
    """Whether the quickstart has started its orchestration. False while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/api/startOrchestrator")
        status = connection.getresponse().status
    except ConnectionError:
        return False
    finally:
        connection.close()
    if status != 202:
        raise RuntimeError(f"the quickstart answered with {status}")
    return True


def import_cost() -> Figures:
    """What importing azure.durable_functions adds in a process that has azure.functions."""
    program = (
        "import time, azure.functions; begun = time.perf_counter(); import azure.durable_functions; "
        "print(time.perf_counter() - begun)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return {"import_ms": float(done.stdout) * 1000}


# --- judging ---------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A line of the table. `verdict` is "met", "missed", or empty where there is no mark."""

    words: str
    measured: str
    mark: str
    aim: str
    verdict: str


def chosen(pattern: str, quick: bool) -> list[Figure]:
    """The figures whose words, or the name of whose run, have `pattern` in them; without the slow ones if `quick`."""
    return [
        figure
        for figure in FIGURES
        if (pattern in figure.words or pattern in figure.run) and not (quick and RUNS[figure.run].slow)
    ]


def runs_of(figures: Iterable[Figure]) -> list[str]:
    """Names of the runs that `figures` need, each once."""
    needed = dict.fromkeys(run for figure in figures for run in (figure.less, figure.run) if run is not None)
    return [name for name in RUNS if name in needed]


def judge(figure: Figure, results: dict[str, list[Figures]]) -> Line:
    """`results` has the rounds of each run."""
    number = middle(results[figure.run], figure.key)
    if number is not None and figure.less is not None:
        smaller = middle(results[figure.less], figure.key)
        number = None if smaller is None else growth(number / smaller, figure.factor)
    mark = figure.mark
    if mark is None:
        return Line(figure.words, told(number), "", "", "")
    met = number is not None and mark.met(number, mark.bound)
    sign = "<=" if isinstance(mark, AtMost) else ">="
    aim = ""
    if mark.aim is not None:
        reached = number is not None and mark.met(number, mark.aim)
        aim = f"{told(mark.aim)} ({'reached' if reached else 'not reached'})"
    return Line(figure.words, told(number), f"{sign} {told(mark.bound)}", aim, "met" if met else "missed")


def middle(rounds: list[Figures], key: str) -> float | None:
    """The median of a figure; a dot in `key` leads into an object. None if the system does not tell it."""
    numbers: list[float] = []
    for figures in rounds:
        number: Any = figures
        for part in key.split("."):
            number = number[part]
        if number is None:
            return None
        numbers.append(number)
    return statistics.median(numbers)


def growth(ratio: float, factor: float) -> float:
    """How often something grows for a factor of ten, if it grows `ratio` times for `factor`."""
    return ratio ** (1 / math.log10(factor))


def told(number: float | None) -> str:
    """A number with three digits or more."""
    if number is None:
        return "not known"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def table(lines: Iterable[Line]) -> str:
    rows = [Line("figure", "measured", "mark", "aim", "verdict"), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(Line._fields))]
    return "\n".join(
        f"{row.words:<{widths[0]}}  {row.measured:>{widths[1]}}  {row.mark:>{widths[2]}}  {row.aim:<{widths[3]}}  "
        f"{row.verdict}".rstrip()
        for row in rows
    )


def conclusion(lines: Iterable[Line]) -> str:
    """How many of the figures that have a mark missed it."""
    verdicts = [line.verdict for line in lines if line.verdict]
    return f"{verdicts.count('missed')} of {len(verdicts)} missed"


def exit_status(lines: Iterable[Line]) -> int:
    return 1 if any(line.verdict == "missed" for line in lines) else 0


# --- the command -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="figures with TEXT in their words or their run")
    parser.add_argument("--quick", action="store_true", help="one round, and none of the runs that take minutes")
    parser.add_argument("--json", action="store_true", help="print what was measured before the table")
    options = parser.parse_args()

    figures = chosen(options.only, options.quick)
    if not figures:
        parser.error(f"no figure has {options.only!r} in its words or its run")
    results: dict[str, list[Figures]] = {name: [] for name in runs_of(figures)}
    scratch = ROOT / ".perdure"
    scratch.mkdir(exist_ok=True)
    with removed_if_empty(scratch), tempfile.TemporaryDirectory(prefix="bench-check-", dir=scratch) as folder:
        # Round by round, so that a minute in which the machine is busy meets one round of a figure and not all.
        for number in range(1 if options.quick else ROUNDS):
            for name, rounds in results.items():
                print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
                rounds.append(RUNS[name].measure(Path(folder)))
                if options.json:
                    print(json.dumps({"run": name, **rounds[-1]}), flush=True)
    lines = [judge(figure, results) for figure in figures]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}\n")
    print(table(lines))
    print(f"\n{conclusion(lines)}")
    if options.quick:
        print("One round of each (--quick): a figure that misses by little may meet its mark in another.")
    return exit_status(lines)


if __name__ == "__main__":
    sys.exit(main())
