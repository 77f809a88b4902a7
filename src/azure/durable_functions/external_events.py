"""External events on their way to the waits of an orchestrator."""

from __future__ import annotations

from collections import deque

from azure.durable_functions.tasks import EventTask, TaskBase, TaskState

from perdure.core.events import EventRaised

_RUNNING = TaskState.RUNNING


class EventInbox:
    """Who gets which event. Names are compared without regard to case.

    An event goes to the newest wait that the awaited task depends on. If there is none it is kept; the next wait that
    is yielded, or looked at, takes the oldest kept one. So a wait that lost a race and is forgotten takes nothing.
    """

    __slots__ = ("_arrived", "_kept", "_made", "_waits")

    def __init__(self) -> None:
        # By lower-case name: the events that nobody took with their place in the order of arrival, the oldest first;
        # and the waits that the awaited task is made of, the newest last.
        self._kept: dict[str, deque[tuple[int, EventRaised]]] = {}
        self._waits: dict[str, list[EventTask]] = {}
        self._arrived = 0
        self._made = 0

    def enlist(self) -> int:
        """The ordinal of one more wait."""
        self._made += 1
        return self._made

    def forget_waits(self) -> None:
        if self._waits:
            self._waits = {}

    def listen(self, wait: EventTask) -> None:
        """Let `wait`, which the awaited task depends on, be served until `forget_waits`."""
        waits = self._waits.setdefault(wait.key, [])
        waits.append(wait)
        if len(waits) > 1 and waits[-2].order > wait.order:
            waits.sort(key=_order)

    def arrive(self, event: EventRaised, awaited: TaskBase | None) -> EventTask | None:
        """The wait that gets `event`; None if it is kept."""
        self._arrived += 1
        key = event.name.lower()
        waits = self._waits.get(key)
        while waits and awaited is not None:
            # One that the awaited task has given up in the meantime will not be wanted again before the next yield.
            wait = waits.pop()
            if wait._state is _RUNNING and wait.wanted_by(awaited):
                return wait
        self._kept.setdefault(key, deque()).append((self._arrived, event))
        return None

    def take(self, wait: EventTask) -> EventRaised | None:
        """The oldest kept event for `wait`."""
        kept = self._kept.get(wait.key)
        if kept is None:
            return None
        _, event = kept.popleft()
        if not kept:
            del self._kept[wait.key]
        return event

    def kept(self) -> list[EventRaised]:
        """The events that nobody took, in order of arrival."""
        entries = [entry for kept in self._kept.values() for entry in kept]
        return [event for _, event in sorted(entries, key=_arrival)]


def _order(wait: EventTask) -> int:
    return wait.order


def _arrival(entry: tuple[int, EventRaised]) -> int:
    return entry[0]
