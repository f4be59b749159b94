"""uvicorn's WebSocket class: the handshake as an ASGI conversation, then the native transport.

An application that attached a receiver gets the connection natively and its call may return; any other one has
complete ASGI semantics, on the same transport. Behind our HTTP class the head arrives as parsed. As a drop-in
(``uvicorn --ws fairlead.server:WebSocketProtocol``) only uvicorn's re-serialised head is there, and is parsed again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.message import Message
from fairlead.server.conversation import Conversation, Disconnected, Event, Stage
from fairlead.server.lingering import Lingering
from fairlead.server.raw import RawConnection
from fairlead.transports.asgi import EXTENSION, RAW
from fairlead.transports.native import NativeTransport
from fairlead.transports.shared import Held, Shared, peer
from fairlead.transports.ticker import Ticker
from fairlead.wire.deflate import negotiate
from fairlead.wire.heads import Field
from fairlead.wire.opening import Opening, Refusal, judge, parse_head, refusal_head

logger = logging.getLogger(__name__)

ASGI = {"version": "3.0", "spec_version": "2.4"}
NO_OPTIONS: dict[str, object] = {}
"""Parts of every scope; shared, since a handler's connection keeps its scope."""


UNREAD = 16 * 1024
"""Bytes of an earlier answer that the client may have to read yet when it asks for a WebSocket: behind TLS there are
always some, and more would leave its outbox little room."""

ANY = 2**31
NEVER = 43_200.0
"""In the place of what a drop-in does not limit: the most that Limits takes, for times two of them together."""


