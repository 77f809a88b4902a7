"""Run one benchmark: a fresh store, the host without its HTTP server, clients that each wait for what they started."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perdure.core.errors import InvalidRequest
from perdure.host.app import Host, claim_store, load_app
from perdure.host.settings import CommandLine, read_settings

_APPS = Path(__file__).parent
_WAIT_SECONDS = 600.0
_EXPECTED = '["Hello Tokyo!", "Hello Seattle!", "Hello London!"]'
_ACTIVITIES = 3
_GRACE_SECONDS = 5.0


def bench_hello(clients: int, count: int, store: str | None) -> dict[str, Any]:
    """`count` orchestrations of three activities each, started by `clients` at once.

    `store` None is a new SQLite file below the current folder, removed at the end. Keys of the result end in their
    unit. Raises InvalidRequest if `store` names a file that exists, RuntimeError if an output is wrong.
    """
    with ExitStack() as leave:
        if store is None:
            folder = Path(tempfile.mkdtemp(prefix=".perdure-bench-", dir=Path.cwd()))
            leave.callback(shutil.rmtree, folder, ignore_errors=True)
            store = "sqlite:///" + (folder / "hub.db").as_posix()
        elif store.startswith("sqlite:///") and (Path.cwd() / store.removeprefix("sqlite:///")).exists():
            raise InvalidRequest(f"The store {store} exists; a benchmark needs a fresh one.")
        elif store.startswith("sqlite:///"):
            store = "sqlite:///" + (Path.cwd() / store.removeprefix("sqlite:///")).as_posix()
        settings = read_settings(_APPS / "hello", CommandLine(store=store), {})
        opened = claim_store(settings)
        leave.callback(opened.close)
        host = Host(settings, load_app(settings, 0), opened, "http://localhost")
        leave.callback(host.close)
        host.start()
        leave.callback(host.stop, _GRACE_SECONDS)
        asyncio.run(_run(host, clients, min(count, clients)))  # what is imported or made once is not measured
        return asyncio.run(_run(host, clients, count)) | {"store": store.partition(":")[0]}


async def _run(host: Host, clients: int, count: int) -> dict[str, Any]:
    durable = host.connect()
    left = count
    seconds: list[float] = []

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            instance_id = await durable.start_new("hello")
            row = await host.hub.wait(instance_id, _WAIT_SECONDS)
            seconds.append(time.perf_counter() - begun)
            if row.status != "Completed" or row.output != _EXPECTED:
                raise RuntimeError(f"instance {instance_id} is {row.status} with output {row.output}")

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
    seconds.sort()
    return {
        "benchmark": "hello",
        "clients": clients,
        "count": count,
        "elapsed_seconds": round(elapsed, 3),
        "orchestrations_per_second": round(count / elapsed, 1),
        "activities_per_second": round(count * _ACTIVITIES / elapsed, 1),
        "latency_ms": {name: round(_quantile(seconds, q) * 1000, 2) for name, q in _QUANTILES},
        "cpu_us_per_activity": round(cpu / (count * _ACTIVITIES) * 1e6, 1),
    }


_QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]
