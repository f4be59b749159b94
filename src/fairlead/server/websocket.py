"""uvicorn's WebSocket class: the handshake as an ASGI conversation, then the native transport.

An application that attached a receiver gets the connection natively and its call may return; any other one has
complete ASGI semantics, on the same transport. Behind our HTTP class the head arrives as parsed. As a drop-in
(``uvicorn --ws fairlead.server.websocket:WebSocketProtocol``) only uvicorn's re-serialised head is there, and is
parsed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import MutableMapping, Sequence
from enum import Enum, auto
from typing import Any, cast
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.server.lingering import Lingering
from fairlead.transports import Receiver, Transport
from fairlead.transports.asgi import EXTENSION
from fairlead.transports.native import NativeTransport
from fairlead.transports.shared import Held, Shared, peer
from fairlead.transports.ticker import Ticker
from fairlead.wire.deflate import negotiate
from fairlead.wire.opening import Opening, Refusal, judge, parse_head

logger = logging.getLogger(__name__)

Event = MutableMapping[str, Any]

INBOX = 32
INBOX_SIZE = 64 * 1024
"""Messages, and their bytes, that wait for an application that does not receive them; past it the socket is not read.
One message is taken whatever its size, and as many as one read held besides."""


class Stage(Enum):
    """Where the handshake is."""

    ASKED = auto()
    REFUSING = auto()  # a response of the application's own has begun
    ACCEPTED = auto()
    OVER = auto()


class Disconnected(OSError):
    """The client is gone (ASGI WebSocket specification, 2.4: sending then raises a subclass of OSError)."""


class Inbox:
    """What an application that does not know us will ``receive()``: the Receiver that speaks ASGI."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque([{"type": "websocket.connect"}])
        self._size = 0  # of what came since it was empty
        self._arrived: asyncio.Future[None] | None = None
        self._over: Event | None = None
        self.transport: Transport | None = None

    def connected(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, payload: str | bytes) -> None:
        kind = "text" if isinstance(payload, str) else "bytes"
        self._put({"type": "websocket.receive", kind: payload})
        self._size += len(payload)
        if self.transport is not None and (len(self._events) >= INBOX or self._size >= INBOX_SIZE):
            self.transport.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        self._over = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._put(self._over)

    def _put(self, event: Event) -> None:
        self._events.append(event)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def receive(self) -> Event:
        while not self._events:
            if self._over is not None:
                return self._over
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        event = self._events.popleft()
        if not self._events and self.transport is not None:
            self._size = 0
            self.transport.resume_reading()
        return event


