"""Every store takes part in the suite by one parameter of `database`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_handles import Database, MemoryHandles, SqliteHandles
from store_rows import Lane

from perdure.store.api import Store


@pytest.fixture(params=["memory", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    handles = MemoryHandles() if request.param == "memory" else SqliteHandles(tmp_path / "store" / "hub.db")
    yield handles
    handles.close()


@pytest.fixture
def store(database: Database) -> Store:
    return database.open()


@pytest.fixture
def lane(store: Store) -> Lane:
    return Lane(store)
