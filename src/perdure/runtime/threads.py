"""A `Runtime` of threads.

The home thread takes calls from one queue and runs them in order; between them it runs what `later` made due. A worker
is a thread with a queue of its own; results come back through the home queue. All threads are daemons: a thread that
hangs in user code must not keep the process from ending.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Union

from perdure.core.runtime import Cancellable, Pool, Worker
from perdure.runtime.loop import LoopPool

T = TypeVar("T")
log = logging.getLogger("perdure.runtime")

_RETRY_SECONDS = 0.1
_SHORT_SECONDS = 0.002
"""How long short calls may wait for the thread that is at work before others are woken for them."""


class _Later:
    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        self.call = None
        self.args = ()


class ThreadRuntime:
    """`on_error` is told, on the home thread, of every exception that a home call raised; the thread goes on."""

    def __init__(self, on_error: Callable[[BaseException], object] | None = None) -> None:
        self._queue: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._later: list[tuple[float, int, _Later]] = []
        self._count = itertools.count()
        self._random = random.SystemRandom()
        self._on_error = on_error
        self._closers: list[Callable[[], None]] = []
        self._loops: dict[str, LoopPool] = {}
        self._thread = threading.Thread(target=self._run, name="perdure-home", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the home thread after what is queued, and let workers and pools go."""
        for close in self._closers:
            close()
        self._queue.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def random_bits(self, bits: int) -> int:
        return self._random.getrandbits(bits)

    def post(self, call: Callable[..., object], *args: Any) -> None:
        self._queue.put((call, args))

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> Cancellable:
        entry = _Later(call, args)
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._count), entry))
        return entry

    def _later_at_home(self, seconds: float, call: Callable[..., object]) -> None:
        """`later`, from any thread."""
        if threading.current_thread() is self._thread:
            self.later(seconds, call)
        else:
            self.post(self.later, seconds, call)

    def worker(self, name: str) -> Worker:
        worker = ThreadWorker(name, self.post)
        self._closers.append(worker.close)
        return worker

    def pool(self, name: str, size: int) -> Pool:
        pool = ThreadPool(name, size, self._later_at_home)
        self._closers.append(pool.close)
        return pool

    def async_pool(self, name: str) -> Pool:
        """One loop for each name: what shares a loop may share its connections and locks."""
        pool = self._loops.get(name)
        if pool is None:
            pool = self._loops[name] = LoopPool(name)
            self._closers.append(pool.close)
        return pool

    def _run(self) -> None:
        take, take_at_once = self._queue.get, self._queue.get_nowait
        while True:
            try:
                item = take_at_once()
            except queue.Empty:
                try:
                    item = take(timeout=self._pause())
                except queue.Empty:
                    self._run_due()
                    continue
            if item is None:
                return
            try:
                item[0](*item[1])
            except BaseException as error:
                self._broke(item[0], error)
            if self._later and self._later[0][0] <= time.monotonic():
                self._run_due()

    def _pause(self) -> float | None:
        while self._later and self._later[0][2].call is None:
            heapq.heappop(self._later)
        return max(0.0, self._later[0][0] - time.monotonic()) if self._later else None

    def _run_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            entry = heapq.heappop(self._later)[2]
            if entry.call is not None:
                try:
                    entry.call(*entry.args)
                except BaseException as error:
                    self._broke(entry.call, error)

    def _broke(self, call: Callable[..., object], error: BaseException) -> None:
        """The home thread must outlive whatever it runs."""
        log.critical("internal error in %r", call, exc_info=error)
        if self._on_error is not None:
            self._on_error(error)