class WebSocketProtocol(asyncio.Protocol, Conversation):
    """One opening handshake, from the judged request to the verdict; it is let go when the connection is native.

    Args:
        shared: The listener's limits, deadlines and connections; made for uvicorn's settings where this is a drop-in.
    """

    __slots__ = (
        "_app_state",
        "_config",
        "_default_headers",
        "_early",
        "_entered",
        "_head",
        "_loop",
        "_native",
        "_opening",
        "_raw",
        "_sent",
        "_shared",
        "_tasks",
        "_transport",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared | None = None,
    ) -> None:
        Conversation.__init__(self)
        self._config = config
        self._tasks = server_state.tasks
        self._default_headers = server_state.default_headers
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._shared = shared or drop_in(self._loop, server_state, config)
        self._early = bytearray()
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._native: NativeTransport | None = None
        self._sent = 0
        self._raw: RawConnection | None = None
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
        self._inbox.closed(CloseCode.ABNORMAL, "")

    def _leave(self) -> None:
        if self._entered:
            self._entered = False
            self._shared.leave()

    def shutdown(self) -> None:
        """The server is going, and there is no verdict yet."""
        if self._stage is Stage.ASKED:
            self._refuse(503, b"the server is restarting\n", (b"Retry-After", b"1"))

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
            self._end(verdict.response(_unframed(self._default_headers)))
        elif not isinstance(parsed, Refusal):
            self.begin(self._transport, verdict, parsed.headers, b"")

    def begin(self, transport: asyncio.Transport, opening: Opening, headers: Sequence[Field], early: bytes) -> None:
        """Take the socket and ask the application.

        Args:
            transport: The socket's transport.
            opening: The handshake, found valid.
            headers: The request's headers as they came, names in lower case.
            early: What arrived behind the head.
        """
        self._opening = opening
        if self._transport is None:
            self.connection_made(transport)
        transport.set_protocol(self)
        if transport.get_write_buffer_size() > UNREAD:
            self._refuse(400, b"an answer to an earlier request is still on its way\n")
            return
        if not self._shared.enter():
            self._refuse(503, b"too many connections\n", (b"Retry-After", b"5"))
            return
        self._entered = True
        if early:
            self.data_received(early)
        task = self._loop.create_task(self._run(self._scope(transport, opening, headers)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _scope(self, transport: asyncio.Transport, opening: Opening, headers: Sequence[Field]) -> dict[str, Any]:
        root_path = self._config.root_path
        return {
            "type": "websocket",
            "asgi": ASGI,
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
            "extensions": {"websocket.http.response": NO_OPTIONS, EXTENSION: self, RAW: self},
        }

    # -- the application ---------------------------------------------------------------------------------------------

    async def hand_over(self) -> socket.socket:
        """The extension for code that speaks RFC 6455 by itself, in a thread: the client's bytes, on a socket.

        Nothing was written to it, and nothing behind the request has been read. The application's call has to last as
        long as it is used.

        Raises:
            Disconnected: The client left.
            RuntimeError: There is a verdict already.
        """
        raw = await RawConnection.make(self._shared)
        if self._stage is not Stage.ASKED or self._transport is None:
            raw.end()
            raise Disconnected("the client left") if self._stage is Stage.OVER else RuntimeError("there is a verdict")
        self._stage = Stage.OVER  # for ASGI
        transport, self._transport = self._transport, None
        self._shared.connections.discard(self)
        self._raw = raw
        raw.start(transport, bytes(self._early))
        self._opening, self._early = None, bytearray()
        self._inbox.closed(CloseCode.ABNORMAL, "")
        return raw.socket

    async def _run(self, scope: dict[str, Any]) -> None:
        code = CloseCode.INTERNAL_ERROR
        try:
            await self._config.loaded_app(scope, self._receive, self._send)
            code = CloseCode.NORMAL
            if self._stage in (Stage.ASKED, Stage.REFUSING):
                logger.error("the application returned from %r and had neither accepted nor refused", scope["path"])
        except Disconnected:
            pass
        except Exception:
            logger.exception("the application failed on %r", scope["path"])
        finally:
            self._left_open(code)  # also if it was cancelled, or lost another connection than this one
            self._leave()  # not sooner: who comes and goes must not keep more of these at work than there may be

    def _left_open(self, code: CloseCode) -> None:
        """The application is done: a missing verdict is a refusal; a connection of its own is closed."""
        if self._stage in (Stage.ASKED, Stage.REFUSING):
            self._refuse(500, b"internal server error\n")
        elif self._native is not None and self._receiver is self._inbox:
            self._native.close(code)
        elif self._raw is not None:
            self._raw.end()

    def _accept(self, subprotocol: str | None, headers: Sequence[Field]) -> None:
        assert self._opening is not None and self._transport is not None
        compression = self._shared.limits.compression
        deflate = None
        if compression != "off":
            deflate = negotiate(self._opening.extensions, takeover=compression == "own")
        # What uvicorn was told to say with every answer. A date alone is no loss (RFC 9110, 6.6.1: not with a 1xx).
        defaults = _unframed(self._default_headers) if self._config.encoded_headers else []
        response = self._opening.response(
            [*defaults, *headers],
            subprotocol=subprotocol,
            extensions=None if deflate is None else deflate.response(),
        )
        self._stage = Stage.ACCEPTED
        transport, self._transport = self._transport, None
        self._shared.connections.discard(self)
        native = NativeTransport(transport, self._receiver, self._shared, deflate)
        if self._receiver is self._inbox:
            self._native = native
        early, self._early = bytes(self._early), bytearray()
        self._entered = False  # it goes on counting, as the other one
        self._opening = None  # a handler runs inside the application's call, so this object stays with the connection
        native.start(response, early)

    async def _forward(self, kind: str, event: Event) -> None:
        native = self._native
        assert native is not None
        if kind == "websocket.close":
            native.close(event.get("code") or CloseCode.NORMAL, event.get("reason") or "")
            return
        self._sent += 1
        if not self._sent % BREATH:
            await asyncio.sleep(0)
        while native.congested and native.open:
            # Before, not after: however many tasks send at once, the outbox never fills over it.
            with suppress(Closed):
                await native.drained()
        if not native.open:
            raise Disconnected("the connection is closed")
        text, data = event.get("text"), event.get("bytes")
        if text is not None:
            native.send(Message(text.encode()))
        else:
            native.send(Message(data or b"", binary=True))

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, body: bytes, *headers: Field) -> None:
        self._end(Refusal(status, body, headers).response(_unframed(self._default_headers)))

    def _refusing(self, status: int, headers: Sequence[Field]) -> None:
        self._head = refusal_head(status, [*_unframed(self._default_headers), *_unframed(headers)])

    def _refused(self, body: bytes) -> None:
        self._end(_sized(self._head, body))

    def _end(self, response: bytes) -> None:
        self._stage = Stage.OVER
        self._shared.connections.discard(self)
        self._leave()
        transport, self._transport = self._transport, None
        if transport is not None:
            Lingering.answer(transport, self._shared.connections, response)
        self._inbox.closed(CloseCode.ABNORMAL, "")


def _unframed(headers: Iterable[Field]) -> list[Field]:
    """Without what is said about the connection and the body's end: every refusal ends with its connection."""
    return [field for field in headers if field[0].lower() not in (b"connection", b"transfer-encoding")]


def _sized(head: bytes, body: bytes) -> bytes:
    """An application's own refusal; with its length if it has none."""
    if body and b"\r\ncontent-length:" not in head.lower():
        head = head[:-2] + b"Content-Length: %d\r\n\r\n" % len(body)
    return head + body


_drop_ins: WeakKeyDictionary[ServerState, Shared] = WeakKeyDictionary()


def drop_in(loop: asyncio.AbstractEventLoop, state: ServerState, config: Config) -> Shared:
    """What the connections of a foreign server share; one per server."""
    shared = _drop_ins.get(state)
    if shared is None:
        limits = configured(config)
        shared = _drop_ins[state] = Shared(loop, limits, Ticker(), cast("set[Held]", state.connections))
    return shared


def configured(config: Config) -> Limits:
    """The limits of a drop-in: what uvicorn has a setting for is as set there, or at the nearest that we can do.

    Message rates are not limited: uvicorn knows no such thing, and nobody could raise them here.
    """
    ping_after = _seconds(config.ws_ping_interval)
    return Limits(
        message_size=min(max(config.ws_max_size, 1), ANY),
        compression="shared" if config.ws_per_message_deflate else "off",
        ping_after=ping_after,
        ping_timeout=ping_after + _seconds(config.ws_ping_timeout),
        message_rate=ANY,
        message_burst=ANY,
    )


def _seconds(setting: float | None) -> float:
    """One of uvicorn's times; None and 0 mean never, for which half a day is near enough."""
    return min(max(setting or NEVER, 0.1), NEVER)
