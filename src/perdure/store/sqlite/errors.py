"""What SQLite, its driver and the system below it raise, in the words of `core.errors`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import apsw

from perdure.core.errors import PerdureError, RefusedData, StoreError, StoreFormat, StoreUnavailable

_ENVIRONMENT = (apsw.Error, OSError, MemoryError)
_DATA = (apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError, UnicodeEncodeError, OverflowError)


@contextmanager
def translated(path: Path) -> Generator[None]:
    """What is raised inside comes out as `raise_translated` has it."""
    try:
        yield
    except BaseException as error:
        raise_translated(error, path)


def raise_translated(error: BaseException, path: Path) -> NoReturn:
    """Raise one of ours that names the file, its `__cause__` the driver's; a mistake in our own code as it is."""
    named = _translate(error, path)
    if named is None:
        raise error
    raise named from error


def _translate(error: BaseException, path: Path) -> StoreError | None:
    """Values that cannot be bound never reach SQLite: the driver says UnicodeEncodeError of lone surrogates and
    OverflowError of integers beyond 64 bits."""
    if isinstance(error, PerdureError):
        return None
    if isinstance(error, apsw.NotADBError):
        return StoreFormat(f"{path} is not a SQLite database, so it is not a store of Perdure.")
    if isinstance(error, _DATA):
        return RefusedData(f"{path} cannot hold a value: {error}")
    if isinstance(error, _ENVIRONMENT):
        return StoreUnavailable(f"{path}: {type(error).__name__}: {error}")
    return None


def is_clean(error: BaseException) -> bool:
    """Whether a connection on which `error` was raised is as good as before, once its transaction is rolled back."""
    if isinstance(error, apsw.Error):
        return isinstance(error, (*_DATA, apsw.BusyError))
    return isinstance(error, (StoreError, *_DATA))
