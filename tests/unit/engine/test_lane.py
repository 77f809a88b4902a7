"""What a batch gathers, and what of it and of the messages is written when it is sealed."""

from __future__ import annotations

from typing import Any

from perdure.core.codec import decode_records
from perdure.core.events import EventRaised, ExecutionSuspended, ExecutionTerminated, TaskCompleted, TimerCreated
from perdure.core.ids import first_key
from perdure.core.turn import Checkpoint, Fresh, Start, begin, control, restart
from perdure.engine.instances import Instance, Mail
from perdure.engine.lane import Lane
from perdure.store.api import Commit, Host, TimerRow

EVENT = EventRaised("go", "1")
RESULT = TaskCompleted(0, "1")


class Gathering:
    """A lane and one instance in it."""

    def __init__(self) -> None:
        self.lane = Lane(Host("3-abc", 3, 0xABC))
        self.instance = Instance(self.lane.make_key())
        self.instance.state, self.begun = begin(
            Start("f"), key=self.instance.key, id="it", execution=Fresh(self.lane.make_key(), "e"), now=1
        )

    def gather(self, checkpoint: Checkpoint) -> None:
        self.lane.batch.add(self.instance, checkpoint)

    def create(self) -> None:
        self.lane.batch.created.add(self.instance.key)
        self.gather(self.begun)

    def mail(self, event: Any = EVENT, activity: tuple[int, int] | None = None) -> Mail:
        mail = Mail(self.lane.make_key(), self.instance.key, 0, event, activity=activity)
        self.lane.fresh[mail.id] = mail
        return mail

    def seal(self, **named: Any) -> Commit:
        commit = self.lane.seal(5, **named)
        assert commit is not None
        self.lane.landed()
        return commit


def test_keys_lie_in_the_block_of_the_host() -> None:
    lane = Lane(Host("3-abc", 3, 0xABC))
    keys = [lane.make_key() for _ in range(3)]
    assert keys == [first_key(3) + 1, first_key(3) + 2, first_key(3) + 3]


def test_commits_are_numbered_and_one_is_in_flight() -> None:
    gathering = Gathering()
    gathering.create()
    commit = gathering.lane.seal(5)
    assert commit is not None
    assert (commit.host, commit.number, commit.now) == ("3-abc", 1, 5)
    assert not gathering.lane.free
    assert gathering.lane.batch.number == 2
    assert gathering.lane.landed().number == gathering.lane.durable == 1
    assert gathering.lane.free


def test_there_is_nothing_to_seal_in_an_empty_batch() -> None:
    lane = Lane(Host("3-abc", 3, 0xABC))
    assert lane.seal(5) is None
    assert lane.batch.number == 1
    assert lane.free


def test_turns_of_one_execution_become_one_history_row_and_one_instance_row() -> None:
    gathering = Gathering()
    gathering.create()
    assert gathering.instance.state is not None
    gathering.gather(control(gathering.instance.state, ExecutionSuspended(), now=2))
    commit = gathering.seal()
    (row,) = commit.created
    assert (row.status, commit.updated) == ("Suspended", [])
    (history,) = commit.history
    assert (history.execution, history.first, len(decode_records(history.body))) == (row.execution, 0, 2)

    gathering.gather(control(gathering.instance.state, ExecutionTerminated(), now=3))
    commit = gathering.seal()
    assert (commit.created, [row.status for row in commit.advanced]) == ([], ["Terminated"])
    assert [history.first for history in commit.history] == [2]


def test_an_execution_that_begins_and_retires_in_one_batch_leaves_no_history() -> None:
    gathering = Gathering()
    gathering.create()
    state = gathering.instance.state
    assert state is not None
    gathering.gather(control(state, ExecutionTerminated(), now=2))
    first = state.row.execution
    anew = restart(state, Start("f"), execution=Fresh(99, "x"), now=3)
    gathering.gather(anew)
    commit = gathering.seal()
    assert [history.execution for history in commit.history] == [99]
    assert commit.retired == [first]


