"""Counts the words of over a thousand files, kills the host half-way, and checks that nothing shows.

Starts `perdure start` on the app beside this file, starts a run over HTTP, and kills the host with SIGKILL while
activities are in flight. A second host on the same store finishes the run. Its figures are then compared, file by
file, with a count made here without Perdure. Uses no network but the loopback; leaves no process and no file behind.

Exits with 1 and the reason if the run was not resumed, if nothing was interrupted, or if a figure differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tokenize
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import ledger

APP = Path(__file__).resolve().parent
FEWEST_FILES = 1_000
START_SECONDS = 60.0
RUN_SECONDS = 300.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1
UNDER_WAY = ("Pending", "Running")
BROKEN_PACKAGE = "planted.torn"


class DemoFailed(Exception):
    """Why the demo did not show what it promises."""


# --- the count without Perdure ---------------------------------------------------------------------------------------


class Figures(NamedTuple):
    lines: int
    words: int
    identifiers: int
    undecodable: int
    sha256: str


TEXT_FIGURES = ("lines", "words", "identifiers", "undecodable")


def count_directly(path: Path) -> Figures:
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        while block := raw.read(1 << 16):
            digest.update(block)
    lines = words = 0
    identifiers: set[str] = set()
    try:
        with tokenize.open(path) as text:
            for line in text:
                lines += 1
                words += len(line.split())
                identifiers.update(filter(str.isidentifier, re.split(r"\W+", line)))
    except (SyntaxError, UnicodeDecodeError):
        return Figures(0, 0, 0, 1, digest.hexdigest())
    return Figures(lines, words, len(identifiers), 0, digest.hexdigest())


def count_everything_directly(roots: dict[str, str]) -> dict[str, dict[str, Figures]]:
    """Package to path to figures."""
    packages: dict[str, dict[str, Figures]] = {}
    for label, root in roots.items():
        for path in sorted(Path(root).rglob("*.py")):
            folders = path.relative_to(root).parts[:-1]
            if path.is_file() and not {"__pycache__", "site-packages", "dist-packages"}.intersection(folders):
                packages.setdefault(".".join((label, *folders)), {})[str(path)] = count_directly(path)
    return packages


def sum_up(figures: list[Figures]) -> dict[str, int]:
    return {
        "files": len(figures),
        **{name: sum(getattr(file, name) for file in figures) for name in TEXT_FIGURES},
    }


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(
    output: dict[str, Any], reports: dict[str, dict[str, Any]], direct: dict[str, dict[str, Figures]]
) -> list[str]:
    """What the run's output, or the reports it left, say otherwise than the direct count; one sentence for each."""
    found: list[str] = []
    counted = {package["name"]: package for package in output["packages"] if "totals" in package}
    names = [package["name"] for package in output["packages"]]
    found.extend(f"package {name} is there {times} times" for name, times in Counter(names).items() if times > 1)
    found.extend(f"package {name} was not counted" for name in sorted(direct.keys() - counted.keys()))
    found.extend(f"package {name} should not be there" for name in sorted(counted.keys() - direct.keys()))
    for name in sorted(direct.keys() & counted.keys()):
        files = counted[name]["figures"]
        found.extend(f"file {path} was not counted" for path in sorted(direct[name].keys() - files.keys()))
        found.extend(f"file {path} should not be there" for path in sorted(files.keys() - direct[name].keys()))
        for path in sorted(direct[name].keys() & files.keys()):
            found.extend(_compare(f"file {path}", files[path], direct[name][path]._asdict()))
        totals = sum_up(list(direct[name].values()))
        found.extend(_compare(f"package {name}", counted[name]["totals"], totals))
        found.extend(_compare(f"report {name}", reports.get(name, {}), totals))
    found.extend(f"report {name} should not be there" for name in sorted(reports.keys() - direct.keys()))
    everything = [file for package in direct.values() for file in package.values()]
    found.extend(_compare("summary", output["summary"], sum_up(everything)))
    return found


