"""The embedded store: one SQLite file for all that a task hub keeps."""

from perdure.store.sqlite.connections import Synchronous
from perdure.store.sqlite.driver import Connect
from perdure.store.sqlite.store import SqliteStore

__all__ = ["Connect", "SqliteStore", "Synchronous"]
