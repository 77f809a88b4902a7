"""Seeded schedules: 500 by default, PERDURE_SCHEDULES of them from PERDURE_SEED on if these are set."""

from __future__ import annotations

import os

import pytest

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
    for seed in range(SEED, SEED + 25):
        run_schedule(seed, Plan(rates=FaultRates(), kills=0, stops=0))


def test_a_fault_of_the_store_makes_no_activity_run_again() -> None:
    """Lanes end, processes live: what runs is not started again, and a result that was not durable is handed in."""
    rates = FaultRates(commit_fails=0.1, answer_lost=0.1, read_fails=0.04, end_host_fails=0.3)
    for seed in range(SEED, SEED + 50):
        run_schedule(seed, Plan(rates=rates, kills=0, stops=0))


def test_faults_in_every_other_commit_delay_and_lose_nothing() -> None:
    rates = FaultRates(crash_before_commit=0.15, crash_after_commit=0.15, commit_fails=0.15, answer_lost=0.15)
    for seed in range(SEED, SEED + 25):
        run_schedule(seed, Plan(rates=rates, instances=(3, 5)))
