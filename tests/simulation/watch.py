"""Invariants that hold at every step of a schedule, and at every quiet moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import astuple

from perdure.core.codec import decode_records
from perdure.core.events import SubOrchestrationInstanceCreated, TaskScheduled, TimerCreated, TimerFired
from perdure.core.ids import first_key
from perdure.core.protocols import InstanceQuery
from perdure.core.state import ENDED, InstanceRow
from perdure.engine import Engine
from perdure.engine.loading import read_instance
from perdure.store.api import Commit, HistoryRow, Store
from perdure.testing.simulation import Process

WAIT_FOR_EVENTS = ("collector", "eternal")


class Broken(AssertionError):
    """An invariant does not hold."""


class Landed(list[Commit]):
    """The commits that landed, in order; `told` is called with each."""

    def __init__(self, told: Callable[[Commit], None]) -> None:
        super().__init__()
        self._told = told

    def append(self, commit: Commit) -> None:
        super().append(commit)
        self._told(commit)


class Watch:
    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self.commits = Landed(self._landed)
        self._versions: dict[int, dict[tuple[Any, ...], int]] = {}
        self._shown: dict[int, InstanceRow] = {}
        self._process: Process | None = None
        self._broken: str | None = None

    def published(self, row: InstanceRow) -> None:
        """`row` is in the store."""
        versions = self._versions.setdefault(row.key, {})
        versions[astuple(row)] = len(versions)

    def _landed(self, commit: Commit) -> None:
        for row in [*commit.created, *commit.updated, *commit.advanced]:
            self.published(row)
            self._look_for(row.input_payload, row)
            self._look_for(row.output_payload, row)
        for history in commit.history:
            if b'"payload"' in history.body:
                for record in decode_records(history.body):
                    self._look_for(record.payload or None, history)
            if b'"TimerFired"' in history.body:
                self._look_at_timers(history, commit.now)

    def _look_for(self, payload: int | None, what: Any) -> None:
        """What a commit refers to was durable before it."""
        if payload is not None and payload not in self._open_store().payloads([payload]):
            self._broken = f"{what} was committed without its payload {payload}"

    def _look_at_timers(self, history: HistoryRow, now: int) -> None:
        """A timer that fired is not in the future. (The code is never shown an earlier time than that of its timer.)"""
        for record in decode_records(history.body):
            for event in record.received:
                if isinstance(event, TimerFired) and event.fire_at > now:
                    self._broken = f"{event} of execution {history.execution} at {now}"

    # --- at every step -----------------------------------------------------------------------------------------------

    def step(self, process: Process) -> None:
        """What clients are shown has landed, and never goes back."""
        if self._broken is not None:
            raise Broken(self._broken)
        if process is not self._process:
            self._process = process
            self._shown = {}
        for instance in process.engine.members.table:
            row = instance.committed
            before = self._shown.get(instance.key)
            if row is None or row is before:
                continue
            versions = self._versions.get(instance.key, {})
            version = astuple(row)
            if version not in versions:
                raise Broken(f"clients are shown {row}, which never landed")
            if before is not None and versions[version] < versions[astuple(before)]:
                raise Broken(f"what clients are shown of {row.id} went back from {before} to {row}")
            self._shown[instance.key] = row

    # --- at quiet moments --------------------------------------------------------------------------------------------

    def quiet_moment(self, process: Process, kinds: dict[str, str]) -> None:
        """If nothing is under way, whoever waits has something that will wake it."""
        engine = process.engine
        if not process.runtime.alive or not _is_quiet(engine):
            return
        store = self._open_store()
        rows = {row.key: row for row in store.query(InstanceQuery(limit=100_000))}
        ids = {row.id for row in rows.values() if row.status not in ENDED}
        recovery = engine.recovery
        assert recovery is not None
        for mail in store.inbox(0, 100_000):
            if mail.seq > recovery.inbox_cursor and mail.id < first_key(1):
                continue  # another process wrote it, and it was not looked for since
            row = rows.get(mail.target)
            if row is None or not (row.status in ("Suspended", "Failed") or row.parked):
                raise Broken(f"a message for {row.id if row else mail.target} lies in the inbox, and nobody is at work")
        for row in rows.values():
            if row.status in ENDED or row.status == "Suspended" or row.parked:
                continue
            if recovery.client_cursor < row.key < first_key(1):
                continue
            state = read_instance(store, row.key).state
            assert state is not None
            if row.ready or state.row.open_activities:
                raise Broken(f"nobody is at work, though {row.id} is due: {state}")
            if not state.open and kinds.get(row.id) not in WAIT_FOR_EVENTS:
                raise Broken(f"nothing will ever wake {row.id}: {state}")
            for task in state.open.values():
                match task:
                    case TimerCreated():
                        armed = (row.execution, task.task_id) in engine.timers._armed
                        soon = process.runtime.now() + int(engine.settings.horizon_seconds * 500_000)
                        if not armed and task.fire_at <= soon:
                            raise Broken(f"{row.id} waits for a timer that is not armed: {task}")
                    case SubOrchestrationInstanceCreated():
                        if task.instance_id not in ids:
                            raise Broken(f"{row.id} waits for a child that is not there: {task}")
                    case TaskScheduled():
                        pass


def _is_quiet(engine: Engine) -> bool:
    lane, recovery = engine.commits.lane, engine.recovery
    return (
        lane is not None
        and recovery is not None
        and recovery.done
        and recovery._due_after is None
        and not recovery._reading_due
        and lane.free
        and lane.batch.empty
        and not lane.fresh
        and engine.runner.idle
        and not engine.dispatch.ready
        and not engine.desk.running
        and not engine.desk._done
        and not engine.desk.queued
        and not engine.loader.waiting
        and not engine.holds.count
        and not engine.stopping
        and not any(instance.engaged for instance in engine.members.table)
    )
