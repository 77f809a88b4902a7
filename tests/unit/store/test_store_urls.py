"""Store URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.core.errors import InvalidRequest
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SqliteStore
from perdure.store.urls import open_store, sqlite_path


def test_memory_is_a_store_of_its_own_each_time(tmp_path: Path) -> None:
    a, b = (open_store("memory://", hub="hub", base_dir=tmp_path) for _ in range(2))
    assert isinstance(a, MemoryStore)
    assert a.register_host(1, 2).ordinal == b.register_host(1, 2).ordinal == 1


def test_a_relative_file_is_below_the_base_directory(tmp_path: Path) -> None:
    store = open_store("sqlite:///state/hub.db", hub="hub", base_dir=tmp_path, synchronous="NORMAL")
    assert isinstance(store, SqliteStore)
    assert (tmp_path / "state" / "hub.db").exists()
    store.close()


def test_an_absolute_file_is_where_it_says(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/hub.db", hub="hub", base_dir=Path("/nowhere"))
    assert (tmp_path / "hub.db").exists()
    store.close()


def test_names_are_taken_as_they_are() -> None:
    assert sqlite_path("sqlite:///a%20b c#d.db", Path("/app")) == Path("/app/a%20b c#d.db")
    assert sqlite_path("sqlite:////var/x.db", Path("/app")) == Path("/var/x.db")
    assert sqlite_path("sqlite:///../x.db", Path("/app")) == Path("/app/../x.db")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hub.db",
        "sqlite",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///dir/",
        "sqlite://host/x.db",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "sqlite:///a\0b",
        "memory:",
        "memory://name",
        "postgresql://localhost/db",
        "SQLITE:///x.db",
    ],
)
def test_other_urls_are_refused_with_what_would_do(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="memory://"):
        open_store(url, hub="hub", base_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_a_url_that_is_not_ours_only_the_scheme_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="begins with 'postgres:'") as caught:
        open_store("postgres://owner:secret@host/db", hub="hub", base_dir=tmp_path)
    assert "secret" not in str(caught.value)
