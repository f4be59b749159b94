"""Threads for code that blocks, and its way back into the event loop.

Connections have Threads: one for each, as many as the limit allows, and none waits for another. Such a thread is
started with its connection (about 0.1 ms) and ends with it: what a library ties to a thread, such as a database
connection, ends too. Plain requests have a Pool: a few threads that are used again. So neither ever takes the other's.
All of them are daemons: code that hangs does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from fairlead.errors import CloseCode, Closed, NetworkError, UsageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

THREADS = 1000
"""Blocking connections at once. An idle thread takes 16 KiB of memory; past a few thousand the system's own bounds on
threads come near."""

IDLE = 60.0
"""Seconds that a Pool's thread waits for its next call; a quiet server needs few of them."""


class NoThread(NetworkError):
    """As many connections have threads as may; refuse the handshake with 503."""


class Job(Generic[T]):
    """A call for a thread, with the context variables of whoever waits for it in the event loop.

    Attributes:
        done: Its outcome, in the event loop; gone from here when it is there.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._call = call
        self._result: T | None = None
        self._error: Exception | None = None
        self.done: asyncio.Future[T] = self._loop.create_future()

    def run(self) -> None:
        """Call it. In the thread; never raises."""
        try:
            self._result = self._context.run(self._call)
        except StopIteration as exc:  # which a future cannot hold
            self._error = _wrapped(exc)
        except Exception as exc:
            self._error = exc
        except BaseException as exc:  # SystemExit ends a thread and not the server
            self._error = _wrapped(exc)

    def report(self) -> None:
        """Tell whoever waits. In the thread, when it has nothing more to do."""
        with suppress(RuntimeError):  # the loop is closed, so nobody does
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        error, self._error, done = self._error, None, self.done
        del self.done  # with the error, whose traceback knows this job, it would be a circle
        if done.done():
            if error is not None and not isinstance(error, Closed | ConnectionError):
                logger.error("a call that nobody waits for any more failed", exc_info=error)
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(self._result)  # type: ignore[arg-type]  # a T, since nothing was raised


def _wrapped(exc: BaseException) -> RuntimeError:
    error = RuntimeError(f"the thread raised {type(exc).__name__}")
    error.__cause__ = exc
    return error


class Threads:
    """A bounded number of threads, each for one call, however long that takes.

    Args:
        limit: How many there may be at once.
        name: What they are called, for debuggers and profilers.

    Attributes:
        limit: As given.
        running: How many there are.
    """

    def __init__(self, limit: int = THREADS, *, name: str = "fairlead-socket") -> None:
        self.limit = limit
        self.running = 0
        self._name = name
        self._count = 0
        self._lock = threading.Lock()

    async def run(self, call: Callable[[], T]) -> T:
        """Run something in a thread of its own, with the caller's context variables. From the event loop.

        Cancelled, it returns at once, and the thread runs on to its own end, still counted.

        Raises:
            NoThread: There are as many as there may be.
            RuntimeError: The call raised StopIteration, or something that is no Exception; that is the cause.
        """
        with self._lock:
            if self.running >= self.limit:
                raise NoThread(f"all {self.limit} threads for blocking connections are in use")
            self.running += 1
            self._count += 1
        job = Job(call)
        try:
            _start(f"{self._name}-{self._count}", self._work, job)
        except RuntimeError as exc:  # the system has no more
            self._leave()
            raise NoThread(str(exc)) from exc
        return await job.done

    def _work(self, job: Job[T]) -> None:
        _give_way()
        job.run()
        self._leave()
        job.report()

    def _leave(self) -> None:
        with self._lock:
            self.running -= 1


class Pool:
    """A bounded number of threads that are used again, for calls that end soon; when all are at work, others wait.

    Args:
        limit: How many there may be.
        name: What they are called, for debuggers and profilers.
    """

    def __init__(self, limit: int, *, name: str = "fairlead-http") -> None:
        self.limit = limit
        self._name = name
        self._jobs: deque[Job[Any]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._free = 0  # of them: at no job, and about to look for one
        self._count = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Run something in a thread, with the caller's context variables. From the event loop.

        Cancelled, it returns at once. What has not begun then never does; what has runs on to its own end.

        Raises:
            RuntimeError: The call raised StopIteration, or something that is no Exception; that is the cause. Or the
                system has no thread at all.
        """
        job = Job(call)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
            if len(self._jobs) > self._free and self._threads < self.limit:
                self._grow()
        return await job.done

    def _grow(self) -> None:
        self._count += 1
        try:
            _start(f"{self._name}-{self._count}", self._work)
        except RuntimeError:  # the system has no more: those that there are have to do
            if not self._threads:
                self._jobs.clear()
                raise
        else:
            self._threads += 1
            self._free += 1

    def _work(self) -> None:
        _give_way()
        while (job := self._next()) is not None:
            if not job.done.cancelled():
                job.run()
            with self._changed:
                self._free += 1  # before it reports: who hears that and comes with another call shall find it free
            job.report()
            del job  # or it would be kept until there is another one

    def _next(self) -> Job[Any] | None:
        with self._changed:
            while not self._jobs:
                if not self._changed.wait(IDLE) and not self._jobs:
                    self._free -= 1
                    self._threads -= 1
                    return None
            self._free -= 1
            return self._jobs.popleft()


