"""The lock that makes one process the host of a file.

The operating system gives it up when the process ends, however it ends. It is on a file of its own: POSIX drops the
locks of a process on a file as soon as any part of that process closes it, so the database itself is opened by nobody
but SQLite. What is written in the lock file is for people, and counts only while the lock is held.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
from msgspec import Struct

from perdure.core.errors import StoreHeld

if sys.platform == "win32":
    import msvcrt

    # A locked byte cannot be read by others on Windows, so it lies behind everything that is written.
    _LOCKED_BYTE = 1 << 20

    def _try_lock(file: int) -> bool:
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Holder(Struct, frozen=True):
    """What the lock file says: a process id, a machine's name, a time in ISO 8601."""

    pid: int
    host: str
    since: str | None = None


class HostLock:
    """Of one handle: a second handle of the same process is refused like one of another process.

    It is this process's alone: one that is forked off does not share it, or it would keep the lock after our end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._identity: os.stat_result | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def create_file(self) -> None:
        """Readable and writable for its owner alone, unless it exists."""
        os.close(self._open())

    def acquire(self, since: int | None) -> None:
        """Take the lock, at once or not at all, and write down `since` when, in microseconds, if that is known.

        Raises StoreHeld; OSError if the system has no such locks.
        """
        assert self._file is None
        file = self._open()
        try:
            if not _try_lock(file):
                raise StoreHeld(self._refusal(file))
            holder = Holder(os.getpid(), platform.node(), None if since is None else _iso(since))
            os.lseek(file, 0, os.SEEK_SET)
            os.ftruncate(file, 0)
            os.write(file, msgspec.json.encode(holder))
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self._identity = os.fstat(file)
        _held.add(self)

    @property
    def intact(self) -> bool:
        """The file that is locked is still the one that others would try to lock."""
        if self._identity is None:
            return False
        try:
            return os.path.samestat(self._identity, os.stat(self.path))
        except OSError:
            return False

    def release(self) -> None:
        """May be repeated."""
        file = self._let_go()
        if file is not None:
            os.ftruncate(file, 0)
            os.close(file)

    def leave_to_parent(self) -> None:
        """In a process that was forked off: the lock stays with the one that has it."""
        file = self._let_go()
        if file is not None:
            os.close(file)

    def _let_go(self) -> int | None:
        file, self._file = self._file, None
        self._identity = None
        _held.discard(self)
        return file

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)

    def _refusal(self, file: int) -> str:
        store = self.path.with_suffix("")
        os.lseek(file, 0, os.SEEK_SET)
        try:
            holder = msgspec.json.decode(os.read(file, 4096), type=Holder)
        except msgspec.MsgspecError:
            # The holder has the lock and has not written yet, or is on its way out.
            return f"Another process, which has not said yet who it is, serves {store}."
        since = "" if holder.since is None else f" since {holder.since}"
        return f"Process {holder.pid} on {holder.host} serves {store}{since}."


_held: set[HostLock] = set()


def _after_fork() -> None:
    for lock in list(_held):
        lock.leave_to_parent()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=microseconds)).isoformat(" ", "seconds")
