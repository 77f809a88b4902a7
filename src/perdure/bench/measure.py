"""What is measured while something runs: time, CPU, memory, bytes, commits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from perdure.bench import process
from perdure.bench.counting import CommitLog

Figures = dict[str, Any]
"""What a benchmark tells, by name; names end in their unit, None is what the system does not tell."""

_QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


class Meter:
    """Measures from `with` to its end, in this process. `commits` is reset at the beginning."""

    elapsed_seconds = 0.0
    cpu_seconds = 0.0
    bytes_written: int | None = None
    commit_count = 0
    peak_rss_mb: float | None = None

    def __init__(self, commits: CommitLog) -> None:
        self.commits = commits

    def __enter__(self) -> Meter:
        self.commits.reset()
        self._bytes = process.bytes_written()
        self._cpu = time.process_time()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed_seconds = time.perf_counter() - self._begun
        self.cpu_seconds = time.process_time() - self._cpu
        self.commit_count = len(self.commits.commits)
        now = process.bytes_written()
        self.bytes_written = None if now is None or self._bytes is None else now - self._bytes
        self.peak_rss_mb = process.peak_rss_mb()

    def figures(self, steps: int) -> Figures:
        """`steps` is how many activities ran."""
        return {
            "elapsed_seconds": round(self.elapsed_seconds, 4),
            "cpu_seconds": round(self.cpu_seconds, 4),
            "activities_per_second": round(steps / self.elapsed_seconds, 1),
            "cpu_us_per_activity": round(self.cpu_seconds / steps * 1e6, 1),
            "bytes_per_step": None if self.bytes_written is None else round(self.bytes_written / steps, 1),
            "commits_per_step": round(self.commit_count / steps, 5),
            "peak_rss_mb": rounded(self.peak_rss_mb, 1),
        }


def latency_ms(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {name: round(ordered[min(last, int(len(ordered) * q))] * 1000, 2) for name, q in _QUANTILES}


def rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
