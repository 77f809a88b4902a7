"""The engine: one home thread that decides who runs when, and what becomes durable together.

The life of a message: `deliver` puts it into its instance's mailbox; `_dispatch` hands instances with mail to the turn
thread; `_gather` takes each turn's checkpoint into the open batch; `_seal` sends the batch to the store when the lane
is free; `_settle` follows its commit, always in this order: publish what clients may read, start activities and arm
timers, answer requests. Nothing outside is told or begun before the commit that caused it.

Any failure of a commit ends the lane (`_end_lane`): all of memory is dropped, the store is asked how far the lane got,
a new lane begins and reads what is due. There is no other repair.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Union

import msgspec

from perdure.core.errors import IdTaken, RefusedData, TurnTimeout
from perdure.core.events import (
    Control,
    EventRaised,
    ExecutionResumed,
    ParentLink,
    Received,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from perdure.core.failures import own_failure, unknown_function
from perdure.core.ids import KEY_BITS, execution_id
from perdure.core.protocols import Activities, Orchestrators
from perdure.core.runtime import Cancellable, Runtime
from perdure.core.state import ENDED, InstanceRow, fold, from_row
from perdure.core.turn import Checkpoint, Fresh, begin, control, receive_late, restart
from perdure.engine.activities import ActivityDesk, Call
from perdure.engine.doors import Doors
from perdure.engine.instances import Instance, InstanceTable, Mail
from perdure.engine.lane import Batch, Lane
from perdure.engine.loading import Loaded, Loader, read_instance
from perdure.engine.recovery import MISSING_FUNCTION, Recovery
from perdure.engine.settings import EngineSettings
from perdure.engine.timers import Timers
from perdure.engine.turns import Interrupted, Job, TurnRunner
from perdure.store.api import Commit, Host, Store, TimerRow

log = logging.getLogger("perdure.engine")


class Engine:
    """Call everything on the home thread (`runtime.post`), except `committed`."""

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        orchestrators: Orchestrators,
        activities: Activities,
        settings: EngineSettings = EngineSettings(),
    ) -> None:
        self.runtime = runtime
        self.store = store
        self.orchestrators = orchestrators
        self.settings = settings
        self.table = InstanceTable()
        self.desk = ActivityDesk(
            runtime, activities, settings.activity_slots, settings.activity_threads, self._activity_done
        )
        self.timers = Timers(runtime, settings.horizon_seconds, self._timer_due)
        self.loader = Loader(runtime, store, self._loaded, self._end_lane)
        self.doors = Doors(self)
        self.recovery: Recovery | None = None
        self._lane: Lane | None = None
        self._runner = TurnRunner(
            runtime, orchestrators, settings.turn_seconds, settings.abandon_seconds, self._turns_done
        )
        self._writer = runtime.worker("commits")
        self._watcher = runtime.worker("poller")
        self._ready: deque[Instance] = deque()
        self._park_on_load: dict[int, str] = {}
        self._suspicious: set[str] = set()
        self._turn_limit = settings.turns_in_batch
        self._faults = 0
        self._pump_posted = False
        self._seal_later: Cancellable | None = None
        self._sweeping = False
        self._sweep_due = True
        self._on_running: Callable[[], object] | None = None
        self._on_stopped: Callable[[], object] | None = None
        self._stop_by = 0.0
        self._leaving = False

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self, on_running: Callable[[], object]) -> None:
        """Open a lane, read what is due, then call `on_running`, once."""
        self._on_running = on_running
        self._register()

    def stop(self, grace_seconds: float, on_stopped: Callable[[], object]) -> None:
        """Take nothing new, begin no activity; leave when those that run have ended or the grace is over."""
        self._on_stopped = on_stopped
        self._stop_by = self.runtime.monotonic() + grace_seconds
        self.doors.stop()
        self.desk.stop()
        self.timers.clear()
        self._try_to_leave()

    @property
    def lane(self) -> Lane:
        assert self._lane is not None, "there is no lane at this moment"
        return self._lane

    @property
    def ready_count(self) -> int:
        return len(self._ready)

    def committed(self, instance_id: str) -> InstanceRow | None:
        """What is durable of an instance, if it is in memory. May be called from any thread."""
        instance = self.table.find(instance_id)
        return instance.committed if instance is not None else None

    def _try_to_leave(self) -> None:
        if self._leaving:
            return
        late = self.runtime.monotonic() >= self._stop_by
        lane = self._lane
        quiet = lane is not None and lane.free and lane.batch.empty and not lane.fresh
        settled = quiet and not self.desk.running and self._runner.idle and not self._ready and not self.loader.waiting
        if settled or (late and (lane is None or lane.free)):
            self._leave()
        else:
            self.runtime.later(0.02, self._try_to_leave)

    def _leave(self) -> None:
        self._leaving = True
        self.doors.shut()
        lane, self._lane = self._lane, None

        def leave() -> None:
            if lane is not None:
                self.store.end_host(lane.host.id)

        def left(result: object) -> None:
            if isinstance(result, BaseException):
                log.warning("the lane could not be closed: %s", result)
            self.doors.refuse_all()
            if self._runner.idle:
                self.drop_sessions()
            if self._on_stopped is not None:
                self._on_stopped()

        self._writer.submit(leave, left)

    def drop_sessions(self) -> None:
        """Close every session, on the calling thread, when no turn runs any more."""
        for instance in self.table:
            self._drop_session(instance)
        self._runner.close_sessions()

    # --- the lane's beginning and end --------------------------------------------------------------------------------

    def _register(self) -> None:
        now, bits = self.runtime.now(), self.runtime.random_bits(64)
        self._writer.submit(lambda: self.store.register_host(now, bits), self._registered)

    def _registered(self, result: Union[Host, BaseException]) -> None:
        if self._leaving:
            return
        if isinstance(result, BaseException):
            self._pause_then(self._register, result)
            return
        self._lane = Lane(result)
        self.recovery = Recovery(self, self._inbox_read)
        self.recovery.begin()

    def _inbox_read(self) -> None:
        for call in self.desk.finished():
            self._activity_done(call)
        for key, reason in list(self._park_on_load.items()):
            self.park_key(key, reason)
        self.doors.let_in()
        self._poll_later()
        self.runtime.later(self.settings.horizon_seconds / 2, self._extend_horizon, self.recovery)
        if self._on_running is not None:
            running, self._on_running = self._on_running, None
            running()

    def _end_lane(self, error: BaseException) -> None:
        """A commit or a read failed: drop everything, ask how far the lane got, and begin another."""
        lane, self._lane = self._lane, None
        if lane is None:
            return
        log.warning("the lane of host %s has ended: %s: %s", lane.host.id, type(error).__name__, error)
        self._learn(lane, error)
        self.recovery = None
        self.doors.shut()
        self.loader.reset()
        self.timers.clear()
        self._runner.forget()
        self.desk.drop_all_queued()
        for instance in self.table:
            if instance.session is not None:
                self._runner.close_later(instance.session)
        self.table = InstanceTable()
        self._ready.clear()
        self._sweeping = False

        def ended(result: Union[int, BaseException]) -> None:
            if isinstance(result, BaseException):
                self._pause_then(ask, result)
                return
            flight = lane.in_flight
            if flight is not None and result == flight.number:
                self._answer(flight)
            self._pause_then(self._register, None)

        def ask() -> None:
            self._writer.submit(lambda: self.store.end_host(lane.host.id), ended)

        ask()

    def _learn(self, lane: Lane, error: BaseException) -> None:
        """What an error says about how to go on: faults of the environment are waited out, those of data narrowed."""
        flight = lane.in_flight
        if isinstance(error, IdTaken):
            self._suspicious.update(error.ids)
        elif isinstance(error, RefusedData) and flight is not None:
            if len(flight.touched) == 1:
                key = next(iter(flight.touched))
                self._park_on_load[key] = f"the store refused what its turn wrote: {error}"
            elif not flight.touched:
                for request, _ in flight.requests:
                    self.doors.answer(request, error)
            self._turn_limit = max(1, min(self._turn_limit, flight.turns) // 2)

    def _pause_then(self, call: Callable[[], object], error: BaseException | None) -> None:
        if error is not None:
            log.warning("the store does not answer: %s: %s", type(error).__name__, error)
        pause = 0.0
        if self._faults:
            pause = min(self.settings.retry_seconds * 2 ** min(self._faults, 16), self.settings.retry_limit_seconds)
        self._faults += 1
        self.runtime.later(pause, call)

    # --- mail --------------------------------------------------------------------------------------------------------

    def make_mail(
        self, target: int, execution: int, event: Received, activity: tuple[int, int] | None = None
    ) -> Mail:
        return Mail(self.lane.make_key(), target, execution, event, activity=activity)

    def deliver(self, mail: Mail) -> None:
        """Put a message on its way. It becomes durable with the open batch."""
        if not mail.row and not mail.backed:
            self.lane.fresh[mail.id] = mail
        instance = self.table.get(mail.target)
        if instance is None:
            instance = self.bring(mail.target)
        if instance.side is not None:
            instance.side.append(mail)
        elif instance.state is not None and instance.state.held and not mail.control:
            mail.waited = True  # it is not kept in memory, so it gets its row with this batch
        else:
            instance.mailbox.append(mail)
            self._wake(instance)
        self.schedule_pump()

    def bring(self, key: int) -> Instance:
        """The instance in memory, being read if it was not."""
        instance = self.table.get(key)
        if instance is None:
            instance = Instance(key)
            self.table.add(instance)
            self.loader.want(instance)
            self.schedule_pump()
        return instance

    def resolve(self, instance_id: str, then: Callable[[Instance | None], object]) -> None:
        """Call `then` with the instance of this id, its state in memory, or with None if there is none."""
        instance = self.table.find(instance_id)
        if instance is not None:
            if instance.state is not None:
                then(instance)
            else:
                instance.on_load.append(then)
            return

        def found(rows: dict[str, InstanceRow]) -> None:
            row = rows.get(instance_id)
            if row is None and self.table.find(instance_id) is None:
                then(None)
                return
            if row is not None and self.table.find(instance_id) is None:
                self.table.name(self.bring(row.key), instance_id)
            self.resolve(instance_id, then)

        self.loader.find([instance_id], found)

    def _wake(self, instance: Instance) -> None:
        if not instance.busy and not instance.queued and instance.wants_turn:
            instance.queued = True
            self._ready.append(instance)

    def _activity_done(self, call: Call) -> None:
        if self._lane is None or self.recovery is None or not self.recovery.done:
            return  # it is handed in once the lane is there
        assert call.event is not None
        self.deliver(self.make_mail(call.target, call.execution, call.event, activity=call.name))

    def _timer_due(self, row: TimerRow) -> None:
        event = TimerFired(task_id=row.task_id, fire_at=row.fire_at)
        self.deliver(Mail(self.lane.make_key(), row.instance, row.execution, event, backed=True))

    # --- reading in --------------------------------------------------------------------------------------------------

    def _loaded(self, instance: Instance, loaded: Loaded) -> None:
        row = loaded.row
        if self.table.get(instance.key) is not instance or instance.state is not None:
            return
        waiting, instance.on_load = instance.on_load, []
        if row is None:
            for mail in instance.mailbox:
                self.lane.forget(mail)
                if mail.activity is not None:
                    self.desk.settle(mail.activity)
            self.table.remove(instance)
            for then in waiting:
                then(None)
            return
        instance.row = instance.committed = row
        self.table.name(instance, row.id)
        reason = self._park_on_load.pop(row.key, None) or loaded.unreadable
        if reason is not None and row.parked is None and row.status not in ENDED:
            self._park(instance, reason)
            instance.on_load = waiting
            return
        instance.state = fold(from_row(row), loaded.records)
        instance.records = loaded.records
        self._strip(instance)
        self._start_open_activities(instance)
        for then in waiting:
            then(instance)
        self._wake(instance)
        self.schedule_pump()

    def _strip(self, instance: Instance) -> None:
        """A held instance keeps control messages only; the others have rows, or will have with this batch."""
        state = instance.state
        if state is not None and state.held:
            self._leave_in_inbox(instance)

    def _leave_in_inbox(self, instance: Instance) -> None:
        for mail in instance.mailbox:
            mail.waited = True
        instance.mailbox = deque(mail for mail in instance.mailbox if mail.control)

    def _start_open_activities(self, instance: Instance) -> None:
        """After reading in: what is open, not under way in this process and not answered has to be started."""
        state = instance.state
        assert state is not None
        if state.held or state.ended or not state.open_activities:
            return
        answered = {
            mail.event.task_id
            for mail in instance.mailbox
            if isinstance(mail.event, (TaskCompleted, TaskFailed)) and mail.execution == state.execution
        }
        for task in state.open.values():
            if isinstance(task, TaskScheduled) and task.task_id not in answered:
                self.desk.add(instance.key, state.id, state.execution, task)

    def _read_side(self, instance: Instance) -> None:
        """A resumed instance: what waited in the inbox comes before what arrived since."""

        def got(mails: list[Mail]) -> None:
            if self.table.get(instance.key) is not instance or instance.side is None:
                return
            known = {mail.id: mail for mail in instance.side}
            known.update((mail.id, mail) for mail in instance.mailbox)
            seen = {mail.id for mail in mails}
            merged = [known.get(mail.id, mail) for mail in mails]
            merged.extend(mail for mail in instance.mailbox if mail.id not in seen)
            merged.extend(mail for mail in instance.side if mail.id not in seen)
            instance.mailbox = deque(merged)
            instance.side = None
            state = instance.state
            if state is not None:
                self._strip(instance)
                self._start_open_activities(instance)
                self.timers.arm(
                    TimerRow(task.fire_at, instance.key, state.execution, task.task_id)
                    for task in state.open.values()
                    if isinstance(task, TimerCreated)
                )
            self._wake(instance)
            self.schedule_pump()

        self.loader.inbox_of(instance.key, got)

    # --- turns -------------------------------------------------------------------------------------------------------

    def schedule_pump(self) -> None:
        """Do what there is to do, behind everything that is already queued for the home thread."""
        if not self._pump_posted:
            self._pump_posted = True
            self.runtime.post(self._pump)

    def _pump(self) -> None:
        self._pump_posted = False
        lane = self._lane
        if lane is None or self.recovery is None:
            return
        self.loader.pump()
        self.recovery.pump()
        if not self.recovery.done:
            return
        self._dispatch(lane)
        self._seal(lane, hurry=False)
        self.desk.pump()

    def _dispatch(self, lane: Lane) -> None:
        if not self._runner.idle:
            return
        settings, batch, ready = self.settings, lane.batch, self._ready
        room = min(settings.turns_in_chunk, self._turn_limit - batch.turns)
        if batch.bytes >= settings.bytes_in_batch:
            return
        jobs: list[Job] = []
        now = self.runtime.now()
        prefix = lane.host.prefix
        for _ in range(len(ready)):
            if len(jobs) >= room or batch.turns >= self._turn_limit:
                break
            instance = ready.popleft()
            instance.queued = False
            if instance.busy or not instance.wants_turn or instance.reset:
                continue
            state = instance.state
            assert state is not None
            if state.ended:
                self._absorb(instance)
                continue
            mails = instance.take(settings.mails_in_turn)
            if mails and mails[0].control:
                self._control(instance, mails[0])
                continue
            if state.held:
                continue
            if not self.orchestrators.knows(state.name):
                instance.put_back(mails)
                text = unknown_function(state.name, "orchestrator", self.orchestrators.names())
                self._park(instance, MISSING_FUNCTION + text)
                continue
            instance.busy = True
            key = lane.make_key()
            jobs.append(Job(instance, mails, now, Fresh(key, execution_id(prefix, key))))
        if jobs:
            self._runner.submit(jobs)

    def _turns_done(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            instance, outcome = job.instance, job.outcome
            if self.table.get(instance.key) is not instance or outcome is None:
                continue
            if isinstance(outcome, Checkpoint):
                self._resolve_children(job, outcome)
                continue
            instance.busy = False
            instance.put_back(job.mails)
            if isinstance(outcome, Interrupted):
                self._reset(instance)
            elif isinstance(outcome, TurnTimeout):
                self._park(instance, f"its orchestrator did not yield within {self.settings.turn_seconds:g} s")
            else:
                log.error("internal error in a turn of instance %r", instance.id, exc_info=outcome)
                self._park(instance, f"internal error: {type(outcome).__name__}: {outcome}")
        self.schedule_pump()

    def _resolve_children(self, job: Job, checkpoint: Checkpoint) -> None:
        """An id that the user chose may belong to somebody: look it up before the turn is gathered."""
        unknown = [
            child.instance_id
            for child in checkpoint.children
            if (child.named or child.instance_id in self._suspicious) and self.orchestrators.knows(child.name)
        ]
        if not unknown:
            self._finish_turn(job, checkpoint)
            return
        left = len(unknown)

        def resolved(_: Instance | None) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._finish_turn(job, checkpoint)
                self.schedule_pump()

        for instance_id in unknown:
            self.resolve(instance_id, resolved)

    def _finish_turn(self, job: Job, checkpoint: Checkpoint) -> None:
        instance = job.instance
        if self.table.get(instance.key) is not instance:
            return
        instance.busy = False
        instance.put_back(job.mails[checkpoint.taken :])
        self._gather(instance, checkpoint, job.mails[: checkpoint.taken])

    def _gather(self, instance: Instance, checkpoint: Checkpoint, taken: Sequence[Mail]) -> None:
        """Take a turn into the open batch, with all that it consumed and made."""
        lane = self.lane
        for mail in taken:
            lane.consume(mail)
        state = instance.state
        assert state is not None
        if checkpoint.record is not None:
            batch = lane.batch
            batch.add(instance, checkpoint)
            instance.row = checkpoint.row
            instance.last_batch = batch.number
            for child in checkpoint.children:
                self._spawn(instance, checkpoint.execution, child)
            if checkpoint.answer is not None and checkpoint.answer_to is not None:
                parent = checkpoint.answer_to
                self.deliver(self.make_mail(parent.key, parent.execution, checkpoint.answer))
            if checkpoint.retired is not None or state.ended:
                self.desk.drop_queued(instance.key)
                self._drop_session(instance)
        self.table.used(instance)
        self._wake(instance)

    def _drop_session(self, instance: Instance) -> None:
        session, instance.session = instance.session, None
        instance.records = ()
        if session is not None:
            self._runner.close_later(session)

    def _control(self, instance: Instance, mail: Mail) -> None:
        state = instance.state
        event = mail.event
        assert state is not None and isinstance(event, Control)  # type: ignore[arg-type]
        was_held = state.held
        checkpoint = control(state, event, now=self.runtime.now())  # type: ignore[arg-type]
        if isinstance(event, ExecutionResumed) and was_held and not state.held:
            instance.side = []
            self.lane.batch.after.append(lambda: self._read_side(instance))
        self._gather(instance, checkpoint, [mail])
        self._strip(instance)

    def _absorb(self, instance: Instance) -> None:
        """Mail for an instance that has ended: events are kept as late, answers wait for a rewind of a failed one."""
        state = instance.state
        assert state is not None
        late: list[EventRaised] = []
        taken: list[Mail] = []
        for mail in instance.mailbox:
            if isinstance(mail.event, EventRaised):
                late.append(mail.event)
                taken.append(mail)
            elif state.status == "Failed" and mail.execution == state.execution:
                if mail.activity is not None:
                    self.desk.settle(mail.activity)
                    mail.activity = None
            else:
                self.lane.consume(mail)
        instance.mailbox.clear()
        if late:
            self._gather(instance, receive_late(state, late, now=self.runtime.now()), taken)

    # --- making instances --------------------------------------------------------------------------------------------

    def create(
        self,
        instance_id: str,
        name: str,
        version: str | None,
        input: str | None,
        parent: ParentLink | None,
        request_id: str | None,
    ) -> Instance:
        lane = self.lane
        instance = Instance(lane.make_key())
        instance.id = instance_id
        instance.state, checkpoint = begin(
            key=instance.key,
            id=instance_id,
            execution=self._fresh(),
            name=name,
            version=version,
            input=input,
            parent=parent,
            request_id=request_id,
            now=self.runtime.now(),
        )
        self.table.add(instance)
        lane.batch.created.add(instance.key)
        self._gather(instance, checkpoint, ())
        return instance

    def restart(
        self,
        instance: Instance,
        name: str,
        version: str | None,
        input: str | None,
        parent: ParentLink | None,
        request_id: str | None,
    ) -> None:
        """Begin anew in the place of an ended instance. Answers that wait for its old execution are dropped."""
        state = instance.state
        assert state is not None and not instance.busy
        self._absorb(instance)
        waited = state.status == "Failed"
        checkpoint = restart(
            state,
            execution=self._fresh(),
            name=name,
            version=version,
            input=input,
            parent=parent,
            request_id=request_id,
            now=self.runtime.now(),
        )
        self._gather(instance, checkpoint, ())
        if waited:
            instance.side = []
            self.lane.batch.after.append(lambda: self._read_side(instance))

    def _fresh(self) -> Fresh:
        key = self.lane.make_key()
        return Fresh(key, execution_id(self.lane.host.prefix, key))

    def _spawn(self, instance: Instance, execution: int, child: SubOrchestrationInstanceCreated) -> None:
        state = instance.state
        assert state is not None
        link = ParentLink(
            key=instance.key, instance_id=state.id, execution=execution, task_id=child.task_id, name=state.name
        )
        refusal: str | None = None
        if not self.orchestrators.knows(child.name):
            refusal = unknown_function(child.name, "orchestrator", self.orchestrators.names())
        else:
            other = self.table.find(child.instance_id)
            if other is None:
                self.create(child.instance_id, child.name, child.version, child.input, link, None)
            elif other.state is not None and other.state.ended and not other.busy:
                self.restart(other, child.name, child.version, child.input, link, None)
            else:
                status = other.state.status if other.state is not None else "Pending"
                refusal = f"An Orchestration instance with the status {status} already exists."
        if refusal is not None:
            kind = "FunctionNotFound" if "doesn't exist" in refusal else "InstanceExists"
            failure = own_failure(kind, refusal)
            event = SubOrchestrationInstanceFailed(task_id=child.task_id, failure=failure)
            self.deliver(self.make_mail(instance.key, execution, event))

    # --- taking instances away ---------------------------------------------------------------------------------------

    def purge(self, instance: Instance) -> None:
        """Delete an ended, durable instance with the open batch. Until that lands its place is kept."""
        batch = self.lane.batch
        batch.purged.append(instance.key)
        batch.touched[instance.key] = instance
        for mail in instance.mailbox:
            self.lane.forget(mail)
        instance.mailbox.clear()
        self._empty(instance, batch)

    def park_key(self, key: int, reason: str) -> None:
        self._park_on_load[key] = reason
        instance = self.table.get(key)
        if instance is not None and instance.state is not None and not instance.busy:
            self._park(instance, self._park_on_load.pop(key))
        else:
            self.bring(key)

    def _park(self, instance: Instance, reason: str) -> None:
        """Stop running an instance, durably and with the reason; its messages wait in the inbox."""
        row = instance.row
        assert row is not None
        log.error("instance %r is parked: %s", instance.id, reason)
        row = msgspec.structs.replace(row, parked=reason, updated_at=self.runtime.now())
        instance.row = row
        batch = self.lane.batch
        batch.write_row(instance, row)
        self._leave_in_inbox(instance)
        self._empty(instance, batch)
        self.schedule_pump()

    def _reset(self, instance: Instance) -> None:
        """Read the instance again once all its turns are durable; its messages stay in memory."""
        self._empty(instance, None)
        self._refill(instance)

    def _empty(self, instance: Instance, batch: Batch | None) -> None:
        """Take the state out of memory; it is read again when what was gathered of it is durable."""
        if batch is not None:
            instance.last_batch = batch.number
        self._drop_session(instance)
        instance.state = None
        instance.reset = True

    def _refill(self, instance: Instance) -> None:
        if instance.reset and instance.last_batch <= self.lane.durable and not instance.busy:
            instance.reset = False
            self.loader.want(instance)
            self.schedule_pump()

    def _evict(self, lane: Lane) -> None:
        for instance in self.table.evictable(self.settings.instances_in_memory, lane.durable):
            self._drop_session(instance)
            self.table.remove(instance)

    # --- commits -----------------------------------------------------------------------------------------------------

    def _seal(self, lane: Lane, hurry: bool) -> None:
        """Send the open batch to the store, unless turns that can join it in a moment are still under way."""
        if lane is not self._lane or not lane.free:
            return
        batch = lane.batch
        if batch.empty and not lane.fresh:
            self._idle(lane)
            return
        more = (self._ready or not self._runner.idle) and batch.turns < self._turn_limit
        if more and not hurry:
            if self._seal_later is None:
                self._seal_later = self.runtime.later(self.settings.seal_seconds, self._seal_now, lane)
            return
        if self._seal_later is not None:
            self._seal_later.cancel()
            self._seal_later = None
        commit = lane.seal(self.runtime.now())
        if commit is not None:
            self._writer.submit(lambda: self.store.commit(commit), lambda result: self._committed(lane, result))
            if self._ready:
                self.schedule_pump()

    def _seal_now(self, lane: Lane) -> None:
        self._seal_later = None
        self._seal(lane, hurry=True)

    def _committed(self, lane: Lane, result: object) -> None:
        if lane is not self._lane:
            return
        if isinstance(result, BaseException):
            self._end_lane(result)
            return
        self._faults = 0
        if self._turn_limit < self.settings.turns_in_batch:
            self._turn_limit = min(self._turn_limit * 2, self.settings.turns_in_batch)
        self._settle(lane, lane.landed())

    def _settle(self, lane: Lane, batch: Batch) -> None:
        """What follows a commit, in this order. Whatever raises in here is a fault of the lane."""
        try:
            for key, row in batch.rows.items():
                instance = batch.touched[key]
                instance.committed = row
                if instance.reset:
                    self._after_reset(instance)
            for key in batch.purged:
                self._after_reset(batch.touched[key])
            for instance, execution, scheduled in batch.starts:
                state = instance.state
                if state is not None and state.execution == execution and scheduled.task_id in state.open:
                    if not state.ended:
                        self.desk.add(instance.key, state.id, execution, scheduled)
            self.timers.disarm(batch.timers_done)
            if batch.timers_new:
                self.timers.arm(batch.timers_new.values())
            self._answer(batch)
            for call in batch.after:
                call()
            self._sweep_due = self._sweep_due or bool(batch.retired or batch.purged)
            self._evict(lane)
        except Exception as error:
            log.critical("internal error after a commit", exc_info=error)
            lane.in_flight = batch  # it has landed, so its requests are answered
            self._end_lane(error)
        self.schedule_pump()

    def _answer(self, batch: Batch) -> None:
        """The batch is durable: those who asked are told, results of activities need not be kept."""
        for name in batch.settled_activities:
            self.desk.settle(name)
        for row in batch.rows.values():
            if row.status in ENDED:
                self.doors.ended(row)
        for request, result in batch.requests:
            self.doors.answer(request, result)

    def _after_reset(self, instance: Instance) -> None:
        if not instance.reset or instance.last_batch > self.lane.durable:
            return
        if instance.mailbox or instance.on_load:
            self._refill(instance)
        elif self.table.get(instance.key) is instance:
            self.table.remove(instance)

    # --- in quiet moments --------------------------------------------------------------------------------------------

    def _idle(self, lane: Lane) -> None:
        if not self._sweep_due or self._sweeping:
            return
        self._sweeping = True

        def swept(result: object) -> None:
            if lane is not self._lane:
                return
            self._sweeping = False
            if isinstance(result, BaseException):
                self._end_lane(result)
            else:
                self._sweep_due = bool(result)
                self.schedule_pump()

        self._writer.submit(lambda: self.store.sweep(lane.host.id, 500), swept)

    def _extend_horizon(self, recovery: Recovery | None) -> None:
        if recovery is not None and recovery is self.recovery and self._on_stopped is None:
            recovery.extend_horizon()
            self.runtime.later(self.settings.horizon_seconds / 2, self._extend_horizon, recovery)

    def _poll_later(self) -> None:
        recovery = self.recovery

        def poll() -> None:
            if recovery is self.recovery and self._on_stopped is None:
                self._watcher.submit(self.store.poll, polled)

        def polled(result: object) -> None:
            if recovery is None or recovery is not self.recovery:
                return
            if result is True:
                self._read_from_clients(recovery)
            elif isinstance(result, BaseException):
                self._end_lane(result)
                return
            self.runtime.later(self.settings.poll_seconds, poll)

        self.runtime.later(self.settings.poll_seconds, poll)

    def _read_from_clients(self, recovery: Recovery) -> None:
        """Another process has written: instances first, or a message would find its instance unknown."""

        def got_instances(rows: Sequence[InstanceRow]) -> None:
            for row in rows:
                recovery.client_cursor = row.key
                self.bring(row.key)
            self.loader.ask(lambda: self.store.inbox(recovery.inbox_cursor, 500), got_mail)

        def got_mail(page: Sequence[object]) -> None:
            recovery.deliver([mail for mail in page if mail.id < 1 << KEY_BITS])  # type: ignore[attr-defined]
            if page:
                recovery.inbox_cursor = max(recovery.inbox_cursor, page[-1].seq)  # type: ignore[attr-defined]
            if len(page) == 500:
                self._read_from_clients(recovery)

        self.loader.ask(lambda: self.store.created_by_clients(recovery.client_cursor, 500), got_instances)
