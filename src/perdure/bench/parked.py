"""`perdure bench parked`: a hub full of instances that wait, and what a host that starts on it pays for them.

The store is filled through the client by a host in this process. What is measured happens in a fresh process
(`parked_start`), so that neither memory nor caches know of the filling.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from itertools import chain
from typing import Any

import msgspec

from perdure.bench.hosting import Caller, app_settings, served
from perdure.bench.measure import Figures
from perdure.bench.stores import BenchStore, fresh_store, named_store
from perdure.core.errors import InvalidRequest
from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow
from perdure.host.app import claim_store

EVENT = "wait_for_go"
TIMER = "wait_a_month"
_CLIENTS = 256
_PAGE = 10_000


_NO_FILE = "A store in memory ends with its process; take an SQLite file."


class Plan(msgspec.Struct, frozen=True):
    """What the fresh process is told."""

    store: str
    """URL."""
    events: int
    """Instances that wait for an event."""
    timers: int
    """Instances that wait for a timer."""
    raise_events: bool


def instance_id(name: str, number: int) -> str:
    return f"{name}-{number:07d}"


async def spread(clients: int, calls: Iterator[Coroutine[Any, Any, object]]) -> None:
    """Await all `calls`, as many at once as there are `clients`."""

    async def client() -> None:
        for call in calls:
            await call

    await asyncio.gather(*(client() for _ in range(clients)))


def bench_parked(
    events: int,
    timers: int,
    store_url: str | None,
    *,
    fill: bool = True,
    measure: bool = True,
    raise_events: bool = True,
) -> Figures:
    """`events` instances that wait for an event and `timers` that wait for a timer in a month, and a host's start.

    With `raise_events` one event is raised, then all others. `fill` without `measure` leaves a store that `measure`
    without `fill` takes, `events` and `timers` being the same. Raises as `fresh_store`, InvalidRequest if the store to
    be taken is not there or has not just these instances; RuntimeError if one does not end as it should.
    """
    figures: Figures = {"benchmark": "parked", "count": events, "timers": timers}
    if not fill:
        store = _filled_store(store_url or "", events, timers)
        return figures | {"store": store.kind} | _measure(store, events, timers, raise_events)
    with fresh_store(store_url) as store:
        if store.file is None:
            raise InvalidRequest(_NO_FILE)
        figures |= {"store": store.kind} | _fill(store, events, timers)
        return figures | (_measure(store, events, timers, raise_events) if measure else {})


def _fill(store: BenchStore, events: int, timers: int) -> Figures:
    begun = time.perf_counter()
    with served(store) as host:
        client = Caller(host.host).client
        calls = chain(
            (client.start_new(EVENT, instance_id(EVENT, number)) for number in range(events)),
            (client.start_new(TIMER, instance_id(TIMER, number)) for number in range(timers)),
        )
        asyncio.run(spread(_CLIENTS, calls))
    elapsed = time.perf_counter() - begun
    return {"fill_seconds": round(elapsed, 3), "starts_per_second": round((events + timers) / elapsed, 1)}


def _filled_store(url: str, events: int, timers: int) -> BenchStore:
    """The store at `url`, in which just `events` and `timers` instances wait. Raises InvalidRequest, StartProblem."""
    store = named_store(url)
    if store.file is None:
        raise InvalidRequest(_NO_FILE)
    if not store.file.exists():
        raise InvalidRequest(f"The store {url} does not exist; fill it by the same command with --fill-only.")
    numbers: dict[str, int] = {EVENT: 0, TIMER: 0}
    highest: dict[str, int] = {EVENT: -1, TIMER: -1}
    others = 0
    for row in _instances(store):
        prefix, _, number = row.id.rpartition("-")
        if row.status == "Running" and row.name == prefix and prefix in numbers and number.isdecimal():
            numbers[prefix] += 1
            highest[prefix] = max(highest[prefix], int(number))
        else:
            others += 1
    problem = None
    if others:
        problem = (
            f"has {others:,} instances that do not wait as --fill-only leaves them. A run that raises events uses a "
            "store up: take a copy for each, or fill another with --fill-only."
        )
    elif not numbers[EVENT]:
        problem = "has no instance that waits for an event; fill another with --fill-only."
    elif any(highest[name] != numbers[name] - 1 for name in numbers):
        problem = "was not filled to its end; fill another with --fill-only."
    elif (numbers[EVENT], numbers[TIMER]) != (events, timers):
        problem = (
            f"has {numbers[EVENT]:,} instances that wait for an event and {numbers[TIMER]:,} that wait for a timer, "
            f"not {events:,} and {timers:,}; give --count {numbers[EVENT]} --timers {numbers[TIMER]}."
        )
    if problem is not None:
        raise InvalidRequest(f"The store {url} {problem}")
    return store


def _instances(store: BenchStore) -> Iterator[InstanceRow]:
    opened = claim_store(app_settings(store))
    try:
        after = 0
        while rows := opened.query(InstanceQuery(after_key=after, limit=_PAGE)):
            yield from rows
            after = rows[-1].key
    finally:
        opened.close()


def _measure(store: BenchStore, events: int, timers: int, raise_events: bool) -> Figures:
    plan = msgspec.json.encode(Plan(store.url, events, timers, raise_events)).decode()
    begun = time.perf_counter()
    # In a session of its own, so that a Ctrl-C reaches this process alone, which ends it.
    with subprocess.Popen(
        [sys.executable, "-m", "perdure.bench.parked_start", plan],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        try:
            ready = child.stdout.readline()
            command_seconds = time.perf_counter() - begun
            rest = child.stdout.read()
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise RuntimeError(f"the host that was to be measured ended with code {child.returncode}")
    return {"command_to_ready_seconds": round(command_seconds, 4), **json.loads(ready), **json.loads(rest)}
