"""A record, kept outside Perdure, of every time that the work on a file was begun and ended.

Each entry is one line, appended by one write, so that a kill leaves whole lines: `started`, `finished` or `failed`,
the attempt (the first is 1), the process id, the path; separated by tabs. What was started and neither finished nor
failed was in flight when its process died.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    what: str
    attempt: int
    pid: int
    path: str


def read(file: Path) -> list[Entry]:
    """All entries in order; none if there is no file."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    entries: list[Entry] = []
    for line in text.split("\n")[:-1]:
        what, attempt, pid, path = line.split("\t", 3)
        entries.append(Entry(what, int(attempt), int(pid), path))
    return entries


class Ledger:
    """Appends entries, and knows from those of earlier processes how often each file was begun. For many threads."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._starts = Counter(entry.path for entry in read(file) if entry.what == "started")
        self._lock = threading.Lock()
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def started(self, path: str) -> int:
        """Note that work on a file begins; returns which attempt it is."""
        with self._lock:
            self._starts[path] += 1
            attempt = self._starts[path]
        self._append("started", attempt, path)
        return attempt

    def finished(self, path: str, attempt: int) -> None:
        self._append("finished", attempt, path)

    def failed(self, path: str, attempt: int) -> None:
        self._append("failed", attempt, path)

    def _append(self, what: str, attempt: int, path: str) -> None:
        os.write(self._file, f"{what}\t{attempt}\t{os.getpid()}\t{path}\n".encode())
