"""Figures in words, for a terminal."""

from __future__ import annotations

from perdure.bench.measure import Figures

_WORDS = {
    "orchestrations_per_second": ("{:,.0f}", "orchestrations a second"),
    "activities_per_second": ("{:,.0f}", "activities a second"),
    "events_per_second": ("{:,.0f}", "history events a second"),
    "history_events": ("{:,}", "events in the history"),
    "replay_ms": ("{:,.1f}", "ms from the event to the end, with the history replayed"),
    "replay_cpu_ms": ("{:,.1f}", "ms of CPU for that"),
    "floor_orchestrations_per_second": ("{:,.0f}", "orchestrations a second is the floor"),
    "floor_activities_per_second": ("{:,.0f}", "activities a second is the floor"),
    "floor_cpu_us_per_activity": ("{:,.1f}", "us of CPU for each activity there"),
    "floor_bytes_per_step": ("{:,.0f}", "bytes written for each activity there"),
    "floor_ratio": ("{:.2f}", "of the floor"),
    "p50": ("{:,.2f}", "ms until the end, median"),
    "p95": ("{:,.2f}", "ms, 95 of 100 are below"),
    "p99": ("{:,.2f}", "ms, 99 of 100 are below"),
    "elapsed_seconds": ("{:,.3f}", "s in all"),
    "cpu_seconds": ("{:,.3f}", "s of CPU"),
    "cpu_us_per_activity": ("{:,.1f}", "us of CPU for each activity"),
    "bytes_per_step": ("{:,.0f}", "bytes written for each activity"),
    "commits_per_step": ("{:,.4f}", "commits for each activity"),
    "commit_ms": ("{:,.3f}", "ms for a commit, median"),
    "disk_sync_ms": ("{:,.3f}", "ms until the disk has an appended record, median"),
    "commit_sync_ratio": ("{:,.2f}", "times that is what the commits of a step take"),
    "starts_per_second": ("{:,.0f}", "starts a second while the store was filled"),
    "fill_seconds": ("{:,.1f}", "s to fill the store"),
    "command_to_ready_seconds": ("{:,.3f}", "s from the command until the host was ready"),
    "ready_seconds": ("{:,.3f}", "s of that for the host itself"),
    "rss_before_host_mb": ("{:,.0f}", "MB of memory before the host was made"),
    "rss_mb": ("{:,.0f}", "MB of memory when it was ready"),
    "one_event_ms": ("{:,.1f}", "ms from one event to the end of its instance"),
    "all_events_seconds": ("{:,.2f}", "s until all others were sent theirs and had ended"),
    "peak_rss_mb": ("{:,.0f}", "MB of memory at most"),
}
_GIVEN = {
    "clients": "clients",
    "count": "orchestrations",
    "timers": "more with a timer",
    "width": "activities at once",
    "length": "activities in a row",
}
_NOT_KNOWN = "not known here"


def summary(figures: Figures) -> str:
    """A line for what was run, then one for each figure."""
    given = [f"{figures[name]:,} {words}" for name, words in _GIVEN.items() if name in figures]
    told = {**figures, **figures.get("latency_ms", {})}
    lines = [f"{figures['benchmark']}: {', '.join([*given, figures['store']])}"]
    for name, (form, words) in _WORDS.items():
        if name in told:
            value = told[name]
            lines.append(f"  {_NOT_KNOWN if value is None else form.format(value):>14} {words}")
    return "\n".join(lines)
