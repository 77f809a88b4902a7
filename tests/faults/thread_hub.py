"""A task hub on real threads, for what virtual time cannot show: code that blocks, and code that does not yield.

Nothing here waits for time to pass: every wait is for an answer, and gives up after a time that only a test that fails
takes.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from azure.durable_functions.registry import Registry

from perdure.core.protocols import Reply
from perdure.core.state import InstanceRow
from perdure.engine import Engine, EngineSettings
from perdure.runtime import ThreadRuntime
from perdure.store.api import Store
from perdure.store.memory import MemoryDatabase, MemoryStore

PATIENCE_SECONDS = 60.0


class ThreadHub:
    """One process, on `store` or in memory. `internal_errors` has what the home thread raised."""

    def __init__(
        self,
        app: Registry,
        settings: EngineSettings | None = None,
        database: MemoryDatabase | None = None,
        store: Store | None = None,
    ) -> None:
        self.database = database or MemoryDatabase()
        self.store = store or MemoryStore(self.database, "hub")
        self.internal_errors: list[BaseException] = []
        self.runtime = ThreadRuntime(self.internal_errors.append)
        self.runtime.start()
        self.engine = Engine(self.runtime, self.store, app.orchestrators, app.activities, settings)
        self._running = True
        self.await_call(lambda running: self.engine.start(lambda: running(None)))

    def __enter__(self) -> ThreadHub:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self.stop(0.0)
        assert not self.internal_errors, self.internal_errors

    def stop(self, grace_seconds: float) -> None:
        stopped = self.begin_to_stop(grace_seconds)
        stopped.get(timeout=PATIENCE_SECONDS)
        self.runtime.close()

    def begin_to_stop(self, grace_seconds: float) -> queue.SimpleQueue[Any]:
        """What has an entry once the engine has stopped."""
        self._running = False
        stopped: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.runtime.post(self.engine.stop, grace_seconds, lambda: stopped.put(None))
        return stopped

    def await_call(self, call: Callable[[Reply], object]) -> Any:
        """Run `call` on the home thread and wait for what it hands to its argument."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.runtime.post(call, answers.put)
        return answers.get(timeout=PATIENCE_SECONDS)

    def ask(self, verb: Callable[[Engine, Reply], object]) -> Any:
        return self.await_call(lambda reply: verb(self.engine, reply))

    def wait(self, instance_id: str) -> InstanceRow:
        """Its row, once the instance has ended."""
        return self.ask(lambda engine, reply: engine.doors.wait(instance_id, reply))

    def wait_until_parked(self, instance_id: str) -> InstanceRow:
        def look(reply: Reply) -> None:
            row = self.store.find([instance_id]).get(instance_id)
            if row is not None and row.parked is not None:
                reply(row)
            else:
                self.runtime.later(0.01, look, reply)

        return self.await_call(look)
