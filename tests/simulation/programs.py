"""The app that the simulation runs, and what each of its programs must give.

Every program's output follows from its input alone, whatever the order of things and however often the host dies.
Activities write into a `Ledger` outside the simulated processes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
from azure.durable_functions.registry import Registry, build_registry


class Ledger:
    """What activities did, as the outside world saw it."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()


def build_app(ledger: Ledger) -> Registry:
    app = df.DFApp()

    @app.activity_trigger(input_name="value")
    def double(value: dict[str, Any]) -> int:
        ledger.runs[value["key"]] += 1
        return value["n"] * 2

    @app.activity_trigger(input_name="value")
    def flaky(value: dict[str, Any]) -> int:
        """Fails the first `failures` times that the world sees it run."""
        ledger.runs[value["key"]] += 1
        if ledger.runs[value["key"]] <= value["failures"]:
            raise ValueError(f"not yet: {value['key']}")
        return value["n"] + 1

    @app.activity_trigger(input_name="value")
    def broken(value: dict[str, Any]) -> int:
        ledger.runs[value["key"]] += 1
        raise KeyError(value["key"])

    @app.activity_trigger(input_name="value")
    def clean_up(value: dict[str, Any]) -> str:
        ledger.runs[value["key"]] += 1
        return "cleaned"

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
        given = context.get_input()
        seen: list[int] = given["seen"]
        for _ in range(2):
            seen.append((yield context.wait_for_external_event("number")))
            if seen[-1] == given["last"]:
                return seen
        yield context.call_activity("double", {"key": f"{given['key']}/{len(seen)}", "n": 0})
        context.continue_as_new({**given, "seen": seen})
        return None

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
    "race": lambda given: [0, 2, 4],
    "saga": lambda given: [2, True, True, "cleaned"],
}
"""The output that a sequential run would give."""

EXPECTED_RUNS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "chain": lambda given: [f"{given['key']}/{n}" for n in range(given["length"])],
    "fan": lambda given: [f"{given['key']}/{n}" for n in range(given["width"])],
    "race": lambda given: [f"{given['key']}/{n}" for n in range(3)],
    "saga": lambda given: [f"{given['key']}/{n}" for n in "abc"],
}
"""Activities that must have run at least once."""


def text(value: Any) -> str:
    return json.dumps(value)
