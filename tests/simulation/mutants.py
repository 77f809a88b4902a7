"""Planted mutations of the engine, each a way in which an engine like this breaks.

Every mutation takes a rule away that the engine rests on. A simulation that cannot tell the difference would be worth
nothing, so `test_mutants.py` runs each mutant over a few seeds and demands that an invariant breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest
from azure.durable_functions.replay import OrchestrationSession
from msgspec.structs import replace

from perdure.core import turn
from perdure.core.events import ExecutionTerminated, SubOrchestrationInstanceFailed
from perdure.core.protocols import StartRequest
from perdure.core.state import InstanceState
from perdure.core.turn import Addressed, Checkpoint, Start
from perdure.engine import Engine, holds, turns
from perdure.engine.activities import ActivityDesk
from perdure.engine.commits import Commits
from perdure.engine.dispatch import Dispatch
from perdure.engine.doors import Doors, Request
from perdure.engine.holds import Holds, Written
from perdure.engine.instances import Instance, InstanceTable, Mail
from perdure.engine.lane import Lane
from perdure.engine.members import Members
from perdure.engine.payloads import Draft
from perdure.engine.timers import Timers
from perdure.store.api import Commit, TimerRow
from perdure.testing.faults import FaultRates, FaultyStore
from perdure.testing.simulation import DEFAULT_SETTINGS
from simulation.schedule import Plan

Patch = pytest.MonkeyPatch

_LANE_FAULTS = Plan(
    rates=FaultRates(commit_fails=0.1, answer_lost=0.1, read_fails=0.02), kills=0, stops=0, outside=False
)
_BURSTS = Plan(
    kinds=("collector", "eternal"),
    rates=FaultRates(),
    kills=0,
    stops=0,
    noise=0,
    outside=False,
    bursts=True,
    settings=replace(DEFAULT_SETTINGS, instances_in_memory=100),
)
_CROWDED = Plan(settings=replace(DEFAULT_SETTINGS, instances_in_memory=1))
_STEERED = Plan(kinds=("race", "fan", "chain"), instances=(10, 16), rates=FaultRates(), kills=0, stops=0, outside=False)
_TWINS = Plan(kinds=("canceller", "twins"), instances=(10, 16))
_PURGED = Plan(kinds=("stamped",), instances=(10, 16), outside=False)
_LARGE = Plan(rates=FaultRates(commit_fails=0.05, payloads_fail=0.1, payloads_answer_lost=0.1), payload_bytes=20)
_CRASHES = Plan(rates=FaultRates(crash_before_commit=0.06, crash_after_commit=0.06), kills=3)


class Mutant(NamedTuple):
    plant: Callable[[Patch], None]
    plan: Plan = Plan()


def nothing_landed(patch: Patch) -> None:
    """The store says that the last commit landed; the engine hears that it did not, and does all of it again."""
    end_host = FaultyStore.end_host

    def mutant(self: FaultyStore, host_id: str) -> int:
        end_host(self, host_id)
        return -1

    patch.setattr(FaultyStore, "end_host", mutant)


def everything_landed(patch: Patch) -> None:
    """The engine believes that the commit under way landed, whatever the store says, and answers its requests."""
    end_host, commit = FaultyStore.end_host, FaultyStore.commit
    sent: dict[str, int] = {}

    def sending(self: FaultyStore, batch: Commit) -> None:
        sent[batch.host] = batch.number
        commit(self, batch)

    def mutant(self: FaultyStore, host_id: str) -> int:
        end_host(self, host_id)
        return sent.get(host_id, 0)

    patch.setattr(FaultyStore, "commit", sending)
    patch.setattr(FaultyStore, "end_host", mutant)


def a_failed_commit_is_taken_for_landed(patch: Patch) -> None:
    """The lane goes on behind a hole, and the store does not look at the numbers."""
    committed, commit = Commits._committed, FaultyStore.commit

    def mutant(self: Commits, lane: Lane, result: object) -> None:
        committed(self, lane, None)

    def unnumbered(self: FaultyStore, batch: Commit) -> None:
        store: Any = self._store
        batch.number = store._hub().hosts[batch.host].commit_number + 1
        commit(self, batch)

    patch.setattr(Commits, "_committed", mutant)
    patch.setattr(FaultyStore, "commit", unnumbered)


def answers_of_dead_executions_count(patch: Patch) -> None:
    """Messages are taken for the current execution, whichever they were meant for."""
    run = turns.run

    def mutant(state: Any, session: Any, given: Sequence[Addressed], **rest: Any) -> Checkpoint:
        return run(state, session, [Mail(0, 0, 0, addressed.event) for addressed in given], **rest)

    patch.setattr(turns, "run", mutant)


def consumed_messages_stay_in_the_inbox(patch: Patch) -> None:
    """What a turn consumed is found again after the next restart."""
    consume = Lane.consume

    def mutant(self: Lane, mail: Mail) -> None:
        row, mail.row = mail.row, False
        consume(self, mail)
        mail.row = row

    patch.setattr(Lane, "consume", mutant)


def messages_are_stored_in_reverse(patch: Patch) -> None:
    """The inbox has the messages of a batch in another order than memory."""
    seal = Lane.seal

    def mutant(self: Lane, *given: Any, **named: Any) -> Commit | None:
        self.fresh = dict(reversed(self.fresh.items()))
        return seal(self, *given, **named)

    patch.setattr(Lane, "seal", mutant)


def messages_not_taken_come_back_in_reverse(patch: Patch) -> None:
    """What a turn left over, as its execution ended on the way, is put back the wrong way round."""
    patch.setattr(Instance, "put_back", lambda self, mails: self.mailbox.__setitem__(slice(0, 0), mails[::-1]))


def request_ids_are_ignored(patch: Patch) -> None:
    """A caller that asks again, as its answer was lost, is told that its own instance is somebody else's."""
    start = Doors._start

    def mutant(self: Doors, request: Request, asked: StartRequest) -> None:
        start(self, request, replace(asked, request_id=None))

    patch.setattr(Doors, "_start", mutant)


