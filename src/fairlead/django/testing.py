"""Tests of a project with sockets: clients in memory and on a socket of this machine, which see the test's database.

    class ChatTest(TestCase):
        def test_echo(self):
            self.client.force_login(self.ada)
            with connect("/echo/", cookies=cookies_of(self.client)) as client:
                client.send("hello")
                self.assertEqual(client.receive(), "hello")

    class WholeChatTest(TransactionTestCase):
        def test_echo(self):
            with running() as server, server.connect("/echo/") as client:
                ...

``async with`` in tests that are coroutines. What the clients can do is in ``fairlead.testing``.

In a ``TestCase`` and in a database that is in memory, the application works on the test's own connection to the
database: let one of them wait while the other uses it, as both do who wait for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import cache
from types import TracebackType
from typing import Any, Generic, TypeVar

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed
from django.db import connections
from django.test import Client as HttpClient
from django.test.utils import modify_settings

from fairlead.django.asgi import DjangoApplication
from fairlead.django.aside import Aside
from fairlead.django.databases import lending
from fairlead.django.settings import current
from fairlead.limits import Limits
from fairlead.testing import memory
from fairlead.testing import running as running_server
from fairlead.testing.client import TIMEOUT, Client, SyncClient
from fairlead.testing.clock import FakeClock
from fairlead.testing.portal import Entry
from fairlead.testing.request import Fields, Query
from fairlead.testing.running import RunningServer, SyncRunningServer
from fairlead.transports.asgi import Receive, Scope, Send

A = TypeVar("A")
S = TypeVar("S")


def connect(
    path: str = "/",
    *,
    headers: Fields | None = None,
    cookies: Mapping[str, str] | None = None,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    query: Query | None = None,
    timeout: float = TIMEOUT,
    limits: Limits | None = None,
    clock: FakeClock | None = None,
) -> InTest[Client, SyncClient]:
    """Connect to a view in this process, without a server. The arguments are those of ``fairlead.testing.connect``.

    Raises:
        Rejected: The handshake was refused.
        TimedOut: It was not answered, or the view does not end when its client has left.
    """
    entry = memory.connect(
        _application(),
        path,
        headers=headers,
        cookies=cookies,
        origin=origin,
        subprotocols=subprotocols,
        query=query,
        timeout=timeout,
        limits=limits or current().limits,
        clock=clock,
    )
    return InTest(entry)


def running(
    *, limits: Limits | None = None, clock: FakeClock | None = None
) -> InTest[RunningServer, SyncRunningServer]:
    """Serve the project, HTTP and sockets, on a free port of 127.0.0.1, which is added to ``ALLOWED_HOSTS``.

    The arguments are those of ``fairlead.testing.running``.
    """
    return InTest(running_server(_application(), limits=limits or current().limits, clock=clock))


def cookies_of(client: HttpClient) -> dict[str, str]:
    """The cookies of Django's test client, so that whoever is logged in there is so on a socket."""
    return {name: morsel.value for name, morsel in client.cookies.items()}


class InTest(Generic[A, S]):
    """Something to enter, in a Django test.

    Args:
        entry: What is entered.
    """

    def __init__(self, entry: Entry[A, S]) -> None:
        self._entry = entry
        self._stack = ExitStack()
        self._async_stack = AsyncExitStack()

    def __enter__(self) -> S:
        with ExitStack() as stack:
            self._surround(stack, _borrowed())
            entered = stack.enter_context(self._entry)
            self._stack = stack.pop_all()
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> A:
        async with AsyncExitStack() as stack:
            self._surround(stack, await sync_to_async(_borrowed)())
            entered = await stack.enter_async_context(self._entry)
            self._async_stack = stack.pop_all()
        return entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._async_stack.__aexit__(kind, error, trace)

    def _surround(self, stack: ExitStack | AsyncExitStack, borrowed: Sequence[Any]) -> None:
        stack.enter_context(lending(borrowed))
        stack.enter_context(modify_settings(ALLOWED_HOSTS={"append": [memory.HOST, "127.0.0.1"]}))


def _borrowed() -> list[Any]:
    """The connections of this thread that nobody else can have the like of: those in the test's own transaction, and
    those to a database in memory."""
    return [each for each in connections.all() if each.in_atomic_block or _is_in_memory(each)]


def _is_in_memory(connection: Any) -> bool:
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


class _Application(DjangoApplication):
    """In tests the synchronous code of plain requests, too, runs where lent connections are."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            async with Aside():
                await super().__call__(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@cache
def _application() -> _Application:
    """One for all clients of a test, so that they meet in the same rooms."""
    return _Application()


def _changed(*, setting: str, **kwargs: object) -> None:
    if setting in ("FAIRLEAD", "MIDDLEWARE"):
        _application.cache_clear()


setting_changed.connect(_changed)
