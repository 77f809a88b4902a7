"""The beginning and the end of lanes, and what follows each commit.

A batch is sent when the lane is free. What follows its commit happens always in this order: publish what clients may
read, start activities and arm timers, answer requests. Nothing outside is told or begun before the commit that caused
it. Any failure ends the lane (`end_lane`): all of memory is dropped, the store is asked how far the lane got, a new
lane begins and reads what is due. There is no other repair.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Union

from perdure.core.errors import IdTaken, RefusedData
from perdure.core.events import Failure
from perdure.core.failures import message_of, shortened
from perdure.core.runtime import Cancellable
from perdure.core.state import ENDED, InstanceRow
from perdure.engine.lane import Batch, Lane
from perdure.engine.recovery import Recovery
from perdure.store.api import Host

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

log = logging.getLogger("perdure.engine")

_SWEEP_ROWS = 500


class Commits:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.runtime.worker("commits")
        self.lane: Lane | None = None
        self.turn_limit = engine.settings.turns_in_batch
        """Turns and requests in one batch; narrowed while a value that the store refuses is looked for."""
        self.suspicious: set[str] = set()
        """Ids made here that turned out to be taken; they are looked up like ids that users chose."""
        self._faults = 0
        self._down_since: float | None = None
        """When the first of the faults came, since which nothing was committed and no lane lasted."""
        self._up_since: float | None = None
        self._ordinal = 0
        self._seal_later: Cancellable | None = None
        self._sweeping = False
        self._sweep_due = True

    # --- the lane ----------------------------------------------------------------------------------------------------

    def register(self) -> None:
        if self._engine.leaving:
            return
        now, bits = self._engine.runtime.now(), self._engine.runtime.random_bits(64)
        self._writer.submit(lambda: self._engine.store.register_host(now, bits), self._registered)

    def _registered(self, result: Union[Host, BaseException]) -> None:
        if self._engine.leaving:
            return
        if isinstance(result, BaseException):
            self._pause_then(self.register, result)
            return
        if result.ordinal <= self._ordinal:
            self._went_back(f"from host {self._ordinal} to {result.ordinal}")
        self._ordinal = result.ordinal
        self.lane = Lane(result)
        self._engine.recovery = Recovery(self._engine, self._inbox_read)
        self._engine.recovery.begin()

    def _inbox_read(self) -> None:
        self._engine.activities_done(self._engine.desk.finished())
        for key, reason in list(self._engine.members.park_on_load.items()):
            self._engine.members.park_key(key, reason)
        recovery = self._engine.recovery
        self._up_since = self._engine.runtime.monotonic()
        self._engine.doors.let_in()
        if recovery is not None and recovery is self._engine.recovery:  # a request may have ended the lane
            self._engine.poller.begin(recovery)
            self._engine.is_running()

    def end_lane(self, error: BaseException) -> None:
        """A commit or a read failed: drop everything, ask how far the lane got, and begin another."""
        lane, self.lane = self.lane, None
        if lane is None:
            return
        log.warning("the lane of host %s has ended: %s: %s", lane.host.id, type(error).__name__, error)
        self._learn(lane, error)
        self._lose_patience(error)
        self._up_since = None
        self._engine.recovery = None
        self._engine.doors.shut()
        self._engine.loader.reset()
        self._engine.holds.reset()
        self._engine.timers.clear()
        self._engine.runner.forget()
        self._engine.desk.drop_all_queued()
        for instance in self._engine.members.table:
            if instance.session is not None:
                self._engine.runner.close_later(instance.session)
        self._engine.members.forget()
        self._engine.dispatch.ready.clear()
        if self._seal_later is not None:
            self._seal_later.cancel()
            self._seal_later = None
        self._sweeping = False
        self._sweep_due = True

        def ended(result: Union[int, BaseException]) -> None:
            if isinstance(result, BaseException):
                self._pause_then(ask, result)
                return
            flight = lane.in_flight
            if flight is not None and result == flight.number:
                self._answer(flight)
            if result < lane.durable:
                self._went_back(f"from commit {lane.durable} of host {lane.host.id} to {result}")
            self._pause_then(self.register, None)

        def ask() -> None:
            self._writer.submit(lambda: self._engine.store.end_host(lane.host.id), ended)

        ask()

    def _went_back(self, how: str) -> None:
        """The store shows an earlier state, as after a failover to a replica that lagged behind.

        No execution that it has asked for what runs here, though it may use the keys of one that did.
        """
        log.critical("the store has gone back %s; what was acknowledged since is lost", how)
        self._engine.desk.disown_all()

    def leave(self, then: Callable[[object], object]) -> None:
        """End the lane for good; `then` gets None, or what the store raised."""
        lane, self.lane = self.lane, None

        def leave() -> None:
            if lane is not None:
                self._engine.store.end_host(lane.host.id)

        self._writer.submit(leave, then)

    def _learn(self, lane: Lane, error: BaseException) -> None:
        """What an error says about how to go on: faults of the environment are waited out, those of data narrowed."""
        flight = lane.in_flight
        if isinstance(error, IdTaken):
            self.suspicious.update(error.ids)
        elif isinstance(error, RefusedData) and flight is not None:
            self._narrow(flight, error)

    def _narrow(self, flight: Batch, error: RefusedData) -> None:
        """Find who wrote what the store refuses: an instance that is alone in its batch is parked, a request refused.

        Results of activities that were only to be kept are dropped first, as they may be what is refused. Should their
        instances go on, these activities run again.
        """
        engine = self._engine
        self.turn_limit = max(1, min(self.turn_limit, flight.load) // 2)
        kept = [mail.activity for mail in flight.written if mail.activity is not None]
        if kept:
            if len(flight.causes) + len(flight.requests) <= 2:
                for name in kept:
                    engine.desk.settle(name)
        elif not flight.requests and len(flight.causes) == 1:
            key = next(iter(flight.causes))
            engine.members.park_on_load[key] = f"the store refused what its turn wrote: {error}"
            engine.desk.settle_results(key)
        elif len(flight.requests) == 1 and flight.turns <= 1:
            request, _ = flight.requests[0]
            if all(flight.began.get(key) is request for key in flight.causes):
                engine.doors.answer(request, error)

    @property
    def narrowed(self) -> bool:
        return self.turn_limit < self._engine.settings.turns_in_batch

    def room(self) -> int:
        """How many more turns and requests may join the open batch."""
        engine = self._engine
        room = self.turn_limit - engine.lane.batch.load
        if self.narrowed:
            room -= engine.doors.asking + engine.runner.under_way + engine.holds.count
        return room

    def _pause_then(self, call: Callable[[], object], error: BaseException | None) -> None:
        if error is not None:
            log.warning("the store does not answer: %s: %s", type(error).__name__, error)
            self._lose_patience(error)
        pause = 0.0
        if self._faults:
            settings = self._engine.settings
            pause = min(settings.retry_seconds * 2 ** min(self._faults, 16), settings.retry_limit_seconds)
        self._faults += 1
        self._engine.runtime.later(pause, call)

    def _lose_patience(self, error: BaseException) -> None:
        """Whoever waits is told, once nothing could be committed for long."""
        now, patience = self._engine.runtime.monotonic(), self._engine.settings.patience_seconds
        lasted = self._up_since is not None and now - self._up_since > patience
        if self._down_since is None or lasted:
            self._down_since = now
        elif now - self._down_since > patience:
            self._engine.doors.give_up(error)

    # --- commits -----------------------------------------------------------------------------------------------------

    def seal(self, lane: Lane, hurry: bool) -> None:
        """Send the open batch to the store, unless turns that can join it in a moment are still under way."""
        if lane is not self.lane or not lane.free:
            return
        batch = lane.batch
        if batch.empty and not lane.fresh:
            self._idle(lane)
            return
        more = (self._engine.dispatch.ready or not self._engine.runner.idle) and batch.load < self.turn_limit
        if more and not hurry:
            if self._seal_later is None:
                self._seal_later = self._engine.runtime.later(self._engine.settings.seal_seconds, self._seal_now, lane)
            return
        if self._seal_later is not None:
            self._seal_later.cancel()
            self._seal_later = None
        commit = lane.seal(self._engine.runtime.now(), keep_results=not self.narrowed)
        if commit is not None:
            self._writer.submit(lambda: self._engine.store.commit(commit), lambda result: self._committed(lane, result))
            if self._engine.dispatch.ready:
                self._engine.schedule_pump()

    def _seal_now(self, lane: Lane) -> None:
        self._seal_later = None
        self.seal(lane, hurry=True)

    def _committed(self, lane: Lane, result: object) -> None:
        if lane is not self.lane:
            return
        if isinstance(result, BaseException):
            self.end_lane(result)
            return
        self._faults = 0
        self._down_since = None
        if self.turn_limit < self._engine.settings.turns_in_batch:
            self.turn_limit = min(self.turn_limit * 2, self._engine.settings.turns_in_batch)
        self._settle(lane, lane.landed())

    def _settle(self, lane: Lane, batch: Batch) -> None:
        """What follows a commit, in this order. Whatever raises in here is a fault of the lane."""
        try:
            touched = batch.touched
            for key, row in batch.rows.items():
                instance = touched[key]
                instance.committed = row
                if instance.reset:
                    self._engine.members.after_reset(instance)
                elif row.status in ENDED:
                    self._engine.members.let_go(instance)
            for key in batch.purged:
                batch.touched[key].committed = None
                self._engine.members.after_reset(batch.touched[key])
            for instance, call in batch.starts:
                state = instance.state
                if state is None or state.row.status in ENDED or state.row.execution != call.name[0]:
                    continue
                if call.scheduled.task_id in state.open:
                    self._engine.desk.add(call)
            self._engine.timers.disarm(batch.timers_done)
            if batch.timers_new:
                self._engine.timers.arm(batch.timers_new.values())
            self._answer(batch)
            for call in batch.after:
                call()
            for row, failure in batch.failed:
                _log_failure(row, failure)
            self._sweep_due = self._sweep_due or bool(batch.retired or batch.purged)
            self._engine.members.evict(lane)
        except Exception as error:
            log.critical("internal error after a commit", exc_info=error)
            lane.in_flight = batch  # it has landed, so its requests are answered
            self.end_lane(error)
        self._engine.schedule_pump()

    def _answer(self, batch: Batch) -> None:
        """The batch is durable: those who asked are told, results of activities need not be kept."""
        self._engine.desk.settle(*batch.settled_activities)
        for row in batch.rows.values():
            if row.status in ENDED:
                self._engine.doors.ended(row)
        for request, result in batch.requests:
            self._engine.doors.answer(request, result)

    def _idle(self, lane: Lane) -> None:
        if not self._sweep_due or self._sweeping:
            return
        self._sweeping = True
        self._sweep_due = False

        def swept(result: object) -> None:
            if lane is not self.lane:
                return
            self._sweeping = False
            if isinstance(result, BaseException):
                self.end_lane(result)
            else:
                self._sweep_due = self._sweep_due or bool(result)
                self._engine.schedule_pump()

        self._writer.submit(lambda: self._engine.store.sweep(lane.host.id, _SWEEP_ROWS), swept)


def _log_failure(row: InstanceRow, failure: Failure) -> None:
    """The status shows the text that users parse; where the code failed is told here."""
    while failure.message is None and failure.traceback is None and failure.cause is not None:
        failure = failure.cause
    log.error(
        "orchestration %r, instance %r, has failed: %s",
        row.name,
        row.id,
        shortened((failure.traceback or f"{failure.type}: {message_of(failure)}").rstrip()),
    )