def test_a_timer_that_is_made_and_gone_within_a_batch_is_not_written() -> None:
    gathering = Gathering()
    gathering.create()
    state = gathering.instance.state
    assert state is not None
    row, execution, timer = gathering.begun.row, state.row.execution, TimerCreated(1, 9)

    def made(first: int) -> Checkpoint:
        return Checkpoint(row, 0, execution, first, b"{}", timers=[timer])

    def gone(first: int) -> Checkpoint:
        return Checkpoint(row, 0, execution, first, b"{}", timers_gone=[timer])

    gathering.gather(made(1))
    gathering.gather(gone(2))
    commit = gathering.seal()
    assert (commit.timers_new, commit.timers_done) == ([], [])
    gathering.gather(made(3))
    assert gathering.seal().timers_new == [TimerRow(9, gathering.instance.key, execution, 1)]
    gathering.gather(gone(4))
    assert gathering.seal().timers_done == [TimerRow(9, gathering.instance.key, execution, 1)]


# --- messages --------------------------------------------------------------------------------------------------------


def test_a_message_that_is_consumed_in_the_batch_that_made_it_never_touches_the_disk() -> None:
    gathering = Gathering()
    gathering.create()
    gathering.lane.consume(gathering.mail())
    commit = gathering.seal()
    assert (commit.inbox_new, commit.inbox_done) == ([], [])


def test_a_message_that_is_left_gets_a_row_which_is_deleted_when_it_is_consumed() -> None:
    gathering = Gathering()
    mails = [gathering.mail() for _ in range(3)]
    commit = gathering.seal()
    assert [row.id for row in commit.inbox_new] == [mail.id for mail in mails], "in order of creation"
    gathering.lane.consume(mails[1])
    commit = gathering.seal()
    assert (commit.inbox_new, commit.inbox_done) == ([], [mails[1].id])


def test_a_message_that_something_else_brings_again_needs_no_row() -> None:
    gathering = Gathering()
    gathering.create()
    backed = Mail(gathering.lane.make_key(), gathering.instance.key, 0, EVENT, backed=True)
    gathering.lane.consume(backed)
    assert gathering.seal().inbox_done == []


def test_the_result_of_an_activity_may_wait_for_one_commit_without_a_row() -> None:
    gathering = Gathering()
    gathering.create()
    mail = gathering.mail(RESULT, (2, 0))
    assert gathering.seal().inbox_new == []
    (row,) = gathering.seal().inbox_new
    assert row.id == mail.id
    gathering.lane.consume(mail)
    assert gathering.lane.batch.settled_activities == [(2, 0)]
    assert gathering.seal().inbox_done == [mail.id]


def test_a_row_makes_the_result_of_an_activity_durable() -> None:
    gathering = Gathering()
    gathering.mail(RESULT, (2, 0)).held = True
    commit = gathering.lane.seal(5)
    assert commit is not None
    assert len(commit.inbox_new) == 1, "nobody in memory will take it"
    assert gathering.lane.landed().settled_activities == [(2, 0)]


def test_while_a_refused_value_is_looked_for_results_wait_as_long_as_it_takes() -> None:
    gathering = Gathering()
    gathering.create()
    mail = gathering.mail(RESULT, (2, 0))
    assert gathering.seal(keep_results=False).inbox_new == []
    for _ in range(3):
        assert gathering.lane.seal(5, keep_results=False) is None
    mail.held = True
    assert len(gathering.seal(keep_results=False).inbox_new) == 1


def test_what_is_for_a_purged_instance_is_not_written() -> None:
    gathering = Gathering()
    gathering.lane.batch.purged.append(gathering.instance.key)
    mail = gathering.mail()
    commit = gathering.seal()
    assert (commit.purged, commit.inbox_new) == ([gathering.instance.key], [])
    assert not mail.row
    assert not gathering.lane.fresh


def test_a_forgotten_message_leaves_no_trace() -> None:
    gathering = Gathering()
    gathering.create()
    gathering.lane.forget(gathering.mail())
    commit = gathering.seal()
    assert (commit.inbox_new, commit.inbox_done) == ([], [])
