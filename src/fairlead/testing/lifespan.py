"""An application's lifespan around what a test does with it in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fairlead.errors import UsageError
from fairlead.testing.client import TIMEOUT
from fairlead.testing.errors import TimedOut
from fairlead.testing.portal import Entry
from fairlead.transports.asgi import Scope

logger = logging.getLogger(__name__)


class Lifespan:
    """One run of an application's lifespan; an application that has none raises, and then there is nothing to do.

    Attributes:
        state: What the application leaves for its connections.
        users: How many need it.
    """

    def __init__(self, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self.users = 0
        self._app = app
        self._events: asyncio.Queue[Scope] = asyncio.Queue()
        self._answer: asyncio.Future[Scope]
        self._task = asyncio.create_task(self._run())
        self._starting = asyncio.create_task(self._step("startup"))

    async def started(self) -> None:
        """Wait until the application has started.

        Raises:
            UsageError: It says that it cannot.
            TimedOut: It says nothing.
        """
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """Let the application end, if it started. Raises as ``started`` does."""
        try:
            if not self._task.done() and self._starting.done() and self._starting.exception() is None:
                await self._step("shutdown")
        finally:
            self._task.cancel()
            self._starting.cancel()
            await asyncio.gather(self._task, self._starting, return_exceptions=True)

    async def _step(self, name: str) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{name}"})
        await asyncio.wait((self._answer, self._task), timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            answer = self._answer.result()
            if answer["type"] == f"lifespan.{name}.failed":
                raise UsageError(f"the application's {name} failed: {answer.get('message', '')}")
        elif not self._task.done():
            raise TimedOut(f"waited {TIMEOUT:g} s for the application's {name}")
        elif not self._task.cancelled() and (fault := self._task.exception()) is not None:
            logger.info("the application has no lifespan: %r", fault)

    async def _send(self, event: Scope) -> None:
        self._answer.set_result(event)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._events.get, self._send)


_current: dict[tuple[asyncio.AbstractEventLoop, int], Lifespan] = {}
"""The lifespans under way, by event loop and application."""


@asynccontextmanager
async def alive(app: Any) -> AsyncIterator[dict[str, Any]]:
    """The application's lifespan, begun by whoever needs it first in this event loop and ended by the last one."""
    key = (asyncio.get_running_loop(), id(app))
    current = _current.get(key)
    if current is None:
        current = _current[key] = Lifespan(app)
    current.users += 1
    try:
        await current.started()
        yield current.state
    finally:
        current.users -= 1
        if not current.users:
            del _current[key]
            await current.stop()


def lifespan(app: Any) -> Entry[None, None]:
    """Keep an application's lifespan running over several connections; ``async with`` and ``with``.

    ``connect`` runs it by itself, from the first client of the application to the last one. With this around them, the
    application starts once and ends once whatever comes between, and things may be looked at while nobody is
    connected. An application without a lifespan is fine.

    Args:
        app: The ASGI application, the same object that is given to ``connect``.

    Raises:
        UsageError: Its startup or its shutdown failed. The text has what the application says.
        TimedOut: It does not start or end within 5 seconds.
    """

    @asynccontextmanager
    async def held() -> AsyncIterator[None]:
        async with alive(app):
            yield

    return Entry(held(), lambda nothing, portal: None)
