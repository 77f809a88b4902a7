"""The lane: the one ordered stream of commits through which a host writes.

A `Batch` gathers what turns and requests change. It is sealed when the lane is free: one commit is in flight at any
time, and the next one is sealed after its answer, so a batch may depend on all earlier ones and on nothing else.

Messages: whatever is made or accepted while a batch is open is *fresh*. What a turn of the same batch consumes never
touches the disk. At seal, what is still fresh gets an inbox row; what is consumed later has its row deleted, counted.
The result of an activity may wait for one seal without a row: should it be lost, the history has the activity open, and
it runs again.

Any failure ends the lane: `Engine` drops everything gathered, asks the store how far the lane got, and begins another.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from perdure.core.codec import encode_message, join_records
from perdure.core.events import Failure
from perdure.core.ids import first_key
from perdure.core.state import InstanceRow
from perdure.core.turn import Checkpoint, Fresh
from perdure.engine.activities import Call
from perdure.engine.instances import Instance, Mail
from perdure.store.api import Commit, HistoryRow, Host, InboxRow, TimerRow


class Batch:
    def __init__(self, number: int) -> None:
        self.number = number
        self.turns = 0
        self.bytes = 0
        self.rows: dict[int, InstanceRow] = {}
        self.created: set[int] = set()
        self.begun: set[int] = set()
        """Instances that have opened another execution, so that more than their progress has to be written."""
        self.touched: dict[int, Instance] = {}
        self.history: dict[int, tuple[int, list[bytes]]] = {}
        self.timers_new: dict[tuple[int, int], TimerRow] = {}
        self.timers_done: list[TimerRow] = []
        self.retired: list[int] = []
        self.purged: list[int] = []
        self.inbox_done: list[int] = []
        self.written: list[Mail] = []
        self.settled_activities: list[tuple[int, int]] = []
        self.starts: list[tuple[Instance, Call]] = []
        self.failed: list[tuple[InstanceRow, Failure]] = []
        """Instances that failed in this batch, for the log."""
        self.after: list[Callable[[], object]] = []
        """Called once the batch is durable, before requests are let go."""
        self.requests: list[Any] = []
        """Requests that this batch answers, with the answers."""
        self.causes: set[int] = set()
        """Instances that changed of themselves or by a request, not because the turn of another made them."""
        self.began: dict[int, Any] = {}
        """The request that made an instance or began it anew."""

    @property
    def empty(self) -> bool:
        return not (
            self.rows or self.purged or self.inbox_done or self.history or self.retired or self.after or self.requests
        )

    @property
    def load(self) -> int:
        return self.turns + len(self.requests)

    def add(self, instance: Instance, checkpoint: Checkpoint) -> None:
        """Gather a turn that has a record. Its messages and requests are added by who knows them."""
        key, execution, record = instance.key, checkpoint.execution, checkpoint.record
        assert record is not None
        self.turns += 1
        self.bytes += len(record)
        self.touched[key] = instance
        self.rows[key] = checkpoint.row
        entry = self.history.get(execution)
        if entry is None:
            self.history[execution] = (checkpoint.first, [record])
        else:
            assert entry[0] + len(entry[1]) == checkpoint.first, f"gap in the history of {instance.id!r}"
            entry[1].append(record)
        if checkpoint.first == 0:
            self.begun.add(key)
        retired = checkpoint.retired
        if checkpoint.timers_gone:
            owner = retired if retired is not None else execution
            for timer in checkpoint.timers_gone:
                if self.timers_new.pop((owner, timer.task_id), None) is None:
                    self.timers_done.append(TimerRow(timer.fire_at, key, owner, timer.task_id))
        for timer in checkpoint.timers:
            self.timers_new[execution, timer.task_id] = TimerRow(timer.fire_at, key, execution, timer.task_id)
        if retired is not None:
            self.retired.append(retired)
            self.history.pop(retired, None)
        for activity in checkpoint.activities:
            self.starts.append((instance, Call.of(key, checkpoint.row.id, execution, activity)))

    def write_row(self, instance: Instance, row: InstanceRow) -> None:
        self.touched[instance.key] = instance
        self.rows[instance.key] = row


class Lane:
    """The open batch, the one in flight, and the keys and message ids of this host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.durable = 0
        self.batch = Batch(1)
        self.in_flight: Batch | None = None
        self.fresh: dict[int, Mail] = {}
        self.make_key: Callable[[], int] = count(first_key(host.ordinal) + 1).__next__
        """A key for an instance, an execution or a message: one row of numbers serves all. From any thread."""
        self._prefix = f"{host.prefix:016x}"

    @property
    def free(self) -> bool:
        return self.in_flight is None

    def make_fresh(self) -> Fresh:
        """Names for another execution. From any thread."""
        return Fresh(self.make_key(), self._prefix)

    def consume(self, mail: Mail) -> None:
        """A turn of the open batch is done with `mail`."""
        if self.fresh.pop(mail.id, None) is None and mail.row:
            self.batch.inbox_done.append(mail.id)
        if mail.activity is not None:
            self.batch.settled_activities.append(mail.activity)

    def keep_back(self, mail: Mail) -> None:
        """A turn that has taken the result of an activity is under way: it need not be written for itself."""
        self.fresh.pop(mail.id, None)

    def forget(self, mail: Mail) -> None:
        """`mail` is for an instance that is gone, and its row, if it had one, went with it."""
        self.fresh.pop(mail.id, None)

    def seal(self, now: int, keep_results: bool = True) -> Commit | None:
        """Close the open batch and open the next; None if there is nothing to write or to answer.

        Unless `keep_results`, the results of activities wait for the turns that take them, however many commits away.
        """
        batch = self.batch
        inbox: list[InboxRow] = []
        waiting: dict[int, Mail] = {}
        purged = set(batch.purged)
        for mail in self.fresh.values():
            if mail.target in purged:
                continue  # it arrived behind the purge, which takes all that is for the instance
            if mail.activity is not None and not mail.held and not (mail.waited and keep_results):
                mail.waited = True
                waiting[mail.id] = mail
                continue
            inbox.append(InboxRow(mail.id, mail.target, mail.execution, mail.control, encode_message(mail.event)))
            mail.row = True
            batch.written.append(mail)
            if mail.activity is not None:
                batch.settled_activities.append(mail.activity)
        self.fresh = waiting
        if batch.empty and not inbox:
            return None
        self.in_flight = batch
        self.batch = Batch(batch.number + 1)
        created: list[InstanceRow] = []
        updated: list[InstanceRow] = []
        advanced: list[InstanceRow] = []
        for key, row in batch.rows.items():
            if key in purged:
                continue
            if key in batch.created:
                created.append(row)
            elif key in batch.begun:
                updated.append(row)
            else:
                advanced.append(row)
        return Commit(
            host=self.host.id,
            number=batch.number,
            now=now,
            created=created,
            updated=updated,
            advanced=advanced,
            purged=batch.purged,
            history=[
                HistoryRow(execution, first, join_records(bodies))
                for execution, (first, bodies) in batch.history.items()
            ],
            inbox_new=inbox,
            inbox_done=batch.inbox_done,
            timers_new=list(batch.timers_new.values()),
            timers_done=batch.timers_done,
            retired=batch.retired,
        )

    def landed(self) -> Batch:
        """The commit in flight is durable."""
        batch = self.in_flight
        assert batch is not None
        self.in_flight = None
        self.durable = batch.number
        return batch
