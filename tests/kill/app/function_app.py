"""The app that is killed: small orchestrations of every kind, whose outputs follow from their inputs alone.

Every activity writes into a ledger, outside Perdure: one line when it begins and one when it ends, each by one write
that appends, so that a kill leaves whole lines. `KILL_LEDGER` names the file.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df

app = df.DFApp()
RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=30, max_number_of_attempts=4)

Orchestration = Generator[Any, Any, Any]


class Ledger:
    """Appends lines of three fields: what, process id, key; and knows from earlier ones how often each key failed."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        lines = (line.split("\t") for line in file.read_text().splitlines())
        self._failed = Counter(key for what, _, key in lines if what == "failed")

    def note(self, what: str, key: str) -> None:
        os.write(self._file, f"{what}\t{os.getpid()}\t{key}\n".encode())

    def may_fail(self, key: str, failures: int) -> bool:
        """Whether `key` has failed less than `failures` times so far; if so it is noted that it fails."""
        with self._lock:
            if self._failed[key] >= failures:
                return False
            self._failed[key] += 1
            self.note("failed", key)
            return True


ledger = Ledger(Path(os.environ["KILL_LEDGER"]))


# --- activities: {"key", "ms" it takes, ...} -------------------------------------------------------------------------


@app.activity_trigger(input_name="task")
def work(task: dict[str, Any]) -> int:
    ledger.note("started", task["key"])
    time.sleep(task["ms"] / 1000)
    ledger.note("finished", task["key"])
    return task["n"] * 2 + 1


@app.activity_trigger(input_name="task")
async def work_async(task: dict[str, Any]) -> int:
    ledger.note("started", task["key"])
    await asyncio.sleep(task["ms"] / 1000)
    ledger.note("finished", task["key"])
    return task["n"] * 2 + 1


@app.activity_trigger(input_name="task")
def flaky(task: dict[str, Any]) -> int:
    """Fails the first `failures` times."""
    ledger.note("started", task["key"])
    time.sleep(task["ms"] / 1000)
    if ledger.may_fail(task["key"], task["failures"]):
        raise ConnectionError(task["key"])
    ledger.note("finished", task["key"])
    return task["n"] * 2 + 1


@app.activity_trigger(input_name="task")
def broken(task: dict[str, Any]) -> None:
    ledger.note("started", task["key"])
    ledger.note("failed", task["key"])
    raise ValueError(f"never {task['key']}")


# --- orchestrators ---------------------------------------------------------------------------------------------------


def worker(n: int) -> str:
    return "work_async" if n % 3 == 2 else "work"


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext) -> Orchestration:
    given = context.get_input()
    results = []
    for n, ms in enumerate(given["steps"]):
        results.append((yield context.call_activity(worker(n), {"key": f"{given['key']}/{n}", "ms": ms, "n": n})))
        context.set_custom_status({"step": n})
    return results


@app.orchestration_trigger(context_name="context")
def fan(context: df.DurableOrchestrationContext) -> Orchestration:
    given = context.get_input()
    tasks = []
    for n, ms in enumerate(given["branches"]):
        task = {"key": f"{given['key']}/{n}", "ms": ms, "n": n, "failures": n % 3}
        tasks.append(context.call_activity_with_retry("flaky", RETRY, task))
    results = yield context.task_all(tasks)
    total = yield context.call_activity("work", {"key": f"{given['key']}/join", "ms": 1, "n": sum(results)})
    return [*results, total]


@app.orchestration_trigger(context_name="context")
def sleeper(context: df.DurableOrchestrationContext) -> Orchestration:
    given = context.get_input()
    begun = context.current_utc_datetime
    for n, ms in enumerate(given["pauses"]):
        yield context.create_timer(context.current_utc_datetime + timedelta(milliseconds=ms))
        yield context.call_activity("work", {"key": f"{given['key']}/{n}", "ms": 1, "n": n})
    return context.current_utc_datetime - begun >= timedelta(milliseconds=sum(given["pauses"]))


@app.orchestration_trigger(context_name="context")
def collector(context: df.DurableOrchestrationContext) -> Orchestration:
    """Takes events, each wait racing a timer, so that waits are lost all the time; says what it saw.

    The more `effort` its code takes, the more often a message has to wait in the store for its turn.
    """
    given = context.get_input()
    seen: list[int] = []
    while given["last"] not in seen:
        sum(range(given["effort"]))
        event = context.wait_for_external_event("Number")
        timer = context.create_timer(context.current_utc_datetime + timedelta(milliseconds=given["patience_ms"]))
        winner = yield context.task_any([event, timer])
        if winner is event:
            timer.cancel()
            seen.append(event.result)
            yield context.call_activity("work", {"key": f"{given['key']}/{len(seen)}", "ms": given["ms"], "n": 0})
    return seen


@app.orchestration_trigger(context_name="context")
def eternal(context: df.DurableOrchestrationContext) -> Orchestration:
    """As `collector`, but starts over after every second event."""
    given = context.get_input()
    seen: list[int] = given.setdefault("seen", [])
    for _ in range(2):
        seen.append((yield context.wait_for_external_event("number")))
        yield context.call_activity("work", {"key": f"{given['key']}/{len(seen)}", "ms": given["ms"], "n": 0})
        if seen[-1] == given["last"]:
            return seen
    context.continue_as_new(given)


@app.orchestration_trigger(context_name="context")
def tree(context: df.DurableOrchestrationContext) -> Orchestration:
    """Two children each, one of them under an id that is given."""
    given = context.get_input()
    key = given["key"]
    if given["depth"] == 0:
        return (yield context.call_activity("work", {"key": key, "ms": given["ms"], "n": 0}))
    tasks = []
    for n in range(2):
        child = {**given, "key": f"{key}.{n}", "depth": given["depth"] - 1}
        tasks.append(context.call_sub_orchestrator("tree", child, instance_id=child["key"] if n else None))
    results = yield context.task_all(tasks)
    return (yield context.call_activity("work", {"key": f"{key}/join", "ms": 1, "n": sum(results)}))


@app.orchestration_trigger(context_name="context")
def race(context: df.DurableOrchestrationContext) -> Orchestration:
    given = context.get_input()
    month = context.create_timer(context.current_utc_datetime + timedelta(days=30))
    wins = []
    for n, ms in enumerate(given["steps"]):
        quick = context.call_activity("work", {"key": f"{given['key']}/{n}", "ms": ms, "n": n})
        winner = yield context.task_any([month, quick])
        wins.append(winner is quick and quick.result)
    month.cancel()
    return wins


@app.orchestration_trigger(context_name="context")
def saga(context: df.DurableOrchestrationContext) -> Orchestration:
    given = context.get_input()
    key = given["key"]
    yield context.call_activity("work", {"key": f"{key}/open", "ms": given["ms"], "n": 0})
    caught = False
    try:
        yield context.call_activity("broken", {"key": f"{key}/broken"})
    except df.TaskFailedError as error:
        caught = f"never {key}/broken" in str(error)
    yield context.call_activity("work", {"key": f"{key}/close", "ms": given["ms"], "n": 0})
    return caught


@app.orchestration_trigger(context_name="context")
def endless(context: df.DurableOrchestrationContext) -> Orchestration:
    given = context.get_input()
    n = 0
    while True:
        yield context.call_activity("work", {"key": f"{given['key']}/{n}", "ms": given["ms"], "n": n})
        n += 1
