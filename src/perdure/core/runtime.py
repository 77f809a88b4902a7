"""The one port through which engine and stores reach time, randomness, threads and sleep.

The engine is written as callbacks on one *home* thread. Work that may block runs on workers and pools, which hand
their results back to the home thread. `perdure.runtime` has the real one; `perdure.testing` one that runs everything
in a single thread, in virtual time, in an order drawn from a seed. `tests/test_architecture.py` refuses any other way
out of `engine/` and `store/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, Union

T = TypeVar("T")


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Worker(Protocol):
    """One thread that runs what it is given in order."""

    def submit(self, call: Callable[[], T], done: Callable[[Union[T, BaseException]], object]) -> None:
        """Run `call` on the worker, then `done` with its result, or with what it raised, on the home thread."""
        ...

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise `error` in the call that runs at this moment, as soon as it executes Python code."""
        ...

    def abandon(self) -> None:
        """Give the thread up with the call that holds it, whose `done` is never run, and go on with a new thread.

        Calls that waited behind it are dropped as well; their `done` is not run either.
        """
        ...

    def close(self) -> None:
        """Let the call that runs end; take no other."""
        ...


class Pool(Protocol):
    """Threads that run plain calls, or one event loop that runs coroutines, in no promised order."""

    def submit(self, calls: Sequence[Callable[[], Any]], *, short: bool = False) -> None:
        """Start `calls`. A call must not raise; it reports by `Runtime.post`.

        `short`: each is over in a moment, so one thread is to run them all rather than one for each be woken. Others
        help when some still wait after a while. Home thread only.
        """
        ...

    def close(self) -> None: ...


class Runtime(Protocol):
    def now(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def random_bits(self, bits: int) -> int: ...

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Run `call(*args)` on the home thread, after what was posted before. May be called from any thread."""
        ...

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> Cancellable:
        """Run `call(*args)` on the home thread in `seconds`. Home thread only."""
        ...

    def worker(self, name: str) -> Worker: ...

    def pool(self, name: str, size: int) -> Pool:
        """A pool of at most `size` threads."""
        ...

    def async_pool(self, name: str) -> Pool:
        """A pool whose calls return awaitables and run on one event loop that belongs to user code."""
        ...
