"""Request heads, their limits and their deadline, on uvicorn's httptools protocol.

uvicorn parses and answers HTTP; what it leaves open is closed here: a head is bounded in bytes, lines and time, a
request that asks for a WebSocket is judged by ``wire.opening`` as it was parsed, and nothing behind a refused one is
executed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from fairlead.server.lingering import Lingering
from fairlead.server.websocket import WebSocketProtocol
from fairlead.transports.native import Shared, peer
from fairlead.wire.opening import Opening, Refusal, judge

logger = logging.getLogger(__name__)


class _Refused(Exception):
    """Stops the parser: nothing after this request is looked at."""


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
        self._deadline: asyncio.TimerHandle | None = None
        self._opening: Opening | None = None
        self._stopped = False
        self._head_size = 0  # bytes of the head as parsed: request line and header lines with their separators
        self._head_count = 0
        self._unparsed = 0  # bytes fed since the head began: bounds what the parser holds of one endless line

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Instead of uvicorn's own, which asks for the socket: uvloop then keeps half a kilobyte for it.
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client, self.server = peer(transport), self.shared.address(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._opening is not None:
                self._upgrade(self._opening, data[upgrade.args[0] :])
            elif self.cycle is not None:
                self.cycle.keep_alive = False  # some other protocol was asked for: the request is answered as HTTP
        except httptools.HttpParserError:
            if not self._stopped:
                self._answer(400, "malformed request")
            return
        if self._deadline is not None:
            self._unparsed += len(data)
            if self._unparsed > self.shared.limits.head_size:
                self._answer(431, "request head too large")

    # -- the head ----------------------------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        """A head has begun, or a connection from which one must come."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.shared.limits.head_timeout, self._too_late)
            self._unparsed = 0

    def _head_complete(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self._stopped = True
        self.transport.close()

    def on_message_begin(self) -> None:
        self._expect_head()
        self._opening = None
        self._head_size = self._head_count = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_count += 1
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_size += size
        limits = self.shared.limits
        if self._head_size > limits.head_size or self._head_count > limits.head_count:
            self._answer(431, "request head too large")
            raise _Refused

    def on_headers_complete(self) -> None:
        self._head_complete()
        if not self._asks_for_websocket():
            if self.parser.get_http_version() == "1.1" and sum(name == b"host" for name, _ in self.headers) != 1:
                self._answer(400, "one Host header is required")  # RFC 9112, 3.2
                raise _Refused
            super().on_headers_complete()
            return
        verdict = judge(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        if isinstance(verdict, Refusal):
            self._refuse(verdict.response())
            raise _Refused
        if self.cycle is not None and not self.cycle.response_complete:
            # Pipelined behind a request that is still being answered: the socket is not free for another protocol.
            self._refuse(b"")
            raise _Refused
        self._opening = verdict

    def _asks_for_websocket(self) -> bool:
        """Whether this is an opening handshake or a failed attempt at one, which must not pass for plain HTTP."""
        for name, value in self.headers:
            if name == b"upgrade" and b"websocket" in value.lower():
                return True
            if name.startswith(b"sec-websocket-"):
                return True
        return False

    def _should_upgrade(self) -> bool:
        return self._opening is not None

    # -- the end of it -----------------------------------------------------------------------------------------------

    def _answer(self, status: int, text: str) -> None:
        body = text.encode() + b"\n"
        self._refuse(
            STATUS_LINE[status]
            + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )

    def _refuse(self, response: bytes) -> None:
        """Answer and stop; behind an answer that is still being written, only stop."""
        self._stopped = True
        self._head_complete()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self.connections.discard(self)
        Lingering.answer(self.transport, self.shared.connections, response)

    def _upgrade(self, opening: Opening, early: bytes) -> None:
        self._stopped = True
        self.connections.discard(self)
        # The parser holds us and we hold it: nothing of the request shall outlive the handshake.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does when the connection is lost
        protocol = WebSocketProtocol(self.config, self.server_state, self.app_state, shared=self.shared)
        protocol.begin(self.transport, opening, self.headers, early)

    def on_response_complete(self) -> None:
        if self.cycle.more_body and not self.transport.is_closing():
            # Answered before its body was read, too large perhaps: the rest is not worth a connection.
            self._stopped = True
            self.server_state.total_requests += 1
            self.connections.discard(self)
            Lingering.answer(self.transport, self.shared.connections, b"")
            return
        super().on_response_complete()

    def shutdown(self) -> None:
        if self.transport is not None:
            super().shutdown()
