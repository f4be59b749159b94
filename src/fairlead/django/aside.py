"""Where the synchronous code of an async view runs: in one thread, and in none while the view waits for its client."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, Self, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from fairlead.django.databases import enter_thread, give_back

P = ParamSpec("P")
T = TypeVar("T")


class Aside(Executor):
    """One connection's, for everything that goes through ``sync_to_async`` inside of its ``async with``.

    Django would give a request one thread to its end, and the thread keeps its database connections.
    """

    def __init__(self) -> None:
        self._context = ThreadSensitiveContext()
        self._pool: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        await self._context.__aenter__()  # type: ignore[no-untyped-call]
        SyncToAsync.context_to_thread_executor[self._context] = self
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.rest()
        SyncToAsync.context_to_thread_executor.pop(self._context, None)
        await self._context.__aexit__(*exc_info)  # type: ignore[no-untyped-call]

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "fairlead-aside", initializer=enter_thread)
        return self._pool.submit(fn, *args, **kwargs)

    def rest(self) -> None:
        """Let the thread end when it is done, with its database connections; the next call gets another one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.submit(give_back)
            pool.shutdown(wait=False)
