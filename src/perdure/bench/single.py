"""`perdure bench fanout` and `chain`: one orchestration of many activities, side by side or one after the other."""

from __future__ import annotations

import asyncio

from perdure.bench.floor import Work, floor_figures, measure_floor
from perdure.bench.hosting import Caller, served
from perdure.bench.measure import Figures, Meter, rounded
from perdure.bench.stores import disk_sync_ms, fresh_store

_WARM_UP = 50  # activities


def bench_fanout(width: int, store_url: str | None, *, floor: bool = True) -> Figures:
    """One orchestration that waits for `width` activities at once. Raises as `bench_hello`."""
    return _bench("fanout", "width", width, store_url, floor)


def bench_chain(length: int, store_url: str | None, *, floor: bool = True) -> Figures:
    """One orchestration of `length` activities, each of which needs the result of the one before.

    Each step is durable before the next begins, so it costs a commit: `commit_sync_ratio` compares the commits of one
    step with the time in which the disk appends a record. Raises as `bench_hello`.
    """
    figures = _bench("chain", "length", length, store_url, floor)
    sync, commits = figures["disk_sync_ms"], figures["commits_per_step"]
    ratio = None if sync is None else figures["commit_ms"] * commits / sync
    return figures | {"commit_sync_ratio": rounded(ratio, 2)}


def _bench(name: str, option: str, size: int, store_url: str | None, floor: bool) -> Figures:
    with fresh_store(store_url) as store:
        with served(store) as host:
            warm = min(size, _WARM_UP)
            caller = Caller(host.host)
            asyncio.run(caller.run(name, warm, str(_output(name, warm))))
            with Meter(host.commits) as meter:
                asyncio.run(caller.run(name, size, str(_output(name, size))))
            sync = disk_sync_ms(store)  # at once, while the disk is as busy or idle as it was
        figures: Figures = {
            "benchmark": name,
            "store": store.kind,
            option: size,
            **meter.figures(size),
            "commit_ms": round(host.commits.median_seconds() * 1000, 4),
            "disk_sync_ms": rounded(sync, 4),
        }
        if floor:
            figures |= floor_figures(meter, measure_floor(host, Work(name, size, _output(name, size), 1), store), size)
        return figures


def _output(name: str, size: int) -> int:
    return size if name == "chain" else size * (size - 1)
