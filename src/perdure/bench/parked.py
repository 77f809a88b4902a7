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

from perdure.bench.hosting import Caller, served
from perdure.bench.measure import Figures
from perdure.bench.stores import BenchStore, fresh_store, named_store
from perdure.core.errors import InvalidRequest

EVENT = "wait_for_go"
TIMER = "wait_a_month"
_CLIENTS = 256


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
    without `fill` takes, `events` and `timers` being the same. Raises as `fresh_store`, or InvalidRequest if there is
    no such store; RuntimeError if an instance does not end as it should.
    """
    figures: Figures = {"benchmark": "parked", "count": events, "timers": timers}
    if not fill:
        store = named_store(store_url or "")
        if store.file is None or not store.file.exists():
            raise InvalidRequest("Name the store that was filled by --store: an SQLite file.")
        return figures | {"store": store.kind} | _measure(store, events, timers, raise_events)
    with fresh_store(store_url) as store:
        if store.file is None:
            raise InvalidRequest("A store in memory ends with its process; take an SQLite file.")
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


def _measure(store: BenchStore, events: int, timers: int, raise_events: bool) -> Figures:
    plan = msgspec.json.encode(Plan(store.url, events, timers, raise_events)).decode()
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "perdure.bench.parked_start", plan], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        ready = child.stdout.readline()
        command_seconds = time.perf_counter() - begun
        rest = child.stdout.read()
    if child.returncode != 0:
        raise RuntimeError(f"the host that was to be measured ended with code {child.returncode}")
    return {"command_to_ready_seconds": round(command_seconds, 4), **json.loads(ready), **json.loads(rest)}