def requests_are_answered_before_the_commit(patch: Patch) -> None:
    """A caller is told what a crash may yet undo."""
    patch.setattr(Doors, "answer_when_durable", lambda self, request, result: self.answer(request, result))


def instances_are_dropped_before_they_are_durable(patch: Patch) -> None:
    """Memory is freed of an instance whose last turn the store does not have; it is read again as it was before."""
    evictable = InstanceTable.evictable
    patch.setattr(InstanceTable, "evictable", lambda self, limit, durable: evictable(self, limit, 2**62))


def events_are_lost_at_continue_as_new(patch: Patch) -> None:
    """What nobody had waited for does not enter the next generation."""
    begin_generation = turn._continue_as_new

    def mutant(state: Any, decision: Any, carried: Any, *rest: Any) -> Checkpoint:
        return begin_generation(state, decision, [], *rest)

    patch.setattr(turn, "_continue_as_new", mutant)


def running_activities_are_started_again(patch: Patch) -> None:
    """After a fault of the lane, what still runs in this process is started beside itself."""
    add = ActivityDesk.add

    def mutant(self: ActivityDesk, target: int, instance_id: str, execution: int, scheduled: Any) -> None:
        self._calls.pop((execution, scheduled.task_id), None)
        add(self, target, instance_id, execution, scheduled)

    patch.setattr(ActivityDesk, "add", mutant)


def activities_start_before_the_commit(patch: Patch) -> None:
    """An activity runs for a turn that may never have happened."""
    gather = Dispatch.gather

    def mutant(self: Dispatch, instance: Instance, checkpoint: Checkpoint, *rest: Any) -> None:
        gather(self, instance, checkpoint, *rest)
        for scheduled in checkpoint.activities:
            self._engine.desk.add(instance.key, instance.id or "", checkpoint.execution, scheduled)

    patch.setattr(Dispatch, "gather", mutant)


def clients_see_what_is_not_durable(patch: Patch) -> None:
    """A status shows a turn whose commit may fail."""
    gather = Dispatch.gather

    def mutant(self: Dispatch, instance: Instance, *rest: Any) -> None:
        gather(self, instance, *rest)
        instance.committed = instance.row

    patch.setattr(Dispatch, "gather", mutant)


def children_are_made_in_a_later_commit(patch: Patch) -> None:
    """A parent waits for a child that a crash has kept from being made."""
    spawn = Members.spawn

    def mutant(self: Members, child: Any, start: Start, *rest: Any) -> None:
        assert start.parent is not None
        parent = self.table.get(start.parent.key)

        def later() -> None:
            there = parent is not None and self.table.get(parent.key) is parent and parent.state
            if self._engine.commits.lane is not None and there:
                spawn(self, child, start, *rest)
                self._engine.schedule_pump()

        self._engine.runtime.later(0.003, later)

    patch.setattr(Members, "spawn", mutant)


