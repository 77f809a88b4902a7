"""The turn thread and its watchdog: who is blamed, who is done again, who is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hand_driven import HandRuntime, HandWorker

from perdure.core.errors import NonDeterminismError, TurnTimeout
from perdure.core.events import EventRaised, Received, TurnRecord
from perdure.core.protocols import Step
from perdure.core.state import InstanceState
from perdure.core.turn import Checkpoint, Fresh, Start, begin
from perdure.engine.instances import Instance, Mail
from perdure.engine.turns import Interrupted, Job, TurnRunner

LIMIT, PATIENCE = 10.0, 2.0


class Session:
    """Calls `does` at each advance."""

    def __init__(self, does: Callable[[], object]) -> None:
        self._does = does
        self.replayed: Sequence[TurnRecord] = ()
        self.closed = False

    def replay(self, records: Sequence[TurnRecord]) -> None:
        self.replayed = records

    def advance(self, at: int, received: Sequence[Received]) -> Step:
        self._does()
        return Step([], len(received))

    def close(self) -> None:
        self.closed = True


class Orchestrators:
    """Opens a session that does what is planned for the instance."""

    def __init__(self) -> None:
        self.plans: dict[str, Callable[[], object]] = {}
        self.sessions: list[Session] = []

    def names(self) -> list[str]:
        return []

    def knows(self, name: str) -> bool:
        return True

    def open(self, name: str, instance_id: str) -> Session:
        session = Session(self.plans.get(instance_id, int))
        self.sessions.append(session)
        return session


class Thread:
    def __init__(self) -> None:
        self.runtime = HandRuntime()
        self.orchestrators = Orchestrators()
        self.done: list[Sequence[Job]] = []
        self.runner = TurnRunner(self.runtime, self.orchestrators, LIMIT, PATIENCE, self.done.append)
        self.worker: HandWorker = self.runtime.workers["turns"]

    def job(self, instance_id: str, does: Callable[[], object] = int) -> Job:
        self.orchestrators.plans[instance_id] = does
        instance = Instance(1)
        instance.state = state = state_of(instance_id)
        return Job(
            instance, state, None, (), [Mail(1, 1, 0, EventRaised("go"))], self.runtime.time, lambda: Fresh(9, "f")
        )

    def run(self) -> None:
        self.worker.run_next()
        self.runtime.run_home()

    def lapse(self, seconds: float) -> None:
        self.runtime.time += round(seconds * 1_000_000)


def state_of(instance_id: str) -> InstanceState:
    state, _ = begin(Start("f"), key=1, id=instance_id, execution=Fresh(2, "e"), now=1)
    return state


def raiser(error: BaseException) -> Callable[[], object]:
    def does() -> None:
        raise error

    return does


def outcomes(jobs: Sequence[Job]) -> list[type]:
    return [type(job.outcome) for job in jobs]


def test_a_chunk_comes_back_whole_with_each_job_done() -> None:
    thread = Thread()
    jobs = [thread.job(f"it-{n}") for n in range(3)]
    thread.runner.submit(jobs)
    assert not thread.runner.idle
    thread.run()
    assert thread.runner.idle
    assert thread.done == [jobs]
    assert outcomes(jobs) == [Checkpoint] * 3
    assert [job.session for job in jobs] == thread.orchestrators.sessions


def test_an_internal_error_is_the_outcome_of_its_job_alone() -> None:
    thread = Thread()
    errors = [KeyError("ours"), SystemExit(1), AssertionError("ours too")]
    jobs = [
        thread.job("whole"),
        *(thread.job(f"torn-{n}", raiser(e)) for n, e in enumerate(errors)),
        thread.job("last"),
    ]
    thread.runner.submit(jobs)
    thread.run()
    assert outcomes(jobs) == [Checkpoint, KeyError, SystemExit, AssertionError, Checkpoint]


def test_a_contradiction_fails_the_instance_for_good() -> None:
    thread = Thread()
    job = thread.job("it", raiser(NonDeterminismError("line 7")))
    thread.runner.submit([job])
    thread.run()
    assert isinstance(job.outcome, Checkpoint)
    assert job.outcome.row.status == "Failed"
    assert "NonDeterministicOrchestrationException" in (job.outcome.row.failure or "")
    assert "line 7" in (job.outcome.row.failure or "")


def test_a_job_has_what_it_needs_and_leaves_the_instance_alone() -> None:
    thread = Thread()
    job = thread.job("it")
    instance = job.instance
    job.records = [TurnRecord(at=1)]
    thread.runner.submit([job])
    instance.state = None
    thread.run()
    assert isinstance(job.outcome, Checkpoint)
    assert thread.orchestrators.sessions[0].replayed == [TurnRecord(at=1)]
    assert instance.session is None


def test_who_is_interrupted_beyond_the_limit_is_the_cause() -> None:
    thread = Thread()

    def too_long() -> None:
        thread.lapse(LIMIT)
        raise TurnTimeout

    jobs = [thread.job("quick"), thread.job("slow", too_long), thread.job("next")]
    thread.runner.submit(jobs)
    thread.run()
    assert outcomes(jobs) == [Checkpoint, TurnTimeout, type(None)], "what has not begun goes home with the rest"


def test_who_is_hit_by_an_interruption_meant_for_another_is_done_again() -> None:
    thread = Thread()
    jobs = [thread.job("unlucky", raiser(TurnTimeout())), thread.job("next")]
    thread.runner.submit(jobs)
    thread.run()
    assert outcomes(jobs) == [Interrupted, type(None)]


def test_the_watchdog_interrupts_at_the_limit_and_gives_the_thread_up_when_that_does_not_help() -> None:
    thread = Thread()
    jobs = [thread.job("done"), thread.job("stuck"), thread.job("behind")]
    thread.runner.submit(jobs)
    jobs[0].outcome = outcome = Checkpoint(row=None, taken=0, execution=2)  # type: ignore[arg-type]
    jobs[1].since = thread.runtime.monotonic()
    thread.runtime.pass_time(LIMIT - 0.1)
    assert thread.worker.interrupted == 0
    thread.runtime.pass_time(0.2)
    assert (thread.worker.interrupted, thread.worker.abandoned) == (1, 0)
    thread.runtime.pass_time(PATIENCE)
    assert (thread.worker.interrupted, thread.worker.abandoned) == (1, 1)
    assert thread.done == [jobs]
    assert jobs[0].outcome is outcome
    assert outcomes(jobs[1:]) == [TurnTimeout, Interrupted]
    assert thread.runner.idle


def test_a_thread_that_goes_on_after_an_interruption_is_left_alone() -> None:
    thread = Thread()
    jobs = [thread.job("stuck"), thread.job("next")]
    thread.runner.submit(jobs)
    jobs[0].since = thread.runtime.monotonic()
    thread.runtime.pass_time(LIMIT + 0.1)
    jobs[0].outcome = TurnTimeout()
    jobs[1].since = thread.runtime.monotonic()
    thread.runtime.pass_time(PATIENCE + 1)
    assert (thread.worker.interrupted, thread.worker.abandoned) == (1, 0)
    thread.run()
    assert thread.done == [jobs]


def test_the_watchdog_sleeps_while_nobody_works_and_wakes_for_the_next_chunk() -> None:
    thread = Thread()
    for _ in range(100):
        thread.runner.submit([thread.job("quick")])
        thread.run()
    assert len(thread.runtime.laters) == 1, "one look for all chunks"
    thread.runtime.pass_time(3 * LIMIT)
    assert thread.runtime.laters == []
    jobs = [thread.job("stuck")]
    thread.runner.submit(jobs)
    jobs[0].since = thread.runtime.monotonic()
    thread.runtime.pass_time(LIMIT + PATIENCE + 0.1)
    assert thread.worker.abandoned == 1


def test_sessions_are_closed_on_the_turn_thread_before_the_next_chunk() -> None:
    thread = Thread()
    session = Session(int)
    thread.runner.close_later(session)
    assert not session.closed
    thread.runner.submit([thread.job("it")])
    thread.run()
    assert session.closed


def test_a_way_out_that_hangs_is_under_the_same_watch() -> None:
    thread = Thread()
    thread.runner.close_later(Session(int))
    jobs = [thread.job("behind")]
    thread.runner.submit(jobs)
    thread.runtime.pass_time(LIMIT + PATIENCE + 0.1)
    assert thread.worker.abandoned == 1
    assert outcomes(jobs) == [Interrupted]


def test_a_chunk_that_is_forgotten_runs_no_further() -> None:
    thread = Thread()
    jobs = [thread.job("it")]
    thread.runner.submit(jobs)
    thread.runner.forget()
    assert not thread.runner.idle, "it still has the thread"
    thread.run()
    assert thread.runner.idle
    assert jobs[0].outcome is None


def test_sessions_of_a_chunk_that_never_comes_back_are_closed_with_the_rest() -> None:
    thread = Thread()
    job = thread.job("it")
    thread.runner.submit([job])
    thread.worker.calls[0][0]()
    later: Any = Session(int)
    thread.runner.close_later(later)
    thread.runner.drop_sessions()
    assert [session.closed for session in (*thread.orchestrators.sessions, later)] == [True, True]
