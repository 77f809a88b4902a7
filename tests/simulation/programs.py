"""The app that the simulation runs, and what each of its programs must give.

Every program's output follows from its input alone, whatever the order of things and however often the host dies.
Activities write into a `Ledger` outside the simulated processes; so does the code that runs when a `with` block is
left, as that is how a lock would be released.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

import azure.durable_functions as df
from azure.durable_functions.registry import Registry, build_registry
from azure.durable_functions.tasks import TaskBase


class Ledger:
    """What activities did, as the outside world saw it. `entries` has the same in order."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.entries: list[str] = []

    def note(self, key: str) -> int:
        self.runs[key] += 1
        self.entries.append(key)
        return self.runs[key]


class Guard:
    """A critical section whose way out asks the context for something, as the release of a lock does.

    A dead context raises, so the note is written only when the code leaves the section of its own accord.
    """

    def __init__(self, context: df.DurableOrchestrationContext, ledger: Ledger, key: str) -> None:
        self._context = context
        self._ledger = ledger
        self._key = key

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.set_custom_status("left")
        self._ledger.note(f"{self._key}/left")


def build_app(ledger: Ledger) -> Registry:
    app = df.DFApp()

    @app.activity_trigger(input_name="value")
    def double(value: dict[str, Any]) -> int:
        ledger.note(value["key"])
        return value["n"] * 2

    @app.activity_trigger(input_name="value")
    def flaky(value: dict[str, Any]) -> int:
        """Fails the first `failures` times that the world sees it run."""
        if ledger.note(value["key"]) <= value["failures"]:
            raise ValueError(f"not yet: {value['key']}")
        return value["n"] + 1

    @app.activity_trigger(input_name="value")
    def broken(value: dict[str, Any]) -> int:
        ledger.note(value["key"])
        raise KeyError(value["key"])

    @app.activity_trigger(input_name="value")
    def clean_up(value: dict[str, Any]) -> str:
        ledger.note(value["key"])
        return "cleaned"

    @app.activity_trigger(input_name="value")
    def stamp(value: dict[str, Any]) -> Any:
        """Gives back the mark of the execution that asked."""
        ledger.note(f"{value['key']}/{value['mark']}")
        return value["mark"]

    @app.orchestration_trigger(context_name="context")
    def chain(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        total = 0
        for step in range(given["length"]):
            total += yield context.call_activity("double", {"key": f"{given['key']}/{step}", "n": step + total})
            context.set_custom_status({"step": step})
        return total

    @app.orchestration_trigger(context_name="context")
    def fan(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        retry = df.RetryOptions(1000, 4)
        tasks = []
        for n in range(given["width"]):
            value = {"key": f"{given['key']}/{n}", "n": n, "failures": n % 3}
            tasks.append(context.call_activity_with_retry("flaky", retry, value))
        return (yield context.task_all(tasks))

    @app.orchestration_trigger(context_name="context")
    def tree(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        if given["depth"] == 0:
            return (yield context.call_activity("double", {"key": given["key"], "n": 1}))
        tasks = []
        for n in range(2):
            key = f"{given['key']}-{n}"
            child = {"key": key, "depth": given["depth"] - 1}
            tasks.append(context.call_sub_orchestrator("tree", child, instance_id=key if n else None))
        results = yield context.task_all(tasks)
        return sum(results)

    @app.orchestration_trigger(context_name="context")
    def sleeper(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        begun = context.current_utc_datetime
        for seconds in given["pauses"]:
            yield context.create_timer(context.current_utc_datetime + timedelta(seconds=seconds))
        slept = context.current_utc_datetime - begun
        return slept >= timedelta(seconds=sum(given["pauses"]))

    @app.orchestration_trigger(context_name="context")
    def collector(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        seen: list[int] = []
        while not seen or seen[-1] != given["last"]:
            seen.append((yield context.wait_for_external_event("Number")))
            if len(seen) % 2:
                yield context.call_activity("double", {"key": f"{given['key']}/{len(seen)}", "n": 0})
        return seen

    @app.orchestration_trigger(context_name="context")
    def eternal(context: df.DurableOrchestrationContext) -> Any:
        """Every generation has the same task ids, so only the execution key tells their answers apart."""
        given = context.get_input()
        seen: list[int] = given["seen"]
        for _ in range(2):
            seen.append((yield context.wait_for_external_event("number")))
            if seen[-1] == given["last"]:
                return seen
        n = len(seen)
        result = yield context.call_activity("double", {"key": f"{given['key']}/{n}", "n": n})
        if result != 2 * n:
            return f"the activity of generation {n // 2} gave {result}"
        context.continue_as_new({**given, "seen": seen})
        return None

    @app.orchestration_trigger(context_name="context")
    def relay(context: df.DurableOrchestrationContext) -> Any:
        """Leaves an activity open at the end of each generation; its late answer must not reach the next one."""
        given = context.get_input()
        lap = given["lap"]
        value = {"key": given["key"], "mark": lap}
        winner = yield context.task_any([context.call_activity("stamp", value) for _ in range(2)])
        if winner.result != lap:
            return f"lap {lap} was given {winner.result}"
        if lap < given["laps"]:
            context.continue_as_new({**given, "lap": lap + 1})
        return lap

    @app.orchestration_trigger(context_name="context")
    def spinner(context: df.DurableOrchestrationContext) -> Any:
        """One generation after the other without a wait."""
        given = context.get_input()
        context.set_custom_status({"lap": given["lap"]})
        if given["lap"] < given["laps"]:
            context.continue_as_new({**given, "lap": given["lap"] + 1})
            return None
        return given["lap"]

    @app.orchestration_trigger(context_name="context")
    def stamped(context: df.DurableOrchestrationContext) -> Any:
        """Started again under the same id with another mark, it must see no answer to the execution before."""
        given = context.get_input()
        marks = []
        for _ in range(given["length"]):
            marks.append((yield context.call_activity("stamp", {"key": given["key"], "mark": given["mark"]})))
        return marks

    @app.orchestration_trigger(context_name="context")
    def race(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        timeout = context.create_timer(context.current_utc_datetime + timedelta(days=30))
        wins = []
        for n in range(3):
            quick = context.call_activity("double", {"key": f"{given['key']}/{n}", "n": n})
            winner = yield context.task_any([timeout, quick])
            wins.append("timeout" if winner == timeout else winner.result)
        timeout.cancel()
        return wins

    @app.orchestration_trigger(context_name="context")
    def nested(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()

        def ask(n: int) -> TaskBase:
            return context.call_activity("double", {"key": f"{given['key']}/{n}", "n": n})

        never = context.create_timer(timedelta(days=300))
        pair = context.task_all([ask(0), ask(1)])
        first = yield context.task_any([context.task_all([ask(2), never]), pair])
        rest = yield context.task_all([context.task_any([never, ask(3)]), context.task_all([ask(4), ask(5)])])
        never.cancel()
        return [first == pair, first.result, rest[0].result, rest[1]]

    @app.orchestration_trigger(context_name="context")
    def twins(context: df.DurableOrchestrationContext) -> Any:
        """What it does next depends on whether the task that it does not wait for is through."""
        given = context.get_input()
        for lap in range(given["laps"]):
            pair = [context.call_activity("double", {"key": f"{given['key']}/{lap}/{n}", "n": n}) for n in range(2)]
            winner = yield context.task_any(pair)
            other = pair[1] if winner == pair[0] else pair[0]
            if not other.is_completed:
                yield context.create_timer(context.current_utc_datetime)
            yield other
        return given["laps"]

    @app.orchestration_trigger(context_name="context")
    def canceller(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        begun = context.current_utc_datetime
        timers = [context.create_timer(timedelta(seconds=seconds)) for seconds in given["pauses"]]
        shortest = timers[given["pauses"].index(min(given["pauses"]))]
        winner = yield context.task_any(timers)
        for timer in timers:
            if not timer.is_completed:
                timer.cancel()
        yield context.call_activity("double", {"key": f"{given['key']}/after", "n": 0})
        return [winner == shortest, context.current_utc_datetime - begun >= timedelta(seconds=min(given["pauses"]))]

    @app.orchestration_trigger(context_name="context")
    def saga(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        log = []
        try:
            log.append((yield context.call_activity("double", {"key": f"{given['key']}/a", "n": 1})))
            yield context.call_activity("broken", {"key": f"{given['key']}/b"})
        except Exception as error:
            log.append("KeyError" in str(error))
            try:
                yield context.call_activity("nobody serves this")
            except Exception as missing:
                log.append("doesn't exist" in str(missing))
        finally:
            log.append((yield context.call_activity("clean_up", {"key": f"{given['key']}/c"})))
            context.set_custom_status("left")
        return log

    @app.orchestration_trigger(context_name="context")
    def guarded(context: df.DurableOrchestrationContext) -> Any:
        """Dropped from memory between any two of its turns, it must not leave the block, nor clean up."""
        given = context.get_input()
        log = []
        try:
            with Guard(context, ledger, given["key"]):
                for n in range(given["length"]):
                    log.append((yield context.call_activity("double", {"key": f"{given['key']}/{n}", "n": n})))
        finally:
            log.append((yield context.call_activity("clean_up", {"key": f"{given['key']}/clean"})))
        return log

    @app.orchestration_trigger(context_name="context")
    def quitter(context: df.DurableOrchestrationContext) -> Any:
        """A retry that gives up."""
        given = context.get_input()
        try:
            yield context.call_activity_with_retry("broken", df.RetryOptions(500, 3), {"key": f"{given['key']}/try"})
        except Exception as error:
            return "KeyError" in str(error)

    @app.orchestration_trigger(context_name="context")
    def namesakes(context: df.DurableOrchestrationContext) -> Any:
        """A child id that is taken fails the task that asked for it; once its owner has ended it is free again."""
        given = context.get_input()
        name = f"{given['key']}-child"

        def child(key: str) -> TaskBase:
            return context.call_sub_orchestrator("napper", {"key": f"{given['key']}/{key}"}, instance_id=name)

        running, clash = child("first"), child("clash")
        try:
            yield context.task_all([running, clash])
            refused = False
        except Exception as error:
            refused = "already exists" in str(error)
        first = yield running
        again = yield child("again")
        return [refused, first, again]

    @app.orchestration_trigger(context_name="context")
    def napper(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        yield context.create_timer(timedelta(milliseconds=5))
        return (yield context.call_activity("stamp", {"key": given["key"], "mark": given["key"]}))

    @app.orchestration_trigger(context_name="context")
    def doomed(context: df.DurableOrchestrationContext) -> Any:
        given = context.get_input()
        try:
            yield context.call_sub_orchestrator("doomed_child", given)
        except Exception as error:
            raise RuntimeError("the child failed: " + str("KeyError" in str(error))) from error

    @app.orchestration_trigger(context_name="context")
    def doomed_child(context: df.DurableOrchestrationContext) -> Any:
        yield context.call_activity("broken", {"key": context.get_input()["key"]})

    return build_registry(app.get_functions())


def draw_input(kind: str, key: str, rng: random.Random, *, long_pauses: bool) -> dict[str, Any]:
    """An input for a program. `key` names the instance in the ledger."""
    given: dict[str, Any] = {"key": key}
    longest = 86_400 if long_pauses else 2
    match kind:
        case "chain" | "guarded":
            given["length"] = rng.randint(1, 8)
        case "fan":
            given["width"] = rng.randint(1, 9)
        case "tree":
            given["depth"] = rng.randint(1, 2)
        case "sleeper":
            given["pauses"] = [rng.choice([0, 1, 3, longest]) for _ in range(rng.randint(1, 4))]
        case "canceller":
            given["pauses"] = [rng.choice([1, 2]), *rng.sample([3, 60, 7200, 30 * 86_400], k=rng.randint(1, 3))]
            rng.shuffle(given["pauses"])
        case "collector" | "eternal":
            given.update(last=rng.randint(2, 9), seen=[])
        case "relay" | "spinner" | "twins":
            given.update(lap=1, laps=rng.randint(2, 6))
        case "stamped":
            given.update(length=rng.randint(1, 5), mark="first")
        case _:
            pass
    return given


def _chain(given: dict[str, Any]) -> Any:
    total = 0
    for step in range(given["length"]):
        total += (step + total) * 2
    return total


MODEL: dict[str, Callable[[dict[str, Any]], Any]] = {
    "chain": _chain,
    "fan": lambda given: [n + 1 for n in range(given["width"])],
    "tree": lambda given: 2 * 2 ** given["depth"],
    "sleeper": lambda given: True,
    "relay": lambda given: given["laps"],
    "spinner": lambda given: given["laps"],
    "stamped": lambda given: [given["mark"]] * given["length"],
    "race": lambda given: [0, 2, 4],
    "twins": lambda given: given["laps"],
    "nested": lambda given: [True, [0, 2], 6, [8, 10]],
    "canceller": lambda given: [True, True],
    "saga": lambda given: [2, True, True, "cleaned"],
    "guarded": lambda given: [*(2 * n for n in range(given["length"])), "cleaned"],
    "quitter": lambda given: True,
    "namesakes": lambda given: [True, f"{given['key']}/first", f"{given['key']}/again"],
}
"""The output that a sequential run would give."""

EXPECTED_RUNS: dict[str, Callable[[dict[str, Any]], dict[str, int]]] = {
    "chain": lambda given: {f"{given['key']}/{n}": 1 for n in range(given["length"])},
    "fan": lambda given: {f"{given['key']}/{n}": n % 3 + 1 for n in range(given["width"])},
    "race": lambda given: {f"{given['key']}/{n}": 1 for n in range(3)},
    "nested": lambda given: {f"{given['key']}/{n}": 1 for n in (0, 1, 3, 4, 5)},
    "saga": lambda given: {f"{given['key']}/{n}": 1 for n in "abc"},
    "guarded": lambda given: {f"{given['key']}/{n}": 1 for n in [*range(given["length"]), "left", "clean"]},
    "quitter": lambda given: {f"{given['key']}/try": 3},
}
"""How often, at least, an activity must have run."""


def text(value: Any) -> str:
    return json.dumps(value)
