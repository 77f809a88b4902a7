"""A `Runtime` that a test drives by hand: it says what runs when, and how long that takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


class Later:
    def __init__(self, seconds: float, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.seconds = seconds
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        self.call = None


class HandPool:
    """Calls wait in order until the test runs them."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], Any]] = deque()

    def submit(self, calls: Sequence[Callable[[], Any]], *, short: bool = False) -> None:
        self.calls.extend(calls)

    def close(self) -> None:
        self.calls.clear()


class HandWorker:
    """Calls wait in order until the test runs them; `interrupted` and `abandoned` count what was asked."""

    def __init__(self, runtime: HandRuntime) -> None:
        self._runtime = runtime
        self.calls: deque[tuple[Callable[[], Any], Callable[[Any], object]]] = deque()
        self.interrupted = 0
        self.abandoned = 0

    def submit(self, call: Callable[[], Any], done: Callable[[Any], object]) -> None:
        self.calls.append((call, done))

    def run_next(self) -> None:
        call, done = self.calls.popleft()
        try:
            result = call()
        except BaseException as error:
            result = error
        self._runtime.post(done, result)

    def interrupt(self, error: type[BaseException]) -> None:
        self.interrupted += 1

    def abandon(self) -> None:
        self.abandoned += 1
        self.calls.clear()

    def close(self) -> None:
        self.calls.clear()


class HandRuntime:
    def __init__(self) -> None:
        self.time = 1_700_000_000_000_000
        self.posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.laters: list[Later] = []
        self.pools: dict[str, HandPool] = {}
        self.workers: dict[str, HandWorker] = {}

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / 1_000_000

    def random_bits(self, bits: int) -> int:
        return 0

    def post(self, call: Callable[..., object], *args: Any) -> None:
        self.posted.append((call, args))

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> Later:
        entry = Later(self.monotonic() + seconds, call, args)
        self.laters.append(entry)
        return entry

    def worker(self, name: str) -> HandWorker:
        return self.workers.setdefault(name, HandWorker(self))

    def pool(self, name: str, size: int) -> HandPool:
        return self.pools.setdefault(name, HandPool())

    def async_pool(self, name: str) -> HandPool:
        return self.pools.setdefault(name, HandPool())

    # --- driving -----------------------------------------------------------------------------------------------------

    def run_home(self) -> None:
        """Run what was posted, and what that posts."""
        while self.posted:
            call, args = self.posted.popleft()
            call(*args)

    def pass_time(self, seconds: float) -> None:
        """Let time pass and run what it makes due, at its moment and in order."""
        until = self.time + round(seconds * 1_000_000)
        while True:
            due = [entry for entry in self.laters if entry.call is not None and entry.seconds * 1_000_000 <= until]
            if not due:
                break
            entry = min(due, key=lambda entry: entry.seconds)
            self.laters.remove(entry)
            self.time = max(self.time, round(entry.seconds * 1_000_000))
            assert entry.call is not None
            entry.call(*entry.args)
            self.run_home()
        self.time = until
