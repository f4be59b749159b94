"""One plain request: its body to the thread, the thread's answer to the client, both as they come."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from concurrent.futures import Future
from io import BytesIO
from typing import Any

from fairlead.errors import Closed
from fairlead.threads import Bridge, Pool
from fairlead.transports.asgi import EXTENSION, HttpExtension, Receive, Scope, Send
from fairlead.wsgi.answer import Answer, Head, WSGIApp
from fairlead.wsgi.body import ClientLeft, ClientStalled, body_stream
from fairlead.wsgi.environ import Environ, make_environ

SMALL = 64 * 1024
"""Bytes of a body that is awaited before the request takes a thread: threads are few, and clients may be slow."""

AHEAD = 8
"""Events of a body, of 64 KiB at most, that are read ahead under a foreign server to find its end behind them."""

SLOWEST = 500
"""Bytes per second below which the time that a client has for its body runs out, as Apache has it. Threads are few:
whoever sent a byte now and then on each of so many connections would have them all."""


class Exchange:
    """A request and its answer.

    Args:
        scope: The server's, as the next two.
        receive: ``http.request``, ``http.disconnect``.
        send: ``http.response.start``, ``http.response.body``.
        patience: Seconds that a client may be silent in the middle of its body, or be behind with what is SLOWEST.
    """

    open = True

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, patience: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._patience = patience
        self._credit = patience  # seconds that it still has
        self._bridge = Bridge()
        self._client: HttpExtension | None = scope.get("extensions", {}).get(EXTENSION)
        self._left = False
        self._more_body = _has_body(scope)
        self._ahead: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue(AHEAD)
        self._watching: asyncio.Task[None] | None = None
        self._started = False
        self._last: Future[None] | None = None

    async def run(self, app: WSGIApp, pool: Pool, extra: Environ) -> None:
        """Have a thread of the pool answer it.

        Args:
            app: The application.
            pool: Where it runs.
            extra: More for its environ.

        Raises:
            Exception: What the application raised, or did wrong; the server tells its client and its log.
        """
        try:
            environ = make_environ(self._scope, await self._body()) | extra
            if not self._more_body:
                self._begin_watch()
            await pool.run(lambda: self._answer(app, environ))
            if self._last is not None:
                await asyncio.wrap_future(self._last)
        except ClientLeft:
            pass
        except ClientStalled:
            if self._started:
                raise
            await self._emit(_TOO_SLOW)
        finally:
            self._bridge.end()
            if self._watching is not None:
                self._watching.cancel()

    def _answer(self, app: WSGIApp, environ: Environ) -> None:
        if not self._gone:  # while it waited for its turn
            Answer(self, environ["REQUEST_METHOD"]).run(app, environ)

    # -- the answer, from the thread ---------------------------------------------------------------------------------

    def start(self, head: Head, body: bytes, *, more: bool) -> None:
        """See Outlet."""
        self._started = True
        start = {"type": "http.response.start", "status": head.status, "headers": head.headers}
        self._pass_on([start, _part(body, more)], more=more)

    def send(self, body: bytes, *, more: bool) -> None:
        """See Outlet."""
        self._pass_on([_part(body, more)], more=more)

    def _pass_on(self, events: list[MutableMapping[str, Any]], *, more: bool) -> None:
        try:
            if more:
                self._bridge.call(self._emit, events)
            else:  # the thread need not wait for a client that takes its time
                self._last = self._bridge.begin(self._emit, events)
        except Closed as closed:
            raise ClientLeft from closed

    async def _emit(self, events: list[MutableMapping[str, Any]]) -> None:
        self._begin_watch()
        for event in events:
            if self._gone:
                raise ClientLeft
            try:
                await self._send(event)
            except OSError as exc:  # so says a server of ASGI 2.4
                raise ClientLeft from exc

    # -- the request -------------------------------------------------------------------------------------------------

    @property
    def _gone(self) -> bool:
        return self._left or (self._client is not None and self._client.left)

    async def _body(self) -> object:
        """``wsgi.input``."""
        if not self._more_body:
            return None
        if not _is_small(self._scope):
            return body_stream(self._fetch_from_thread, SMALL)
        pieces = []
        while piece := await self._fetch():
            pieces.append(piece)
        return BytesIO(b"".join(pieces))

    def _fetch_from_thread(self) -> bytes:
        try:
            return self._bridge.call(self._fetch_beside)
        except Closed as closed:
            raise ClientLeft from closed

    async def _fetch_beside(self) -> bytes:
        self._begin_watch()  # first: of two who receive at once, one would get what is the other's
        return await self._fetch()

    async def _fetch(self) -> bytes:
        """The next piece of the body; the server reads no more than is taken here."""
        while self._more_body:
            if self._left and self._ahead.empty():
                raise ClientLeft
            asked = self._bridge.loop.time()
            try:
                async with asyncio.timeout(self._credit):
                    event = await (self._receive() if self._watching is None else self._ahead.get())
            except TimeoutError:
                raise ClientStalled(f"the client kept its body waiting for {self._patience:g} s") from None
            self._credit -= self._bridge.loop.time() - asked
            if event["type"] == "http.disconnect":
                self._left = True
                raise ClientLeft
            self._more_body = event.get("more_body", False)
            if piece := event.get("body", b""):
                self._credit = min(self._credit + len(piece) / SLOWEST, self._patience)
                return bytes(piece)
        return b""

    def _begin_watch(self) -> None:
        """Under a foreign server, that the client left is an event behind its body: so a little of that is read ahead
        as soon as an answer begins, which may be endless."""
        if self._client is None and self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while not self._left:
            event = await self._receive()
            self._left = event["type"] == "http.disconnect"
            if self._more_body:
                await self._ahead.put(event)


_TOO_SLOW: list[MutableMapping[str, Any]] = [
    {"type": "http.response.start", "status": 408, "headers": [(b"content-length", b"0"), (b"connection", b"close")]},
    {"type": "http.response.body", "body": b"", "more_body": False},
]


def _part(body: bytes, more: bool) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _has_body(scope: Scope) -> bool:
    """Whether there may be one. Before HTTP/2, one of two headers says so (RFC 9112, 6.3)."""
    if scope.get("http_version", "1.1") >= "2":
        return True
    return _header(scope, b"transfer-encoding") is not None or _header(scope, b"content-length") not in (None, b"0")


def _is_small(scope: Scope) -> bool:
    """Whether to wait for all of it. Who asks first wants an answer first (RFC 9110, 10.1.1)."""
    length = _header(scope, b"content-length")
    return length is not None and length.isdigit() and int(length) <= SMALL and _header(scope, b"expect") is None