def _start(name: str, target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, name=name, daemon=True).start()


def _give_way() -> None:
    """Have Linux not put this thread in the event loop's place the moment it is woken (sched(7), SCHED_BATCH).

    It could do nothing there but wait for the interpreter's lock, which the event loop holds while it wakes anybody.
    Its share of the CPU is the same. Echoes in 20 threads cost 28 µs each without this and 19 with it, requests that
    come 20 at a time 147 and 135. What the thread starts inherits it.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # and not what somebody has chosen for the whole process
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Bridge:
    """Calls from threads into the event loop it is made in.

    It ends with what it is made for, such as a request: what threads wait for then is cancelled, so that none waits for
    something that will never come.

    Attributes:
        loop: The event loop.
        home: The identity of its thread.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.home = threading.get_ident()
        self._lock = threading.Lock()
        self._pending: set[Future[Any]] = set()
        self._ended = False

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
        """Run a coroutine function in the event loop and wait for its outcome.

        Raises:
            Closed: The bridge has ended.
            UsageError: This is the event loop, which would wait for itself.
        """
        if threading.get_ident() == self.home:
            raise UsageError("this blocks, and would stop the event loop: call it in a thread")
        try:
            return self.begin(function, *args).result()
        except CancelledError:
            raise Closed(CloseCode.ABNORMAL) from None

    def begin(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> Future[T]:
        """Run a coroutine function in the event loop, and do not wait; what it will have returned.

        Raises:
            Closed: The bridge has ended.
        """
        outcome: Future[T] = Future()
        with self._lock:
            if self._ended:
                raise Closed(CloseCode.ABNORMAL)
            self._pending.add(outcome)
        outcome.add_done_callback(self._pending.discard)
        try:
            self.loop.call_soon_threadsafe(self._run, outcome, function, args)
        except RuntimeError:  # the loop is closed
            outcome.cancel()
        return outcome

    def end(self) -> None:
        """Nothing is called any more. From the event loop."""
        with self._lock:
            self._ended = True
            pending = list(self._pending)
        for outcome in pending:
            outcome.cancel()

    def _run(
        self, outcome: Future[T], function: Callable[..., Coroutine[Any, Any, T]], args: tuple[object, ...]
    ) -> None:
        if outcome.cancelled():
            return
        task = self.loop.create_task(function(*args))

        def settle(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                outcome.cancel()
            elif (error := task.exception()) is not None:
                if not outcome.cancelled():
                    outcome.set_exception(error)
            elif not outcome.cancelled():
                outcome.set_result(task.result())

        task.add_done_callback(settle)
        outcome.add_done_callback(lambda _: task.cancel())  # of a task that is done this does nothing
