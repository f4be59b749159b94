"""Request heads, their limits and their deadline, on uvicorn's httptools protocol.

uvicorn parses and answers HTTP; what it leaves open is closed here: a head is bounded in bytes, lines and time, a
request that asks for a WebSocket is judged by ``wire.opening`` as it was parsed, and nothing behind a refused one is
executed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from fairlead.server.lingering import Lingering
from fairlead.server.websocket import WebSocketProtocol
from fairlead.transports.asgi import EXTENSION
from fairlead.transports.shared import Shared, peer
from fairlead.wire.heads import NAMES
from fairlead.wire.opening import Opening, Refusal, judge

_UPGRADING = frozenset({b"connection", b"http2-settings", b"upgrade"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})

SLICE = 4 * 1024
"""Bytes parsed at once: a request that is only a line becomes objects of thirty times its size, so a read full of them
is parsed as far as there is somebody to answer it."""

UNCOUNTED = 256
"""Bytes of a head that come on top of its size: method, version, line ends, white space. What is not parsed yet may be
so much longer, or a head that is just not too large would be refused where it comes in two pieces."""

HELD = 512 * 1024
"""Bytes that may wait behind requests that are being answered: twice what an event loop reads at once."""


class Refused(Exception):
    """Stops the parser: nothing after this request is looked at."""


class HttpClient:
    """The extension of plain requests: who has asked."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    @property
    def left(self) -> bool:
        """Whether the client is gone, also while nobody reads its body."""
        return self._transport.is_closing()


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection; it ends, or becomes a WebSocket handshake.

    Args:
        shared: The listener's limits, deadlines and connections.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.shared = shared
        self._awaited = False  # a head has begun, or must come
        self._deadline: asyncio.TimerHandle | None = None  # for the head, if one read did not bring all of it
        self._stalled: asyncio.TimerHandle | None = None  # for a client that takes nothing
        self._running: RequestResponseCycle | None = None
        self._held = b""  # what came behind more requests than are answered at once
        self._opening: Opening | None = None
        self._stopped = False
        self._last = False  # the request being answered is the last one, and the socket is ours to end
        self._head_size = 0  # bytes of the head as parsed: request line and header lines with their separators
        self._head_count = 0
        self._headed = False  # the head was whole: further header lines stand behind the body
        self._unparsed = 0  # bytes fed since the head began: bounds what the parser holds of one endless line

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Instead of uvicorn's own, which asks for the socket: uvloop then keeps half a kilobyte for it.
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client, self.server = peer(transport), self.shared.address(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        if len(self.connections) > self.shared.descriptors:
            transport.abort()
        else:
            self._awaited = True
            self._set_deadline()

    def begin(self, transport: asyncio.Transport, deadline: asyncio.TimerHandle | None, data: bytes) -> None:
        """Take a connection over, with what has come on it.

        Args:
            transport: The socket's transport.
            deadline: Drops it unless the head is there in time.
            data: The head's beginning.
        """
        self._deadline = deadline
        transport.set_protocol(self)
        self.connection_made(transport)
        self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        self._relax()
        self._held = b""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            # Not always the newest one, which is all that uvicorn tells.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        if self._held:
            self._hold(data)
            return
        self._unset_keepalive_if_required()
        begun = self._deadline
        if not self._busy():
            self._awaited = True  # RFC 9112, 2.2: empty lines before a head are its beginning
        self._feed(data)
        if begun is not None and self._deadline is begun and not self._held:  # the same head still
            self._unparsed += len(data)
            if self._unparsed > self.shared.limits.head_size + UNCOUNTED:
                self._answer(431, "request head too large")
        self._set_deadline()

    def _feed(self, data: bytes) -> None:
        """Parse, as long as nobody waits for an answer to an earlier request; then the rest is held back."""
        at = 0
        try:
            while at < len(data) and not self._stopped:
                if self.pipeline:
                    self._held = data[at:]
                    return
                try:
                    self.parser.feed_data(data[at : at + SLICE])
                    at += SLICE
                except httptools.HttpParserUpgrade as upgrade:
                    at += upgrade.args[0]
                    if self._opening is not None:
                        self._upgrade(self._opening, data[at:])
                        return
                    data, at = self._without_upgrade(data[at:]), 0
        except httptools.HttpParserError:
            if not self._stopped:
                self._answer(400, "malformed request")

    def _hold(self, data: bytes) -> None:
        """More came, for an application that asks whether its client is there has the socket read: within bounds."""
        self._held += data
        self.flow.pause_reading()
        if len(self._held) > HELD:
            self._held = b""
            self._refuse(b"")

    def _feed_held(self) -> None:
        self._unset_keepalive_if_required()
        held, self._held = self._held, b""
        if not self._stopped:
            self._feed(held)
            self._set_deadline()

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request again, without the wish for another protocol, which a server may ignore (RFC 9110, 7.8).

        The parser leaves the body of such a request to the other protocol, so it has to begin anew.
        """
        kept = [(name, value) for name, value in self.headers if name not in _UPGRADING]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            kept.append((b"connection", b"close"))
        lines = [b"%s: %s\r\n" % line for line in kept]
        version = self.parser.get_http_version().encode()
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        return head + rest

    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    # -- the head ----------------------------------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """Bound the time of a head that is awaited after all that has come was read: most need no timer."""
        if self._awaited and self._deadline is None and not self._stopped:
            self._deadline = self.loop.call_later(self.shared.limits.head_timeout, self._too_late)
            self._unparsed = 0

    def _head_complete(self) -> None:
        self._awaited = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._held:
            self._set_deadline()  # it is we who do not read on
        elif self._busy():
            self._refuse(b"")
        else:
            self._stopped = True
            self.transport.abort()  # over TLS close() would wait for the client's farewell

    def on_message_begin(self) -> None:
        self._awaited = True
        self._opening = None
        self._head_size = self._head_count = 0
        self._headed = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Instead of uvicorn's own: called for every line of every head.
        self._head_count += 1
        self._count(len(name) + len(value) + 4)
        if self._headed:
            return  # RFC 9110, 6.5.1: not merged into the head, whose lines a proxy may have looked at
        name, value = name.lower(), value.rstrip(b" \t")  # llhttp leaves what is behind a value (RFC 9112, 5.1)
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def _count(self, size: int) -> None:
        self._head_size += size
        limits = self.shared.limits
        if self._head_size > limits.head_size or self._head_count > limits.head_count:
            self._answer(431, "request head too large")
            raise Refused

    def on_headers_complete(self) -> None:
        self._head_complete()
        self._headed = True
        method, version = self.parser.get_method(), self.parser.get_http_version()
        names = [name for name, _ in self.headers]
        if not self._asks_for_websocket(names):
            self._plain(method, version, names)
            return
        verdict = judge(method, self.url, version, self.headers)
        if isinstance(verdict, Refusal):
            self._refuse(verdict.response(self.server_state.default_headers))
            raise Refused
        if self._busy():
            # Pipelined behind a request that is still being answered: the socket is not free for another protocol.
            self._refuse(b"")
            raise Refused
        self._opening = verdict

    def _plain(self, method: bytes, version: str, names: list[bytes]) -> None:
        """A request that is not for a WebSocket, for uvicorn to answer."""
        if version == "1.1" and names.count(b"host") != 1:
            self._answer(400, "one Host header is required")  # RFC 9112, 3.2
            raise Refused
        if method == b"CONNECT":
            self._answer(405, "this is not a proxy")
            raise Refused
        if self.parser.should_upgrade():
            return  # to another protocol: see _without_upgrade
        self._ask()

    def _ask(self) -> None:
        """Give the request to the application; its body follows."""
        self.scope["extensions"] = {EXTENSION: HttpClient(self.transport)}  # type: ignore[dict-item]  # an object of ours
        super().on_headers_complete()
        if not self.cycle.keep_alive and any(name in _FRAMING for name, _ in self.headers):
            # uvicorn would close the socket with the last byte of the answer; where some of the body is not read then,
            # that resets the connection and the answer is lost.
            self._last = self.cycle.keep_alive = True

    def _asks_for_websocket(self, names: list[bytes]) -> bool:
        """Whether this is an opening handshake or a failed attempt at one, which must not pass for plain HTTP."""
        if b"\nsec-websocket-" in b"\n".join((b"", *names)):
            return True
        return b"upgrade" in names and any(
            name == b"upgrade" and b"websocket" in value.lower() for name, value in self.headers
        )

    def _should_upgrade(self) -> bool:
        return True  # whatever it is, its body is not uvicorn's

    # -- the end of it -----------------------------------------------------------------------------------------------

    def _answer(self, status: int, text: str) -> None:
        self._refuse(Refusal(status, text.encode() + b"\n").response(self.server_state.default_headers))

    def _refuse(self, response: bytes) -> None:
        """Answer and stop; while another request is being answered, only stop."""
        self._stopped = True
        self._head_complete()
        if not self._busy():
            self._end(response)
        elif self.cycle.more_body and self.pipeline:
            self.pipeline.popleft()  # its body is broken, and its turn has not come; those before it are answered
            self._last = True
        elif self.cycle.more_body:
            # It is its body that is broken: the application shall not wait for the rest of it.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._end(b"")
        else:
            self._last = True

    def _end(self, response: bytes) -> None:
        self._stopped = True
        self.connections.discard(self)
        Lingering.answer(self.transport, self.shared.connections, response)

    def _upgrade(self, opening: Opening, early: bytes) -> None:
        self._stopped = True
        self.connections.discard(self)
        # The parser holds us and we hold it: nothing of the request shall outlive the handshake.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does when the connection is lost
        protocol = WebSocketProtocol(self.config, self.server_state, self.app_state, shared=self.shared)
        headers = [(NAMES.get(name, name), value) for name, value in self.headers]
        protocol.begin(self.transport, opening, headers, early)

    def on_response_complete(self) -> None:
        if (self._last or self.cycle.more_body) and not self.pipeline and not self.transport.is_closing():
            self.server_state.total_requests += 1
            if self._stopped or self.cycle.more_body:
                self._end(b"")  # the client may be sending still
            else:
                self.transport.close()
                self.pause_writing()
            return
        super().on_response_complete()
        if self.transport.is_closing():
            self.pause_writing()  # so that it ends also if the client never takes the answer
        elif self._held and not self.pipeline:
            self.loop.call_soon(self._feed_held)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client does not take its answers: it has as long as a silent WebSocket client has."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.shared.limits.ping_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        self._relax()
        super().resume_writing()

    def _relax(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def abort(self) -> None:
        """Drop the connection."""
        self.transport.abort()
