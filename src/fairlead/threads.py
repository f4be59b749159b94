"""Threads for connections that blocking code talks to: one for each, as many as the limit allows.

They are a pool of their own, so that sockets never take the threads of plain HTTP. A thread is started for each
connection (about 0.1 ms) and ends with it: what a library ties to a thread, such as a database connection, ends too.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from fairlead.errors import NetworkError

T = TypeVar("T")
R = TypeVar("R")

THREADS = 1000
"""Blocking connections at once. An idle thread takes 16 KiB of memory; past a few thousand the system's own bounds on
threads come near."""


class NoThread(NetworkError):
    """As many connections have threads as may; refuse the handshake with 503."""


class Threads:
    """A bounded number of threads.

    Args:
        limit: How many there may be at once.
        name: What they are called, for debuggers and profilers.
    """

    def __init__(self, limit: int = THREADS, *, name: str = "fairlead-socket") -> None:
        self.limit = limit
        self.running = 0
        self._name = name
        self._count = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Run something in a thread of its own, with the caller's context variables. From the event loop.

        Cancelled, it returns at once, and the thread runs on to its own end, still counted.

        Raises:
            NoThread: There are as many as there may be.
        """
        if self.running >= self.limit:
            raise NoThread(f"all {self.limit} threads for blocking connections are in use")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                report(done.set_result, context.run(call))
            except BaseException as exc:
                report(done.set_exception, _plain(exc))

        def report(settle: Callable[[R], None], outcome: R) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, settle, outcome)

        def finish(settle: Callable[[R], None], outcome: R) -> None:
            self.running -= 1
            if not done.done():
                settle(outcome)

        self.running += 1
        self._count += 1
        try:
            threading.Thread(target=work, name=f"{self._name}-{self._count}", daemon=True).start()
        except RuntimeError as exc:  # the system has no more
            self.running -= 1
            raise NoThread(str(exc)) from exc
        return await done


def _plain(exc: BaseException) -> BaseException:
    """An exception that a future can hold: StopIteration would end the coroutine that awaits it."""
    if isinstance(exc, StopIteration):
        return RuntimeError("the thread raised StopIteration").with_traceback(exc.__traceback__)
    return exc
