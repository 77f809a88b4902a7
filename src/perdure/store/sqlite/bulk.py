"""Statements over many rows at once.

The driver gives the interpreter's lock away for every step that SQLite makes, and has to win it back from the thread
that computes turns. Row by row, that makes a commit of 500 turns many times slower than SQLite is. So the rows become
parameters of one VALUES list, and SQLite makes one step for all of them.

Statements are prepared once for each number of rows. To keep those few, the number is rounded up to a power of two and
the rest filled with rows of NULLs, which each statement passes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from perdure.store.sqlite.driver import Connection, Value
from perdure.store.sqlite.statements import STATEMENTS

_LONGEST_CACHED_TEXT = 16_384  # characters; the driver prepares longer statements anew each time
_ROWS = "<rows>"


class Bulk:
    """The statement `name`, whose text has the place `<rows>` for rows of `width` values."""

    def __init__(self, name: str, width: int) -> None:
        self._head, self._tail = STATEMENTS[name].split(_ROWS)
        self._row = f"({','.join('?' * width)})"
        self._nulls: tuple[Value, ...] = (None,) * width
        self._texts: dict[int, str] = {}
        most = (_LONGEST_CACHED_TEXT - len(self._head) - len(self._tail)) // (len(self._row) + 1)
        self._most = 1 << (most.bit_length() - 1)

    def run(self, connection: Connection, rows: Sequence[Sequence[Value]], *first: Value) -> int:
        """How many rows of the table it changed. `first` are the parameters that stand before the rows."""
        before = connection.total_changes()
        for start in range(0, len(rows), self._most):
            part = rows[start : start + self._most]
            size = 1 << (len(part) - 1).bit_length()
            connection.execute(
                self._text(size), (*first, *chain.from_iterable(part), *self._nulls * (size - len(part)))
            )
        return connection.total_changes() - before

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            text = self._texts[size] = self._head + ",".join([self._row] * size) + self._tail
        return text
