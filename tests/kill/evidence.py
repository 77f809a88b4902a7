"""The ledger that the killed processes left, and the store: what they prove.

Each line of the ledger is `started`, `finished` or `failed`, a process id and the key of one activity, separated by
tabs. A fault is a sentence that says what is not as it must be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from clients import Run
from workload import KINDS, Given, Plan, tree_children

from perdure.core.codec import decode_records
from perdure.core.events import ExecutionCompleted
from perdure.core.protocols import InstanceQuery
from perdure.core.state import ENDED, InstanceRow
from perdure.store.api import Store

_ALL = 1_000_000


# --- the ledger ------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    at: int
    """Where its line begins in the ledger, in bytes."""
    what: str
    pid: int
    key: str


def read(file: Path, since: int = 0) -> list[Entry]:
    """The entries from byte `since` on."""
    entries: list[Entry] = []
    with file.open("rb") as lines:
        lines.seek(since)
        for line in lines:
            what, pid, key = line.decode().removesuffix("\n").split("\t")
            entries.append(Entry(since, what, int(pid), key))
            since += len(line)
    return entries


def in_flight(entries: Iterable[Entry], pid: int) -> int:
    """How many activities the process had begun and not ended."""
    whats = Counter(entry.what for entry in entries if entry.pid == pid)
    return whats["started"] - whats["finished"] - whats["failed"]


class Ledger:
    """All of it, by key."""

    def __init__(self, entries: list[Entry], pids: Sequence[int]) -> None:
        """`pids` are those of the hosts, in the order of their lives."""
        self._life = {pid: life for life, pid in enumerate(pids)}
        self._by_key: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            self._by_key[entry.key].append(entry)
        self.activities = len(self._by_key)
        self.begun = sum(entry.what == "started" for entry in entries)

    def begun_again_after_its_end(self) -> int:
        """Activities that a kill made run again although they had finished, before that was durable."""
        return sum(
            any(entry.what == "started" and before.what == "finished" for before, entry in pairwise(kept))
            for kept in self._by_key.values()
        )

    def faults(self, runs: Iterable[Run]) -> list[str]:
        found = [fault for key, entries in self._by_key.items() for fault in _twice_in_one_life(key, entries)]
        asked_for: set[str] = set()
        for run in runs:
            assert run.ended is not None
            if run.kind == "endless":
                own = [key for key in self._by_key if key.startswith(f"{run.id}/")]
                found += self._begun_in_a_later_life(run, own)
                asked_for.update(own)
                continue
            plan = KINDS[run.kind].plan(run.given, run.ended["output"])
            found += self._not_done(plan)
            found += self._out_of_order(plan)
            found += self._begun_after_the_end(run, plan)
            asked_for.update(plan)
        return found + [f"{key} ran, and nothing had asked for it" for key in self._by_key.keys() - asked_for]

    def _entries(self, key: str) -> list[Entry]:
        return self._by_key.get(key, [])

    def _not_done(self, plan: Plan) -> list[str]:
        return [f"{key} never ran to its end" for key in plan if not any(map(_ends, self._entries(key)))]

    def _out_of_order(self, plan: Plan) -> list[str]:
        """What follows an activity is begun once its end is durable, so from then on it is over for good."""
        found: list[str] = []
        for after, befores in plan.items():
            if not self._entries(after):
                continue
            begun = self._entries(after)[0].at
            for before in befores:
                entries = self._entries(before)
                if not any(_ends(entry) and entry.at < begun for entry in entries):
                    found.append(f"{after} was begun before {before} had ended")
                if any(entry.what == "started" and entry.at > begun for entry in entries):
                    found.append(f"{before} was begun again although {after}, which follows it, had been begun")
        return found

    def _begun_after_the_end(self, run: Run, plan: Plan) -> list[str]:
        """An end that can be seen is durable."""
        late = (e for key in plan for e in self._entries(key) if e.what == "started" and e.at >= run.ledger_at_end)
        return [f"{entry.key} was begun by {entry.pid} after the end of {run.id} had been seen" for entry in late]

    def _begun_in_a_later_life(self, run: Run, keys: Iterable[str]) -> list[str]:
        """Activities of a terminated instance that wait for a thread may still run, but not in another process."""
        late = (e for key in keys for e in self._entries(key) if self._life[e.pid] > self._life[run.ended_in])
        return [f"{entry.key} was begun by {entry.pid} after the end of {run.id} had been seen" for entry in late]


def _ends(entry: Entry) -> bool:
    return entry.what != "started"


def _twice_in_one_life(key: str, entries: Iterable[Entry]) -> list[str]:
    """One process begins an activity once; again only if it has failed and is to be retried."""
    retried = key.startswith("fan-")
    last: dict[int, str] = {}
    found: list[str] = []
    for entry in entries:
        before = last.get(entry.pid)
        if entry.what == "started" and before is not None and not (before == "failed" and retried):
            found.append(f"{key} was begun again by process {entry.pid}, where it had {before}")
        last[entry.pid] = entry.what
    return found


# --- outputs ---------------------------------------------------------------------------------------------------------


def wrong_endings(runs: Iterable[Run]) -> list[str]:
    found: list[str] = []
    for run in runs:
        assert run.ended is not None
        status, output = run.ended["runtimeStatus"], run.ended["output"]
        expected = "Terminated" if run.kind == "endless" else "Completed"
        if status != expected:
            found.append(f"{run.id} is {status}: {output}")
        elif output != (right := KINDS[run.kind].output(run.given, output)):
            found.append(f"{run.id} gave {output}, not {right}")
        elif run.events:
            found += _wrong_events(run, output)
    return found


def _wrong_events(run: Run, seen: list[int]) -> list[str]:
    """In order, each that was acknowledged, and none more often than it was raised."""
    found = [] if seen == sorted(seen) else [f"{run.id} saw its events out of order: {seen}"]
    times = Counter(seen)
    for number in sorted(run.events.keys() | times.keys()):
        sent = run.events.get(number)
        raised = sent.raised if sent is not None else 0
        # One that no answer acknowledged was seen all the same if its sender went on.
        if not 1 <= times[number] <= raised:
            found.append(f"{run.id} saw event {number}, raised {raised} times, {times[number]} times: {seen}")
    return found


# --- the store -------------------------------------------------------------------------------------------------------


def left_behind(store: Store, runs: Sequence[Run]) -> list[str]:
    """What must not be in the store once everything has ended."""
    found = [f"message {mail.id} for instance {mail.target} was never taken" for mail in store.inbox(0, _ALL)]
    found += [f"a timer of an ended instance is there: {timer}" for timer in store.timers(2**62, None, _ALL)]
    found += [f"{row.id} is due" for row in store.due(0, _ALL)]
    rows = {row.id: row for row in store.query(InstanceQuery(limit=_ALL))}
    for run in runs:
        row = rows.get(run.id)
        if row is None:
            found.append(f"{run.id} is not in the store")
    named = [child for run in runs if run.kind == "tree" for child in _named_below(run.given)]
    found += [f"{child} is not in the store" for child in named if child not in rows]
    # Each child under a given id has a sibling under one that was made for it.
    if len(rows) != len(runs) + 2 * len(named):
        found.append(f"{len(rows)} instances are in the store, not {len(runs) + 2 * len(named)}")
    for row in rows.values():
        found += _wrong_history(store, row)
    return found


def _named_below(given: Given) -> list[str]:
    if given["depth"] == 0:
        return []
    children = tree_children(given)
    return [children[1]["key"], *(name for child in children for name in _named_below(child))]


def _wrong_history(store: Store, row: InstanceRow) -> list[str]:
    if row.status not in ENDED or row.parked is not None:
        return [f"{row.id} is {row.status}, {row.parked}"]
    count = endings = 0
    for part in store.history(row.execution, -1, _ALL):
        if part.first != count:
            return [f"the history of {row.id} has a gap at {count}"]
        records = decode_records(part.body)
        count += len(records)
        endings += sum(isinstance(decision, ExecutionCompleted) for record in records for decision in record.decided)
    if count != row.sequence:
        return [f"the history of {row.id} has {count} records, its row says {row.sequence}"]
    return [] if endings == 1 else [f"{row.id} has ended {endings} times"]
