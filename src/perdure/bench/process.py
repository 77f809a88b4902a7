"""What the operating system knows of this process. None where it does not tell."""

from __future__ import annotations

import sys
from pathlib import Path

_KIB = 1024
_MB = 1_000_000


def bytes_written() -> int | None:
    """Bytes this process has given the system in writes, to files and, next to nothing, to pipes and sockets.

    Linux counts them when `write` is called: what SQLite writes to its log, and writes again from there to the
    database, is all in it. Its other number, of bytes sent to the disk, counts whole pages, and when they go.
    """
    return _number("/proc/self/io", "wchar:")


def rss_mb() -> float | None:
    """Memory that this process has at this moment."""
    kib = _number("/proc/self/status", "VmRSS:")
    return None if kib is None else kib * _KIB / _MB


def peak_rss_mb() -> float | None:
    """The most memory that this process has had."""
    # getrusage, on Linux, begins with what the process had that started this one.
    kib = _number("/proc/self/status", "VmHWM:")
    if kib is not None:
        return kib * _KIB / _MB
    if sys.platform != "win32":
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / _MB if sys.platform == "darwin" else most * _KIB / _MB
    return None


def _number(file: str, label: str) -> int | None:
    try:
        text = Path(file).read_text("ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(label):
            return int(line.split()[1])
    return None
