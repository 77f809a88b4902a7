"""Whatever write or fsync fails, a commit is on disk whole or not at all, and the store says which."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest
from faulty_disk import Disk
from store_rows import NOW, Lane, history, instance, message, payload, snapshot, timer

from perdure.core.errors import StoreUnavailable
from perdure.store.sqlite import SqliteStore


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    disk = Disk(f"disk of {request.node.name}")
    yield disk
    disk.unregister()


class World:
    """A store on a faulty disk, with a lane that has made one commit, and what the next one would change."""

    def __init__(self, disk: Disk, directory: Path, body: bytes) -> None:
        self.disk = disk
        self.directory = directory
        self.store = SqliteStore(directory / "hub.db", "hub", connect=disk.connect)
        self.lane = Lane(self.store)
        first = self.lane.first
        self.executions = [first + 1, first + 2]
        self.lane.commit(
            created=[instance(first + 1)], history=[history(first + 1)], inbox_new=[message(first + 8, first + 1)]
        )
        self.second: dict[str, Any] = {
            "created": [instance(first + 2, ready=True)],
            "updated": [instance(first + 1, status="Completed", output="done")],
            "history": [history(first + 1, 1, body), history(first + 2, 0, body)],
            "inbox_done": [first + 8],
            "inbox_new": [message(first + 9, first + 2)],
            "timers_new": [timer(NOW, first + 2)],
        }
        self.states = {1: self.state(self.store)}

    def state(self, store: SqliteStore) -> dict[str, Any]:
        return snapshot(store, self.executions)

    def note_second(self, other: World) -> None:
        """Learn from a world without faults what the store shows after the second commit."""
        other.lane.commit(**other.second)
        self.states[2] = other.state(other.store)
        other.store.close()

    def after_a_power_cut(self, name: str, *, unsynced_arrives: bool) -> tuple[int, dict[str, Any]]:
        directory = self.directory.parent / f"{self.directory.name} {name}"
        self.disk.cut_power(self.directory, directory, unsynced_arrives=unsynced_arrives)
        store = SqliteStore(directory / "hub.db", "hub")
        found = store.end_host(self.lane.host.id), self.state(store)
        store.close()
        return found

    def check(self, landed: int) -> None:
        """The store shows what it says has landed, now and after a power cut, and can be gone on with."""
        assert self.state(self.store) == self.states[landed]
        for unsynced_arrives in (False, True):
            found = self.after_a_power_cut(f"{unsynced_arrives}", unsynced_arrives=unsynced_arrives)
            assert found == (landed, self.states[landed])
        if self.store.end_host(self.lane.host.id) == 1:
            successor = Lane(self.store)
            successor.commit(**self.second)
            assert self.state(self.store) == self.states[2]
        self.store.close()


Make = Callable[[], World]


@pytest.fixture
def make(disk: Disk, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    body: bytes = getattr(request, "param", b"[]")
    numbers = count()

    def make() -> World:
        world = World(disk, tmp_path / f"{next(numbers)}", body)
        world.note_second(World(disk, tmp_path / f"{next(numbers)}", body))
        return world

    return make


@pytest.mark.parametrize("torn", [False, True])
def test_a_commit_whose_nth_operation_fails_is_whole_or_nothing(make: Make, disk: Disk, torn: bool) -> None:
    outcomes: list[int] = []
    for nth in count(1):
        world = make()
        disk.arm(lambda ordinal, _, nth=nth: ordinal == nth, torn=torn)
        try:
            world.lane.commit(**world.second)
        except StoreUnavailable as error:
            assert isinstance(error.__cause__, apsw.Error)
        operations = len(disk.operations)
        disk.disarm()
        if operations < nth:
            assert world.lane.number == 2
            world.check(2)
            break
        assert world.lane.number == 1
        outcomes.append(world.store.end_host(world.lane.host.id))
        world.check(outcomes[-1])
    assert len(outcomes) >= 4  # pages of the log, and its fsync
    assert set(outcomes) <= {1, 2}


def test_a_commit_whose_fsync_failed_stays_refused(make: Make, disk: Disk) -> None:
    """The frames are in the log and could be recovered from it: what `end_host` has said must still hold then."""
    world = make()
    disk.arm(lambda _, kind: kind == "sync")
    with pytest.raises(StoreUnavailable):
        world.lane.commit(**world.second)
    disk.disarm()
    landed = world.store.end_host(world.lane.host.id)
    world.store.close()
    reopened = SqliteStore(world.directory / "hub.db", "hub")
    assert reopened.end_host(world.lane.host.id) == landed
    assert world.state(reopened) == world.states[landed]
    reopened.close()


def test_while_the_disk_fails_a_lane_cannot_be_ended(make: Make, disk: Disk) -> None:
    world = make()
    disk.arm(lambda _, kind: kind in ("write", "sync"))
    with pytest.raises(StoreUnavailable):
        world.lane.commit(**world.second)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            world.store.end_host(world.lane.host.id)
    disk.disarm()
    world.check(world.store.end_host(world.lane.host.id))


def test_what_end_host_says_holds_whatever_failed_while_it_found_out(make: Make, disk: Disk) -> None:
    for nth in count(1):
        world = make()
        disk.arm(lambda _, kind: kind == "sync")
        with pytest.raises(StoreUnavailable):
            world.lane.commit(**world.second)
        disk.arm(lambda ordinal, _, nth=nth: ordinal == nth)
        landed = None
        while landed is None:
            try:
                landed = world.store.end_host(world.lane.host.id)
            except StoreUnavailable:
                pass
        operations = len(disk.operations)
        disk.disarm()
        world.check(landed)
        if operations < nth:
            break
    assert nth > 5  # pages and fsync of the database, the log cut, the mark that the host is dead


@pytest.mark.parametrize("make", [bytes(3_000_000)], indirect=True, ids=["checkpoint"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_commit_that_brings_a_checkpoint_holds_when_an_fsync_fails(make: Make, disk: Disk, nth: int) -> None:
    """SQLite passes over what fails in the checkpoint after a commit; nothing of the commit may be lost by that."""
    world = make()
    syncs = 0

    def fails(_: int, kind: str) -> bool:
        nonlocal syncs
        syncs += kind == "sync"
        return kind == "sync" and syncs == nth

    disk.arm(fails)
    try:
        world.lane.commit(**world.second)
    except StoreUnavailable:
        pass
    assert len(disk.operations) > 1000
    if world.lane.number == 2:
        disk.disarm()
        for unsynced_arrives in (False, True):
            found = world.after_a_power_cut(f"before {unsynced_arrives}", unsynced_arrives=unsynced_arrives)
            assert found == (2, world.states[2])
    landed = world.store.end_host(world.lane.host.id)
    assert landed >= world.lane.number
    disk.disarm()
    world.check(landed)


def test_every_commit_that_was_answered_survives_a_power_cut(make: Make, disk: Disk, tmp_path: Path) -> None:
    world = make()
    for n in range(1, 6):
        world.lane.commit(history=[history(world.lane.first + 1, n)])
        directory = tmp_path / f"cut after {n}"
        disk.cut_power(world.directory, directory, unsynced_arrives=False)
        store = SqliteStore(directory / "hub.db", "hub")
        assert store.end_host(world.lane.host.id) == n + 1
        assert len(store.history(world.lane.first + 1)) == n + 1
        store.close()
    world.store.close()


@pytest.mark.parametrize("torn", [False, True])
def test_payloads_whose_nth_operation_fails_leave_the_lane_sound(make: Make, disk: Disk, torn: bool) -> None:
    for nth in count(1):
        world = make()
        rows = [payload(world.lane.first + 50 + n, world.lane.first + 1, body=bytes(10_000)) for n in range(2)]
        disk.arm(lambda ordinal, _, nth=nth: ordinal == nth, torn=torn)
        failed = False
        try:
            world.lane.write_payloads(*rows)
        except StoreUnavailable as error:
            assert isinstance(error.__cause__, apsw.Error)
            failed = True
        operations = len(disk.operations)
        disk.disarm()
        found = world.store.payloads([row.id for row in rows])
        assert found in ({}, {row.id: row for row in rows})
        assert failed or found
        if nth % 2:
            world.lane.commit(**world.second)
            world.check(2)
        else:
            world.check(world.store.end_host(world.lane.host.id))
        if operations < nth:
            break
    assert nth > 6  # pages of the log, and its fsync


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_payloads_that_bring_a_checkpoint_hold_when_an_fsync_fails(make: Make, disk: Disk, nth: int) -> None:
    world = make()
    row = payload(world.lane.first + 50, world.lane.first + 1, body=bytes(5_000_000))
    syncs = 0

    def fails(_: int, kind: str) -> bool:
        nonlocal syncs
        syncs += kind == "sync"
        return kind == "sync" and syncs == nth

    disk.arm(fails)
    written = True
    try:
        world.lane.write_payloads(row)
    except StoreUnavailable:
        written = False
    disk.disarm()
    assert written == (nth > 1)
    assert len(disk.operations) > 1000 * (1 + written)  # into the log, and from there into the file
    for unsynced_arrives in (False, True):
        name = f"cut {unsynced_arrives}"
        world.after_a_power_cut(name, unsynced_arrives=unsynced_arrives)
        store = SqliteStore(world.directory.parent / f"{world.directory.name} {name}" / "hub.db", "hub")
        assert not written or store.payloads([row.id]) == {row.id: row}
        store.close()
    world.lane.commit(**world.second)
    world.check(2)


def test_commits_go_on_while_payloads_are_moved_into_the_file(make: Make, disk: Disk) -> None:
    world = make()
    commit = threading.Thread(target=lambda: world.lane.commit(**world.second))
    waited: list[bool] = []

    def look(_: int, kind: str) -> bool:
        # The first one is that of the log, which the commit of the payload ends with.
        if kind == "sync" and disk.operations.count("sync") == 2:
            commit.start()
            commit.join(timeout=30)
            waited.append(commit.is_alive())
        return False

    disk.arm(look)
    world.lane.write_payloads(payload(world.lane.first + 50, world.lane.first + 1, body=bytes(5_000_000)))
    disk.disarm()
    assert waited == [False]
    world.check(2)


def test_a_store_whose_creation_failed_can_be_created_again(disk: Disk, tmp_path: Path) -> None:
    for nth in count(1):
        path = tmp_path / f"{nth}" / "hub.db"
        disk.arm(lambda ordinal, _, nth=nth: ordinal == nth)
        try:
            SqliteStore(path, "hub", connect=disk.connect).close()
        except StoreUnavailable:
            pass
        operations = len(disk.operations)
        disk.disarm()
        store = SqliteStore(path, "hub", connect=disk.connect)
        Lane(store).commit()
        store.close()
        if operations < nth:
            break
    assert nth > 10


def test_a_read_after_a_fault_uses_another_connection(make: Make, disk: Disk) -> None:
    world = make()
    disk.arm(lambda ordinal, _: ordinal == 1)
    with pytest.raises(StoreUnavailable):
        world.lane.commit(**world.second)
    disk.disarm()
    assert world.state(world.store) == world.states[1]
    assert not world.store.poll()
    world.store.close()
