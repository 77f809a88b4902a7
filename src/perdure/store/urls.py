"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path

from perdure.core.errors import InvalidRequest
from perdure.store.api import Store
from perdure.store.memory import MemoryDatabase, MemoryStore
from perdure.store.sqlite import SqliteStore, Synchronous

_SQLITE = "sqlite:///"
_FORMS = "memory://, sqlite:///relative.db or sqlite:////absolute.db"


def open_store(url: str, *, hub: str, base_dir: Path, synchronous: Synchronous = "FULL") -> Store:
    """Open the task hub `hub` of the store at `url`; relative files are below `base_dir`.

    Every `memory://` is a store of its own, which ends with the process. `synchronous` is SQLite's, see
    docs/stores.md. Raises InvalidRequest if the URL is none of ours, and what opening the store raises.
    """
    if url == "memory://":
        return MemoryStore(MemoryDatabase(), hub)
    return SqliteStore(sqlite_path(url, base_dir), hub, synchronous=synchronous)


def sqlite_path(url: str, base_dir: Path) -> Path:
    """The file that a `sqlite:` URL names. Raises InvalidRequest."""
    if not url.startswith(_SQLITE):
        # Of a URL that is not ours no more is told than how it begins: there may be a password in it.
        scheme, colon, _ = url.partition(":")
        raise InvalidRequest(f"A store URL is of the form {_FORMS}; this one begins with {scheme + colon!r}.")
    name = url.removeprefix(_SQLITE)
    if name == ":memory:":
        raise InvalidRequest(f"The store URL {url!r} names no file; a store in memory is memory://")
    if not name or name.endswith("/") or "?" in name or "\0" in name:
        raise InvalidRequest(f"The store URL {url!r} does not name a file; it must be {_FORMS}, without parameters.")
    return base_dir / name
