"""The table of `make bench-check`: what is met and what is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from load_script import load_script

check: Any = load_script("bench_check")


def figure(mark: Any, key: str = "speed", **more: Any) -> Any:
    return check.Figure("some figure", "hello-64", key, mark, **more)


def judged(mark: Any, *numbers: float | None, **more: Any) -> Any:
    return check.judge(figure(mark, **more), {"hello-64": [{"speed": number} for number in numbers]})


@pytest.mark.parametrize(
    ("mark", "number", "verdict"),
    [
        (check.AtLeast(100), 100, "met"),
        (check.AtLeast(100), 99.9, "missed"),
        (check.AtMost(100), 100, "met"),
        (check.AtMost(100), 100.1, "missed"),
        (None, 7, ""),
    ],
)
def test_a_mark_is_met_up_to_its_bound(mark: Any, number: float, verdict: str) -> None:
    assert judged(mark, number).verdict == verdict


def test_the_median_of_the_rounds_is_judged() -> None:
    assert judged(check.AtMost(10), 1, 9, 1000).verdict == "met"
    assert judged(check.AtMost(10), 1, 11, 12).verdict == "missed"


def test_an_aim_is_told_and_fails_nothing() -> None:
    assert judged(check.AtLeast(100, aim=200), 150).aim == "200 (not reached)"
    assert judged(check.AtLeast(100, aim=200), 150).verdict == "met"
    assert judged(check.AtLeast(100, aim=200), 200).aim == "200 (reached)"


def test_what_the_system_does_not_tell_is_missed() -> None:
    line = judged(check.AtMost(10), 1, None, 2)
    assert (line.measured, line.verdict) == ("not known", "missed")


def test_a_figure_inside_an_object_is_found() -> None:
    line = check.judge(figure(check.AtMost(3), "latency_ms.p50"), {"hello-64": [{"latency_ms": {"p50": 2.5}}]})
    assert (line.measured, line.verdict) == ("2.5", "met")


@pytest.mark.parametrize(
    ("factor", "smaller", "larger", "verdict"),
    [(10, 1, 11, "met"), (10, 1, 11.1, "missed"), (5, 1, 5, "met"), (5, 1, 5.4, "missed")],
)
def test_growth_is_judged_for_each_factor_of_ten(factor: float, smaller: float, larger: float, verdict: str) -> None:
    grown = figure(check.AtMost(11), less="hello-1", factor=factor)
    assert check.judge(grown, {"hello-1": [{"speed": smaller}], "hello-64": [{"speed": larger}]}).verdict == verdict


def test_growth_that_is_in_proportion_is_ten_whatever_the_factor() -> None:
    assert check.growth(5, 5) == pytest.approx(10)
    assert check.growth(100, 100) == pytest.approx(10)


def test_one_miss_makes_the_exit_status() -> None:
    met, missed, told = judged(check.AtMost(1), 1), judged(check.AtMost(1), 2), judged(None, 1)
    assert check.exit_status([met, told]) == 0
    assert check.exit_status([met, missed, told]) == 1


def test_the_table_has_a_line_for_each_figure_in_columns() -> None:
    lines = [judged(check.AtLeast(4000, 7000), 2784.4), judged(check.AtMost(3.5), 2.741)]
    assert check.table(lines).splitlines() == [
        "figure       measured      mark  aim                  verdict",
        "some figure     2,784  >= 4,000  7,000 (not reached)  missed",
        "some figure      2.74    <= 3.5                       met",
    ]


def test_the_conclusion_counts_the_figures_that_have_a_mark() -> None:
    met, missed, told = judged(check.AtMost(1), 1), judged(check.AtMost(1), 2), judged(None, 1)
    assert check.conclusion([met, missed, told]) == "1 of 2 missed"
    assert check.conclusion([met, told]) == "0 of 1 missed"


@pytest.mark.parametrize("used", [True, False])
def test_the_folder_of_a_check_goes_if_nothing_else_is_in_it(tmp_path: Path, used: bool) -> None:
    folder = tmp_path / ".perdure"
    folder.mkdir()
    with check.removed_if_empty(folder):
        if used:
            (folder / "hub.db").touch()
    assert folder.exists() == used


def test_every_figure_has_a_run_and_its_own_words() -> None:
    for each in check.FIGURES:
        assert each.run in check.RUNS
        assert each.less is None or each.less in check.RUNS
    assert len({each.words for each in check.FIGURES}) == len(check.FIGURES)


def test_every_run_is_needed_by_a_figure() -> None:
    assert check.runs_of(check.FIGURES) == list(check.RUNS)


def test_only_what_is_asked_for_is_run() -> None:
    assert check.runs_of(check.chosen("chain 1,000 to", quick=False)) == ["chain-1000", "chain-10000"]
    assert check.chosen("nothing of this name", quick=False) == []


def test_quick_leaves_out_what_takes_minutes() -> None:
    runs = check.runs_of(check.chosen("", quick=True))
    assert runs
    assert not any(check.RUNS[name].slow for name in runs)
