"""Turns: what each kind makes of a state and of the messages that came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from msgspec import UNSET

from perdure.core.codec import decode_records, join_records
from perdure.core.errors import NonDeterminismError
from perdure.core.events import (
    ContinueAsNew,
    Decided,
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    Failure,
    ParentLink,
    Received,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TimerFired,
    TurnRecord,
)
from perdure.core.protocols import Step
from perdure.core.state import InstanceState
from perdure.core.turn import Checkpoint, Fresh, Start, begin, control, fail, receive_late, restart, run

KEY, EXECUTION, NEXT = 7, 8, 9
PARENT = ParentLink(key=1, instance_id="parent", execution=2, task_id=3, name="calls")
FAILURE = Failure(type="ValueError", message="no", kind="orchestrator", function="f")


class Scripted:
    """A session that answers each `advance` with the next of its steps, having applied `consumed` events of it."""

    def __init__(self, *steps: Sequence[Decided], consumed: int | None = None, **rest: Any) -> None:
        self._steps = list(steps)
        self._consumed = consumed
        self._rest = rest
        self.seen: list[tuple[int, list[Received]]] = []

    def replay(self, records: Sequence[TurnRecord]) -> None:
        raise AssertionError("a live session is not replayed")

    def advance(self, at: int, received: Sequence[Received]) -> Step:
        self.seen.append((at, list(received)))
        decided = list(self._steps.pop(0)) if self._steps else []
        return Step(decided, len(received) if self._consumed is None else self._consumed, **self._rest)

    def close(self) -> None:
        pass


class Given(NamedTuple):
    execution: int
    event: Received


def begun(parent: ParentLink | None = None, now: int = 100) -> InstanceState:
    state, _ = begin(
        Start("f", input="1", parent=parent, request_id="r"),
        key=KEY,
        id="it",
        execution=Fresh(EXECUTION, "e" * 16),
        now=now,
    )
    return state


def turn(
    state: InstanceState, session: Scripted, *given: Received, execution: int = EXECUTION, now: int = 200
) -> Checkpoint:
    addressed = [Given(0 if isinstance(event, EventRaised) else execution, event) for event in given]
    return run(state, session, addressed, now=now, fresh=lambda: Fresh(NEXT, "f" * 16))


def running(*decided: Decided, parent: ParentLink | None = None) -> InstanceState:
    """A state whose first turn has decided this."""
    state = begun(parent)
    turn(state, Scripted(decided), now=150)
    return state


def record(checkpoint: Checkpoint) -> TurnRecord:
    assert checkpoint.record is not None
    (decoded,) = decode_records(join_records([checkpoint.record]))
    return decoded


# --- starting --------------------------------------------------------------------------------------------------------


def test_a_new_instance_is_pending_with_its_start_recorded_and_not_run() -> None:
    state, checkpoint = begin(
        Start("f", version="v1", input='"in"', parent=PARENT, request_id="r"),
        key=KEY,
        id="it",
        execution=Fresh(EXECUTION, "e" * 16),
        now=100,
    )
    row = checkpoint.row
    assert (row.key, row.id, row.status, row.ready, row.sequence) == (KEY, "it", "Pending", True, 1)
    assert (row.parent_key, row.parent_execution, row.parent_task, row.parent_id) == (1, 2, 3, "parent")
    assert (row.created_at, row.updated_at, row.completed_at) == (100, 100, None)
    started = ExecutionStarted(
        name="f",
        instance_id="it",
        execution_id=Fresh(EXECUTION, "e" * 16).id,
        input='"in"',
        version="v1",
        parent=PARENT,
    )
    assert record(checkpoint) == TurnRecord(at=100, received=[started], deferred=True)
    assert state.unrun == [started]


def test_the_first_turn_applies_the_start_and_records_only_what_came_since() -> None:
    state = begun()
    session = Scripted([TaskScheduled(0, "a")])
    event = EventRaised("go", "1")
    checkpoint = turn(state, session, event)
    at, seen = session.seen[0]
    assert (at, [type(e) for e in seen]) == (200, [ExecutionStarted, EventRaised])
    assert record(checkpoint) == TurnRecord(at=200, received=[event], decided=[TaskScheduled(0, "a")])
    assert (state.row.status, state.unrun, state.row.sequence) == ("Running", [], 2)
    assert checkpoint.first == 1
    assert not checkpoint.row.ready


def test_an_ended_instance_begins_anew_without_a_trace_of_the_execution_before() -> None:
    state = running(TimerCreated(4, 900), TaskScheduled(5, "a"))
    state.row.parked = None
    turn(state, Scripted([ExecutionCompleted("Failed", failure=FAILURE)]), EventRaised("go"))
    checkpoint = restart(
        state, Start("g", version="v2", input="2", request_id="second"), execution=Fresh(NEXT, "f" * 16), now=500
    )
    row = checkpoint.row
    assert (row.key, row.execution, row.generation, row.sequence, row.status) == (KEY, NEXT, 0, 1, "Pending")
    assert (row.name, row.version, row.input, row.request_id) == ("g", "v2", "2", "second")
    assert (row.output, row.failure, row.custom_status, row.completed_at, row.open_activities) == (None,) * 4 + (0,)
    assert checkpoint.retired == EXECUTION
    assert [timer.task_id for timer in checkpoint.timers_gone] == [4]
    assert state.open == {}


def test_only_an_ended_instance_begins_anew() -> None:
    with pytest.raises(AssertionError):
        restart(begun(), Start("f"), execution=Fresh(NEXT, ""), now=1)


# --- what reaches the code -------------------------------------------------------------------------------------------

OPEN = (TaskScheduled(0, "a"), TimerCreated(1, 180), SubOrchestrationInstanceCreated(2, "c", "child"))


@pytest.mark.parametrize(
    "stray",
    [
        TaskCompleted(1, "1"),
        TaskCompleted(9, "1"),
        TaskFailed(2, FAILURE),
        TimerFired(0, 180),
        SubOrchestrationInstanceCompleted(0, "1"),
        SubOrchestrationInstanceFailed(1, FAILURE),
    ],
)
def test_an_answer_to_what_is_not_open_or_of_another_kind_is_dropped(stray: Received) -> None:
    state, session = running(*OPEN), Scripted()
    checkpoint = turn(state, session, stray)
    assert checkpoint.taken == 1
    assert checkpoint.record is None
    assert session.seen == []
    assert set(state.open) == {0, 1, 2}


@pytest.mark.parametrize("execution", [EXECUTION - 1, NEXT])
def test_an_answer_to_another_execution_is_dropped(execution: int) -> None:
    state, session = running(*OPEN), Scripted()
    checkpoint = turn(state, session, TaskCompleted(0, "1"), execution=execution)
    assert (checkpoint.taken, checkpoint.record, session.seen) == (1, None, [])


def test_the_second_of_two_answers_to_one_task_is_dropped() -> None:
    state, session = running(*OPEN), Scripted()
    checkpoint = turn(state, session, TaskCompleted(0, "1"), TaskFailed(0, FAILURE), TaskCompleted(0, "2"))
    assert checkpoint.taken == 3
    assert record(checkpoint).received == [TaskCompleted(0, "1")]
    assert turn(state, session, TaskCompleted(0, "3")).record is None


def test_answers_close_their_tasks_and_count_activities() -> None:
    state = running(*OPEN, TaskScheduled(3, "b"))
    assert state.row.open_activities == 2
    checkpoint = turn(state, Scripted(), TaskFailed(3, FAILURE), TimerFired(1, 180), now=300)
    assert set(state.open) == {0, 2}
    assert checkpoint.row.open_activities == 1
    assert checkpoint.timers_gone == [TimerCreated(1, 180)]


def test_a_parent_does_not_keep_the_input_of_its_child() -> None:
    state = running(SubOrchestrationInstanceCreated(0, "c", "child", "5"))
    assert state.open == {0: SubOrchestrationInstanceCreated(0, "c", "child")}


def test_time_is_the_latest_of_clock_last_turn_and_timers() -> None:
    state = running(TimerCreated(0, 400), TimerCreated(1, 350))
    session = Scripted()
    turn(state, session, TimerFired(0, 400), TimerFired(1, 350), now=120)
    assert session.seen[-1][0] == 400
    turn(state, session, EventRaised("go"), now=10)
    assert session.seen[-1][0] == 400


def test_a_stray_timer_does_not_move_time() -> None:
    state, session = running(TimerCreated(0, 400)), Scripted()
    turn(state, session, TimerFired(7, 10**9), EventRaised("go"))
    assert session.seen[-1][0] == 200


def test_a_contradiction_leaves_the_state_as_it_was() -> None:
    class Contradicts(Scripted):
        def advance(self, at: int, received: Sequence[Received]) -> Step:
            raise NonDeterminismError("not what it did before")

    state = running(*OPEN)
    before = json.dumps(str(state))
    with pytest.raises(NonDeterminismError):
        turn(state, Contradicts(), TaskCompleted(0, "1"))
    assert json.dumps(str(state)) == before


# --- what the code asks for ------------------------------------------------------------------------------------------


def test_decisions_become_activities_children_and_timers() -> None:
    state = begun()
    checkpoint = turn(state, Scripted(OPEN))
    assert (checkpoint.activities, checkpoint.timers, checkpoint.children) == ([OPEN[0]], [OPEN[1]], [OPEN[2]])
    assert state.open == {task.task_id: task for task in OPEN}


def test_a_timer_made_and_cancelled_in_one_turn_leaves_no_trace_but_in_the_history() -> None:
    state = begun()
    checkpoint = turn(state, Scripted([TimerCreated(0, 900), TimerCanceled(0)]))
    assert not checkpoint.timers and not checkpoint.timers_gone and not state.open
    assert len(record(checkpoint).decided) == 2


def test_a_timer_that_is_cancelled_later_is_gone() -> None:
    state = running(TimerCreated(0, 900))
    checkpoint = turn(state, Scripted([TimerCanceled(0)]), EventRaised("go"))
    assert checkpoint.timers_gone == [TimerCreated(0, 900)]
    assert state.open == {}


def test_a_timer_that_fires_and_is_cancelled_in_one_turn_is_gone_once() -> None:
    state = running(TimerCreated(0, 180))
    checkpoint = turn(state, Scripted([TimerCanceled(0)]), TimerFired(0, 180))
    assert checkpoint.timers_gone == [TimerCreated(0, 180)]


@pytest.mark.parametrize(("given", "shown"), [(UNSET, "1"), (None, None), ('"x"', '"x"')])
def test_the_custom_status_stays_until_it_is_set(given: Any, shown: str | None) -> None:
    state = begun()
    turn(state, Scripted(custom_status="1"))
    assert turn(state, Scripted(custom_status=given), EventRaised("go")).row.custom_status == shown


# --- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["Completed", "Failed"])
def test_an_end_lets_go_of_what_is_open_and_answers_the_parent(status: Any) -> None:
    state = running(*OPEN, parent=PARENT)
    failure = FAILURE if status == "Failed" else None
    end = ExecutionCompleted(status, None if failure else '"out"', failure)
    checkpoint = turn(state, Scripted([TimerCreated(5, 999), TaskScheduled(6, "late"), end]), EventRaised("go"))
    row = checkpoint.row
    assert (row.status, row.open_activities, row.completed_at, row.ready) == (status, 0, 200, False)
    assert not checkpoint.activities and not checkpoint.timers
    assert checkpoint.timers_gone == [OPEN[1]], "the timer of this turn was never stored"
    assert checkpoint.answer_to == PARENT
    if failure is None:
        assert checkpoint.answer == SubOrchestrationInstanceCompleted(3, '"out"')
        assert state.open == {}
    else:
        assert checkpoint.answer == SubOrchestrationInstanceFailed(3, FAILURE)
        assert set(state.open) == {0, 1, 2, 5, 6}, "a rewind will want them"


def test_events_behind_the_end_are_not_taken() -> None:
    state = running(*OPEN)
    session = Scripted([ExecutionCompleted("Completed", "1")], consumed=1)
    stray = TaskCompleted(9, "stray")
    checkpoint = turn(state, session, EventRaised("first"), stray, EventRaised("second"), EventRaised("third"))
    assert checkpoint.taken == 2, "what is dropped counts as taken"
    assert record(checkpoint).received == [EventRaised("first")]


def test_an_end_in_the_start_takes_nothing() -> None:
    state = begun()
    session = Scripted([ExecutionCompleted("Completed", "1")], consumed=1)
    checkpoint = turn(state, session, EventRaised("first"), EventRaised("second"))
    assert checkpoint.taken == 0
    assert record(checkpoint).received == []


def test_a_failure_of_the_replay_gets_an_ending_and_nothing_else() -> None:
    state = running(*OPEN, parent=PARENT)
    checkpoint = fail(state, FAILURE, now=50)
    assert record(checkpoint) == TurnRecord(at=150, decided=[ExecutionCompleted("Failed", failure=FAILURE)])
    assert (checkpoint.row.status, checkpoint.taken) == ("Failed", 0)
    assert checkpoint.answer == SubOrchestrationInstanceFailed(3, FAILURE)


def test_events_for_an_ended_instance_are_kept_behind_its_ending_as_late() -> None:
    state = running()
    turn(state, Scripted([ExecutionCompleted("Completed", "1")]), EventRaised("go"))
    checkpoint = receive_late(state, [EventRaised("a", "1", "client"), EventRaised("b")], now=300)
    assert record(checkpoint).received == [EventRaised("a", "1", "client", late=True), EventRaised("b", late=True)]
    assert (checkpoint.row.sequence, checkpoint.row.status, checkpoint.row.ready) == (4, "Completed", False)


# --- continue-as-new -------------------------------------------------------------------------------------------------


def test_a_new_generation_has_its_own_execution_and_the_events_that_nobody_took() -> None:
    state = running(*OPEN, parent=PARENT)
    carried = [EventRaised("kept", "1")]
    session = Scripted([TimerCreated(5, 999), ContinueAsNew("2")], carried=carried)
    checkpoint = turn(state, session, EventRaised("go"), TaskCompleted(0, "1"))
    row = checkpoint.row
    assert (row.execution, row.execution_id, row.generation, row.sequence) == (NEXT, Fresh(NEXT, "f" * 16).id, 1, 1)
    assert (row.status, row.input, row.ready, row.open_activities) == ("Running", "2", True, 0)
    assert (checkpoint.retired, checkpoint.execution, checkpoint.first) == (EXECUTION, NEXT, 0)
    assert checkpoint.timers_gone == [OPEN[1]]
    assert checkpoint.answer is None and not checkpoint.timers and not checkpoint.activities
    opened = record(checkpoint)
    assert opened.deferred
    started = opened.received[0]
    assert isinstance(started, ExecutionStarted)
    assert (started.generation, started.parent, started.input) == (1, PARENT, "2")
    assert opened.received[1:] == carried
    assert state.unrun == opened.received
    assert row.created_at == 100


def test_a_child_that_was_asked_for_with_the_last_breath_of_a_generation_is_made() -> None:
    state = running()
    child = SubOrchestrationInstanceCreated(0, "c", "child")
    checkpoint = turn(state, Scripted([child, ContinueAsNew("2")]), EventRaised("go"))
    assert checkpoint.children == [child]
    assert (checkpoint.retired, state.open) == (EXECUTION, {})


def test_events_that_waited_for_a_generation_and_that_it_did_not_see_go_to_the_next_before_all_others() -> None:
    state = running()
    waiting = [EventRaised("one"), EventRaised("two"), EventRaised("three")]
    turn(state, Scripted([ContinueAsNew("2")], carried=waiting), EventRaised("go"))
    session = Scripted([ContinueAsNew("3")], carried=[EventRaised("one")], consumed=2)
    checkpoint = run(state, session, [Given(0, EventRaised("four"))], now=300, fresh=lambda: Fresh(10, "a" * 16))
    assert checkpoint.taken == 0
    assert record(checkpoint).received[1:] == waiting


def test_an_answer_to_the_generation_before_does_not_reach_the_next() -> None:
    state = running(TaskScheduled(0, "a"))
    turn(state, Scripted([ContinueAsNew("2")]), EventRaised("go"))
    turn(state, Scripted([TaskScheduled(0, "a")]), execution=NEXT)
    assert turn(state, Scripted(), TaskCompleted(0, "old"), execution=EXECUTION).record is None
    assert record(turn(state, Scripted(), TaskCompleted(0, "new"), execution=NEXT)).received[0].result == "new"  # type: ignore[union-attr]


# --- acting on the instance ------------------------------------------------------------------------------------------


def test_terminate_ends_whatever_the_status_and_tells_the_parent() -> None:
    for prepare in ([], [ExecutionSuspended()]):
        state = running(*OPEN, parent=PARENT)
        state.row.parked = "for a reason"
        for event in prepare:
            control(state, event, now=160)
        checkpoint = control(state, ExecutionTerminated('a "reason"'), now=200)
        row = checkpoint.row
        assert (row.status, row.output, row.parked, row.completed_at) == ("Terminated", '"a \\"reason\\""', None, 200)
        assert checkpoint.timers_gone == [OPEN[1]]
        assert state.open == {}
        assert isinstance(checkpoint.answer, SubOrchestrationInstanceFailed)
        assert (checkpoint.answer.failure.type, checkpoint.answer.failure.message) == ("Terminated", 'a "reason"')


def test_terminate_before_the_first_turn_leaves_nothing_to_run() -> None:
    state = begun()
    checkpoint = control(state, ExecutionTerminated(None), now=200)
    assert (checkpoint.row.status, checkpoint.row.ready, checkpoint.row.output) == ("Terminated", False, None)
    assert state.unrun == []


def test_suspend_and_resume_leave_the_status_that_was() -> None:
    pending = begun()
    assert control(pending, ExecutionSuspended(), now=200).row.status == "Suspended"
    assert pending.held
    row = control(pending, ExecutionResumed(), now=300).row
    assert (row.status, row.ready) == ("Pending", True)

    working = running(*OPEN)
    control(working, ExecutionSuspended(), now=200)
    assert control(working, ExecutionResumed(), now=300).row.status == "Running"
    assert set(working.open) == {0, 1, 2}


def test_what_does_not_fit_the_status_changes_nothing() -> None:
    state = running()
    assert control(state, ExecutionResumed(), now=200).record is None
    control(state, ExecutionSuspended(), now=200)
    assert control(state, ExecutionSuspended(), now=300).record is None
    control(state, ExecutionTerminated(None), now=400)
    for event in (ExecutionTerminated(None), ExecutionSuspended(), ExecutionResumed()):
        assert control(state, event, now=500).record is None
    assert state.row.status == "Terminated"


def test_resume_releases_a_parked_instance() -> None:
    state = running()
    state.row.parked = "for a reason"
    assert state.held
    row = control(state, ExecutionResumed(), now=200).row
    assert (row.parked, row.status) == (None, "Running")


def test_a_control_message_is_recorded_without_running_code() -> None:
    state = begun()
    checkpoint = control(state, ExecutionSuspended("why"), now=200)
    assert record(checkpoint) == TurnRecord(at=200, received=[ExecutionSuspended("why")], deferred=True)
    assert [type(event) for event in state.unrun] == [ExecutionStarted]
