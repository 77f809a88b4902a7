"""Where requests come in: start, raise, steer, purge, wait.

A request is answered once what it changed is durable. It stays open until then, so after a fault of the lane it is
either answered (its batch had landed) or done again from the beginning; a name made for it is kept on it. Limits hold
here and nowhere behind: what is inside is never refused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from perdure.core.errors import (
    HostStopping,
    InstanceEnded,
    InstanceExists,
    InstanceNotFound,
    Overloaded,
    PerdureError,
    RefusedData,
    StoreUnavailable,
    UnknownFunction,
    WrongStatus,
)
from perdure.core.events import Control, EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated
from perdure.core.failures import unknown_function
from perdure.core.ids import RANDOM_ID_BITS, check_instance_id, check_name, check_unicode, new_instance_id
from perdure.core.protocols import Reply, StartRequest
from perdure.core.state import ENDED, InstanceRow
from perdure.core.turn import Start
from perdure.engine.instances import Instance
from perdure.engine.members import Begun
from perdure.engine.payloads import Draft

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

log = logging.getLogger("perdure.engine")


class Request(Struct, eq=False):
    """`made` is what was made for it at the first try (an instance id, say) and is kept for the next."""

    run: Callable[[Request], object]
    reply: Reply
    made: Any = None


class Doors:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[Request, None] = {}
        self._waiting: deque[Request] = deque()
        self._asking: set[Request] = set()
        self._waiters: dict[str, list[Reply]] = {}
        self._to_watch: dict[Reply, Request] = {}
        """Requests to wait whose instance is still being looked for."""
        self._let_in = False
        self._stopping = False

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def waiting_count(self) -> int:
        """Who waits for the end of an instance."""
        return sum(map(len, self._waiters.values())) + len(self._to_watch)

    @property
    def asking(self) -> int:
        """Requests under way that have not joined a batch."""
        return len(self._asking)

    # --- coming and going --------------------------------------------------------------------------------------------

    def submit(self, run: Callable[[Request], object], reply: Reply) -> None:
        self._enter(Request(run, reply))

    def _enter(self, request: Request) -> None:
        if self._stopping:
            self.answer(request, HostStopping("The host is stopping; it takes nothing new."))
            return
        self._open[request] = None
        if self._let_in and not self._waiting and not self._engine.commits.narrowed:
            self._run(request)
        elif self._let_in:
            self._waiting.append(request)
            self.admit()

    def admit(self) -> None:
        """Run the requests that wait, as many as the open batch takes while a refused value is looked for."""
        commits = self._engine.commits
        while self._waiting and self._let_in and (not commits.narrowed or commits.room() > 0):
            request = self._waiting.popleft()
            if request in self._open:
                self._run(request)

    def answer(self, request: Request, result: Any) -> None:
        self._close(request)
        reply, request.reply = request.reply, _told
        _tell(reply, result)

    def answer_when_durable(self, request: Request, result: Any) -> None:
        self._asking.discard(request)
        self._engine.lane.batch.requests.append((request, result))
        self._engine.schedule_pump()

    def shut(self) -> None:
        """The lane has ended; requests wait."""
        self._let_in = False
        self._waiting.clear()
        self._asking.clear()

    def let_in(self) -> None:
        """The lane is there; everything open is done, again if need be."""
        self._let_in = True
        self._waiting.extend(self._open)
        self.admit()

    def stop(self) -> None:
        self._stopping = True

    def refuse_all(self) -> None:
        """The engine is gone."""
        for request in list(self._open):
            self.answer(request, HostStopping("The host has stopped."))
        for replies in self._waiters.values():
            for reply in replies:
                _tell(reply, HostStopping("The host has stopped."))
        self._waiters.clear()

    def give_up(self, error: BaseException) -> None:
        """The store has been away for too long. What became of a request whose commit was under way is not known."""
        for request in list(self._open):
            self.answer(request, StoreUnavailable(f"The store does not answer: {error}"))

    def _close(self, request: Request) -> None:
        self._open.pop(request, None)
        self._asking.discard(request)
        if self._to_watch:
            self._to_watch.pop(request.reply, None)

    def _run(self, request: Request) -> None:
        self._asking.add(request)
        try:
            request.run(request)
        except PerdureError as error:
            self.answer(request, error)
        except Exception as error:
            self._broke(request, error)

    def _broke(self, request: Request, error: Exception) -> None:
        """An internal error: whoever asked is told, and what the request had done so far is dropped with the lane.

        Done again with the other open requests it would break the next lane too.
        """
        log.critical("internal error in a request", exc_info=error)
        self.answer(request, error)
        self._engine.commits.end_lane(error)

    # --- the requests ------------------------------------------------------------------------------------------------

    def start(self, start: StartRequest, reply: Reply) -> None:
        self.submit(lambda request: self._start(request, start), reply)

    def raise_event(self, instance_id: str, event: EventRaised, reply: Reply) -> None:
        def run(request: Request) -> None:
            check_name(event.name, "The event name")
            check_unicode(event.input or "", "The event's input")
            self._check_load()
            self._with(request, instance_id, deliver)

        def deliver(request: Request, instance: Instance) -> None:
            self._refuse_ended(instance)
            self._engine.deliver(self._engine.make_mail(instance.key, 0, event))
            self.answer_when_durable(request, None)

        self.submit(run, reply)

    def control(self, instance_id: str, event: Control, reply: Reply) -> None:
        def run(request: Request) -> None:
            check_unicode(event.reason or "", "The reason")
            self._with(request, instance_id, act)

        def act(request: Request, instance: Instance) -> None:
            row = self._refuse_ended(instance)
            match event:
                case ExecutionSuspended():
                    if row.status == "Suspended":
                        raise WrongStatus("suspend", instance_id, row.status)
                case ExecutionResumed():
                    if row.status != "Suspended" and row.parked is None:
                        raise WrongStatus("resume", instance_id, row.status)
                case ExecutionTerminated():
                    pass
            self._engine.deliver(self._engine.make_mail(instance.key, 0, event))
            self.answer_when_durable(request, None)

        self.submit(run, reply)

    def purge(self, instance_id: str, reply: Reply) -> None:
        def purge(request: Request, instance: Instance) -> None:
            engine, row = self._engine, _gathered(instance)
            if row.status not in ENDED:
                raise WrongStatus("purge", instance_id, row.status)
            if instance.last_batch > engine.lane.durable:
                self._asking.discard(request)
                engine.lane.batch.after.append(lambda: self._run_again(request))
                engine.schedule_pump()
                return
            engine.members.purge(instance)
            self.answer_when_durable(request, None)

        self.submit(lambda request: self._with(request, instance_id, purge), reply)

    def wait(self, instance_id: str, reply: Reply) -> None:
        """Answered with the row once the instance has ended and that is durable."""

        def watch(request: Request, instance: Instance) -> None:
            row = instance.committed
            if row is not None and row.status in ENDED:
                self.answer(request, row)
            else:
                self._close(request)
                self._await(instance_id, request.reply)

        known = self._engine.members.table.find(instance_id)
        if known is not None and known.committed is not None and known.committed.status not in ENDED:
            self._await(instance_id, reply)
            return
        request = self._to_watch[reply] = Request(lambda request: self._with(request, instance_id, watch), reply)
        self._enter(request)

    def _await(self, instance_id: str, reply: Reply) -> None:
        self._waiters.setdefault(instance_id, []).append(reply)

    def stop_waiting(self, instance_id: str, reply: Reply) -> None:
        request = self._to_watch.get(reply)
        if request is not None:
            self._close(request)
        replies = self._waiters.get(instance_id, [])
        if reply in replies:
            replies.remove(reply)
            if not replies:
                del self._waiters[instance_id]

    def ended(self, row: InstanceRow) -> None:
        """It is durable that this instance has ended."""
        for reply in self._waiters.pop(row.id, ()):
            _tell(reply, row)

    # --- behind them -------------------------------------------------------------------------------------------------

    def _start(self, request: Request, start: StartRequest) -> None:
        engine = self._engine
        check_start(start)
        if not engine.orchestrators.knows(start.name):
            raise UnknownFunction(unknown_function(start.name, "orchestrator", engine.orchestrators.names()))
        self._check_load()
        given = Start(start.name, start.version, start.input, None, start.request_id)
        if start.instance_id is not None:
            instance_id = check_instance_id(start.instance_id)
            engine.members.resolve(instance_id, self._deciding(request, instance_id, given))
            return
        if request.made is None:
            request.made = new_instance_id(engine.runtime.now(), engine.runtime.random_bits(RANDOM_ID_BITS))
        self._begin(request, request.made, given, None)

    def _deciding(
        self, request: Request, instance_id: str, start: Start, begun: Begun | None = None
    ) -> Callable[[Instance | None], None]:
        """What answers a start once it is known which instance has the id."""

        def decide(instance: Instance | None) -> None:
            if instance is not None:
                row = _gathered(instance)
                if start.request_id is not None and row.request_id == start.request_id:
                    self.answer_when_durable(request, instance_id)
                    return
                if row.status not in ENDED:
                    raise InstanceExists(row.status)
            self._begin(request, instance_id, start, instance, begun)

        return self._guarded(request, decide)

    def _begin(
        self, request: Request, instance_id: str, start: Start, instance: Instance | None, begun: Begun | None = None
    ) -> None:
        """Make an instance, or begin `instance` anew. A large input is written first, and then decided upon again."""
        engine, members = self._engine, self._engine.members
        if begun is None or not begun.fits(instance):
            begun = members.begin(instance_id, start, instance)
            drafts = engine.holds.take_out(begun.state, begun.checkpoint)
            if drafts:
                self._write_large(request, begun, drafts)
                return
        if instance is None:
            instance = members.create(begun)
        else:
            members.restart(instance, begun)
        engine.lane.batch.began[instance.key] = request
        self.answer_when_durable(request, instance_id)

    def _write_large(self, request: Request, begun: Begun, drafts: Sequence[Draft]) -> None:
        engine, instance_id = self._engine, begun.state.row.id

        def written(refusal: RefusedData | None) -> None:
            if refusal is not None and request in self._open:
                self.answer(request, refusal)
            engine.members.release(instance_id, self._deciding(request, instance_id, begun.start, begun))

        engine.members.claim(instance_id)
        engine.holds.hold(drafts, written)

    def _with(self, request: Request, instance_id: str, act: Callable[[Request, Instance], None]) -> None:
        def found(instance: Instance | None) -> None:
            if instance is None:
                raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
            act(request, instance)

        self._engine.members.resolve(instance_id, self._guarded(request, found))

    def _guarded(self, request: Request, call: Callable[[Instance | None], None]) -> Callable[[Instance | None], None]:
        def guarded(instance: Instance | None) -> None:
            if request not in self._open:
                return
            try:
                call(instance)
            except PerdureError as error:
                if instance is not None and instance.last_batch > self._engine.lane.durable:
                    self.answer_when_durable(request, error)  # what it rests on may yet be lost
                else:
                    self.answer(request, error)
            except Exception as error:
                self._broke(request, error)

        return guarded

    def _run_again(self, request: Request) -> None:
        if request in self._open and self._let_in:
            self._run(request)

    def _refuse_ended(self, instance: Instance) -> InstanceRow:
        row = _gathered(instance)
        if row.status in ENDED:
            raise InstanceEnded(row.id, row.status)
        return row

    def _check_load(self) -> None:
        engine = self._engine
        if max(engine.ready_count, self.open_count) > engine.settings.backlog:
            raise Overloaded("Too much work is waiting in this host; try again in a moment.")


def check_start(start: StartRequest) -> None:
    """Raises InvalidRequest for a text that not every store can hold."""
    check_name(start.name, "The orchestrator's name")
    if start.version:
        check_unicode(start.version, "The version")
    if start.input:
        check_unicode(start.input, "The input")
    if start.request_id:
        check_unicode(start.request_id, "The request id")


def _gathered(instance: Instance) -> InstanceRow:
    """What requests go by. The instance's state is not theirs to look at: a turn may be moving it on at this moment."""
    assert instance.row is not None
    return instance.row


def _tell(reply: Reply, result: Any) -> None:
    try:
        reply(result)
    except Exception:  # a caller that hung up must not stop the others' answers
        log.warning("an answer could not be handed over", exc_info=True)


def _told(_: object) -> None:
    """The reply of a request that has its answer."""
