"""The simulation notices when a rule of the engine is taken away."""

from __future__ import annotations

import os
from itertools import count

import pytest

from simulation.mutants import MUTANTS, Mutant
from simulation.schedule import Plan, run_schedule

SEEDS = int(os.environ.get("PERDURE_MUTANT_SEEDS") or 300)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.plant.__name__ for mutant in MUTANTS])
def test_the_simulation_catches(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.plant(monkeypatch)
    for seed in count():
        assert seed < SEEDS, f"{mutant.plant.__name__} was not noticed in {SEEDS} schedules: {mutant.plant.__doc__}"
        try:
            run_schedule(seed, mutant.plan)
        except Exception:
            return


@pytest.mark.parametrize("plan", {repr(mutant.plan): mutant.plan for mutant in MUTANTS}.values(), ids=lambda _: "plan")
def test_without_a_mutation_the_same_schedules_hold(plan: Plan) -> None:
    """Or it would be the plan that breaks them."""
    for seed in range(20):
        run_schedule(seed, plan)