class WebSocketProtocol(asyncio.Protocol):
    """One opening handshake, from the judged request to the verdict; it is let go when the connection is native.

    Args:
        shared: The listener's limits, deadlines and connections; made with the defaults where this is a drop-in.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared | None = None,
    ) -> None:
        self._config = config
        self._tasks = server_state.tasks
        self._default_headers = server_state.default_headers
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._shared = shared or drop_in(self._loop, server_state)
        self._stage = Stage.ASKED
        self._early = bytearray()
        self._inbox = Inbox()
        self._receiver: Receiver = self._inbox
        self._response: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._native: NativeTransport | None = None
        self._opening: Opening | None = None
        self._entered = False  # counted as one of the connections that there may be

    # -- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._shared.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._opening is None:
            # Our HTTP class brings the opening itself; uvicorn's sets this protocol only after it fed the head.
            if not self._early:
                self._loop.call_soon(self._parse)
            self._early += data
        elif self._stage is Stage.ASKED:
            self._early += data
            if len(self._early) > self._shared.limits.early_size:
                self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._stage = Stage.OVER
        self._leave()
        self._inbox.closed(CloseCode.ABNORMAL, "")

    def _leave(self) -> None:
        if self._entered:
            self._entered = False
            self._shared.leave()

    def shutdown(self) -> None:
        """The server is going, and there is no verdict yet."""
        if self._stage is Stage.ASKED:
            self._refuse(503, [(b"retry-after", b"1")], b"the server is restarting\n")

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    # -- the request -------------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        if self._stage is not Stage.ASKED:
            return
        assert self._transport is not None
        parsed = parse_head(bytes(self._early))
        self._early.clear()
        verdict = parsed if isinstance(parsed, Refusal) else judge(*parsed)
        if isinstance(verdict, Refusal):
            self._end(verdict.response(self._default_headers))
        elif not isinstance(parsed, Refusal):
            self.begin(self._transport, verdict, parsed.headers, b"")

    def begin(
        self, transport: asyncio.Transport, opening: Opening, headers: Sequence[tuple[bytes, bytes]], early: bytes
    ) -> None:
        """Take the socket and ask the application.

        Args:
            transport: The socket's transport; nothing was written to it.
            opening: The handshake, found valid.
            headers: The request's headers as they came, names in lower case.
            early: What arrived behind the head.
        """
        self._opening = opening
        if self._transport is None:
            self.connection_made(transport)
        transport.set_protocol(self)
        if not self._shared.enter():
            self._refuse(503, [(b"retry-after", b"5")], b"too many connections\n")
            return
        self._entered = True
        if early:
            self.data_received(early)
        task = self._loop.create_task(self._run(self._scope(transport, opening, headers)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _scope(
        self, transport: asyncio.Transport, opening: Opening, headers: Sequence[tuple[bytes, bytes]]
    ) -> dict[str, Any]:
        root_path = self._config.root_path
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(transport) else "ws",
            "server": self._shared.address(transport),
            "client": peer(transport),
            "root_path": root_path,
            "path": root_path + unquote(opening.path.decode("ascii")),
            "raw_path": root_path.encode("ascii") + opening.path,
            "query_string": opening.query,
            "headers": headers,
            "subprotocols": list(opening.subprotocols),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }

    # -- the application ---------------------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """The extension: from the accept on, messages go to the receiver and not to ``receive``."""
        if self._stage is Stage.OVER:
            raise Disconnected("the client left")
        if self._stage is not Stage.ASKED:
            raise RuntimeError("attach() comes before the verdict")
        self._receiver = receiver

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._config.loaded_app(scope, self._inbox.receive, self._send)
        except Disconnected:
            pass
        except Exception:
            logger.exception("the application failed on %s", scope["path"])
            self._left_open(CloseCode.INTERNAL_ERROR)
        else:
            self._left_open(CloseCode.NORMAL)

    def _left_open(self, code: CloseCode) -> None:
        """The application is done: a missing verdict is a refusal; a connection of its own is closed."""
        if self._stage in (Stage.ASKED, Stage.REFUSING):
            self._refuse(500, [], b"internal server error\n")
        elif self._native is not None and self._receiver is self._inbox:
            self._native.close(code)

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        match self._stage:
            case Stage.ASKED:
                self._verdict(kind, event)
            case Stage.REFUSING if kind == "websocket.http.response.body":
                self._response.append(event.get("body", b""))
                if not event.get("more_body", False):
                    self._end(b"".join(self._response))
            case Stage.ACCEPTED if self._native is not None and self._receiver is self._inbox:
                await self._forward(self._native, kind, event)
            case Stage.OVER:
                raise Disconnected("the connection is over")
            case _:
                raise RuntimeError(f"unexpected ASGI message {kind!r} while {self._stage.name.lower()}")

    def _verdict(self, kind: str, event: Event) -> None:
        if kind == "websocket.accept":
            self._accept(event.get("subprotocol"), event.get("headers") or [])
        elif kind == "websocket.close":
            self._refuse(403, [], b"")
        elif kind == "websocket.http.response.start":
            self._stage = Stage.REFUSING
            self._response = [self._head(event["status"], event.get("headers") or [])]
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} before the verdict")

    def _accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> None:
        assert self._opening is not None and self._transport is not None
        compression = self._shared.limits.compression
        deflate = None
        if compression != "off":
            deflate = negotiate(self._opening.extensions, takeover=compression == "own")
        response = self._opening.response(
            headers, subprotocol=subprotocol, extensions=None if deflate is None else deflate.response()
        )
        self._stage = Stage.ACCEPTED
        transport, self._transport = self._transport, None
        self._shared.connections.discard(self)
        native = NativeTransport(transport, self._receiver, self._shared, deflate)
        if self._receiver is self._inbox:
            self._native = native
        early, self._early = bytes(self._early), bytearray()
        native.start(response, early)

    async def _forward(self, native: NativeTransport, kind: str, event: Event) -> None:
        if kind == "websocket.close":
            native.close(event.get("code") or CloseCode.NORMAL, event.get("reason") or "")
            return
        if kind != "websocket.send":
            raise RuntimeError(f"unexpected ASGI message {kind!r} after the accept")
        if not native.open:
            raise Disconnected("the connection is closed")
        text, data = event.get("text"), event.get("bytes")
        if text is not None:
            native.send(Message(text.encode()))
        else:
            native.send(Message(data or b"", binary=True))
        try:
            await native.drained()
        except Closed as closed:
            raise Disconnected("the connection is closed") from closed

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        length = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self._end(self._head(status, [*headers, *length]) + body)

    def _end(self, response: bytes) -> None:
        self._stage = Stage.OVER
        self._shared.connections.discard(self)
        self._leave()
        transport, self._transport = self._transport, None
        if transport is not None:
            Lingering.answer(transport, self._shared.connections, response)
        self._inbox.closed(CloseCode.ABNORMAL, "")

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """A refusal always ends the connection, so that nothing behind the handshake is read as a request."""
        lines = [STATUS_LINE[status]]
        for name, value in (*self._default_headers, *headers):
            if name.lower() not in (b"connection", b"transfer-encoding"):
                if any(byte in name + value for byte in b"\r\n\0"):
                    raise ValueError(f"control characters in response header {name!r}")
                lines.append(name + b": " + value + b"\r\n")
        return b"".join([*lines, b"connection: close\r\n\r\n"])


_drop_ins: WeakKeyDictionary[ServerState, Shared] = WeakKeyDictionary()


def drop_in(loop: asyncio.AbstractEventLoop, state: ServerState) -> Shared:
    """What the connections of a foreign server share, with the default limits; one per server."""
    shared = _drop_ins.get(state)
    if shared is None:
        shared = _drop_ins[state] = Shared(loop, Limits(), Ticker(), cast("set[Held]", state.connections))
    return shared
