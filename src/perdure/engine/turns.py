"""The turn thread: where orchestrators run.

The home thread hands over chunks of jobs and gets each chunk back whole. A watchdog looks at the job that runs: over
the limit it is interrupted, and if that does not help (it sits in C code), its thread is given up. The thread takes
each job from a shared queue in one step, so after giving it up the home thread can take the rest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Union

from msgspec import Struct

from perdure.core.errors import NonDeterminismError, TurnTimeout
from perdure.core.events import Failure, TurnRecord
from perdure.core.protocols import Orchestrators, Session
from perdure.core.runtime import Runtime
from perdure.core.state import InstanceState
from perdure.core.turn import Checkpoint, Fresh, fail, run
from perdure.engine.instances import Instance, Mail

log = logging.getLogger("perdure.engine")

_SLOW_SECONDS = 1.0

Outcome = Union[Checkpoint, BaseException]
"""A TurnTimeout parks the instance; any other exception is an internal error and parks it too."""


class Job(Struct, eq=False):
    """One turn. The turn thread touches what is in here and nothing else of the instance.

    A thread that was given up may come back at any time: by then the instance has been read anew, and what that thread
    still does must not reach it.
    """

    instance: Instance
    state: InstanceState
    session: Session | None
    records: Sequence[TurnRecord]
    """The history that a session, yet to be made, has to be brought through."""
    mails: Sequence[Mail]
    now: int
    fresh: Callable[[], Fresh]
    since: float | None = None
    outcome: Outcome | None = None


class Interrupted(Exception):
    """A job that the watchdog hit though another had caused it: to be done again."""


class TurnRunner:
    def __init__(
        self,
        runtime: Runtime,
        orchestrators: Orchestrators,
        turn_seconds: float,
        abandon_seconds: float,
        done: Callable[[Sequence[Job]], object],
    ) -> None:
        self._runtime = runtime
        self._orchestrators = orchestrators
        self._turn_seconds = turn_seconds
        self._abandon_seconds = abandon_seconds
        self._done = done
        self._worker = runtime.worker("turns")
        self._closing: deque[Session] = deque()
        self._chunk: Sequence[Job] = ()
        self._queue: deque[Job] = deque()
        self._submitted = 0.0
        self._watching = False
        self._slow: float | None = None
        self._warned: float | None = None

    @property
    def idle(self) -> bool:
        return not self._chunk

    @property
    def under_way(self) -> int:
        return len(self._chunk)

    def submit(self, jobs: Sequence[Job]) -> None:
        self._chunk = jobs
        self._queue = queue = deque(jobs)
        self._submitted = self._runtime.monotonic()
        self._warned = None
        self._worker.submit(lambda: self._work(queue), lambda _: self._finished(jobs))
        if not self._watching:
            self._watching = True
            self._runtime.later(min(_SLOW_SECONDS, self._turn_seconds), self._watch)

    def close_later(self, session: Session) -> None:
        """Close a session on the turn thread, before the next chunk."""
        self._closing.append(session)

    def close_sessions(self) -> None:
        while self._closing:
            self._closing.popleft().close()

    def close_on_worker(self, then: Callable[[], object] | None = None) -> None:
        """Close them on the turn thread, which may take for ever; `then` follows at home."""
        self._worker.submit(self.close_sessions, lambda _: then() if then is not None else None)

    def drop_sessions(self) -> None:
        """Close what no turn runs any more, the sessions of a chunk that will not come back included."""
        for job in self._chunk:
            if job.session is not None:
                job.session.close()
        self.close_sessions()

    def forget(self) -> None:
        """The lane has ended: the chunk under way is of no more use, but still holds the thread."""
        self._queue.clear()

    # --- on the turn thread ------------------------------------------------------------------------------------------

    def _work(self, queue: deque[Job]) -> None:
        self.close_sessions()
        job: Job | None = None
        while True:
            try:
                try:
                    job = queue.popleft()
                except IndexError:
                    return
                job.since = self._runtime.monotonic()
                job.outcome = self._run(job)
            except TurnTimeout as error:
                if job is not None and job.outcome is None:
                    job.outcome = self._blame(job, error)
                queue.clear()  # what has not begun goes home, so that another like it does not hold that up too
            except BaseException as error:  # an internal error parks this instance; the others go on
                assert job is not None
                job.outcome = error

    def _run(self, job: Job) -> Checkpoint:
        state, session = job.state, job.session
        try:
            if session is None:
                job.session = session = self._orchestrators.open(state.row.name, state.row.id)
                if job.records:
                    session.replay(job.records)
            return run(state, session, job.mails, now=job.now, fresh=job.fresh)
        except NonDeterminismError as error:
            failure = Failure(
                type="NonDeterministicOrchestrationException",
                message=str(error),
                kind="orchestrator",
                function=state.row.name,
            )
            return fail(state, failure, now=job.now)

    # --- at home -----------------------------------------------------------------------------------------------------

    def _finished(self, jobs: Sequence[Job]) -> None:
        if jobs is self._chunk:
            self._chunk = ()
            self._done(jobs)

    def _watch(self) -> None:
        """Look at the job that runs, and again when it may have run too long; rest while there is none."""
        if not self._chunk:
            self._watching = False
            return
        now = self._runtime.monotonic()
        current = next((job for job in self._chunk if job.since is not None and job.outcome is None), None)
        since = self._submitted if current is None or current.since is None else current.since
        who = f"instance {current.instance.id!r}" if current is not None else "the closing of a session"
        next_mark = self._turn_seconds if now - since >= _SLOW_SECONDS else min(_SLOW_SECONDS, self._turn_seconds)
        pause = max(0.05, next_mark - (now - since))
        if now - since >= _SLOW_SECONDS and self._slow != since:
            self._slow = since
            log.warning("%s has not yielded for %.1f s; no other orchestrator runs meanwhile", who, now - since)
        if now - since >= self._turn_seconds:
            if self._warned != since:
                self._warned = since
                log.error("%s has held the turn thread for %.1f s; it is interrupted", who, now - since)
                self._worker.interrupt(TurnTimeout)
                pause = self._abandon_seconds
            else:
                log.error("%s does not react; its thread is given up", who)
                self._give_up()
        self._runtime.later(pause, self._watch)

    def _give_up(self) -> None:
        jobs = self._chunk
        self._worker.abandon()
        self._queue.clear()
        for job in jobs:
            if job.outcome is None:
                job.outcome = self._blame(job, TurnTimeout("its thread was given up"))
        self._finished(jobs)

    def _blame(self, job: Job, error: TurnTimeout) -> BaseException:
        """The interruption may hit a job that is not the cause; that one is done again."""
        slow = job.since is not None and self._runtime.monotonic() - job.since >= self._turn_seconds
        return error if slow else Interrupted()


def last_line(error: BaseException) -> str | None:
    """Where the code was when `error` was raised in it, as file and line."""
    place: str | None = None
    trace = error.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
