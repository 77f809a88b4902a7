"""What the clients ask for, and what must come of it: for each orchestrator of the app an input, the output it must
give, and the activities it must run.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

Given = dict[str, Any]
Plan = dict[str, list[str]]
"""Keys of activities, each with the keys of those that must have ended, durably, before it is begun."""


class Kind(NamedTuple):
    draw: Callable[[random.Random], Given]
    """All of the input but the key."""
    output: Callable[[Given, Any], Any]
    """From the input and, where clients have a say in it, the actual output."""
    plan: Callable[[Given, Any], Plan]
    """From the input and the actual output."""


def _milliseconds(random: random.Random, fewest: int, most: int, longest: int) -> list[int]:
    return [random.randint(0, longest) for _ in range(random.randint(fewest, most))]


def _done(n: int) -> int:
    """What the app's activities make of `n`."""
    return n * 2 + 1


def _one_by_one(keys: list[str]) -> Plan:
    return {key: keys[:n][-1:] for n, key in enumerate(keys)}


def _each(of: str) -> Callable[[Given, Any], Plan]:
    return lambda given, output: _one_by_one([f"{given['key']}/{n}" for n in range(len(given[of]))])


def _each_event(given: Given, output: Any) -> Plan:
    return _one_by_one([f"{given['key']}/{n}" for n in range(1, len(output) + 1)])


def _fan_output(given: Given, output: Any) -> Any:
    results = [_done(n) for n in range(len(given["branches"]))]
    return [*results, _done(sum(results))]


def _fan_plan(given: Given, output: Any) -> Plan:
    branches = [f"{given['key']}/{n}" for n in range(len(given["branches"]))]
    return {**{branch: [] for branch in branches}, f"{given['key']}/join": branches}


def _tree_output(given: Given, output: Any = None) -> int:
    return _done(0) if given["depth"] == 0 else _done(2 * _tree_output({**given, "depth": given["depth"] - 1}))


def _tree_plan(given: Given, output: Any = None) -> Plan:
    if given["depth"] == 0:
        return {given["key"]: []}
    children = tree_children(given)
    plan = {key: before for child in children for key, before in _tree_plan(child).items()}
    plan[f"{given['key']}/join"] = [
        child["key"] if child["depth"] == 0 else f"{child['key']}/join" for child in children
    ]
    return plan


def tree_children(given: Given) -> list[Given]:
    """The inputs of the sub-orchestrations; the second one's id is its key."""
    return [{**given, "key": f"{given['key']}.{n}", "depth": given["depth"] - 1} for n in range(2)]


KINDS: dict[str, Kind] = {
    "chain": Kind(
        lambda random: {"steps": _milliseconds(random, 3, 8, 80)},
        lambda given, output: [_done(n) for n in range(len(given["steps"]))],
        _each("steps"),
    ),
    "fan": Kind(lambda random: {"branches": _milliseconds(random, 3, 12, 60)}, _fan_output, _fan_plan),
    "sleeper": Kind(
        lambda random: {"pauses": _milliseconds(random, 1, 4, 400)},
        lambda given, output: True,
        _each("pauses"),
    ),
    "collector": Kind(
        lambda random: {
            "last": random.randint(2, 6),
            "ms": random.randint(0, 40),
            "patience_ms": random.randint(5, 60),
            "effort": random.choice([0, 0, 300_000]),
        },
        lambda given, output: output,
        _each_event,
    ),
    "eternal": Kind(
        lambda random: {"last": random.randint(2, 7), "ms": random.randint(0, 40)},
        lambda given, output: output,
        _each_event,
    ),
    "tree": Kind(
        lambda random: {"depth": random.randint(1, 2), "ms": random.randint(0, 60)},
        _tree_output,
        _tree_plan,
    ),
    "race": Kind(
        lambda random: {"steps": _milliseconds(random, 2, 5, 80)},
        lambda given, output: [_done(n) for n in range(len(given["steps"]))],
        _each("steps"),
    ),
    "saga": Kind(
        lambda random: {"ms": random.randint(0, 40)},
        lambda given, output: True,
        lambda given, output: _one_by_one([f"{given['key']}/{step}" for step in ("open", "broken", "close")]),
    ),
    "endless": Kind(
        lambda random: {"ms": random.randint(0, 40), "stop_after_ms": random.randint(50, 1000)},
        lambda given, output: f"enough of {given['key']}",
        lambda given, output: {},
    ),
}
TAKE_EVENTS = ("collector", "eternal")
