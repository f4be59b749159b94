"""The door for tests that are not coroutines: one event loop in a background thread, and what is entered through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from fairlead.errors import UsageError
from fairlead.loops import Done, running_loop

T = TypeVar("T")
A = TypeVar("A")
S = TypeVar("S")


class Portal:
    """An event loop in a thread of its own.

    There is one per process while anybody uses it, so that all that is opened in a test without ``async`` meets in the
    same loop: two clients of one application are in the same rooms.
    """

    _lock = threading.Lock()
    _users = 0
    _current: Portal | None = None

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="fairlead.testing", daemon=True)
        self._thread.start()
        self.loop = self._ready.result()

    @classmethod
    def enter(cls) -> Portal:
        """The portal, with one more user."""
        if running_loop() is not None:
            raise UsageError("this is a coroutine: enter it with `async with`")
        with cls._lock:
            if cls._current is None:
                cls._current = Portal()
            cls._users += 1
            return cls._current

    @classmethod
    def leave(cls) -> None:
        """One user less; after the last one the loop ends, with all that still runs in it."""
        with cls._lock:
            cls._users -= 1
            portal = cls._current
            if cls._users or portal is None:
                return
            cls._current = None
        portal.loop.call_soon_threadsafe(portal._over.set)
        portal._thread.join()

    def _run(self) -> None:
        async def stay() -> None:
            self._ready.set_result(asyncio.get_running_loop())
            await self._over.wait()

        with asyncio.Runner() as runner:
            runner.run(stay())

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def run(self, function: Callable[[], T]) -> T:
        """Call it in the loop and wait for its result."""

        async def running() -> T:
            return function()

        return self.call(running())


class Entry(Generic[A, S]):
    """Something to enter once: ``async with`` gives its asynchronous form, ``with`` the one for tests without a loop.

    Args:
        manager: What is entered, in the event loop.
        blocking: Makes the other form of what it gives.
    """

    def __init__(self, manager: AbstractAsyncContextManager[A], blocking: Callable[[A, Portal], S]) -> None:
        self._manager = manager
        self._blocking = blocking
        self._portal: Portal | None = None

    async def __aenter__(self) -> A:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._manager.__aexit__(kind, error, trace)

    def __enter__(self) -> S:
        self._portal = Portal.enter()
        try:
            return self._blocking(self._portal.call(self.__aenter__()), self._portal)
        except BaseException:
            Portal.leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._portal is not None
        try:
            self._portal.call(self.__aexit__(kind, error, trace))
        finally:
            Portal.leave()


def wherever(loop: asyncio.AbstractEventLoop | None, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """For calls that both kinds of tests make: in an event loop the coroutine, to be awaited; in a thread without one
    it is done when this returns.

    Args:
        loop: Where it has to run; None: in any.
        coroutine: What to run.
    """
    if running_loop() is not None:
        return coroutine
    if loop is None:
        coroutine.close()
        raise UsageError("nothing runs yet: enter it first")
    return Done(asyncio.run_coroutine_threadsafe(coroutine, loop).result())
