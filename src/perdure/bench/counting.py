"""Count what an engine gives its store to write.

It costs each commit a few microseconds, and each row some tens of nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import attrgetter, itemgetter
from statistics import median
from typing import Any, NamedTuple, cast

from perdure.core.state import ENDED, InstanceRow
from perdure.store.api import Commit, HistoryRow, InboxRow, Store

_body: Callable[[HistoryRow | InboxRow], bytes] = attrgetter("body")


class Written(NamedTuple):
    """One commit."""

    turns: int
    """Executions whose history it continued."""
    created: int
    updated: int
    advanced: int
    history_bytes: int
    """Of the bodies."""
    messages: int
    """Inserted into the inbox."""
    message_bytes: int
    messages_done: int
    seconds: float

    @property
    def rows(self) -> int:
        return self.turns + self.created + self.updated + self.advanced + self.messages + self.messages_done


class CommitLog:
    """The commits since `reset`, and the last rows of instances that they held."""

    def __init__(self) -> None:
        self.commits: list[Written] = []
        self.created: InstanceRow | None = None
        self.moved: InstanceRow | None = None
        """One written again before it ended."""
        self.ended: InstanceRow | None = None

    def reset(self) -> None:
        self.commits = []

    def add(self, commit: Commit, seconds: float) -> None:
        if commit.created:
            self.created = commit.created[-1]
        for rows in (commit.updated, commit.advanced):
            if rows and rows[-1].status in ENDED:
                self.ended = rows[-1]
            elif rows:
                self.moved = rows[-1]
        self.commits.append(
            Written(
                turns=len(commit.history),
                created=len(commit.created),
                updated=len(commit.updated),
                advanced=len(commit.advanced),
                history_bytes=sum(map(len, map(_body, commit.history))),
                messages=len(commit.inbox_new),
                message_bytes=sum(map(len, map(_body, commit.inbox_new))),
                messages_done=len(commit.inbox_done),
                seconds=seconds,
            )
        )

    def total(self) -> Written:
        return Written(*(sum(map(itemgetter(field), self.commits)) for field in range(len(Written._fields))))

    def median_turns(self) -> int:
        """The median of what commits with a turn have."""
        turns = [commit.turns for commit in self.commits if commit.turns]
        return round(median(turns)) if turns else 1

    def median_seconds(self) -> float:
        return median(commit.seconds for commit in self.commits) if self.commits else 0.0


class _CountedStore:
    """Everything but `commit` is the store's own."""

    def __init__(self, store: Store, log: CommitLog) -> None:
        self._store = store
        self._commit = store.commit
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commit: Commit) -> None:
        begun = time.perf_counter()
        self._commit(commit)
        self._log.add(commit, time.perf_counter() - begun)


def counted(store: Store, log: CommitLog) -> Store:
    """`store`, each commit of which that landed is added to `log`."""
    return cast(Store, _CountedStore(store, log))
