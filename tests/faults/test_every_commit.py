"""A fault at the first commit, then at the second, until a run gets through without meeting it.

The reference programs are those of the simulation. Whatever strikes, and wherever, the output is that of a run that
nothing disturbs, and so is the history of what the orchestrator was given and decided.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from simulation.programs import MODEL, Ledger, build_app
from virtual_hub import SETTINGS, Strike, VirtualHub, strike_at

from perdure.engine import EngineSettings

PROGRAMS: dict[str, dict[str, Any]] = {
    "chain": {"length": 4},
    "fan": {"width": 4},
    "tree": {"depth": 1},
    "sleeper": {"pauses": [0, 2, 3600]},
    "relay": {"lap": 1, "laps": 3},
    "spinner": {"lap": 1, "laps": 4},
    "race": {},
    "nested": {},
    "canceller": {"pauses": [60, 1, 7200]},
    "saga": {},
    "guarded": {"length": 3},
    "quitter": {},
    "namesakes": {},
    "collector": {"last": 3, "seen": []},
    "eternal": {"last": 5, "seen": []},
}
STRIKES: list[Strike] = ["dies before", "dies after", "fails", "answer lost"]
HOUR_AND_A_BIT = 4000.0


def run(kind: str, hub: VirtualHub) -> Any:
    """The output of one program, its events sent one after the other."""
    given = {"key": kind, **PROGRAMS[kind]}
    assert hub.start(kind, kind, given, "the one request") == kind
    for number in range(1, given.get("last", 0) + 1):
        assert hub.raise_event(kind, "number", number) is None
    hub.run_to_end(kind, seconds=HOUR_AND_A_BIT)
    hub.rest(0.1)
    assert not hub.open_store().inbox(0, 100)
    assert not hub.open_store().timers(2**62, None, 100)
    return hub.output(kind)


def expected(kind: str) -> Any:
    given = PROGRAMS[kind]
    return list(range(1, given["last"] + 1)) if "last" in given else MODEL[kind]({"key": kind, **given})


def bears(kind: str, strike: Strike) -> bool:
    """An event whose acknowledgement is lost with the process is raised twice by a client that asks again."""
    return strike != "dies after" or "last" not in PROGRAMS[kind]


@pytest.mark.parametrize(("kind", "strike"), [(k, s) for k in PROGRAMS for s in STRIKES if bears(k, s)])
def test_a_fault_at_any_commit_changes_nothing(kind: str, strike: Strike) -> None:
    for place in range(1, 200):
        with VirtualHub(build_app(Ledger()), seed=place, strike=strike_at(place, strike)) as hub:
            assert run(kind, hub) == expected(kind), f"struck at commit {place}"
            if hub.commits < place:
                return
    pytest.fail("no run got through")


@pytest.mark.parametrize("strike", STRIKES)
def test_faults_at_two_of_three_commits_change_nothing(strike: Strike) -> None:
    for kind in PROGRAMS:
        if not bears(kind, strike):
            continue
        with VirtualHub(build_app(Ledger()), strike=lambda n, _: strike if n % 3 else "") as hub:
            assert run(kind, hub) == expected(kind)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_session_that_lives_one_that_is_dropped_and_a_host_that_restarts_decide_the_same(kind: str) -> None:
    """Throughout, after every turn, and after every commit."""
    lives = decisions(kind, SETTINGS, lambda _, __: "")
    dropped = decisions(kind, replace(SETTINGS, instances_in_memory=0), lambda _, __: "")
    assert dropped == lives
    if bears(kind, "dies after") and kind != "fan":  # whose activities fail as often as the world sees them run
        assert decisions(kind, SETTINGS, lambda _, __: "dies soon") == lives


def decisions(kind: str, settings: EngineSettings, strike: Any) -> tuple[Any, Any, list[Any]]:
    """Output, custom status, and what the last execution asked for, in order, without the times of timers."""
    with VirtualHub(build_app(Ledger()), settings=settings, strike=strike) as hub:
        output = run(kind, hub)
        asked: list[Any] = []
        for record in hub.history(kind):
            for decision in record.decided:
                names = [getattr(decision, field, None) for field in ("task_id", "name", "attempt")]
                asked.append((type(decision).__name__, *names))
        return output, hub.row(kind).custom_status, asked