def parents_are_told_in_a_later_commit(patch: Patch) -> None:
    """A child has ended, and its parent never hears of it."""
    gather = Dispatch.gather

    def mutant(self: Dispatch, instance: Instance, checkpoint: Checkpoint, *rest: Any) -> None:
        answer, parent = checkpoint.answer, checkpoint.answer_to
        checkpoint.answer = None
        gather(self, instance, checkpoint, *rest)
        if answer is None or parent is None:
            return
        engine = self._engine

        def later() -> None:
            if engine.commits.lane is not None:
                engine.deliver(engine.make_mail(parent.key, parent.execution, answer))

        engine.runtime.later(0.003, later)

    patch.setattr(Dispatch, "gather", mutant)


def stored_timers_are_not_read(patch: Patch) -> None:
    """Timers live in memory alone."""
    patch.setattr(FaultyStore, "timers", lambda self, until, after, limit: [])


def due_instances_are_not_read(patch: Patch) -> None:
    """At a start only the inbox and the timers are looked at."""
    patch.setattr(FaultyStore, "due", lambda self, after_key, limit: [])


def results_for_a_held_instance_wait_for_a_row(patch: Patch) -> None:
    """A result that no memory holds is not written with the batch at hand."""
    seal = Lane.seal

    def mutant(self: Lane, *given: Any, **named: Any) -> Commit | None:
        for mail in self.fresh.values():
            mail.held = False
        return seal(self, *given, **named)

    patch.setattr(Lane, "seal", mutant)


def the_inbox_of_a_resumed_instance_is_not_read(patch: Patch) -> None:
    """What came while it was suspended waits for ever."""
    patch.setattr(Members, "bring_inbox", lambda self, instance: None)


def terminate_is_accepted_and_forgotten(patch: Patch) -> None:
    """The caller is told that it was terminated; it runs on."""
    control = Dispatch._control

    def mutant(self: Dispatch, instance: Instance, mail: Mail) -> None:
        if isinstance(mail.event, ExecutionTerminated):
            self._engine.lane.consume(mail)
            self.wake(instance)
        else:
            control(self, instance, mail)

    patch.setattr(Dispatch, "_control", mutant)


def late_events_are_thrown_away(patch: Patch) -> None:
    """An event that was acknowledged is nowhere to be seen, as its instance had ended."""
    absorb = Dispatch.absorb

    def mutant(self: Dispatch, instance: Instance, **named: Any) -> None:
        for mail in [mail for mail in instance.mailbox if not mail.execution and not mail.control]:
            instance.mailbox.remove(mail)
            self._engine.lane.consume(mail)
        absorb(self, instance, **named)

    patch.setattr(Dispatch, "absorb", mutant)


def stored_messages_are_not_read(patch: Patch) -> None:
    """What was acknowledged and not yet taken when the host died is never taken."""
    patch.setattr(FaultyStore, "inbox", lambda self, after, limit: [])


def results_are_lost_with_the_lane(patch: Patch) -> None:
    """An activity has ended, its result was not durable when the lane ended, and nobody hands it in again."""
    patch.setattr(ActivityDesk, "finished", lambda self: [])


def sessions_are_closed_with_a_living_context(patch: Patch) -> None:
    """Dropped from memory, an orchestrator leaves its `with` block, and what it asks for on the way out counts."""

    def mutant(self: OrchestrationSession) -> None:
        generator, self._generator = self._generator, None
        try:
            if generator is not None:
                generator.close()
        except RuntimeError:
            pass

    patch.setattr(OrchestrationSession, "close", mutant)


def all_events_are_applied_before_the_code_goes_on(patch: Patch) -> None:
    """What the code sees of its other tasks depends on how many events happened to come together."""
    apply, run = OrchestrationSession._apply, OrchestrationSession._run

    def mutant(self: OrchestrationSession, received: Sequence[Any]) -> int:
        if self._replaying or self._generator is None:
            return apply(self, received)
        waiting: list[Any] = []
        with pytest.MonkeyPatch.context() as held:
            held.setattr(OrchestrationSession, "_run", lambda session, *outcome: waiting.append(outcome))
            count = apply(self, received)
        if waiting:
            run(self, *waiting[0])
        return count

    patch.setattr(OrchestrationSession, "_apply", mutant)


def timers_fire_before_their_time(patch: Patch) -> None:
    """A clock that runs ahead."""
    arm = Timers.arm

    def mutant(self: Timers, rows: Iterable[TimerRow]) -> None:
        arm(self, [TimerRow(row.fire_at - 500_000, row.instance, row.execution, row.task_id) for row in rows])

    due = Engine._timer_due

    def restored(self: Engine, row: TimerRow) -> None:
        due(self, TimerRow(row.fire_at + 500_000, row.instance, row.execution, row.task_id))

    patch.setattr(Timers, "arm", mutant)
    patch.setattr(Engine, "_timer_due", restored)


