"""Turns, from mail to checkpoint.

Instances with something to do stand in one queue, and one that has had its turn goes to its tail. Code runs on the turn
thread; what needs no code (control messages, mail for an ended instance) is done here at once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perdure.core.errors import RefusedData, TurnTimeout
from perdure.core.events import Control, EventRaised
from perdure.core.failures import text_of, unknown_function
from perdure.core.state import ENDED, InstanceState
from perdure.core.turn import Checkpoint, control, receive_late
from perdure.engine.instances import CONTROL_TYPES, Instance, Mail
from perdure.engine.lane import Lane
from perdure.engine.members import Begun
from perdure.engine.recovery import MISSING_FUNCTION
from perdure.engine.turns import Interrupted, Job, last_line

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

log = logging.getLogger("perdure.engine")

_NONE_BEGUN: Mapping[int, Begun] = {}


class Dispatch:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._payload_bytes = engine.settings.payload_bytes
        self.ready: deque[Instance] = deque()

    def wake(self, instance: Instance) -> None:
        """Put the instance into the queue if it has something to do."""
        if not instance.busy and not instance.queued and instance.wants_turn:
            instance.queued = True
            self.ready.append(instance)

    def begin_turns(self, lane: Lane) -> None:
        """Hand the next chunk to the turn thread, unless that is at work or the open batch is full."""
        engine, ready = self._engine, self.ready
        settings, commits = engine.settings, engine.commits
        if not ready or not engine.runner.idle or lane.batch.bytes >= settings.bytes_in_batch:
            return
        if engine.holds.bytes >= settings.payload_bytes_waiting:
            return
        jobs: list[Job] = []
        now = engine.runtime.now()
        room = min(settings.turns_in_chunk, commits.room())
        for _ in range(len(ready)):
            if len(jobs) >= room or (commits.narrowed and len(jobs) >= commits.room()):
                break
            instance = ready.popleft()
            instance.queued = False
            state = instance.state
            if state is None or instance.busy or instance.reset or instance.side is not None:
                continue
            mails = self._mail_for_code(instance, state)
            if mails is not None:
                instance.busy = True
                jobs.append(Job(instance, state, instance.session, instance.records, mails, now, lane.make_fresh))
        if jobs:
            engine.runner.submit(jobs)

    def _mail_for_code(self, instance: Instance, state: InstanceState) -> list[Mail] | None:
        """What the orchestrator's code is to see next; None if there was something else to do, which is done."""
        engine = self._engine
        if state.row.status in ENDED:
            self.absorb(instance)
            return None
        mails = instance.take(engine.settings.mails_in_turn)
        if mails:
            if type(mails[0].event) in CONTROL_TYPES:
                self._control(instance, mails[0])
                return None
        elif not state.unrun or state.held:
            return None
        if instance.session is None and not engine.orchestrators.knows(state.row.name):
            instance.put_back(mails)
            text = unknown_function(state.row.name, "orchestrator", engine.orchestrators.names())
            engine.members.park(instance, MISSING_FUNCTION + text)
            return None
        return mails

    def turns_done(self, jobs: Sequence[Job]) -> None:
        """A chunk is back from the turn thread."""
        engine = self._engine
        for job in jobs:
            instance, outcome = job.instance, job.outcome
            if engine.leaving or engine.members.table.get(instance.key) is not instance:
                if job.session is not None:
                    engine.runner.close_later(job.session)
                continue
            instance.session, instance.records = job.session, ()
            if not isinstance(outcome, Checkpoint):
                self._turn_broke(job, outcome)
            elif outcome.children or (outcome.record is not None and len(outcome.record) > self._payload_bytes):
                self._write_large(job, outcome)
            else:
                self._finish_turn(job, outcome)
        if engine.leaving:
            engine.runner.close_on_worker()
        engine.schedule_pump()

    def _turn_broke(self, job: Job, error: BaseException | None) -> None:
        engine, instance = self._engine, job.instance
        instance.busy = False
        instance.put_back(job.mails)
        if error is None or isinstance(error, Interrupted):
            engine.members.reset(instance)
        elif isinstance(error, TurnTimeout):
            limit = engine.settings.turn_seconds
            place = last_line(error)
            at = f", at {place}" if place is not None else ""
            engine.members.park(instance, f"its orchestrator did not yield within {limit:g} s{at}")
        else:
            log.error("internal error in a turn of instance %r", instance.id, exc_info=error)
            engine.members.park(instance, f"internal error: {type(error).__name__}: {text_of(error)}")

    def _write_large(self, job: Job, checkpoint: Checkpoint) -> None:
        """Write what is large of a turn, and of the children that it makes, before the turn goes on."""
        engine, instance, state = self._engine, job.instance, job.state
        drafts = engine.holds.take_out(state, checkpoint)
        begun: dict[int, Begun] = {}
        for child in checkpoint.children:
            if engine.holds.may_be_large(child.input) and engine.orchestrators.knows(child.name):
                start = engine.members.start_of(child, checkpoint)
                made = engine.members.begin(child.instance_id, start)
                of_child = engine.holds.take_out(made.state, made.checkpoint)
                if of_child:
                    begun[child.task_id] = made
                    drafts += of_child
        if not drafts:
            self._resolve_children(job, checkpoint, begun)
            return
        for mail in job.mails[: checkpoint.taken]:
            if mail.activity is not None:
                engine.lane.keep_back(mail)

        def written(refusal: RefusedData | None) -> None:
            if engine.members.table.get(instance.key) is not instance:
                return
            if refusal is None:
                self._resolve_children(job, checkpoint, begun)
            else:
                self._turn_refused(job, refusal)

        engine.holds.hold(drafts, written)

    def _turn_refused(self, job: Job, refusal: RefusedData) -> None:
        """The results of activities that the turn took may be what is refused, so these activities run again."""
        engine, instance = self._engine, job.instance
        instance.busy = False
        for mail in job.mails:
            if mail.activity is not None:
                engine.lane.forget(mail)
                engine.desk.settle(mail.activity)
        instance.put_back([mail for mail in job.mails if mail.activity is None])
        engine.members.park(instance, f"the store refused what its turn wrote: {refusal}")

    def _resolve_children(self, job: Job, checkpoint: Checkpoint, begun: Mapping[int, Begun]) -> None:
        """An id that the user chose may belong to somebody: look it up before the turn is gathered."""
        engine = self._engine
        unknown: list[str] = []
        for child in checkpoint.children:
            chosen = child.named or child.instance_id in engine.commits.suspicious
            if chosen and engine.orchestrators.knows(child.name):
                unknown.append(child.instance_id)
        if not unknown:
            self._finish_turn(job, checkpoint, begun)
            return
        left = len(unknown)

        def resolved(_: Instance | None) -> None:
            nonlocal left
            left -= 1
            if left == 0 and engine.members.table.get(job.instance.key) is job.instance:
                self._finish_turn(job, checkpoint, begun)
                engine.schedule_pump()

        for instance_id in unknown:
            engine.members.resolve(instance_id, resolved)

    def _finish_turn(self, job: Job, checkpoint: Checkpoint, begun: Mapping[int, Begun] = _NONE_BEGUN) -> None:
        instance, mails, taken = job.instance, job.mails, checkpoint.taken
        instance.busy = False
        if taken < len(mails):
            instance.put_back(mails[taken:])
            mails = mails[:taken]
        self.gather(instance, checkpoint, mails, begun)

    def gather(
        self,
        instance: Instance,
        checkpoint: Checkpoint,
        taken: Sequence[Mail],
        begun: Mapping[int, Begun] = _NONE_BEGUN,
    ) -> None:
        """Take a turn into the open batch, with all that it consumed and made.

        `begun` has the children, by task id, whose large inputs are written already.
        """
        engine, lane, state = self._engine, self._engine.lane, instance.state
        assert state is not None
        for mail in taken:
            lane.consume(mail)
        if checkpoint.record is not None:
            batch, row = lane.batch, checkpoint.row
            batch.add(instance, checkpoint)
            batch.causes.add(instance.key)
            if checkpoint.failure is not None:
                batch.failed.append((row, checkpoint.failure))
            instance.row = row
            instance.last_batch = batch.number
            if checkpoint.children:
                for child in checkpoint.children:
                    start = engine.members.start_of(child, checkpoint)
                    engine.members.spawn(child, start, begun.get(child.task_id))
            if checkpoint.answer is not None and checkpoint.answer_to is not None:
                parent = checkpoint.answer_to
                engine.deliver(engine.make_mail(parent.key, parent.execution, checkpoint.answer))
            if checkpoint.retired is not None or row.status in ENDED:
                engine.desk.drop_queued(instance.key)
                engine.members.drop_session(instance)
        engine.members.table.used(instance)
        if instance.mailbox or state.unrun:
            self.wake(instance)

    def _control(self, instance: Instance, mail: Mail) -> None:
        engine, state, event = self._engine, instance.state, mail.event
        assert state is not None and isinstance(event, Control)
        was_held = state.held
        checkpoint = control(state, event, now=engine.runtime.now())
        if was_held and not state.held:
            engine.members.bring_inbox(instance)
        self.gather(instance, checkpoint, [mail])
        engine.members.strip(instance)
        if instance.unreadable is not None and not state.held and not state.ended:
            engine.members.park(instance, instance.unreadable)

    def absorb(self, instance: Instance, last: bool = False) -> None:
        """Mail for an instance that has ended: events are kept as late, answers wait for a rewind of a failed one.

        `last`: another execution begins with this batch, so that what is kept is not written.
        """
        engine, state = self._engine, instance.state
        assert state is not None
        late: list[EventRaised] = []
        taken: list[Mail] = []
        for mail in instance.mailbox:
            if isinstance(mail.event, EventRaised):
                late.append(mail.event)
                taken.append(mail)
            elif state.row.status == "Failed" and mail.execution == state.row.execution:
                if mail.activity is not None:
                    engine.desk.settle(mail.activity)
                    mail.activity = None
            else:
                engine.lane.consume(mail)
        instance.mailbox.clear()
        if not late:
            return
        checkpoint = receive_late(state, late, now=engine.runtime.now())
        drafts = [] if last else engine.holds.take_out(state, checkpoint)
        if not drafts:
            self.gather(instance, checkpoint, taken)
            return
        assert instance.id is not None
        instance_id = instance.id

        def written(refusal: RefusedData | None) -> None:
            assert instance.state is state, f"instance {instance_id!r} has changed while it was claimed"
            instance.busy = False
            if refusal is None:
                self.gather(instance, checkpoint, taken)
            else:
                log.error("late events of instance %r stay in the inbox: %s", instance_id, refusal)
                engine.members.reset(instance)
            engine.members.release(instance_id)

        instance.busy = True
        engine.members.claim(instance_id)
        engine.holds.hold(drafts, written)
