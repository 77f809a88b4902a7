"""The fresh process of `perdure bench parked`: a host started on a store full of waiting instances.

It is the host that `perdure start` makes, with its HTTP server, so that the memory is that of a whole host. It is asked
by the client in this process and not over HTTP: what requests cost is no matter of how much is parked.

Prints two lines of JSON: one when the host is ready, one at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import ExitStack
from typing import Any

import msgspec

from perdure.bench import process
from perdure.bench.hosting import Caller, app_settings
from perdure.bench.measure import Figures, rounded
from perdure.bench.parked import EVENT, TIMER, Plan, instance_id, spread
from perdure.bench.stores import named_store
from perdure.host.app import Host, claim_store, load_app
from perdure.host.server import HttpServer, take_address

_CLIENTS = 256
_GRACE_SECONDS = 60.0


def main(plan: Plan) -> None:
    before = process.rss_mb()
    begun = time.perf_counter()
    with ExitStack() as leave:
        settings = app_settings(named_store(plan.store))
        store = claim_store(settings)
        leave.callback(store.close)
        address = take_address("127.0.0.1", 0, insecure=False)
        leave.callback(address.listener.close)
        host = Host(settings, load_app(settings, address.port), store, address.url)
        server = HttpServer(host.gateway, address)
        host.start()
        leave.callback(host.close)
        server.start()
        leave.callback(server.stop, _GRACE_SECONDS)
        leave.callback(host.stop, _GRACE_SECONDS)
        ready = time.perf_counter() - begun
        _tell(
            {
                "ready_seconds": round(ready, 4),
                "rss_mb": rounded(process.rss_mb(), 1),
                "rss_before_host_mb": rounded(before, 1),
            }
        )
        figures = asyncio.run(_raise_events(host, plan)) if plan.raise_events else {}
    _tell(figures | {"peak_rss_mb": rounded(process.peak_rss_mb(), 1)})


async def _raise_events(host: Host, plan: Plan) -> Figures:
    caller = Caller(host)

    async def let_go(number: int) -> None:
        name = instance_id(EVENT, number)
        await caller.client.raise_event(name, "go", number)
        await caller.completed(name, str(number))

    begun = time.perf_counter()
    await let_go(0)
    one = time.perf_counter() - begun
    begun, cpu = time.perf_counter(), time.process_time()
    await spread(_CLIENTS, (let_go(number) for number in range(1, plan.events)))
    all_events, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if plan.timers:
        row = await host.hub.get(instance_id(TIMER, plan.timers - 1))
        if row is None or row.status != "Running":
            raise RuntimeError(f"an instance that waits for a timer is {row and row.status}")
    return {
        "one_event_ms": round(one * 1000, 3),
        "all_events_seconds": round(all_events, 3),
        "all_events_cpu_seconds": round(cpu, 3),
    }


def _tell(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Plan))