def _compare(what: str, got: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    for name, value in expected.items():
        if got.get(name) != value:
            yield f"{what}: {name} is {got.get(name)}, counted directly it is {value}"


class Account(NamedTuple):
    """What the ledger tells of the attempts at counting files. `killed` is the host that was killed."""

    files: int
    begun: int
    begun_later: int
    """By another process than `killed`."""
    finished: int
    failed: int
    in_flight: int
    """Begun by `killed`, and neither finished nor failed."""
    undurable: int
    """Files that `killed` had finished, and that were begun again all the same."""


def account(entries: list[ledger.Entry], killed: int) -> Account:
    number = Counter((entry.what, entry.pid == killed) for entry in entries)
    finished_by_killed = {path for what, _, pid, path in entries if what == "finished" and pid == killed}
    begun_later = {path for what, _, pid, path in entries if what == "started" and pid != killed}
    return Account(
        files=len({entry.path for entry in entries}),
        begun=number["started", True] + number["started", False],
        begun_later=number["started", False],
        finished=number["finished", True] + number["finished", False],
        failed=number["failed", True] + number["failed", False],
        in_flight=number["started", True] - number["finished", True] - number["failed", True],
        undurable=len(finished_by_killed & begun_later),
    )


# --- the host --------------------------------------------------------------------------------------------------------


class Host:
    """One run of `perdure start`, its output in a file."""

    def __init__(self, work: Path, log: Path) -> None:
        store = (work / "store.db").as_posix()
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "perdure", "start", str(APP), "--port", "0", "--store", "sqlite:///" + store],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "WORDCOUNT_DIRECTORY": str(work), "PYTHONUNBUFFERED": "1"},
            )
        self.pid = self._process.pid
        self.url = ""

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            printed = re.search(r"http://localhost:\d+", self._log.read_text(encoding="utf-8", errors="replace"))
            if printed is not None:
                self.url = printed.group()
                with contextlib.suppress(OSError):
                    self.request("GET", "/admin/host/status")
                    return
            time.sleep(POLL_SECONDS)
        raise DemoFailed(f"the host was not ready within {START_SECONDS:.0f} seconds:\n{self.log_tail()}")

    def check_alive(self) -> None:
        code = self._process.poll()
        if code is not None:
            raise DemoFailed(f"the host ended by itself, with {code}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """JSON in, JSON out. Raises OSError if the host does not answer, or answers with an error."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            content = response.read()
        return json.loads(content) if content else None

    def freeze(self) -> None:
        """Hold the process where it stands, so that the ledger can be read before deciding to kill it."""
        if sys.platform != "win32":
            os.kill(self.pid, signal.SIGSTOP)
            os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        if sys.platform != "win32":
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, where there is such a thing: no chance to say good-bye."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C does; returns its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoFailed(f"the host did not stop within {STOP_SECONDS:.0f} seconds") from None


# --- what one sees ---------------------------------------------------------------------------------------------------


class Progress:
    """A bar that redraws itself on a terminal, and elsewhere prints a line for each tenth."""

    WIDTH = 32

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._tenth = -1

    def show(self, status: dict[str, int]) -> None:
        part = status["files"] / max(1, status["of_files"])
        full = int(part * self.WIDTH)
        line = (
            f"   [{'#' * full}{'.' * (self.WIDTH - full)}] {part:4.0%}  "
            f"{status['files']:,} of {status['of_files']:,} files, "
            f"{status['packages']} of {status['of_packages']} packages"
        )
        if self._live:
            print(f"\r{line}\x1b[K", end="", flush=True)
        elif int(part * 10) > self._tenth:
            self._tenth = int(part * 10)
            print(line, flush=True)

    def pause(self) -> None:
        """Let other text follow."""
        if self._live:
            print(flush=True)


def say(text: str = "") -> None:
    print(text, flush=True)


def plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


# --- the show --------------------------------------------------------------------------------------------------------


def show(work: Path) -> None:
    began = time.monotonic()
    ledger_file = work / "ledger.txt"
    paths = sysconfig.get_paths()
    roots = {"planted": str(work / "planted"), "stdlib": paths["stdlib"], "site": paths["purelib"]}
    plant_broken_package(work / "planted")
    progress = Progress()

    say(f"Word count on Perdure, Python {platform.python_version()}, {platform.system()}")
    say()
    with running_host(work, "first") as host:
        say(f"1. `perdure start examples/wordcount` runs as process {host.pid} and serves {host.url}.")
        say("   What it must not forget is in one SQLite file.")
        started = host.request("POST", "/api/wordcount", roots)
        status_path = path_of(started["statusQueryGetUri"])
        say(f"2. One request starts instance {started['id']}: a sub-orchestration for each package of the")
        say("   standard library and of this environment, an activity for each file. A tenth of the files fail at")
        say("   their first attempt and are retried; one package cannot be counted at all.")
        kill_in_flight(host, status_path, ledger_file, progress)
        progress.pause()
        killed = host.pid
    before = account(ledger.read(ledger_file), killed)
    say(f"3. kill -9 {killed}, with {plural(before.in_flight, 'activity', 'activities')} in flight. The host is gone.")
    if not before.in_flight:
        raise DemoFailed("no activity was in flight when the host was killed: nothing was interrupted")

    with running_host(work, "second") as host:
        say(f"4. Process {host.pid} starts on the same store. Nobody tells it what to go on with.")
        try:
            status = watch(host, status_path, math.inf, progress)
        except urllib.error.HTTPError as error:
            raise DemoFailed(f"the new host answers {error.code} for {status_path}: the run was not resumed") from None
        progress.pause()
        code = host.stop()
    if status["runtimeStatus"] != "Completed":
        raise DemoFailed(f"the run ended as {status['runtimeStatus']}: {status['output']}")
    if code != 0:
        raise DemoFailed(f"the second host stopped with exit code {code}")

    say("5. The same figures are counted once more, by this script, without Perdure.")
    say()
    direct = count_everything_directly(roots)
    direct.pop(BROKEN_PACKAGE)
    check_figures(status["output"], read_reports(work / "reports"), direct)
    say()
    check_ledger(account(ledger.read(ledger_file), killed), before)
    check_clean_up(status["output"], work / "reports")
    say()
    say(f"Nothing was lost and nothing was counted twice. It took {time.monotonic() - began:.0f} seconds.")


def plant_broken_package(root: Path) -> None:
    """A package of which one `.py` file is a directory, so that no attempt to read it can succeed."""
    torn = root / "torn"
    (torn / "chapter_three.py").mkdir(parents=True)
    for chapter in ("chapter_one", "chapter_two"):
        (torn / f"{chapter}.py").write_text("print('once upon a time')\n")


def kill_in_flight(host: Host, status_path: str, ledger_file: Path, progress: Progress) -> None:
    """Kill the host once half of the files are counted and, at that very moment, an activity is running."""
    while True:
        status = watch(host, status_path, 0.5, progress)
        if status["runtimeStatus"] not in UNDER_WAY:
            raise DemoFailed(f"the run was over ({status['runtimeStatus']}) before the host was killed")
        host.freeze()
        if account(ledger.read(ledger_file), host.pid).in_flight:
            host.kill()
            return
        host.thaw()


def watch(host: Host, status_path: str, until: float, progress: Progress) -> dict[str, Any]:
    """Follow the run by its custom status until the part `until` of the files is counted, or until it is over."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        host.check_alive()
        status = host.request("GET", status_path)
        custom: dict[str, int] | None = status["customStatus"]
        if custom is not None:
            progress.show(custom)
        if status["runtimeStatus"] not in UNDER_WAY:
            return status
        if custom is not None and custom["files"] >= until * custom["of_files"]:
            return status
        time.sleep(POLL_SECONDS)
    raise DemoFailed(f"the run was not that far after {RUN_SECONDS:.0f} seconds:\n{host.log_tail()}")


def check_figures(
    output: dict[str, Any], reports: dict[str, dict[str, int]], direct: dict[str, dict[str, Figures]]
) -> None:
    expected = sum_up([file for package in direct.values() for file in package.values()])
    say(f"   {'':12} {'Perdure':>12} {'directly':>12}")
    for name, value in expected.items():
        got = output["summary"].get(name)
        say(f"   {name:12} {got:>12,} {value:>12,}   {'equal' if got == value else 'DIFFERENT'}")
    found = differences(output, reports, direct)
    if found:
        more = f"\n... and {len(found) - 10} more" if len(found) > 10 else ""
        raise DemoFailed(f"{plural(len(found), 'figure differs', 'figures differ')}:\n" + "\n".join(found[:10]) + more)
    if expected["files"] < FEWEST_FILES:
        raise DemoFailed(f"{expected['files']} files are too few to show anything; {FEWEST_FILES:,} are asked for")
    say(f"   {expected['files']:,} files in {len(direct):,} packages, each compared with its checksum: all equal.")


def check_ledger(after: Account, before: Account) -> None:
    say("   The ledger that the activities keep outside Perdure says:")
    say(f"   {after.begun:7,} attempts at {after.files:,} files, among them")
    say(f"   {after.failed:7,} that failed, as planned,")
    say(f"   {after.in_flight:7,} in flight when the host was killed,")
    say(f"   {after.undurable:7,} finished by then, but not yet committed.")
    say(f"   So {plural(after.in_flight + after.undurable, 'activity', 'activities')} ran again because of the kill.")
    if not after.begun_later:
        raise DemoFailed("the second host counted no file: the run was not resumed")
    if after.undurable >= before.finished:
        raise DemoFailed("the second host counted every file again: the run was started over, not resumed")


def check_clean_up(output: dict[str, Any], reports: Path) -> None:
    failed = [package for package in output["packages"] if "failure" in package]
    for package in failed:
        say(f"   {package['name']} failed and was cleaned up ({package['removed']} removed):")
        say(f"     {package['failure']}")
    if [package["name"] for package in failed] != [BROKEN_PACKAGE]:
        raise DemoFailed(f"exactly {BROKEN_PACKAGE} should have failed")
    left = sorted(path.name for path in reports.glob("*.unfinished"))
    if left:
        raise DemoFailed(f"unfinished reports were left behind: {', '.join(left)}")


def read_reports(directory: Path) -> dict[str, dict[str, int]]:
    """Package to totals, as the activities wrote them."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in directory.glob("*.json")}


@contextlib.contextmanager
def running_host(work: Path, name: str) -> Iterator[Host]:
    host = Host(work, work / f"{name}-host.log")
    try:
        host.wait_until_ready()
        yield host
    finally:
        host.kill()


def path_of(url: str) -> str:
    """The URL without its origin: the next host serves the same paths on another port."""
    parts = urlsplit(url)
    return urlunsplit(("", "", parts.path, parts.query, ""))


def main() -> int:
    # So that the hosts are stopped and the files removed when the demo itself is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="perdure-demo-") as work:
        try:
            show(Path(work))
        except DemoFailed as failure:
            say()
            say(f"FAILED: {failure}")
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
