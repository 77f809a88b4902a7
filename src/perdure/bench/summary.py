"""Figures in words, for a terminal."""

from __future__ import annotations

from typing import Any

from perdure.bench.measure import Figures

_WORDS = {
    "orchestrations_per_second": ("{:,.0f}", "orchestrations a second"),
    "activities_per_second": ("{:,.0f}", "activities a second"),
    "floor_ratio": ("{:.2f}", "times the speed without an engine"),
    "events_per_second": ("{:,.0f}", "history events a second"),
    "replay_ms": ("{:,.1f}", "ms from the event to the end, with the history replayed, median"),
    "replay_cpu_ms": ("{:,.1f}", "ms of CPU for that"),
    "p50": ("{:,.2f}", "ms until the end, median"),
    "p95": ("{:,.2f}", "ms, 95 of 100 are below"),
    "p99": ("{:,.2f}", "ms, 99 of 100 are below"),
    "elapsed_seconds": ("{:,.3f}", "s in all"),
    "cpu_seconds": ("{:,.3f}", "s of CPU"),
    "cpu_us_per_activity": ("{:,.1f}", "us of CPU for each activity"),
    "bytes_per_step": ("{:,.0f}", "bytes written for each activity"),
    "commits_per_step": ("{:,.2f}", "activities a commit"),
    "commit_ms": ("{:,.3f}", "ms for a commit, median"),
    "disk_sync_ms": ("{:,.3f}", "ms for an fsync of 4 KiB beside the store, median"),
    "commit_sync_ratio": ("{:,.2f}", "such fsyncs take as long as the commits of one activity"),
    "starts_per_second": ("{:,.0f}", "starts a second while the store was filled"),
    "fill_seconds": ("{:,.1f}", "s to fill the store"),
    "command_to_ready_seconds": ("{:,.3f}", "s from the command until the host was ready"),
    "ready_seconds": ("{:,.3f}", "s of that for the host itself"),
    "rss_before_host_mb": ("{:,.0f}", "MB of memory before the host was made"),
    "rss_mb": ("{:,.0f}", "MB of memory when it was ready"),
    "one_event_ms": ("{:,.1f}", "ms from one event to the end of its instance"),
    "all_events_seconds": ("{:,.2f}", "s until all others were sent theirs and had ended"),
    "all_events_cpu_seconds": ("{:,.2f}", "s of CPU of the host and its client for that"),
    "peak_rss_mb": ("{:,.0f}", "MB of memory at most"),
}
_GIVEN = {
    "clients": "clients",
    "count": "orchestrations",
    "timers": "more with a timer",
    "width": "activities at once",
    "length": "activities in a row",
    "history_events": "events in each history",
    "runs": "runs",
}
_FLOOR = "floor_"
_COLUMNS = ("Perdure", "without an engine")
_WIDTH = 14
_NOT_KNOWN = "not known here"


def summary(figures: Figures) -> str:
    """A line for what was run, then one for each figure, with that of the floor beside it, if it was measured."""
    given = [f"{figures[name]:,} {words}" for name, words in _GIVEN.items() if name in figures]
    told = {**figures, **figures.get("latency_ms", {})}
    has_floor = any(_FLOOR + name in told for name in _WORDS)
    lines = [f"{figures['benchmark']}: {', '.join([*given, figures['store']])}"]
    if has_floor:
        own, floor = _COLUMNS
        lines.append(f"  {own:>{_WIDTH}}  {floor}")
    for name in _WORDS:
        if name in told:
            beside = f"  {_number(name, told, _FLOOR):>{len(_COLUMNS[1])}} " if has_floor else ""
            lines.append(f"  {_number(name, told):>{_WIDTH}}{beside} {_WORDS[name][1]}")
    if "floor_warning" in figures:
        lines.append(f"  warning: {figures['floor_warning']}")
    return "\n".join(lines)


def _number(name: str, told: dict[str, Any], prefix: str = "") -> str:
    """As the words for it say; empty if it was not measured."""
    if prefix + name not in told:
        return ""
    value = told[prefix + name]
    if name == "commits_per_step" and value is not None:
        value = 1 / value if value else None
    return _NOT_KNOWN if value is None else _WORDS[name][0].format(value)
