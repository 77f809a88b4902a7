"""Seeded schedules: 500 by default, PERDURE_SCHEDULES of them from PERDURE_SEED on if these are set."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from perdure.core.errors import TurnTimeout
from perdure.core.turn import Checkpoint
from perdure.engine import turns
from perdure.testing.faults import FaultRates
from simulation.schedule import Plan, run_schedule

CHUNKS = 10
SCHEDULES = int(os.environ.get("PERDURE_SCHEDULES") or 500)
SEED = int(os.environ.get("PERDURE_SEED") or 0)


@pytest.mark.parametrize("chunk", range(min(CHUNKS, SCHEDULES)))
def test_every_invariant_holds_whatever_fails_and_in_whatever_order(chunk: int) -> None:
    for seed in range(SEED + chunk, SEED + SCHEDULES, CHUNKS):
        run_schedule(seed)


def test_nothing_runs_twice_as_long_as_nothing_fails() -> None:
    """Twice delivered messages included."""
    for seed in range(SEED, SEED + min(25, SCHEDULES)):
        run_schedule(seed, Plan(rates=FaultRates(), kills=0, stops=0))


def test_a_fault_of_the_store_makes_no_activity_run_again() -> None:
    """Lanes end, processes live: what runs is not started again, and a result that was not durable is handed in."""
    rates = FaultRates(
        commit_fails=0.1,
        answer_lost=0.1,
        payloads_fail=0.1,
        payloads_answer_lost=0.1,
        read_fails=0.04,
        end_host_fails=0.3,
    )
    for seed in range(SEED, SEED + min(50, SCHEDULES)):
        run_schedule(seed, Plan(rates=rates, kills=0, stops=0))


def test_faults_in_every_other_commit_delay_and_lose_nothing() -> None:
    rates = FaultRates(crash_before_commit=0.15, crash_after_commit=0.15, commit_fails=0.15, answer_lost=0.15)
    for seed in range(SEED, SEED + min(25, SCHEDULES)):
        run_schedule(seed, Plan(rates=rates, instances=(3, 5)))


def test_faults_in_every_other_write_of_a_large_value_delay_and_lose_nothing() -> None:
    rates = FaultRates(
        crash_before_payloads=0.15, crash_after_payloads=0.15, payloads_fail=0.15, payloads_answer_lost=0.15
    )
    for seed in range(SEED, SEED + min(25, SCHEDULES)):
        run_schedule(seed, Plan(rates=rates, instances=(3, 5), payload_bytes=20))


def test_turns_that_an_interruption_hits_by_mistake_are_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before or after they have moved the state on; nobody is parked for what another has caused."""
    run, chance = turns.run, random.Random(SEED)

    def interrupted(*given: Any, **rest: Any) -> Checkpoint:
        moment = chance.random()
        if moment < 0.1:
            raise TurnTimeout
        checkpoint = run(*given, **rest)
        if moment < 0.2:
            raise TurnTimeout
        return checkpoint

    monkeypatch.setattr(turns, "run", interrupted)
    for seed in range(SEED, SEED + min(50, SCHEDULES)):
        run_schedule(seed)