def rows_for_instances_that_are_gone_stay(patch: Patch) -> None:
    """A message was stored while its instance was being purged; nobody takes the row away."""

    def mutant(self: Members, instance: Instance) -> None:
        for mail in instance.mailbox:
            self._engine.lane.forget(mail)
        instance.mailbox.clear()

    patch.setattr(Members, "_drop_mail", mutant)


def chosen_ids_of_children_are_not_looked_up(patch: Patch) -> None:
    """A child is made blindly under an id that an instance on disk has."""
    patch.setattr(Dispatch, "_resolve_children", lambda self, *given: self._finish_turn(*given))


def a_child_that_cannot_be_made_is_silence(patch: Patch) -> None:
    """Its id is taken, and the parent is not told."""
    deliver = Engine.deliver

    def mutant(self: Engine, mail: Mail) -> None:
        event = mail.event
        clash = isinstance(event, SubOrchestrationInstanceFailed) and event.failure.type == "InstanceExists"
        if not clash:
            deliver(self, mail)

    patch.setattr(Engine, "deliver", mutant)


def commits_go_out_before_their_payloads(patch: Patch) -> None:
    """A large value is written when it comes, and nobody waits for it."""
    hold = Holds.hold

    def mutant(self: Holds, drafts: Sequence[Draft], then: Written) -> None:
        hold(self, drafts, lambda _: None)
        then(None)

    patch.setattr(Holds, "hold", mutant)


def the_payload_of_a_row_is_forgotten(patch: Patch) -> None:
    """A large output is written, and the row does not say where."""
    take_out = holds.take_out

    def mutant(state: InstanceState, checkpoint: Checkpoint, *rest: Any) -> list[Draft]:
        drafts = take_out(state, checkpoint, *rest)
        checkpoint.row.output_payload = None
        return drafts

    patch.setattr(holds, "take_out", mutant)


def holds_outlive_their_lane(patch: Patch) -> None:
    """A turn whose values were written while the lane ended joins the next one, beside the same turn taken again."""
    reset = Holds.reset

    def mutant(self: Holds) -> None:
        epoch = self._epoch
        reset(self)
        self._epoch = epoch

    patch.setattr(Holds, "reset", mutant)


MUTANTS = [
    Mutant(nothing_landed, _LANE_FAULTS),
    Mutant(everything_landed, _LANE_FAULTS),
    Mutant(a_failed_commit_is_taken_for_landed, _LANE_FAULTS),
    Mutant(answers_of_dead_executions_count),
    Mutant(consumed_messages_stay_in_the_inbox, _CRASHES),
    Mutant(messages_are_stored_in_reverse, _BURSTS),
    Mutant(messages_not_taken_come_back_in_reverse, _BURSTS),
    Mutant(request_ids_are_ignored, _CRASHES),
    Mutant(requests_are_answered_before_the_commit, _CRASHES),
    Mutant(instances_are_dropped_before_they_are_durable, _CROWDED),
    Mutant(events_are_lost_at_continue_as_new),
    Mutant(running_activities_are_started_again, _LANE_FAULTS),
    Mutant(activities_start_before_the_commit, _LANE_FAULTS),
    Mutant(clients_see_what_is_not_durable),
    Mutant(children_are_made_in_a_later_commit, _CRASHES),
    Mutant(parents_are_told_in_a_later_commit, _CRASHES),
    Mutant(stored_timers_are_not_read),
    Mutant(due_instances_are_not_read, _CRASHES),
    Mutant(results_for_a_held_instance_wait_for_a_row, _STEERED),
    Mutant(the_inbox_of_a_resumed_instance_is_not_read),
    Mutant(terminate_is_accepted_and_forgotten),
    Mutant(late_events_are_thrown_away),
    Mutant(stored_messages_are_not_read, _CRASHES),
    Mutant(results_are_lost_with_the_lane, _LANE_FAULTS),
    Mutant(sessions_are_closed_with_a_living_context, _CROWDED),
    Mutant(all_events_are_applied_before_the_code_goes_on, _TWINS),
    Mutant(timers_fire_before_their_time),
    Mutant(rows_for_instances_that_are_gone_stay, _PURGED),
    Mutant(chosen_ids_of_children_are_not_looked_up, _CROWDED),
    Mutant(a_child_that_cannot_be_made_is_silence),
    Mutant(commits_go_out_before_their_payloads, _LARGE),
    Mutant(the_payload_of_a_row_is_forgotten, _LARGE),
    Mutant(holds_outlive_their_lane, _LARGE),
]
