"""A file system layer under SQLite on which any write or fsync can be made to fail, and the power can be cut.

What a file has on disk for certain is what was written before its last fsync that succeeded. The kernel is modelled at
its worst: what it could not write it reports once, at the fsync that fails, and forgets; later ones succeed without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

Change = Callable[[bytearray], None]


class Disk(apsw.VFS):
    """Registered with SQLite under `name` until `unregister`.

    `fails` is asked for each operation, with its ordinal since `arm` and what it is ("write", "sync", "truncate" or
    "delete"). An operation that fails leaves the file as it is; a write may be `torn`: half of it is there.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.operations: list[str] = []
        self.opened: list[str] = []
        self._fails: Callable[[int, str], bool] = lambda ordinal, kind: False
        self._torn = False
        self._certain: dict[str, bytearray] = {}
        self._unsynced: dict[str, list[Change]] = {}
        super().__init__(name, "")

    def connect(self, filename: str, flags: int) -> apsw.Connection:
        return apsw.Connection(filename, flags, self.name)

    def arm(self, fails: Callable[[int, str], bool], *, torn: bool = False) -> None:
        self.operations.clear()
        self._fails = fails
        self._torn = torn

    def disarm(self) -> None:
        self._fails = lambda ordinal, kind: False

    def cut_power(self, source: Path, target: Path, *, unsynced_arrives: bool) -> None:
        """Put into the directory `target` what is found in `source` after the machine is switched on again."""
        target.mkdir()
        for name, certain in self._certain.items():
            if Path(name).parent == source:
                content = Path(name).read_bytes() if unsynced_arrives else bytes(certain)
                (target / Path(name).name).write_bytes(content)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        file = DiskFile(self, name, flags)
        self.opened.append(file.path)
        if flags[0] & (apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL):
            self._certain.setdefault(file.path, bytearray(Path(file.path).read_bytes()))
            self._unsynced.setdefault(file.path, [])
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.strike("delete")
        super().xDelete(filename, syncdir)
        self._certain.pop(filename, None)
        self._unsynced.pop(filename, None)

    def excepthook(self, *_: object) -> None:
        """A fault that SQLite passes over, as those of a checkpoint after a commit."""

    def strike(self, kind: str) -> None:
        self.operations.append(kind)
        if self._fails(len(self.operations), kind):
            raise apsw.IOError(f"planted: {kind} {len(self.operations)}")

    def torn(self) -> bool:
        return self._torn

    def changed(self, path: str, change: Change) -> None:
        if path in self._unsynced:
            self._unsynced[path].append(change)

    def synced(self, path: str) -> None:
        for change in self._unsynced.get(path, ()):
            change(self._certain[path])
        self.forget(path)

    def forget(self, path: str) -> None:
        if path in self._unsynced:
            self._unsynced[path] = []


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._disk.strike("write")
        except apsw.IOError:
            if self._disk.torn():
                self._write(data[: len(data) // 2], offset)
            raise
        self._write(data, offset)

    def _write(self, data: bytes, offset: int) -> None:
        def change(content: bytearray) -> None:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data

        super().xWrite(data, offset)
        self._disk.changed(self.path, change)

    def xTruncate(self, size: int) -> None:
        def change(content: bytearray) -> None:
            del content[size:]

        self._disk.strike("truncate")
        super().xTruncate(size)
        self._disk.changed(self.path, change)

    def xSync(self, flags: int) -> None:
        try:
            self._disk.strike("sync")
        except apsw.IOError:
            self._disk.forget(self.path)
            raise
        super().xSync(flags)
        self._disk.synced(self.path)

    def excepthook(self, *_: object) -> None:
        """See the disk's."""
