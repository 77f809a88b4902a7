"""`perdure bench hello`: many short orchestrations, as many at once as there are clients."""

from __future__ import annotations

import asyncio
import json
import time

from perdure.bench.floor import Work, floor_figures, measure_floor
from perdure.bench.hosting import Caller, Served, served
from perdure.bench.measure import Figures, Meter, latency_ms
from perdure.bench.stores import fresh_store

_ACTIVITIES = 3
_OUTPUT = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
_OUTPUT_TEXT = json.dumps(_OUTPUT)


def bench_hello(clients: int, count: int, store_url: str | None, *, floor: bool = True) -> Figures:
    """`count` orchestrations of three activities each, started by `clients`, each of which waits for what it started.

    Raises what `fresh_store` raises, RuntimeError if an output is wrong.
    """
    with fresh_store(store_url) as store:
        with served(store) as host:
            asyncio.run(_run(host, clients, min(count, clients)))  # what is imported or made once is not measured
            with Meter(host.commits) as meter:
                seconds = asyncio.run(_run(host, clients, count))
        figures: Figures = {
            "benchmark": "hello",
            "store": store.kind,
            "clients": clients,
            "count": count,
            "orchestrations_per_second": round(count / meter.elapsed_seconds, 1),
            "latency_ms": latency_ms(seconds),
            **meter.figures(count * _ACTIVITIES),
        }
        if floor:
            run = measure_floor(host, Work("hello", None, _OUTPUT, count), store)
            figures["floor_orchestrations_per_second"] = round(count / run.elapsed_seconds, 1)
            figures |= floor_figures(meter, run, count * _ACTIVITIES)
        return figures


async def _run(host: Served, clients: int, count: int) -> list[float]:
    """The seconds that each took."""
    caller = Caller(host.host)
    left = count
    seconds: list[float] = []

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            await caller.run("hello", None, _OUTPUT_TEXT)
            seconds.append(time.perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds
