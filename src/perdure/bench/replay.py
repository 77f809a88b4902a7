"""`perdure bench replay`: how fast an orchestration that is no longer in memory is brought back from its history.

Instances of many steps come to wait for an event; the host is stopped; another one, which has none of them in memory,
is sent the events, one after the other. What is timed is the whole way of each: the event accepted, the history read
and replayed through the function, the last turn durable.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from perdure.bench.hosting import Caller, served
from perdure.bench.measure import Figures
from perdure.bench.stores import fresh_store
from perdure.core.errors import InvalidRequest

_ORCHESTRATOR = "chain_then_wait"
_EVENTS_IN_STEP = 2  # scheduled, completed
_MEASURED = 3
_POLL_SECONDS = 0.02


def bench_replay(events: int, store_url: str | None) -> Figures:
    """Histories of at least `events` events: a chain of half as many steps. The median of three instances.

    Raises as `fresh_store`, RuntimeError if an output is wrong.
    """
    length = -(-events // _EVENTS_IN_STEP)
    names = [f"replayed-{number}" for number in range(1 + _MEASURED)]
    with fresh_store(store_url) as store:
        if store.file is None:
            raise InvalidRequest("A store in memory ends with its host; take an SQLite file.")
        with served(store) as host:
            asyncio.run(_build(Caller(host.host), names, length))
        with served(store) as host:
            seconds, cpu_seconds, recorded = asyncio.run(_replay(Caller(host.host), names, length))
    return {
        "benchmark": "replay",
        "store": store.kind,
        "history_events": recorded,
        "runs": _MEASURED,
        "replay_ms": round(seconds * 1000, 3),
        "replay_cpu_ms": round(cpu_seconds * 1000, 3),
        "events_per_second": round(recorded / seconds, 1),
    }


async def _build(caller: Caller, names: list[str], length: int) -> None:
    async def build(name: str) -> None:
        await caller.client.start_new(_ORCHESTRATOR, name, length)
        while (await caller.client.get_status(name)).custom_status != "waiting":
            await asyncio.sleep(_POLL_SECONDS)

    await asyncio.gather(*(build(name) for name in names))


async def _replay(caller: Caller, names: list[str], length: int) -> tuple[float, float, int]:
    """Median seconds, of the clock and of CPU, and the events that were replayed. What the first instance takes is not
    counted: it imports and makes what is there for all others."""
    taken: list[tuple[float, float]] = []
    for name in names:
        begun, cpu = time.perf_counter(), time.process_time()
        await caller.client.raise_event(name, "go")
        await caller.completed(name, str(length))
        taken.append((time.perf_counter() - begun, time.process_time() - cpu))
    records = await caller.hub.history(names[-1])
    recorded = sum(len(record.received) + len(record.decided) for record in records)
    return median(clock for clock, _ in taken[1:]), median(cpu for _, cpu in taken[1:]), recorded
