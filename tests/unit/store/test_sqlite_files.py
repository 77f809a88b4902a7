"""The files of a store: whose they are, where they may be, and what happens when they are not there."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from faulty_disk import Disk
from msgspec.structs import replace
from store_rows import Lane, history, instance, payload

from perdure.core.errors import LaneLost, RefusedData, StoreUnavailable
from perdure.core.protocols import InstanceQuery
from perdure.store.api import Commit
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.mounts import file_system_of, read_mounts

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")

MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:50 / /mnt/share rw,relatime shared:9 master:2 - nfs4 server:/export rw,vers=4.2
31 30 0:51 / /mnt/share/local rw - ext4 /dev/vdb rw
32 21 0:52 / /mnt/with\\040blank rw - cifs //server/share rw
33 21 0:53 / /home rw - ext4 /dev/vdc rw
34 21 0:54 / /home rw - fuse.sshfs host: rw
35 21 0:55 / /srv - 9p share rw
36 21 0:56 / /mnt/back\\134slash rw - smb3 //server/share rw
"""


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@posix
def test_a_store_is_for_its_owner_alone(path: Path, umask: None) -> None:
    path = path.parent / "deeper" / "hub.db"
    store = SqliteStore(path, "hub")
    Lane(store).commit(created=[instance(1 << 40)])
    store.instance(1)
    store.poll()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["hub.db", "hub.db-wal", "hub.db-shm", "hub.db.lock"], 0o600)
    for directory in (path.parent, path.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    store.close()


@posix
def test_a_directory_that_exists_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o750)
    SqliteStore(path, "hub").close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_store_is_found_again_through_a_link(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path, "hub")
    Lane(store).commit(created=[instance(1 << 40)])
    link = tmp_path / "link"
    link.symlink_to(path.parent, target_is_directory=True)
    other = SqliteStore(link / "hub.db", "hub")
    assert other.instance(1 << 40) is not None
    other.close()
    store.close()
    assert {file.name for file in path.parent.iterdir()} == {"hub.db", "hub.db.lock"}


@pytest.mark.parametrize("name", ["a b.db", "a%20b.db", "a?b#c&d=e.db", "ä€😀.db", "'\";.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = SqliteStore(tmp_path / name, "hub")
    Lane(store).commit(created=[instance(1 << 40)])
    store.close()
    assert (tmp_path / name).stat().st_size > 0
    assert {file.name for file in tmp_path.iterdir()} == {name, name + ".lock"}


def test_the_log_is_kept_small(path: Path) -> None:
    store = SqliteStore(path, "hub")
    lane = Lane(store)
    for n in range(60):
        lane.commit(history=[history(lane.first, n, bytes(1_000_000))])
    assert path.with_name("hub.db-wal").stat().st_size < 10_000_000
    store.close()


def test_the_log_is_kept_small_while_payloads_are_written(path: Path) -> None:
    store = SqliteStore(path, "hub")
    lane = Lane(store)
    for n in range(20):
        lane.write_payloads(payload(lane.first + n, lane.first, body=bytes(1_000_000)))
    assert path.with_name("hub.db-wal").stat().st_size < 10_000_000
    store.close()


def test_what_a_burst_leaves_of_the_log_is_cut_back(path: Path) -> None:
    store = SqliteStore(path, "hub")
    lane = Lane(store)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN; SELECT * FROM hub").fetchall()
    log = path.with_name("hub.db-wal")
    while log.stat().st_size < 20_000_000:
        lane.commit(history=[history(lane.first, lane.number, bytes(1_000_000))])
    reader.execute("ROLLBACK")
    reader.close()
    # The first checkpoints the whole log, the second begins it anew.
    for _ in range(2):
        lane.commit(history=[history(lane.first, lane.number)])
    assert log.stat().st_size < 17_000_000
    store.close()


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/var/lib/perdure", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/deep/er", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/share/local/app", "ext4"),
        ("/mnt/with blank/x", "cifs"),
        ("/mnt/back\\slash", "smb3"),
        ("/home/user/app", "fuse.sshfs"),
        ("/srv/app", "9p"),
    ],
)
def test_the_deepest_and_latest_mount_counts(directory: str, kind: str) -> None:
    assert file_system_of(Path(directory), MOUNTS) == kind


def test_nothing_is_known_without_a_table_of_mounts() -> None:
    assert file_system_of(Path("/home"), "") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's table is Linux'")
def test_the_kernel_says_where_a_directory_is(tmp_path: Path) -> None:
    assert file_system_of(tmp_path.resolve(), read_mounts())


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused(path: Path, kind: str) -> None:
    mounts = f"1 0 0:1 / {path.parent.parent} rw - {kind} server:/export rw\n"
    with pytest.raises(StoreUnavailable, match=rf"network file system \({kind}\)"):
        SqliteStore(path, "hub", mounts=lambda: mounts)
    assert not path.parent.exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"file/hub\.db"):
        SqliteStore(tmp_path / "file" / "hub.db", "hub")


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="CantOpen"):
        SqliteStore(tmp_path, "hub")


