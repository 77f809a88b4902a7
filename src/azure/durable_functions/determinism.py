"""What a history says that the code decided, and whether the code decides it again."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.events import (
    ContinueAsNew,
    Decided,
    ExecutionCompleted,
    SubOrchestrationInstanceCreated,
    TaskScheduled,
    TimerCanceled,
    TimerCreated,
    TurnRecord,
)


class RecordedDecisions:
    """The decisions of a history, in order, and how many of them the code has made again.

    Every method that looks for a contradiction returns it as text, or None. Inputs and times are not compared, as they
    may differ for good reasons, and names without regard to case.
    """

    __slots__ = ("_decisions", "_ended", "_matched")

    def __init__(self, records: Sequence[TurnRecord] = ()) -> None:
        self._decisions: list[Decided] = []
        self._ended = False
        self._matched = 0
        for record in records:
            for decision in record.decided:
                if isinstance(decision, (ExecutionCompleted, ContinueAsNew)):
                    self._ended = True
                else:
                    self._decisions.append(decision)

    @property
    def exhausted(self) -> bool:
        return self._matched == len(self._decisions)

    def match(self, decision: Decided) -> str | None:
        """The code decides `decision`. To be asked while not `exhausted`."""
        recorded = self._decisions[self._matched]
        if _same(recorded, decision):
            self._matched += 1
            return None
        return f"the next decision in the history is {_label(recorded)}, but the code asked for {_label(decision)}"

    def excess(self, decision: Decided) -> str:
        """The code decides `decision` though the history has no more."""
        return f"the history {self._last()}, but the code asked for {_label(decision)}"

    def missing(self) -> str | None:
        """All events were applied, and the code waits."""
        if self.exhausted:
            return None
        return (
            f"the next decision in the history is {_label(self._decisions[self._matched])}, "
            "but the code waits without asking for it"
        )

    def ending(self, decision: ExecutionCompleted | ContinueAsNew) -> str | None:
        """The code ends while it is replayed."""
        did = "returned"
        if isinstance(decision, ContinueAsNew):
            did = "continued as new"
        elif decision.failure is not None:
            did = f"raised {decision.failure.type}"
        if not self.exhausted:
            return (
                f"the next decision in the history is {_label(self._decisions[self._matched])}, but the function {did}"
            )
        return None if self._ended else f"the history {self._last()}, but the function {did}"

    def _last(self) -> str:
        if not self._decisions:
            return "has no decision up to this point"
        return f"has no decision after {_label(self._decisions[-1])} up to this point"


def _same(recorded: Decided, decision: Decided) -> bool:
    match recorded, decision:
        case (TaskScheduled(), TaskScheduled()) | (
            SubOrchestrationInstanceCreated(),
            SubOrchestrationInstanceCreated(),
        ):
            return recorded.task_id == decision.task_id and (
                recorded.name == decision.name or recorded.name.lower() == decision.name.lower()
            )
        case (TimerCreated(), TimerCreated()) | (TimerCanceled(), TimerCanceled()):
            return recorded.task_id == decision.task_id
        case _:
            return False


def _label(decision: Decided) -> str:
    """Kind, id and name, as the history has them."""
    kind = type(decision).__name__
    match decision:
        case TaskScheduled() | SubOrchestrationInstanceCreated():
            return f"{kind} #{decision.task_id} '{decision.name}'"
        case TimerCreated() | TimerCanceled():
            return f"{kind} #{decision.task_id}"
        case _:
            return kind
