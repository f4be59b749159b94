"""A server on a socket of this machine, in the test's own event loop, as in production but for the signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from fairlead.app.standalone import application, server_options
from fairlead.gateway.app import Gateway
from fairlead.handshake import Headers
from fairlead.limits import Limits
from fairlead.server import Listener, Server
from fairlead.testing.client import TIMEOUT, Connecting, SyncClient
from fairlead.testing.clock import FakeClock
from fairlead.testing.errors import TimedOut
from fairlead.testing.portal import Entry, Portal
from fairlead.testing.request import Fields, Query, asking
from fairlead.testing.sockets import connected, raw_headers
from fairlead.transports.ticker import Ticker


@dataclass(frozen=True, slots=True)
class Response:
    """What an HTTP request got.

    Attributes:
        status: The status.
        headers: By name, in any case.
        body: The bytes.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The JSON in the body."""
        return msgspec.json.decode(self.body)


class _Server(Server):
    """Ends as soon as it is told to, where uvicorn looks ten times a second, and leaves the signals to the tests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._told = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._told.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._told.set()


class RunningServer:
    """A server at work.

    Attributes:
        url: Where it answers, without a path: ``http://127.0.0.1:40123``.
        urls: The same for each application, in order.
    """

    def __init__(self, server: Server, serving: asyncio.Task[None]) -> None:
        self.urls = server.addresses
        self.url = self.urls[0]
        self._server = server
        self._serving = serving

    def connect(
        self,
        path: str = "/",
        *,
        headers: Fields | None = None,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        query: Query | None = None,
        timeout: float = TIMEOUT,
        compression: bool = False,
    ) -> Connecting:
        """Connect a client of the ``websockets`` library, which sends no pings; ``async with`` or ``with``.

        Args:
            path: As for ``fairlead.testing.connect``, and the next five.
            headers: Further ones.
            cookies: By name.
            origin: The Origin; ``server.url`` is the same origin.
            subprotocols: What is offered.
            query: Parameters.
            timeout: Seconds, for every wait of this client.
            compression: Whether the client offers permessage-deflate.

        Raises:
            Rejected: The handshake was refused.
            TimedOut: There was no answer in time.
            OSError: Nobody listens there any more.
        """
        handshake = asking(
            path, headers=headers, cookies=cookies, origin=origin, subprotocols=subprotocols, query=query
        )
        url = self.url.replace("http", "ws", 1)
        return Connecting(connected(url, handshake, timeout=timeout, compression=compression), SyncClient)

    async def http(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = msgspec.UNSET,
        body: bytes | None = None,
        listener: int = 0,
        timeout: float = TIMEOUT,
    ) -> Response:
        """Send one HTTP request over a connection of its own. Redirects are not followed.

        Args:
            method: Such as "GET".
            path: With the query, percent-encoded.
            headers: Further ones.
            json: Sent as the body, if given.
            body: Sent as it is.
            listener: Which of the applications is meant.
            timeout: Seconds, for the whole answer.
        """
        given = dict(headers or {})
        if json is not msgspec.UNSET:
            body = msgspec.json.encode(json)
            given.setdefault("Content-Type", "application/json")
        url = URL(self.urls[listener] + path, encoded=True)
        try:
            async with (
                asyncio.timeout(timeout),
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session,
                session.request(method, url, headers=given, data=body, allow_redirects=False) as answer,
            ):
                return Response(answer.status, raw_headers(answer.headers.items()), await answer.read())
        except TimeoutError:
            raise TimedOut(f"waited {timeout:g} s for the answer to {method} {path}") from None

    async def drain(self) -> None:
        """End as on SIGTERM: no new clients, those who are in are closed with 1012, the lifespan ends. Then return."""
        if not self._server.should_exit:
            self._server.handle_exit(signal.SIGTERM, None)
        await self._serving

    async def stop(self) -> None:
        """End at once."""
        while not self._server.force_exit:
            self._server.handle_exit(signal.SIGTERM, None)
        await self._serving


class SyncRunningServer:
    """A RunningServer for tests without ``async``: the same methods, done when they return."""

    def __init__(self, server: RunningServer, portal: Portal) -> None:
        self.url = server.url
        self.urls = server.urls
        self.connect = server.connect
        self._server = server
        self._portal = portal

    def http(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = msgspec.UNSET,
        body: bytes | None = None,
        listener: int = 0,
        timeout: float = TIMEOUT,
    ) -> Response:
        """As ``RunningServer.http``."""
        sending = self._server.http(
            method, path, headers=headers, json=json, body=body, listener=listener, timeout=timeout
        )
        return self._portal.call(sending)

    def drain(self) -> None:
        """As ``RunningServer.drain``."""
        self._portal.call(self._server.drain())

    def stop(self) -> None:
        """As ``RunningServer.stop``."""
        self._portal.call(self._server.stop())


def running(
    app: Any,
    *,
    also: Sequence[Any] = (),
    limits: Limits | None = None,
    clock: FakeClock | None = None,
) -> Entry[RunningServer, SyncRunningServer]:
    """Serve an ASGI application on a free port of 127.0.0.1 with our own server; it drains when the block ends.

        async with running(app) as server:                  # or: with running(app) as server, without any await
            async with server.connect("/echo") as client:
                await client.send("hello")
                assert await client.receive() == "hello"

    Frames, compression, pings, rates and limits are those of production; signals are left alone. The application's
    lifespan is the server's: it begins before the block and ends with it.

    Args:
        app: Whatever ``fairlead.serve`` takes: an ASGI application, a handler, an Endpoint.
        also: Further applications, on listeners of their own, such as a gateway's ``admin``.
        limits: The server's; None: the application's own, or the defaults.
        clock: For pings, rates and close deadlines, instead of real time.

    Raises:
        UsageError: The application's startup failed.
    """
    return Entry(_running(application(app), also, limits, clock), SyncRunningServer)


@asynccontextmanager
async def _running(
    app: Any,
    also: Sequence[Any],
    limits: Limits | None,
    clock: FakeClock | None,
) -> AsyncIterator[RunningServer]:
    ready = asyncio.Event()
    server = _Server(
        Listener(app=app, port=0),
        also=[Listener(app=each, port=0) for each in also],
        ready=lambda addresses: ready.set(),
        ticker=Ticker(clock) if clock else None,
        **{**_options(app), **({"limits": limits} if limits else {})},
    )
    serving = asyncio.create_task(server.serve())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        serving.result()
    running = RunningServer(server, serving)
    try:
        yield running
    except BaseException:
        await running.stop()
        raise
    await running.drain()


def _options(app: Any) -> dict[str, Any]:
    if isinstance(app, Gateway):
        return {"limits": app.limits, "flush": app.node.flush, "draining": app.drain}
    return server_options(app)
