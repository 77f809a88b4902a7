"""A `Runtime` in one thread and virtual time.

Everything that could happen next is an entry in one queue, at a virtual moment drawn from the seed. Running the entries
in order of their moments gives one of the interleavings that threads could give, and the same seed gives it again. A
`SimulatedMachine` outlives the processes that run on it: `SimulatedRuntime` is one process, and `kill` ends it at any
moment, as SIGKILL would, with all that it had in memory.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Union

from perdure.core.runtime import Cancellable, Pool, Worker

T = TypeVar("T")


class _Entry:
    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        self.call = None
        self.args = ()


class SimulatedMachine:
    """The clock, the seed and the queue of everything that will happen."""

    def __init__(self, seed: int, start: int = 1_700_000_000_000_000) -> None:
        self.random = random.Random(seed)
        self.steps = 0
        self._now = start
        self._start = start
        self._count = 0
        self._queue: list[tuple[int, int, _Entry]] = []

    def now(self) -> int:
        return self._now

    def seconds(self) -> float:
        return (self._now - self._start) / 1_000_000

    def at(self, delay_us: int, call: Callable[..., object], *args: Any) -> _Entry:
        entry = _Entry(call, args)
        self._count += 1
        heapq.heappush(self._queue, (self._now + max(0, delay_us), self._count, entry))
        return entry

    def step(self) -> bool:
        """Run the next entry; False if there is none."""
        while self._queue:
            moment, _, entry = heapq.heappop(self._queue)
            if entry.call is None:
                continue
            self._now = max(self._now, moment)
            self.steps += 1
            entry.call(*entry.args)
            return True
        return False

    def run_until(self, done: Callable[[], bool], max_steps: int) -> bool:
        """Run until `done()`; False if nothing was left to run, or after `max_steps`."""
        for _ in range(max_steps):
            if done():
                return True
            if not self.step():
                return done()
        return done()


class SimulatedRuntime:
    """One process on a machine. `jitter_us` bounds the delay drawn for each hand-over between threads."""

    def __init__(self, machine: SimulatedMachine, jitter_us: int = 300) -> None:
        self.machine = machine
        self.jitter_us = jitter_us
        self.alive = True
        self._home_free_at = 0

    def kill(self) -> None:
        """Nothing of this process runs any more."""
        self.alive = False

    def now(self) -> int:
        return self.machine.now()

    def monotonic(self) -> float:
        return self.machine.seconds()

    def random_bits(self, bits: int) -> int:
        return self.machine.random.getrandbits(bits)

    def draw(self) -> int:
        return self.machine.random.randrange(self.jitter_us) if self.jitter_us else 0

    def post(self, call: Callable[..., object], *args: Any) -> None:
        # Home calls keep their order, as they do in a queue.
        self._home_free_at = max(self._home_free_at, self.now() + self.draw() // 4)
        self.machine.at(self._home_free_at - self.now(), self._run, call, args)

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> Cancellable:
        return self.machine.at(int(seconds * 1_000_000), self._run, call, args)

    def worker(self, name: str) -> Worker:
        return SimulatedWorker(self)

    def pool(self, name: str, size: int) -> Pool:
        return SimulatedPool(self)

    def async_pool(self, name: str) -> Pool:
        return SimulatedPool(self)

    def _run(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.alive:
            call(*args)


class SimulatedWorker:
    """Runs each call at a drawn moment after the one before, and reports at another."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._free_at = 0
        self._generation = 0

    def submit(self, call: Callable[[], T], done: Callable[[Union[T, BaseException]], object]) -> None:
        runtime = self._runtime
        self._free_at = max(self._free_at, runtime.now()) + runtime.draw()
        runtime.machine.at(self._free_at - runtime.now(), self._work, call, done, self._generation)

    def _work(self, call: Callable[[], Any], done: Callable[[Any], object], generation: int) -> None:
        runtime = self._runtime
        if not runtime.alive or generation != self._generation:
            return
        result: Any
        try:
            result = call()
        except Exception as error:
            result = error
        if runtime.alive:
            runtime.post(done, result)

    def interrupt(self, error: type[BaseException]) -> None:
        """In one thread nothing runs while something else does, so there is nothing to interrupt."""

    def abandon(self) -> None:
        self._generation += 1

    def close(self) -> None:
        self._generation += 1


class SimulatedPool:
    """Runs each call at a moment of its own."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._closed = False

    def submit(self, calls: Sequence[Callable[[], Any]], *, short: bool = False) -> None:
        for call in calls:
            self._runtime.machine.at(self._runtime.draw() * 4, self._work, call)

    def _work(self, call: Callable[[], Any]) -> None:
        if self._runtime.alive and not self._closed:
            call()

    def close(self) -> None:
        self._closed = True
