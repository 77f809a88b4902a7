"""Statements over many rows at once.

The driver gives the interpreter's lock away for every step that SQLite makes, and has to win it back from the thread
that computes turns. Row by row, that makes a commit of 500 turns many times slower than SQLite is. So the rows become
parameters of one VALUES list, and SQLite makes one step for all of them.

Statements are prepared once for each number of rows. To keep those few, the number is rounded up to the next of 1, 2,
3, 4, 6, 8, 12, 16, 24, … and the rest filled with rows of NULLs, which each statement passes over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Generic, TypeVar

from perdure.store.sqlite.driver import Connection, Value
from perdure.store.sqlite.statements import STATEMENTS

R = TypeVar("R")

_LONGEST_CACHED_TEXT = 16_384  # characters; the driver prepares longer statements anew each time
_ROWS = "<rows>"


class Bulk(Generic[R]):
    """The statement `name`, whose text has the place `<rows>` for rows of `width` values, made from one R each."""

    def __init__(self, name: str, width: int, values: Callable[[R], Sequence[Value]]) -> None:
        self._head, self._tail = STATEMENTS[name].split(_ROWS)
        self._row = f"({','.join('?' * width)})"
        self._width = width
        self._values = values
        self._texts: dict[int, str] = {}
        room = _LONGEST_CACHED_TEXT - len(self._head) - len(self._tail)
        self._most = _rounded_down(room // (len(self._row) + 1))

    def run(
        self, connection: Connection, rows: Sequence[R], *, before: Sequence[Value] = (), after: Sequence[Value] = ()
    ) -> int:
        """How many rows of the table it changed. `before` and `after` are the parameters on both sides of the rows."""
        changes = connection.total_changes()
        for start in range(0, len(rows), self._most):
            part = rows[start : start + self._most]
            size = _rounded_up(len(part))
            bindings: list[Value] = [*before]
            bindings.extend(chain.from_iterable(map(self._values, part)))
            bindings.extend((None,) * (self._width * (size - len(part))))
            bindings.extend(after)
            connection.execute(self._text(size), bindings)
        return connection.total_changes() - changes

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            text = self._texts[size] = self._head + ",".join([self._row] * size) + self._tail
        return text


def _rounded_up(count: int) -> int:
    """The least power of two, or three times one, that is not below `count`."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power


def _rounded_down(count: int) -> int:
    power = 1 << (count.bit_length() - 1)
    return power * 3 // 2 if power >= 2 and count >= power * 3 // 2 else power
