"""The stores agree: whatever is done to two of them, they raise the same errors and show the same rows."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from store_handles import MemoryHandles, SqliteHandles
from store_rows import NOW, history, instance, message, payload, snapshot

from perdure.core.errors import IdTaken, PerdureError
from perdure.core.ids import first_key
from perdure.core.protocols import InstanceQuery
from perdure.core.state import InstanceRow
from perdure.store.api import Commit, Host, TimerRow

IDS = ["a", "A", "a ", "ab", "é", "\ud7ff", "\ue000", "\U0010ffff"]
KEYS = range(first_key(1), first_key(1) + 8)
CLIENT_KEYS = range(1, 4)
STATUSES = ["Pending", "Running", "Suspended", "Completed", "Failed", "Terminated"]
TEXTS = [None, "", "x", "a\0b", "NaN", "😀", "\ud800"]
SMALL = st.integers(1, 8)

seeds = st.integers(0, 2**32)


class Agreement(RuleBasedStateMachine):
    """Hypothesis chooses the order of calls and a seed for the rows of each; keys are few, so that rows meet."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.databases = [MemoryHandles(), SqliteHandles(Path(self.directory.name) / "hub.db", "OFF")]
        self.stores = [database.open() for database in self.databases]
        self.clients = [database.open() for database in self.databases]
        self.host: Host
        self.first = 0
        self.number = 0
        self.payloads: list[int] = []

    def teardown(self) -> None:
        for database in self.databases:
            database.close()
        self.directory.cleanup()

    @initialize()
    def register(self) -> None:
        self.host = self.both(lambda store: store.register_host(NOW, 5))
        self.number = 0

    @rule(late=st.booleans())
    def renew_the_lane(self, late: bool) -> None:
        self.both(lambda store: store.end_host(self.host.id))
        if late:
            self.both(lambda store: store.commit(Commit(self.host.id, self.number + 1, NOW)))
            self.both(lambda store: store.sweep(self.host.id, 1))
            self.both(lambda store: store.write_payloads(self.host.id, [payload(1, 1)]))
            self.both(lambda store: store.end_host(self.host.id))
        self.register()

    @rule(some=st.lists(seeds, min_size=1, max_size=4))
    def commit(self, some: list[int]) -> None:
        for seed in some:
            choice = random.Random(seed)
            parts = self.parts(choice)
            number = self.number + (choice.random() < 0.95)
            if self.both(lambda store: store.commit(Commit(self.host.id, number, NOW, **parts))) is None:  # noqa: B023
                self.number = number
            self.compare()

    @rule(limit=SMALL)
    def sweep(self, limit: int) -> None:
        self.both(lambda store: store.sweep(self.host.id, limit))
        self.compare()

    @rule(seed=seeds)
    def write_payloads(self, seed: int) -> None:
        choice = random.Random(seed)
        rows = [
            payload(first_key(self.host.ordinal) + self.fresh(), choice.choice(KEYS), choice.choice(KEYS), bytes(size))
            for size in choice.choices([0, 1, 5000, 20_000], k=choice.randrange(1, 4))
        ]
        if choice.random() < 0.05:
            rows.append(rows[0])
        self.payloads += [row.id for row in rows]
        self.both(lambda store: store.write_payloads(self.host.id, rows))
        self.compare()

    @rule(seed=seeds)
    def start(self, seed: int) -> None:
        choice = random.Random(seed)
        row = self.instance(choice, 0)
        self.both(lambda store: store.submit_start(row, b"{}"), self.clients)
        self.compare()

    @rule(to=st.sampled_from([*KEYS, *CLIENT_KEYS]))
    def send(self, to: int) -> None:
        self.both(lambda store: store.submit_message(message(0, to)), self.clients)
        self.compare()

    @rule()
    def poll(self) -> None:
        self.both(lambda store: store.poll())

    @rule(seed=seeds)
    def query(self, seed: int) -> None:
        choice = random.Random(seed)
        query = InstanceQuery(
            created_from=choice.choice([None, NOW + choice.randrange(8)]),
            created_to=choice.choice([None, NOW + choice.randrange(8)]),
            statuses=tuple(choice.sample(STATUSES, choice.randrange(4))),
            id_prefix=choice.choice([None, "", *IDS, "\ud800"]),
            after_key=choice.choice([0, 1, *KEYS]),
            limit=choice.randrange(1, 5),
        )
        self.both(lambda store: store.query(query))

    def parts(self, choice: random.Random) -> dict[str, Any]:
        """Some rows for each part of a commit; no row twice, none both as new and as done."""

        def some(most: int = 3) -> list[int]:
            return choice.sample([*KEYS, *CLIENT_KEYS], choice.choice([0, 0, 1, most]))

        def rarely(row: Any, spoilt: Any) -> Any:
            return spoilt if choice.random() < 0.03 else row

        keys = some(6)
        split = choice.randrange(len(keys) + 1)
        existing = [key for key in keys if self.stores[0].instance(key) is not None or choice.random() < 0.03]
        missing = [
            key for key in keys if key in KEYS and (self.stores[0].instance(key) is None or choice.random() < 0.03)
        ]
        purged = [key for key in existing[:split] if choice.random() < 0.3]
        messages = [mail.id for mail in self.stores[0].inbox(0, 100) if choice.random() < 0.3]
        timers = {
            TimerRow(NOW + n % 3, n, execution, task_id) for n in some() for execution in some(1) for task_id in some(2)
        }
        timers_new = [row for row in timers if choice.random() < 0.6]
        changed = [self.updated(choice, key) for key in existing if key not in purged]
        advanced = [row for row in changed if choice.random() < 0.5]
        return {
            "purged": purged,
            "created": [self.instance(choice, key) for key in missing if key not in existing],
            "updated": [row for row in changed if row not in advanced],
            "advanced": advanced,
            "history": [history(n, 1 + self.fresh() - rarely(0, 1), b"x") for n in some()],
            "inbox_done": messages + rarely([], [KEYS[0] + 99]),
            "inbox_new": [
                message(KEYS[0] + 100 + self.fresh(), rarely(n, KEYS[0] + 99), control=n % 2 == 0) for n in some()
            ],
            "timers_new": timers_new,
            "timers_done": [row for row in timers if row not in timers_new],
            "retired": some(),
        }

    def instance(self, choice: random.Random, key: int) -> InstanceRow:
        ids = [*IDS, "\ud800"] if choice.random() < 0.05 else [*IDS, *[f"id {key}"] * 10]
        return instance(key, choice.choice(ids), **self.values(choice))

    def updated(self, choice: random.Random, key: int) -> InstanceRow:
        row = self.stores[0].instance(key)
        return instance(key, "missing" if row is None else row.id, **self.values(choice))

    def values(self, choice: random.Random) -> dict[str, Any]:
        texts = TEXTS if choice.random() < 0.1 else TEXTS[:-1]
        return {
            "status": choice.choice(STATUSES),
            "created_at": rarely_large(choice, NOW + choice.randrange(8)),
            "execution": choice.choice(KEYS),
            "ready": choice.random() < 0.5,
            "open_activities": choice.choice([0, 0, 2]),
            "parked": choice.choice([None, None, "", "why"]),
            "input": choice.choice(texts),
            "output": choice.choice(texts),
        }

    def fresh(self) -> int:
        self.first += 1
        return self.first

    def both(self, call: Callable[[Any], Any], stores: list[Any] | None = None) -> Any:
        """What both stores return, or the type of error that both raise."""
        memory, sqlite = (outcome(call, store) for store in (stores or self.stores))
        assert memory == sqlite
        return memory

    def compare(self) -> None:
        executions = [*KEYS, *CLIENT_KEYS]
        memory, sqlite = (snapshot(store, executions, payloads=self.payloads) for store in self.stores)
        assert memory == sqlite


def rarely_large(choice: random.Random, value: int) -> int:
    return 2**63 if choice.random() < 0.01 else value


def outcome(call: Callable[[Any], Any], store: Any) -> Any:
    try:
        return call(store)
    except IdTaken as error:
        return IdTaken, error.ids
    except PerdureError as error:
        return type(error)


Agreement.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
test_memory_and_sqlite_agree = Agreement.TestCase
