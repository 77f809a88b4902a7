"""A host that is killed again and again, by SIGKILL, at instants that nobody chose.

Clients keep it busy all the while. In the end every instance has the output it must have, and a ledger outside Perdure
agrees: what had to run ran, and nothing ran again but what a kill had torn away before it was durable.

`PERDURE_KILLS` says how often; `PERDURE_SEED` repeats what was drawn (not how threads and disk took turns).
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import evidence
import pytest
from clients import Clients
from fix_host import HostProcess, StartHost

from perdure.store.sqlite import SqliteStore

APP = Path(__file__).parent / "app"
HUB = "Kills"
KILLS = int(os.environ.get("PERDURE_KILLS", "50"))
CLIENTS = 32
HITS = KILLS * 3 // 5
"""So many kills must find activities in flight, or the run proves little."""
MOST_KILLS = KILLS * 2
"""Where the machine is so busy that too few of them are hits, it goes on a while."""
START_SECONDS = 0.4
"""What a host needs until it is ready, to begin with."""
LONGEST_LIFE = 2.0
"""After that, in starts: on a slow machine all takes its time."""
MOMENT_SECONDS = 0.2
LAST_LIFE_SECONDS = 120.0
NEVER_LOGGED = (
    "internal error",
    "the lane of host",
    "is parked",
    "the store does not answer",
    "CRITICAL",
    "has failed",
)
"""In the log of a host: a kill is no reason for any of these."""


class Kill(NamedTuple):
    pid: int
    when: str
    in_flight: int
    """Activities that the process had begun and not ended."""


class Scene:
    """The files of one run, and what happens to its hosts."""

    def __init__(self, folder: Path, start_host: StartHost, seed: int) -> None:
        self._app = shutil.copytree(APP, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
        self._start_host = start_host
        self._random = random.Random(seed)
        self.database = folder / "hub.db"
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.clients = Clients(seed, CLIENTS, self.ledger)
        self.kills: list[Kill] = []
        self._start_seconds = START_SECONDS
        self._moments: dict[str, Callable[[HostProcess], None]] = {
            "at any time": self._at_any_time,
            "while it starts": self._while_it_starts,
            "as an activity begins or ends": self._as_an_activity_begins_or_ends,
            "as the store is written": self._as_the_store_is_written,
        }

    @property
    def hits(self) -> int:
        return sum(kill.in_flight > 0 for kill in self.kills)

    def start(self) -> HostProcess:
        return self._start_host(
            self._app,
            "--store",
            f"sqlite:///{self.database.as_posix()}",
            ready=False,
            KILL_LEDGER=str(self.ledger),
            PERDURE_HUB_NAME=HUB,
        )

    def live_and_be_killed(self) -> None:
        """One life of a host."""
        since = self.ledger.stat().st_size
        (when,) = self._random.choices(list(self._moments), weights=(6, 1, 2, 2))
        host = self.start()
        self._moments[when](host)
        host.kill()
        self.clients.host_is_gone()
        host.client.close()
        self.kills.append(Kill(host.pid, when, evidence.in_flight(evidence.read(self.ledger, since), host.pid)))
        assert_quiet(host)

    def live_on(self) -> HostProcess:
        """The last life: everything that is there is brought to its end."""
        host = self.start()
        self._be_ready(host)
        self.clients.finish()
        self.clients.join(LAST_LIFE_SECONDS)
        return host

    def _be_ready(self, host: HostProcess) -> None:
        began = time.monotonic()
        host.wait_until_ready()
        self._start_seconds = time.monotonic() - began
        self.clients.host_is_at(host.base_url, host.pid)

    # --- moments: each returns when it has come ----------------------------------------------------------------------

    def _at_any_time(self, host: HostProcess) -> None:
        self._be_ready(host)
        time.sleep(self._random.uniform(0, LONGEST_LIFE * self._start_seconds))

    def _while_it_starts(self, host: HostProcess) -> None:
        time.sleep(self._random.uniform(0, self._start_seconds))

    def _as_an_activity_begins_or_ends(self, host: HostProcess) -> None:
        self._at_any_time(host)
        self._at_the_next_change_of(lambda: self.ledger.stat().st_size)

    def _as_the_store_is_written(self, host: HostProcess) -> None:
        self._at_any_time(host)
        log = self.database.with_name(self.database.name + "-wal")
        self._at_the_next_change_of(lambda: log.stat().st_mtime_ns)

    def _at_the_next_change_of(self, value: Callable[[], int]) -> None:
        before, deadline = value(), time.monotonic() + MOMENT_SECONDS
        while value() == before and time.monotonic() < deadline:
            pass


def assert_quiet(host: HostProcess) -> None:
    told = [line for line in host.log.splitlines() if any(text in line for text in NEVER_LOGGED)]
    assert not told, f"host {host.pid} complained:\n{host.log}"


@pytest.fixture
def scene(tmp_path: Path, start_host: StartHost) -> Iterator[Scene]:
    seed = int(os.environ.get("PERDURE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nseed {seed}, {KILLS} kills")
    scene = Scene(tmp_path, start_host, seed)
    yield scene
    scene.clients.go_away()


@pytest.mark.kill
def test_a_host_that_is_killed_at_any_instant_loses_nothing_and_repeats_nothing(scene: Scene) -> None:
    began = time.monotonic()
    clients = scene.clients
    clients.start()
    while len(scene.kills) < KILLS or (scene.hits < HITS and len(scene.kills) < MOST_KILLS):
        scene.live_and_be_killed()
        clients.check()
    killing = time.monotonic() - began
    last = scene.live_on()
    clients.check()
    under_way = [run.id for run in clients.runs if run.ended is None]
    assert not under_way, f"these have not come to an end: {under_way}\n{last.log}"
    assert_quiet(last)
    assert last.stop() == 0

    ledger = evidence.Ledger(evidence.read(scene.ledger), [*(kill.pid for kill in scene.kills), last.pid])
    print(
        f"{len(scene.kills)} kills in {killing:.0f} s, {scene.hits} of them with activities in flight; "
        f"{clients.unknown} requests without an answer\n"
        f"{len(clients.runs)} instances, {ledger.activities} activities, begun {ledger.begun} times, "
        f"{ledger.begun_again_after_its_end()} of them although they had finished\n"
        f"{time.monotonic() - began:.0f} s in all"
    )
    store = SqliteStore(scene.database, HUB)
    faults = evidence.wrong_endings(clients.runs) + ledger.faults(clients.runs)
    faults += evidence.left_behind(store, clients.runs)
    store.close()
    assert not faults, "\n".join(faults[:50])
    assert scene.hits >= HITS, f"too few kills hit work in flight: {scene.kills}"
