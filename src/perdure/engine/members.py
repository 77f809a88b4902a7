"""Which instances are in memory, and how they come and go.

They are read in when mail or work arrives for them, made by clients and parents, parked when they cannot be run, and
dropped when memory is needed. An instance whose turns are not all durable is never read and never dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Union

import msgspec
from msgspec import Struct

from perdure.core.events import (
    ParentLink,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
)
from perdure.core.failures import own_failure, unknown_function
from perdure.core.ids import first_key
from perdure.core.state import ENDED, InstanceRow, InstanceState
from perdure.core.turn import Checkpoint, Fresh, Start, begin, restart
from perdure.engine.activities import Call
from perdure.engine.instances import Instance, InstanceTable, Mail
from perdure.engine.lane import Batch, Lane
from perdure.engine.loading import Loaded, Waiting
from perdure.store.api import TimerRow

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

log = logging.getLogger("perdure.engine")


Found = Callable[[Union[Instance, None]], object]
"""Told of the instance of an id, its state in memory; None if there is none."""


class _Claim(Struct, eq=False):
    count: int = 0
    waiting: list[Found] = []


class Begun(Struct, eq=False):
    """A first execution that nobody can see yet. `place` is the key of the ended instance in whose place it comes."""

    start: Start
    fresh: Fresh
    now: int
    state: InstanceState
    checkpoint: Checkpoint
    place: int | None

    def fits(self, instance: Instance | None) -> bool:
        """Whether the id that it was made for is still free, or belongs to the same ended instance."""
        return self.place == (None if instance is None else instance.key)


class Members:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.table = InstanceTable()
        self._claims: dict[str, _Claim] = {}
        self.park_on_load: dict[int, str] = {}
        """Instances to be parked as soon as they are in memory, with the reason."""

    def forget(self) -> None:
        """The lane has ended: all that is in memory is read again from the store."""
        self.table = InstanceTable()
        self._claims = {}

    # --- reading in --------------------------------------------------------------------------------------------------

    def bring(self, key: int) -> Instance:
        """The instance in memory, being read if it was not."""
        instance = self.table.get(key)
        if instance is None:
            instance = Instance(key)
            self.table.add(instance)
            self._engine.loader.want(instance)
            self._engine.schedule_pump()
        return instance

    def resolve(self, instance_id: str, then: Found) -> None:
        """Call `then` with what has this id; behind those who are before it, if the id is claimed."""
        claim = self._claims.get(instance_id)
        if claim is not None:
            claim.waiting.append(then)
            return
        instance = self.table.find(instance_id)
        if instance is not None:
            if instance.state is not None:
                then(instance)
            else:
                instance.on_load.append(then)
            return

        def found(rows: dict[str, InstanceRow]) -> None:
            row = rows.get(instance_id)
            if row is None and self.table.find(instance_id) is None and instance_id not in self._claims:
                then(None)
                return
            if row is not None and self.table.find(instance_id) is None:
                self.table.name(self.bring(row.key), instance_id)
            self.resolve(instance_id, then)

        self._engine.loader.find([instance_id], found)

    def claim(self, instance_id: str) -> None:
        """Something large is being written for this id, and changes it then: until that is done `resolve` waits."""
        self._claims.setdefault(instance_id, _Claim()).count += 1

    def release(self, instance_id: str, *first: Found) -> None:
        """Let go whoever waits, behind `first`, unless there is another claim."""
        claim = self._claims[instance_id]
        claim.count -= 1
        claim.waiting[:0] = first
        if claim.count:
            return
        del self._claims[instance_id]
        lane = self._engine.commits.lane
        for then in claim.waiting:
            if self._engine.commits.lane is lane:  # the one before may have ended it
                self.resolve(instance_id, then)

    def loaded(self, instance: Instance, loaded: Loaded) -> None:
        row = loaded.row
        if self.table.get(instance.key) is not instance or instance.state is not None:
            return
        waiting, instance.on_load = instance.on_load, []
        parked = self.park_on_load.pop(instance.key, None)
        if row is None:
            self._drop_mail(instance)
            self.table.remove(instance)
            for then in waiting:
                # Not all at once: the first may make an instance of this id, which the next must find.
                self.resolve(instance.id, then) if instance.id is not None else then(None)
            return
        instance.row = instance.committed = row
        self.table.name(instance, row.id)
        instance.unreadable = loaded.unreadable
        reason = parked or loaded.unreadable
        if reason is not None and row.parked is None and row.status not in ENDED:
            self.park(instance, reason)
            instance.on_load = waiting
            return
        instance.state = loaded.state
        instance.records = loaded.records
        self.strip(instance)
        self._start_open_activities(instance)
        for then in waiting:
            # The one before may have purged it or ended the lane.
            usable = self.table.get(instance.key) is instance and instance.state is not None
            then(instance) if usable else self.resolve(row.id, then)
        if self.table.get(instance.key) is instance:  # a request may have ended the lane
            self._engine.dispatch.wake(instance)
            self._engine.schedule_pump()

    def _drop_mail(self, instance: Instance) -> None:
        """The mail is for an instance that is gone; a row that this host wrote for it since goes too.

        What another process wrote had to find the instance, so it went with it.
        """
        lane = self._engine.lane
        for mail in instance.mailbox:
            if mail.row and mail.id >= first_key(1):
                lane.consume(mail)
            else:
                lane.forget(mail)
                if mail.activity is not None:
                    self._engine.desk.settle(mail.activity)
        instance.mailbox.clear()
        self._engine.schedule_pump()

    def strip(self, instance: Instance) -> None:
        """A held instance keeps control messages only; the others have rows, or will have with this batch."""
        state = instance.state
        if state is not None and state.held:
            self._leave_in_inbox(instance)

    def _leave_in_inbox(self, instance: Instance) -> None:
        for mail in instance.mailbox:
            mail.held = True
        instance.mailbox = [mail for mail in instance.mailbox if mail.control]

    def _start_open_activities(self, instance: Instance) -> None:
        """After reading in: what is open, not under way in this process and not answered has to be started."""
        state = instance.state
        assert state is not None
        if state.held or state.ended or not state.row.open_activities:
            return
        answered = {
            mail.event.task_id
            for mail in instance.mailbox
            if isinstance(mail.event, (TaskCompleted, TaskFailed)) and mail.execution == state.row.execution
        }
        for task in state.open.values():
            if isinstance(task, TaskScheduled) and task.task_id not in answered:
                self._engine.desk.add(Call.of(instance.key, state.row.id, state.row.execution, task))

    def bring_inbox(self, instance: Instance, *, anew: bool = False) -> None:
        """What waits in the inbox for an instance that was held comes back, before what arrives from here on.

        It is read once the open batch is durable, as that may write some of it. `anew`: another execution has begun in
        the place of the one that it waited for, so it is dropped.
        """
        side: list[Mail] = []
        instance.side = side
        self._engine.lane.batch.after.append(lambda: self._read_side(instance, side, anew))

    def _read_side(self, instance: Instance, side: list[Mail], anew: bool) -> None:
        engine = self._engine
        recovery = engine.recovery
        assert recovery is not None

        def got(waiting: Waiting) -> None:
            if self.table.get(instance.key) is not instance or instance.side is not side:
                return
            arrived = {mail.id: mail for mail in [*instance.mailbox, *side]}
            waited: list[Mail] = []
            for mail in waiting.mails:
                if mail.id in arrived:
                    waited.append(arrived.pop(mail.id))
                elif anew:
                    engine.lane.consume(mail)
                else:
                    waited.append(mail)
            instance.mailbox = [*waited, *arrived.values()]
            instance.side = None
            state = instance.state
            if state is not None and waiting.unreadable is not None and not state.ended:
                self.park(instance, waiting.unreadable)
            elif state is not None:
                self.strip(instance)
                self._start_open_activities(instance)
                self._engine.timers.arm(
                    TimerRow(task.fire_at, instance.key, state.row.execution, task.task_id)
                    for task in state.open.values()
                    if isinstance(task, TimerCreated)
                )
            self._engine.dispatch.wake(instance)
            self._engine.schedule_pump()

        engine.loader.inbox_of(instance.key, recovery.inbox_cursor, got)

    # --- making ------------------------------------------------------------------------------------------------------

    def begin(self, instance_id: str, start: Start, instance: Instance | None = None) -> Begun:
        """A first execution, of a new instance or in the place of `instance`. Nothing has changed yet."""
        engine = self._engine
        fresh, now = engine.lane.make_fresh(), engine.runtime.now()
        key = engine.lane.make_key() if instance is None else instance.key
        state, checkpoint = begin(start, key=key, id=instance_id, execution=fresh, now=now)
        return Begun(start, fresh, now, state, checkpoint, None if instance is None else key)

    def create(self, begun: Begun) -> Instance:
        row = begun.state.row
        instance = Instance(row.key)
        instance.id = row.id
        instance.state = begun.state
        self.table.add(instance)
        self._engine.lane.batch.created.add(instance.key)
        self._engine.dispatch.gather(instance, begun.checkpoint, ())
        return instance

    def restart(self, instance: Instance, begun: Begun) -> None:
        """Begin anew in the place of an ended instance. Answers that wait for its old execution are dropped."""
        engine, state = self._engine, instance.state
        assert state is not None and not instance.busy and begun.fits(instance)
        engine.dispatch.absorb(instance, last=True)
        waited = state.row.status == "Failed" or instance.side is not None
        for mail in instance.side or ():
            engine.lane.consume(mail)
        checkpoint = restart(state, begun.start, execution=begun.fresh, now=begun.now)
        checkpoint.record = begun.checkpoint.record
        for row in (checkpoint.row, state.row):
            row.input, row.input_payload = begun.state.row.input, begun.state.row.input_payload
        engine.dispatch.gather(instance, checkpoint, ())
        if waited:
            self.bring_inbox(instance, anew=True)

    def start_of(self, child: SubOrchestrationInstanceCreated, checkpoint: Checkpoint) -> Start:
        """What a child is started with that the turn asks for."""
        row = checkpoint.row
        asked = checkpoint.execution if checkpoint.retired is None else checkpoint.retired
        link = ParentLink(row.key, row.id, asked, child.task_id, row.name)
        return Start(child.name, child.version, child.input, link)

    def spawn(self, child: SubOrchestrationInstanceCreated, start: Start, begun: Begun | None = None) -> None:
        """Make the child, or tell its parent why that cannot be. `begun` has its large input written already.

        Where it comes in the place of an ended instance that was not known before, the input is written with the batch.
        """
        parent = start.parent
        assert parent is not None
        refusal: str | None = None
        if not self._engine.orchestrators.knows(child.name):
            refusal = unknown_function(child.name, "orchestrator", self._engine.orchestrators.names())
        else:
            other = self.table.find(child.instance_id)
            if other is None:
                other = self.create(begun or self.begin(child.instance_id, start))
                self._engine.lane.batch.causes.discard(other.key)
            elif other.state is not None and other.state.ended and not other.busy:
                self.restart(other, self.begin(child.instance_id, start, other))
                self._engine.lane.batch.causes.discard(other.key)
            else:
                status = other.row.status if other.row is not None else "Pending"
                refusal = f"An Orchestration instance with the status {status} already exists."
        if refusal is not None:
            kind = "FunctionNotFound" if "doesn't exist" in refusal else "InstanceExists"
            failure = own_failure(kind, refusal)
            event = SubOrchestrationInstanceFailed(task_id=child.task_id, failure=failure)
            self._engine.deliver(self._engine.make_mail(parent.key, parent.execution, event))

    # --- taking away -------------------------------------------------------------------------------------------------

    def purge(self, instance: Instance) -> None:
        """Delete an ended, durable instance with the open batch. Until that lands its place is kept."""
        batch = self._engine.lane.batch
        batch.purged.append(instance.key)
        batch.touched[instance.key] = instance
        for mail in [*instance.mailbox, *(instance.side or ())]:
            self._engine.lane.forget(mail)
            if mail.activity is not None:
                self._engine.desk.settle(mail.activity)
        instance.mailbox.clear()
        instance.side = None
        self._empty(instance, batch)

    def park_key(self, key: int, reason: str) -> None:
        self.park_on_load[key] = reason
        instance = self.table.get(key)
        if instance is None or instance.state is None or instance.busy:
            self.bring(key)
            return
        del self.park_on_load[key]
        if not instance.state.ended:
            self.park(instance, reason)

    def park(self, instance: Instance, reason: str) -> None:
        """Stop running an instance, durably and with the reason; its messages wait in the inbox."""
        row = instance.row
        assert row is not None
        log.error("instance %r is parked: %s", instance.id, reason)
        row = msgspec.structs.replace(row, parked=reason, updated_at=self._engine.runtime.now())
        instance.row = row
        batch = self._engine.lane.batch
        batch.write_row(instance, row)
        self._leave_in_inbox(instance)
        self._empty(instance, batch)
        self._engine.schedule_pump()

    def reset(self, instance: Instance) -> None:
        """Read the instance again once all its turns are durable; its messages stay in memory."""
        self._empty(instance, None)
        self._refill(instance)

    def _empty(self, instance: Instance, batch: Batch | None) -> None:
        """Take the state out of memory; it is read again when what was gathered of it is durable."""
        if batch is not None:
            instance.last_batch = batch.number
        self.drop_session(instance)
        instance.state = None
        instance.reset = True

    def _refill(self, instance: Instance) -> None:
        if instance.reset and instance.last_batch <= self._engine.lane.durable and not instance.busy:
            instance.reset = False
            self._engine.loader.want(instance)
            self._engine.schedule_pump()

    def after_reset(self, instance: Instance) -> None:
        if not instance.reset or instance.last_batch > self._engine.lane.durable:
            return
        stays = instance.committed is not None and instance.committed.parked is None
        if stays or instance.mailbox or instance.on_load:
            self._refill(instance)
        elif self.table.get(instance.key) is instance:
            self.table.remove(instance)

    def let_go(self, instance: Instance) -> None:
        """An instance that has ended leaves memory at once: what is rarely asked for only slows the collector."""
        if instance.last_batch <= self._engine.lane.durable and not instance.engaged:
            self.table.remove(instance)

    def evict(self, lane: Lane) -> None:
        for instance in self.table.evictable(self._engine.settings.instances_in_memory, lane.durable):
            self.drop_session(instance)
            self.table.remove(instance)

    def drop_session(self, instance: Instance) -> None:
        session, instance.session = instance.session, None
        instance.records = ()
        if session is not None:
            self._engine.runner.close_later(session)
