"""What several handles can be opened on, one after another or at once: a database of each store."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import apsw

from perdure.store.api import Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.store.sqlite import SqliteStore, Synchronous

LARGEST_VALUE = 24_000_000
"""Bytes. So that a value can be too large in a test, the limit is set lower than the stores have it."""


class Database(Protocol):
    def open(self, hub: str = "hub") -> Store: ...

    def close(self) -> None: ...


class MemoryHandles:
    def __init__(self) -> None:
        self._database = MemoryDatabase(largest_value=LARGEST_VALUE)

    def open(self, hub: str = "hub") -> Store:
        return MemoryStore(self._database, hub)

    def close(self) -> None:
        pass


class SqliteHandles:
    def __init__(self, path: Path, synchronous: Synchronous = "FULL") -> None:
        self._path = path
        self._synchronous = synchronous
        self._stores: list[SqliteStore] = []

    def open(self, hub: str = "hub") -> Store:
        store = SqliteStore(self._path, hub, synchronous=self._synchronous, connect=connect_with_low_limit)
        self._stores.append(store)
        return store

    def close(self) -> None:
        for store in self._stores:
            store.close()


def connect_with_low_limit(filename: str, flags: int) -> apsw.Connection:
    connection = apsw.Connection(filename, flags)
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    return connection
