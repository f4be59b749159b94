"""Connecting to an ASGI application in this process, without a server and without sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote

from fairlead.app.application import App
from fairlead.app.standalone import application
from fairlead.errors import CloseCode, Closed
from fairlead.gateway.app import Gateway
from fairlead.handshake import Headers
from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.server.conversation import Conversation, Disconnected, Event, Stage
from fairlead.testing.client import TIMEOUT, Client, Connecting, Mailbox, SyncClient
from fairlead.testing.clock import FakeClock, come_to_rest
from fairlead.testing.errors import Rejected, TimedOut
from fairlead.testing.lifespan import alive
from fairlead.testing.request import Asking, Fields, Query, asking
from fairlead.transports.asgi import EXTENSION
from fairlead.transports.memory import MemoryTransport
from fairlead.transports.ticker import Ticker
from fairlead.wire.heads import Field

logger = logging.getLogger(__name__)

HOST = "testserver"
"""The name that clients in memory call the server by, so that ``origin="http://testserver"`` is the same origin."""


class MemoryPeer(Conversation):
    """A client's end in memory; and the server's side of its ASGI conversation.

    An application that attaches a receiver gets the MemoryTransport; any other one has complete ASGI semantics on it.
    """

    def __init__(self, app: Any, limits: Limits, ticker: Ticker) -> None:
        super().__init__()
        self.mailbox = Mailbox()
        self.subprotocol: str | None = None
        self.headers = Headers(())
        self._app = app
        self._limits = limits
        self._ticker = ticker
        self._offered: Sequence[str] = ()
        self._refusal: tuple[int, Sequence[Field]] = (500, ())
        self._decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: MemoryTransport
        self._call: asyncio.Task[None]

    # -- the client's side -------------------------------------------------------------------------------------------

    async def open(self, scope: dict[str, Any], timeout: float) -> None:
        """Ask the application.

        Raises:
            Rejected: It does not let the client in.
            TimedOut: It does not say.
        """
        self._offered = scope["subprotocols"]
        scope["extensions"] = {"websocket.http.response": {}, EXTENSION: self}
        self._call = asyncio.create_task(self._run(scope))
        await asyncio.wait((self._decided,), timeout=timeout)
        if not self._decided.done():
            self._call.cancel()
            raise TimedOut(f"waited {timeout:g} s for the application to let the client in, or to refuse it")
        self._decided.result()

    async def end(self, timeout: float) -> None:
        """Drop the connection, if it is still there, and wait until the application is done with it.

        Raises:
            TimedOut: It goes on; it is cancelled.
        """
        if self._stage is Stage.ACCEPTED:
            self._transport.abort()
            await asyncio.sleep(0)  # so that the receiver knows
        else:
            self._leave()
        _, pending = await asyncio.wait((self._call,), timeout=timeout)
        if pending:
            self._call.cancel()
            await asyncio.wait((self._call,))
            raise TimedOut(f"waited {timeout:g} s for the application to end after its client had left")

    def _leave(self) -> None:
        self._stage = Stage.OVER
        self._inbox.closed(CloseCode.ABNORMAL, "")

    async def send(self, message: str | bytes) -> None:
        self._transport.client_sends(message)

    async def close(self, code: int, reason: str) -> None:
        self._transport.client_closes(code, reason)

    def abort(self) -> None:
        self._transport.client_leaves()
        self.mailbox.closed(CloseCode.ABNORMAL, "")

    def pause_reading(self) -> None:
        self._transport.client_pauses()

    def resume_reading(self) -> None:
        self._transport.client_resumes()

    async def settle(self) -> None:
        await come_to_rest()

    # -- the server's side -------------------------------------------------------------------------------------------

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        except Disconnected:
            self._left_open(CloseCode.NORMAL)
        except Exception as exc:
            logger.exception("the application failed on %s", scope["path"])
            self.mailbox.fault = exc
            self._left_open(CloseCode.INTERNAL_ERROR)
        else:
            self._left_open(CloseCode.NORMAL)

    def _left_open(self, code: CloseCode) -> None:
        """The application is done: a missing verdict is a refusal; a connection of its own is closed."""
        if self._stage in (Stage.ASKED, Stage.REFUSING):
            self._refuse(500, b"internal server error\n")
        elif self._stage is Stage.ACCEPTED and self._receiver is self._inbox:
            self._transport.close(code)

    def _accept(self, subprotocol: str | None, headers: Sequence[Field]) -> None:
        if subprotocol is not None and subprotocol not in self._offered:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        self._stage = Stage.ACCEPTED
        self.subprotocol = subprotocol
        fields = [(name.lower(), value) for name, value in headers]
        if subprotocol is not None:
            fields.append((b"sec-websocket-protocol", subprotocol.encode()))
        self.headers = Headers(fields)
        self._transport = MemoryTransport(self._receiver, self.mailbox, self._limits, self._ticker)
        self._decided.set_result(None)
        self._transport.start()

    def _refuse(self, status: int, body: bytes) -> None:
        self._refusing(status, ())
        self._refused(body)

    def _refusing(self, status: int, headers: Sequence[Field]) -> None:
        self._refusal = status, headers

    def _refused(self, body: bytes) -> None:
        status, headers = self._refusal
        self._leave()
        rejected = Rejected(status, Headers([(name.lower(), value) for name, value in headers]), body)
        rejected.__cause__ = self.mailbox.fault
        self._decided.set_exception(rejected)

    async def _forward(self, kind: str, event: Event) -> None:
        if kind == "websocket.close":
            self._transport.close(event.get("code") or CloseCode.NORMAL, event.get("reason") or "")
            return
        text, data = event.get("text"), event.get("bytes")
        self._transport.send(Message(data or b"", binary=True) if text is None else Message(text.encode()))
        try:
            await self._transport.drained()
        except Closed as closed:
            raise Disconnected("the connection is closed") from closed


def connect(
    app: Any,
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
) -> Connecting:
    """Connect in this process to any ASGI application, ours, Starlette's, FastAPI's, Django's, or to a handler.

        async with connect(app, "/echo") as client:         # or: with connect(...) as client, without any await
            await client.send("hello")
            assert await client.receive() == "hello"

    The application's lifespan runs from its first client in this event loop to the last one; ``lifespan(app)`` keeps it
    longer. There are no frames, so no compression, no rates and no pings (see ``running``); bounds and deadlines hold.
    At the end of the block a connection that is still open is closed with 1000, and the application has ``timeout``
    seconds to be done with it.

    Args:
        app: Whatever ``fairlead.serve`` takes: an ASGI application, a handler, an Endpoint.
        path: Of the request, with or without a query.
        headers: Further ones.
        cookies: By name.
        origin: The Origin, as a browser sends it; ``http://testserver`` is the same origin.
        subprotocols: What is offered, the favourite first.
        query: Parameters, instead of a query in the path.
        timeout: Seconds, for every wait of this client.
        limits: The server's; None: the application's own, or the defaults.
        clock: For deadlines, instead of real time.

    Raises:
        Rejected: The application refuses the handshake, or fails in it (500; the failure is its cause).
        TimedOut: It does not decide in time, or does not end.
        UsageError: It says that it cannot start.
        ValueError: The path or the query cannot be one.
    """
    handshake = asking(path, headers=headers, cookies=cookies, origin=origin, subprotocols=subprotocols, query=query)
    app = application(app)
    own = app.limits if isinstance(app, App | Gateway) else None
    ticker = Ticker(clock) if clock else Ticker()
    return Connecting(_connected(app, handshake, timeout, limits or own or Limits(), ticker), SyncClient)


@asynccontextmanager
async def _connected(
    app: Any, handshake: Asking, timeout: float, limits: Limits, ticker: Ticker
) -> AsyncIterator[Client]:
    async with alive(app) as state:
        peer = MemoryPeer(app, limits, ticker)
        try:
            await peer.open(_scope(handshake, state), timeout)
            client = Client(peer, timeout=timeout)
            yield client
            await client.close()
        except BaseException:
            with suppress(TimedOut):  # what failed first says more
                await peer.end(timeout)
            raise
        await peer.end(timeout)


def _scope(handshake: Asking, state: dict[str, Any]) -> dict[str, Any]:
    own = {"Host": HOST, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    own["Sec-WebSocket-Key"] = "dGhlIHRlc3QncyBjbGllbg=="
    if handshake.subprotocols:
        own["Sec-WebSocket-Protocol"] = ", ".join(handshake.subprotocols)
    named = {name.lower() for name, _ in handshake.headers}
    fields = [(name, value) for name, value in own.items() if name.lower() not in named] + handshake.headers
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": (HOST, 80),
        "client": ("127.0.0.1", 50_000),
        "root_path": "",
        "path": unquote(handshake.path),
        "raw_path": handshake.path.encode(),
        "query_string": handshake.query.encode(),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields],
        "subprotocols": list(handshake.subprotocols),
        "state": state.copy(),
    }