def test_a_file_that_has_gone_is_not_made_anew(path: Path) -> None:
    store = SqliteStore(path, "hub")
    path.unlink()
    with pytest.raises(StoreUnavailable):
        store.instance(1)
    with pytest.raises(StoreUnavailable):
        store.register_host(1, 2)
    assert not path.exists()
    store.close()


def test_a_write_lock_that_is_not_given_up_is_a_fault_that_passes(path: Path) -> None:
    store = SqliteStore(path, "hub", busy_timeout_ms=1)
    lane = Lane(store)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="Busy"):
        lane.commit()
    with pytest.raises(StoreUnavailable, match="Busy"):
        store.end_host(lane.host.id)
    other.execute("ROLLBACK")
    assert store.end_host(lane.host.id) == 0
    other.close()
    store.close()


def test_a_backup_that_is_being_made_does_not_keep_a_host_from_starting(path: Path) -> None:
    store = SqliteStore(path, "hub", busy_timeout_ms=1)
    assert store.submit_start(instance(0, "a"), b"{}") is None
    backup = apsw.Connection(str(path))
    backup.execute("BEGIN; SELECT * FROM hub").fetchall()
    Lane(store).commit(created=[instance(1 << 40)])
    backup.execute("ROLLBACK")
    backup.close()
    store.close()


def test_a_store_restored_from_an_older_copy_refuses_the_lane_that_went_on(path: Path) -> None:
    SqliteStore(path, "hub").close()
    copy = path.read_bytes()
    store = SqliteStore(path, "hub")
    lane = Lane(store)
    lane.commit(created=[instance(lane.first)])
    store.close()
    path.write_bytes(copy)
    store = SqliteStore(path, "hub")
    with pytest.raises(LaneLost):
        store.commit(lane.next())
    assert store.end_host(lane.host.id) == 0
    assert Lane(store).host.ordinal == lane.host.ordinal
    store.close()


def test_refused_data_keeps_the_drivers_words(path: Path) -> None:
    store = SqliteStore(path, "hub")
    lane = Lane(store)
    with pytest.raises(RefusedData, match="surrogates not allowed") as caught:
        lane.commit(created=[instance(lane.first, "\ud800")])
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)
    store.close()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL", "OFF"])
def test_synchronous_is_what_was_asked_for(path: Path, synchronous: str) -> None:
    made: list[apsw.Connection] = []

    def connect(filename: str, flags: int) -> apsw.Connection:
        made.append(apsw.Connection(filename, flags))
        return made[-1]

    store = SqliteStore(path, "hub", synchronous=synchronous, connect=connect)
    Lane(store).commit()
    store.instance(1)
    store.poll()
    expected = {"OFF": 0, "NORMAL": 1, "FULL": 2}[synchronous]
    # The first one made the file and is closed.
    assert [connection.pragma("synchronous") for connection in made[1:]] == [expected] * 3
    assert all(connection.pragma("journal_mode") == "wal" for connection in made[1:])
    assert all(connection.pragma("fullfsync") == 1 for connection in made[1:])
    store.close()


def test_a_large_commit_writes_to_the_files_of_the_store_alone(path: Path) -> None:
    """SQLite's files for what it may have to take back would be in the directory for such files."""
    disk = Disk("disk of a large commit")
    store = SqliteStore(path, "hub", connect=disk.connect)
    lane = Lane(store)
    keys = range(lane.first, lane.first + 2000)
    lane.commit(created=[instance(key, f"{key * 7919 % 2000:05}", input="x" * 300) for key in keys])
    rows = [replace(row, output="y" * 300) for row in store.query(InstanceQuery(limit=2000))]
    lane.commit(advanced=rows[::2], updated=rows[1::2], history=[history(key) for key in keys])
    lane.commit(created=[instance(key + 5000, f"{key * 7919 % 2000:05}+") for key in keys])
    lane.commit(purged=list(keys))
    assert {Path(name).parent for name in disk.opened} == {path.parent}
    store.close()
    disk.unregister()


# --- files that are taken away ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hub.db", "hub.db.lock"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_host_whose_files_are_taken_away_acknowledges_nothing(tmp_path: Path, name: str, replaced: bool) -> None:
    store = SqliteStore(tmp_path / "hub.db", "hub")
    host = store.register_host(1, 2)
    store.commit(Commit(host=host.id, number=1, now=1))
    (tmp_path / name).unlink()
    if replaced:
        (tmp_path / name).touch()
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.commit(Commit(host=host.id, number=2, now=1))
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.write_payloads(host.id, [payload(1, 1)])
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.poll()
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.end_host(host.id)
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.register_host(1, 2)
    store.close()
