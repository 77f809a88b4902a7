"""Whatever comes, in whatever order: what is stored tells the whole state, and a session brought back goes on the same.

The programs are those of the simulation, driven by hand: at each step some of what an instance waits for is answered,
some of it twice, some for another execution, with events and control messages in between.
"""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation.programs import Ledger, build_app, draw_input

from perdure.core.codec import decode_records, join_records
from perdure.core.events import (
    Control,
    EventRaised,
    ExecutionResumed,
    ExecutionSuspended,
    ExecutionTerminated,
    Failure,
    Received,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
    TurnRecord,
)
from perdure.core.protocols import Session
from perdure.core.state import fold, from_row
from perdure.core.turn import Checkpoint, Fresh, Start, begin, control, receive_late, run

KINDS = ["chain", "fan", "tree", "nested", "canceller", "saga", "guarded", "quitter", "collector", "eternal", "relay"]
KEYS = range(100, 10_000)
FAILURE = Failure(type="ValueError", message="no", kind="activity", function="a")


class Given(NamedTuple):
    execution: int
    event: Received


class Driven:
    """One instance: its working state, and what a store would have of it."""

    def __init__(self, kind: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.app = build_app(Ledger())
        self.keys = iter(KEYS)
        self.now = 1_700_000_000_000_000
        self.histories: dict[int, list[bytes]] = {}
        self.stored_timers: set[tuple[int, int]] = set()
        text = json.dumps(draw_input(kind, "it", self.random, long_pauses=True))
        self.state, checkpoint = begin(Start(kind, input=text), key=1, id="it", execution=self.fresh(), now=self.now)
        self.session: Session = self.app.orchestrators.open(kind, "it")
        self.store(checkpoint)

    def fresh(self) -> Fresh:
        key = next(self.keys)
        return Fresh(key, f"{key:016x}")

    def records(self) -> list[TurnRecord]:
        return decode_records(join_records(self.histories[self.state.row.execution]))

    def store(self, checkpoint: Checkpoint) -> None:
        if checkpoint.record is not None:
            history = self.histories.setdefault(checkpoint.execution, [])
            assert checkpoint.first == len(history), "records are numbered without gaps"
            history.append(checkpoint.record)
        owner = checkpoint.retired if checkpoint.retired is not None else checkpoint.execution
        self.stored_timers -= {(owner, timer.task_id) for timer in checkpoint.timers_gone}
        self.stored_timers |= {(checkpoint.execution, timer.task_id) for timer in checkpoint.timers}
        if checkpoint.retired is not None:
            del self.histories[checkpoint.retired]
            self.session.close()
            self.session = self.app.orchestrators.open(self.state.row.name, "it")
        self.check(checkpoint)

    def check(self, checkpoint: Checkpoint) -> None:
        state, row = self.state, checkpoint.row
        reloaded = fold(from_row(row), self.records())
        assert msgspec.to_builtins(reloaded) == msgspec.to_builtins(state)
        assert row.sequence == len(self.histories[state.row.execution])
        assert row.ready == bool(state.unrun)
        activities = [task for task in state.open.values() if isinstance(task, TaskScheduled)]
        assert row.open_activities == (0 if state.ended else len(activities))
        timers = {task.task_id for task in state.open.values() if isinstance(task, TimerCreated)}
        expected = set() if state.ended else {(state.row.execution, task_id) for task_id in timers}
        assert self.stored_timers == expected, "a timer is stored for as long as its task is open"
        assert not state.ended or not state.unrun

    # --- what may come -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        state, chance = self.state, self.random.random()
        self.now += self.random.randrange(0, 3_000_000)
        if chance < 0.1 and not state.ended:
            self.store(control(state, self.draw_control(), now=self.now))
        elif state.ended:
            self.store(receive_late(state, [EventRaised("noise", "1")], now=self.now))
        elif not state.held:
            self.turn()
        if self.random.random() < 0.3:
            self.bring_back()

    def draw_control(self) -> Control:
        kinds: list[Control] = [ExecutionSuspended(), ExecutionResumed(), ExecutionResumed(), ExecutionTerminated("x")]
        return self.random.choices(kinds, [4, 4, 4, 1])[0]

    def turn(self) -> None:
        state = self.state
        messages = [self.draw_message() for _ in range(self.random.randrange(0, 4))]
        checkpoint = run(state, self.session, messages, now=self.now, fresh=self.fresh)
        assert 0 <= checkpoint.taken <= len(messages)
        if checkpoint.retired is None and not state.ended:
            assert checkpoint.taken == len(messages)
        self.store(checkpoint)

    def draw_message(self) -> Given:
        tasks = list(self.state.open.values())
        if not tasks or self.random.random() < 0.25:
            return Given(0, EventRaised("number", str(self.random.randrange(1, 10))))
        task = self.random.choice(tasks)
        stray = self.random.random() < 0.1
        answer = self.answer(task)
        if isinstance(answer, TimerFired):
            self.now = max(self.now, answer.fire_at)
        return Given(self.state.row.execution - 1 if stray else self.state.row.execution, answer)

    def answer(self, task: Any) -> Received:
        fails = self.random.random() < 0.2
        match task:
            case TaskScheduled():
                return TaskFailed(task.task_id, FAILURE) if fails else TaskCompleted(task.task_id, "2")
            case SubOrchestrationInstanceCreated():
                if fails:
                    return SubOrchestrationInstanceFailed(task.task_id, FAILURE)
                return SubOrchestrationInstanceCompleted(task.task_id, "2")
            case _:
                return TimerFired(task.task_id, task.fire_at)

    def bring_back(self) -> None:
        """As after an eviction: the state from its row and history, the session from the history alone."""
        self.session.close()
        self.session = self.app.orchestrators.open(self.state.row.name, "it")
        records = self.records()
        if self.state.ended:
            return
        if records:
            self.session.replay(records)
        self.state = fold(from_row(self.state.snapshot()), records)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32))
def test_what_is_stored_tells_the_whole_state(kind: str, seed: int) -> None:
    driven = Driven(kind, seed)
    try:
        for _ in range(25):
            driven.step()
    finally:
        driven.session.close()


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
def test_a_session_that_was_brought_back_decides_what_one_that_stayed_decides(kind: str, seed: int) -> None:
    stayed, returned = Driven(kind, seed), Driven(kind, seed)
    for _ in range(25):
        before = stayed.random.getstate()
        stayed.step()
        returned.random.setstate(before)
        returned.bring_back()
        returned.step()
        assert returned.histories == stayed.histories
    stayed.session.close()
    returned.session.close()
