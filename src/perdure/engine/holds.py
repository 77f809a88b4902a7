"""Turns and starts that wait for their large texts to be written.

A payload must be durable before the commit that refers to it. It is written beside the commits, by a thread of its own,
and only the instance that it belongs to waits: its turn joins a batch when the payload is there. One write is under way
at a time; what comes meanwhile goes out together with the next.

Should the lane end, a hold is dropped like all that was gathered: its turn is taken again, and its request is done
again. What it had written then belongs to nobody and goes with its execution or its instance.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Union

from msgspec import Struct

from perdure.core.errors import RefusedData
from perdure.core.state import InstanceState
from perdure.core.turn import Checkpoint
from perdure.engine.payloads import Draft, pack, take_out
from perdure.store.api import Store

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

log = logging.getLogger("perdure.engine")

_GROUP_BYTES = 4_000_000
"""A group is not made larger than this by adding to it: a store may have to hold off commits while it is written."""

Written = Callable[[Union[RefusedData, None]], object]
"""Told that the payloads are durable, or why the store does not take them."""


class _Hold(Struct, eq=False):
    drafts: Sequence[Draft]
    then: Written
    size: int


class Holds:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._limit = engine.settings.payload_bytes
        self._record_limit = engine.settings.record_bytes
        self._worker = engine.runtime.worker("payloads")
        self._waiting: deque[_Hold] = deque()
        self._group: Sequence[_Hold] = ()
        self._alone = 0
        """So many of those that wait go out one by one, as the store refused one of them and it is not known which."""
        self._epoch = 0
        self.count = 0
        """Turns and starts that wait."""
        self.bytes = 0
        """Of their texts, those that are being written left out: one value, however large, holds nobody up."""

    def reset(self) -> None:
        """The lane has ended."""
        self._waiting.clear()
        self._group = ()
        self._alone = self.count = self.bytes = 0
        self._epoch += 1

    def may_be_large(self, text: str | None) -> bool:
        """Whether a record with this text in it may be; an escape takes up to six bytes."""
        return text is not None and len(text) * 8 > self._limit

    def take_out(self, state: InstanceState, checkpoint: Checkpoint) -> list[Draft]:
        """The large texts of a turn that is not gathered yet, out of its checkpoint."""
        return take_out(state, checkpoint, self._limit, self._record_limit, self._engine.lane.make_key)

    def hold(self, drafts: Sequence[Draft], then: Written) -> None:
        """Call `then` once the payloads are durable or refused; never, if the lane ends before."""
        hold = _Hold(drafts, then, sum(len(draft.text) for draft in drafts))
        self._waiting.append(hold)
        self.count += 1
        self.bytes += hold.size
        self._write()

    def _write(self) -> None:
        if self._group or not self._waiting:
            return
        again = self._alone > 0
        self._group = group = [self._waiting.popleft()]
        if again:
            self._alone -= 1
        else:
            size = group[0].size
            while self._waiting and size + self._waiting[0].size <= _GROUP_BYTES:
                group.append(self._waiting.popleft())
                size += group[-1].size
        self.bytes -= sum(hold.size for hold in group)
        drafts = [draft for hold in group for draft in hold.drafts]
        store, host, epoch = self._engine.store, self._engine.lane.host.id, self._epoch
        self._worker.submit(
            lambda: _write(store, host, drafts, again), lambda result: self._written(epoch, group, result)
        )

    def _written(self, epoch: int, group: Sequence[_Hold], result: object) -> None:
        if epoch != self._epoch:
            return
        self._group = ()
        refusal = result if isinstance(result, RefusedData) else None
        if refusal is not None and len(group) > 1:
            self._waiting.extendleft(reversed(group))
            self.bytes += sum(hold.size for hold in group)
            self._alone = len(group)
        elif isinstance(result, BaseException) and refusal is None:
            self._engine.commits.end_lane(result)
            return
        else:
            self._let_go(epoch, group, refusal)
        if epoch == self._epoch:
            self._write()
            self._engine.schedule_pump()

    def _let_go(self, epoch: int, group: Sequence[_Hold], refusal: RefusedData | None) -> None:
        """What raises in here is a fault of the lane, as it is after a commit."""
        try:
            for hold in group:
                self.count -= 1
                hold.then(refusal)
                if epoch != self._epoch:  # a request may have ended the lane
                    return
        except Exception as error:
            log.critical("internal error after large values were written", exc_info=error)
            self._engine.commits.end_lane(error)


def _write(store: Store, host: str, drafts: Sequence[Draft], again: bool) -> None:
    """`again`: some of them may be there, from before the group that they were in was refused."""
    there = store.payloads([draft.id for draft in drafts]) if again else {}
    store.write_payloads(host, [pack(draft) for draft in drafts if draft.id not in there])
