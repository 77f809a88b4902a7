"""From a store to a running engine: what must be read, and in which order.

First the inbox, so that no answer is missed; then timers due soon; then instances that wait for a turn or for an
activity, by key, a page whenever there is room. Nothing else is read: the cost depends on what is due and not on what
exists. Parked instances are looked at for functions that are there again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from perdure.core.errors import UnreadableRecord
from perdure.core.events import ExecutionResumed
from perdure.core.state import InstanceRow
from perdure.engine.loading import to_mail
from perdure.store.api import StoredMail, TimerRow

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

_PAGE = 500
_ROOM = 2000
MISSING_FUNCTION = "missing function: "


class Recovery:
    """One run of the readings above. `inbox_read` is called once new requests may be let in behind the old ones."""

    def __init__(self, engine: Engine, inbox_read: Callable[[], object]) -> None:
        self._engine = engine
        self._inbox_read = inbox_read
        self._due_after: int | None = 0
        self._reading_due = False
        self.inbox_cursor = 0
        self.client_cursor = 0
        self.mail_read = False
        """Until the inbox is read no instance is, or its activities would be started though their results are there."""
        self.done = False

    def begin(self) -> None:
        store = self._engine.store
        self._engine.loader.ask(store.client_cursor, self._got_cursor)

    def _got_cursor(self, cursor: int) -> None:
        self.client_cursor = cursor
        self._read_inbox()

    def _read_inbox(self) -> None:
        store, after = self._engine.store, self.inbox_cursor
        self._engine.loader.ask(lambda: store.inbox(after, _PAGE), self._got_inbox)

    def _got_inbox(self, page: Sequence[StoredMail]) -> None:
        self.deliver(page)
        if len(page) == _PAGE:
            self._read_inbox()
        else:
            self.mail_read = True
            self._engine.schedule_pump()
            self._read_timers(None)

    def deliver(self, page: Sequence[StoredMail]) -> None:
        """Hand stored messages to their instances; answers that wait for a held one stay where they are.

        An event may be for an instance that has failed, which keeps it as late.
        """
        for stored in page:
            self.inbox_cursor = stored.seq
            if stored.held and not stored.control and stored.execution:
                continue
            try:
                mail = to_mail(stored)
            except UnreadableRecord as error:
                self._engine.members.park_key(stored.target, f"unreadable message {stored.id}: {error}")
                continue
            self._engine.deliver(mail)

    def _read_timers(self, after: TimerRow | None) -> None:
        engine = self._engine
        until = engine.timers.advance_horizon() if after is None else engine.timers.loaded_until

        def got(page: Sequence[TimerRow]) -> None:
            engine.timers.arm(page)
            if len(page) == _PAGE:
                self._read_timers(page[-1])
            elif not self.done:
                self.done = True
                self._inbox_read()
                self._read_parked(0)
                engine.schedule_pump()

        engine.loader.ask(lambda: engine.store.timers(until, after, _PAGE), got)

    def extend_horizon(self) -> None:
        """Read the timers that have come within the horizon."""
        if self.done:
            self._read_timers(None)

    def _read_parked(self, after: int) -> None:
        engine = self._engine

        def got(page: Sequence[InstanceRow]) -> None:
            for row in page:
                missing = (row.parked or "").startswith(MISSING_FUNCTION) and row.status != "Suspended"
                if missing and engine.orchestrators.knows(row.name):
                    engine.deliver(engine.make_mail(row.key, 0, ExecutionResumed(reason="the function is there again")))
            if len(page) == _PAGE:
                self._read_parked(page[-1].key)

        engine.loader.ask(lambda: engine.store.parked(after, _PAGE), got)

    def pump(self) -> None:
        """Read the next page of due instances if there is room."""
        engine = self._engine
        if not self.done or self._due_after is None or self._reading_due:
            return
        if engine.loader.waiting + engine.desk.instances_queued + engine.ready_count > _ROOM:
            return
        after = self._due_after
        self._reading_due = True

        def got(page: Sequence[InstanceRow]) -> None:
            self._reading_due = False
            self._due_after = page[-1].key if len(page) == _PAGE else None
            for row in page:
                engine.members.bring(row.key)
            engine.schedule_pump()

        engine.loader.ask(lambda: engine.store.due(after, _PAGE), got)
