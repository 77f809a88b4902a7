"""What is used of the driver, `apsw`, with types that hold on every Python version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Union

import apsw

_PREPARED = 300  # bulk.py has up to twenty statements for each of a handful

Value = Union[int, str, bytes, None]
Row = tuple[Any, ...]


class Cursor(Protocol):
    @property
    def get(self) -> Any:
        """All that is left: the value of a single column of a single row, None if there is no row."""
        ...

    def fetchone(self) -> Row | None: ...

    def fetchall(self) -> list[Row]: ...

    def __iter__(self) -> Iterator[Row]: ...


class Backup(Protocol):
    def step(self) -> bool:
        """All pages that are left."""
        ...

    def finish(self) -> None: ...


class Connection(Protocol):
    """`apsw.Connection`. Statements are prepared once and kept in its cache."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, statements: str, bindings: Sequence[Value] | None = None, /) -> Cursor: ...

    def executemany(self, statements: str, rows: Iterable[Sequence[Value]], /) -> Cursor: ...

    def total_changes(self) -> int:
        """Rows inserted, updated and deleted since the connection was opened."""
        ...

    def pragma(self, name: str, value: int | str | bool | None = None, /) -> Any: ...

    def set_busy_timeout(self, milliseconds: int, /) -> None: ...

    def wal_checkpoint(self, dbname: str | None, mode: int, /) -> tuple[int, int]: ...

    def backup(self, name: str, source: Any, source_name: str, /) -> Backup: ...

    def close(self, force: bool = False, /) -> None: ...


Connect = Callable[[str, int], Connection]
"""Opens a URI file name with SQLite's open flags. Tests put another file system layer (`vfs`) under it."""


def connect(filename: str, flags: int) -> Connection:
    return apsw.Connection(filename, flags, statementcachesize=_PREPARED)