class ThreadWorker:
    """One daemon thread and the queue that feeds it. See `core.runtime.Worker`."""

    def __init__(self, name: str, post: Callable[..., None]) -> None:
        self._name = name
        self._post = post
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], object]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unanswered = 0
        self._interrupted = False
        self._closed = False

    def submit(self, call: Callable[[], T], done: Callable[[Union[T, BaseException]], object]) -> None:
        if self._closed:
            return
        self._unanswered += 1
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self._queue,), name=f"perdure-{self._name}", daemon=True
            )
            self._thread.start()
        self._queue.put((call, done))

    def interrupt(self, error: type[BaseException]) -> None:
        thread = self._thread
        if thread is not None and thread.ident is not None and self._unanswered:
            self._interrupted = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))

    def abandon(self) -> None:
        self._queue.put(None)
        self._queue = queue.SimpleQueue()
        self._thread = None
        self._unanswered = 0
        self._interrupted = False

    def close(self) -> None:
        self._closed = True
        self._queue.put(None)

    def _run(self, source: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], object]] | None]) -> None:
        try:
            while not self._interrupted:
                item = source.get()
                if item is None:
                    return
                call, done = item
                result: Any
                try:
                    result = call()
                except BaseException as error:  # whatever it is, it belongs to who asked
                    result = error
                if source is self._queue:
                    self._post(self._done, done, result)
                del item, call, done, result
        except BaseException as late:
            log.debug("thread %s was interrupted after its call had ended: %r", self._name, late)

    def _done(self, done: Callable[[Any], object], result: Any) -> None:
        """At home. An interruption may come after the call that it was meant for, so its thread takes no other."""
        self._unanswered -= 1
        if self._interrupted:
            waiting = self._queue
            self.abandon()
            try:
                while True:
                    item = waiting.get_nowait()
                    if item is not None:
                        self.submit(*item)
            except queue.Empty:
                pass
            waiting.put(None)
        done(result)


class ThreadPool:
    """At most `size` daemon threads, made as they are needed, that run plain calls.

    A thread that has nothing to do sleeps on a lock of its own, so that no more are woken than asked for, and those
    first that ran last: each that wakes has to win the interpreter's lock from those that work.
    """

    def __init__(self, name: str, size: int, later: Callable[..., object]) -> None:
        self._name = name
        self._size = size
        self._later = later
        self._calls: deque[Callable[[], Any]] = deque()
        self._threads: list[threading.Thread] = []
        self._asleep: list[threading.Lock] = []
        self._lock = threading.Lock()
        self._closed = False
        self._looking = False

    def submit(self, calls: Sequence[Callable[[], Any]], *, short: bool = False) -> None:
        self._calls.extend(calls)
        if not short:
            self._wake(len(calls))
            return
        if len(self._asleep) == len(self._threads):
            self._wake(1)
        self._look_again(_SHORT_SECONDS)

    def close(self) -> None:
        self._closed = True
        self._wake(self._size)

    def _look(self) -> None:
        """Get help for calls that still wait, and look again while there are any."""
        self._looking = False
        waiting = len(self._calls)
        if waiting and not self._closed:
            self._wake(waiting)
            self._look_again(_SHORT_SECONDS)

    def _look_again(self, seconds: float) -> None:
        if not self._looking:
            self._looking = True
            self._later(seconds, self._look)

    def _wake(self, count: int) -> None:
        with self._lock:
            while count > 0 and self._asleep:
                self._asleep.pop().release()
                count -= 1
            while count > 0 and len(self._threads) < self._size and not self._closed:
                name = f"perdure-{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the machine has no more threads to give
                    log.exception("thread %s could not be started; it is tried again", name)
                    self._look_again(_RETRY_SECONDS)
                    return
                self._threads.append(thread)
                count -= 1

    def _run(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                if self._sleep(bell):
                    continue
                return
            try:
                call()
            except BaseException:  # a pool thread must outlive a call that breaks its promise
                log.critical("internal error in a pool call %r", call, exc_info=True)

    def _sleep(self, bell: threading.Lock) -> bool:
        """Wait until there may be something to do; False if there never will be."""
        with self._lock:
            if self._closed:
                return False
            if self._calls:
                return True
            self._asleep.append(bell)
        bell.acquire()
        return True
