"""Looking out for what comes from outside: messages that other processes wrote, timers that come within the horizon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.core.ids import first_key
from perdure.core.state import InstanceRow
from perdure.engine.recovery import Recovery
from perdure.store.api import StoredMail

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

_PAGE = 500


class Poller:
    """Looks again and again, for as long as one lane lives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._worker = engine.runtime.worker("poller")

    def begin(self, recovery: Recovery) -> None:
        """`recovery` is that of the lane; it has read everything up to its cursors."""
        engine = self._engine
        engine.runtime.later(engine.settings.horizon_seconds / 2, self._extend_horizon, recovery)
        if engine.settings.poll_seconds > 0:
            # Begun by reading: the last poll of the lane before may have been told what `recovery` came too early for.
            engine.runtime.later(engine.settings.poll_seconds, self._read, recovery)

    def _over(self, recovery: Recovery) -> bool:
        return recovery is not self._engine.recovery or self._engine.stopping

    def _extend_horizon(self, recovery: Recovery) -> None:
        if not self._over(recovery):
            recovery.extend_horizon()
            self._engine.runtime.later(self._engine.settings.horizon_seconds / 2, self._extend_horizon, recovery)

    def _poll(self, recovery: Recovery) -> None:
        if self._over(recovery):
            return

        def polled(result: object) -> None:
            if self._over(recovery):
                return
            if isinstance(result, BaseException):
                self._engine.commits.end_lane(result)
            elif result:
                self._read(recovery)
            else:
                self._poll_later(recovery)

        self._worker.submit(self._engine.store.poll, polled)

    def _poll_later(self, recovery: Recovery) -> None:
        self._engine.runtime.later(self._engine.settings.poll_seconds, self._poll, recovery)

    def _read(self, recovery: Recovery) -> None:
        """Instances first, or a message would find its instance unknown.

        The next poll follows when all is read: two readings under way at once would deliver the same messages twice.
        """
        if self._over(recovery):
            return
        engine = self._engine

        def got_instances(rows: Sequence[InstanceRow]) -> None:
            for row in rows:
                recovery.client_cursor = row.key
                engine.members.bring(row.key)
            if len(rows) == _PAGE:
                self._read(recovery)
            else:
                engine.loader.ask(lambda: engine.store.inbox(recovery.inbox_cursor, _PAGE), got_mail)

        def got_mail(page: Sequence[StoredMail]) -> None:
            # What this host wrote itself is in memory already, or waits on purpose.
            recovery.deliver([mail for mail in page if mail.id < first_key(1)])
            if page:
                recovery.inbox_cursor = max(recovery.inbox_cursor, page[-1].seq)
            if len(page) == _PAGE:
                self._read(recovery)
            else:
                self._poll_later(recovery)

        engine.loader.ask(lambda: engine.store.created_by_clients(recovery.client_cursor, _PAGE), got_instances)
