"""Where a benchmark keeps its task hub: a fresh store, and beside it one of the same kind for the floor."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from perdure.core.errors import InvalidRequest
from perdure.store.urls import sqlite_path

_SQLITE = "sqlite:///"
_MEMORY = "memory://"
_SYNCS = 200
_RECORD = bytes(4096)


class BenchStore(Struct, frozen=True):
    url: str
    file: Path | None
    """None for a store in memory."""

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0]

    def beside(self, name: str) -> BenchStore:
        """A store of the same kind and on the same disk."""
        return self if self.file is None else sqlite_store(self.file.with_name(f"{self.file.name}.{name}"))

    def remove(self) -> None:
        if self.file is not None:
            for suffix in ("", "-wal", "-shm", ".lock"):
                self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)


def sqlite_store(file: Path) -> BenchStore:
    return BenchStore(_SQLITE + file.as_posix(), file)


def named_store(url: str) -> BenchStore:
    """The store at `url`, a file being below the current folder, which loading an app changes.

    Raises InvalidRequest if it is none.
    """
    if url == _MEMORY:
        return BenchStore(url, None)
    if url.startswith(_SQLITE):
        return sqlite_store(sqlite_path(url, Path.cwd()))
    # Of another URL nothing is told: there may be a password in it.
    hint = "" if ":" in url else f" The file {url} is {_SQLITE}{url}"
    raise InvalidRequest(f"--store takes {_MEMORY}, {_SQLITE}relative.db or {_SQLITE}/absolute.db.{hint}")


@contextmanager
def fresh_store(url: str | None) -> Generator[BenchStore]:
    """The store at `url`, which stays; None is an SQLite file below the current folder, removed at the end.

    Raises InvalidRequest if `url` names no store, or a file that exists.
    """
    if url is None:
        folder = Path(tempfile.mkdtemp(prefix=".perdure-bench-", dir=Path.cwd()))
        try:
            yield sqlite_store(folder / "hub.db")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    store = named_store(url)
    if store.file is not None and store.file.exists():
        raise InvalidRequest(f"The store {url} exists; a benchmark needs a fresh one.")
    yield store


def disk_sync_ms(store: BenchStore) -> float | None:
    """The median time in which a record of 4 KiB is appended to a file beside the store and is on the disk."""
    if store.file is None:
        return None
    seconds: list[float] = []
    with tempfile.TemporaryFile(dir=store.file.parent, buffering=0) as file:
        for _ in range(_SYNCS):
            begun = time.perf_counter()
            file.write(_RECORD)
            _sync(file.fileno())
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000


def _sync(file: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(file, fcntl.F_FULLFSYNC)  # fsync alone leaves the data in the drive's cache
    else:
        os.fsync(file)
