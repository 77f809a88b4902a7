"""The engine: one home thread that decides who runs when, and what becomes durable together.

The life of a message: `deliver` puts it into its instance's mailbox; `Dispatch` hands instances with mail to the turn
thread and gathers each turn's checkpoint into the open batch of the lane; `Commits` sends the batch to the store and
does what follows its commit. `Members` knows which instances are in memory, `Doors` lets requests in, `Recovery` reads
what is due when a lane begins, `Poller` what other processes wrote since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from perdure.core.events import Received, TimerFired
from perdure.core.protocols import Activities, Orchestrators
from perdure.core.runtime import Runtime
from perdure.core.state import InstanceRow
from perdure.engine.activities import ActivityDesk, Call
from perdure.engine.commits import Commits
from perdure.engine.dispatch import Dispatch
from perdure.engine.doors import Doors
from perdure.engine.holds import Holds
from perdure.engine.instances import Mail
from perdure.engine.lane import Lane
from perdure.engine.loading import Loader
from perdure.engine.members import Members
from perdure.engine.polling import Poller
from perdure.engine.recovery import Recovery
from perdure.engine.settings import EngineSettings
from perdure.engine.timers import Timers
from perdure.engine.turns import TurnRunner
from perdure.store.api import Store, TimerRow

log = logging.getLogger("perdure.engine")

_CLOSING_SECONDS = 1.0


class Engine:
    """Call everything on the home thread (`runtime.post`), except `committed`."""

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        orchestrators: Orchestrators,
        activities: Activities,
        settings: EngineSettings | None = None,
    ) -> None:
        self.runtime = runtime
        self.store = store
        self.orchestrators = orchestrators
        self.settings = settings = settings or EngineSettings()
        self.commits = Commits(self)
        self.holds = Holds(self)
        self.members = Members(self)
        self.dispatch = Dispatch(self)
        self.doors = Doors(self)
        self.poller = Poller(self)
        self.recovery: Recovery | None = None
        self.loader = Loader(runtime, store, self.members.loaded, self.commits.end_lane)
        self.desk = ActivityDesk(
            runtime, activities, settings.activity_slots, settings.activity_threads, self.activities_done
        )
        self.timers = Timers(runtime, settings.horizon_seconds, self._timer_due)
        self.runner = TurnRunner(
            runtime, orchestrators, settings.turn_seconds, settings.abandon_seconds, self.dispatch.turns_done
        )
        self.stopping = False
        self.leaving = False
        self._pump_posted = False
        self._on_running: Callable[[], object] | None = None
        self._on_stopped: Callable[[], object] | None = None
        self._stop_by = 0.0

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self, on_running: Callable[[], object]) -> None:
        """Open a lane, read what is due, then call `on_running`, once."""
        self._on_running = on_running
        self.commits.register()

    def is_running(self) -> None:
        """A lane is there, and what waited before it is let in."""
        if self._on_running is not None:
            running, self._on_running = self._on_running, None
            running()

    def stop(self, grace_seconds: float, on_stopped: Callable[[], object]) -> None:
        """Take nothing new, begin no activity; leave when those that run have ended or the grace is over."""
        self._on_stopped = on_stopped
        self._stop_by = self.runtime.monotonic() + grace_seconds
        self.stopping = True
        self.doors.stop()
        self.desk.stop()
        self.timers.clear()
        self._try_to_leave()

    def _try_to_leave(self) -> None:
        if self.leaving:
            return
        lane = self.commits.lane
        free = lane is None or lane.free
        late = self.runtime.monotonic() >= self._stop_by
        if (free and late) or (lane is not None and self._quiet(lane)):
            self._leave()
        else:
            self.runtime.later(0.02, self._try_to_leave)

    def _quiet(self, lane: Lane) -> bool:
        written = lane.free and lane.batch.empty and not lane.fresh
        return (
            written
            and not self.desk.running
            and self.runner.idle
            and not self.dispatch.ready
            and not self.loader.waiting
            and not self.holds.count
        )

    def _leave(self) -> None:
        self.leaving = True
        self.recovery = None
        self.doors.shut()
        self.loader.reset()
        self.holds.reset()
        self.timers.clear()
        self.runner.forget()

        def left(result: object) -> None:
            if isinstance(result, BaseException):
                log.warning("the lane could not be closed: %s", result)
            self.doors.refuse_all()
            for instance in self.members.table:
                self.members.drop_session(instance)
            # Dropping a session runs the way out of the user's code, which may hang.
            self.runner.close_on_worker(self._stopped)
            self.runtime.later(_CLOSING_SECONDS, self._stopped)

        self.commits.leave(left)

    def _stopped(self) -> None:
        if self._on_stopped is not None:
            stopped, self._on_stopped = self._on_stopped, None
            stopped()

    def drop_sessions(self) -> None:
        """Close every session, on the calling thread, when no turn runs any more."""
        for instance in self.members.table:
            self.members.drop_session(instance)
        self.runner.drop_sessions()

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def lane(self) -> Lane:
        lane = self.commits.lane
        assert lane is not None, "there is no lane at this moment"
        return lane

    @property
    def ready_count(self) -> int:
        return len(self.dispatch.ready)

    def committed(self, instance_id: str) -> InstanceRow | None:
        """What is durable of an instance, if it is in memory. May be called from any thread."""
        instance = self.members.table.find(instance_id)
        return instance.committed if instance is not None else None

    # --- mail --------------------------------------------------------------------------------------------------------

    def make_mail(self, target: int, execution: int, event: Received, activity: tuple[int, int] | None = None) -> Mail:
        return Mail(self.lane.make_key(), target, execution, event, activity)

    def deliver(self, mail: Mail) -> None:
        """Put a message on its way. It becomes durable with the open batch."""
        lane = self.commits.lane
        assert lane is not None, "there is no lane at this moment"
        if not mail.row and not mail.backed:
            lane.fresh[mail.id] = mail
        instance = self.members.table.get(mail.target)
        if instance is None:
            instance = self.members.bring(mail.target)
        if instance.side is not None:
            instance.side.append(mail)
        elif instance.state is not None and instance.state.held and not mail.control:
            mail.held = True
        else:
            instance.mailbox.append(mail)
            if not instance.busy and not instance.queued:
                self.dispatch.wake(instance)
        if not self._pump_posted:
            self.schedule_pump()

    def activities_done(self, calls: Sequence[Call]) -> None:
        if self.commits.lane is None or self.recovery is None or not self.recovery.done:
            return  # they are handed in once a lane is there
        make_key = self.commits.lane.make_key
        for call in calls:
            assert call.event is not None
            self.deliver(Mail(make_key(), call.target, call.name[0], call.event, call.name))

    def _timer_due(self, row: TimerRow) -> None:
        event = TimerFired(task_id=row.task_id, fire_at=row.fire_at)
        self.deliver(Mail(self.lane.make_key(), row.instance, row.execution, event, backed=True))

    # --- the heartbeat of everything ---------------------------------------------------------------------------------

    def schedule_pump(self) -> None:
        """Do what there is to do, behind everything that is already queued for the home thread."""
        if not self._pump_posted:
            self._pump_posted = True
            self.runtime.post(self._pump)

    def _pump(self) -> None:
        self._pump_posted = False
        lane = self.commits.lane
        if lane is None or self.recovery is None:
            return
        if self.recovery.mail_read:
            self.loader.pump()
        self.recovery.pump()
        if not self.recovery.done:
            return
        self.doors.admit()
        if lane is not self.commits.lane:
            return
        self.dispatch.begin_turns(lane)
        self.commits.seal(lane, hurry=False)
        self.desk.pump()
