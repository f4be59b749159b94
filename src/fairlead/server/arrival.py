"""The first bytes of a connection: a whole opening handshake goes to the WebSocket class, all else to the HTTP one.

A client that comes for a WebSocket sends its whole head at once. Judged as it came, without a parser that is ready for
everything and a call for each header, its handshake costs two thirds: 70 µs of CPU, not 110. Nothing is refused here:
what is not a good handshake from its first byte to its last belongs to the HTTP class, with its limits and its answers.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from fairlead.server.http import HttpProtocol
from fairlead.server.websocket import WebSocketProtocol
from fairlead.transports.shared import Shared
from fairlead.wire.heads import Field
from fairlead.wire.opening import Opening, open_head


class Arrival(asyncio.Protocol):
    """A connection that has said nothing yet, or waits for its turn. Made like uvicorn's HTTP classes.

    Args:
        shared: The listener's limits, deadlines and connections.
    """

    __slots__ = ("_arguments", "_came", "_deadline", "_shared", "_transport")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared,
    ) -> None:
        self._arguments = (config, server_state, app_state, shared.loop)
        self._shared = shared
        self._came = b""  # while others are served
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # no other kind is given
        shared = self._shared
        self._transport = transport
        shared.connections.add(self)
        if len(shared.connections) > shared.descriptors:
            transport.abort()
        else:
            self._deadline = shared.loop.call_later(shared.limits.head_timeout, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._came:
            self._came += data
            self._transport.pause_reading()
        elif self._shared.newcomers.take(self._our_turn):
            self._serve(data)
        else:
            self._in_time()
            self._came = data

    def _our_turn(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._serve(self._came)

    def _serve(self, data: bytes) -> None:
        shared = self._shared
        shared.connections.discard(self)
        opened = self._open(data)
        if opened is None:
            http = HttpProtocol(*self._arguments, shared=shared)
            http.begin(self._transport, self._deadline, data)
            return
        self._in_time()
        opening, headers = opened
        WebSocketProtocol(*self._arguments, shared=shared).begin(self._transport, opening, headers, b"")

    def _open(self, data: bytes) -> tuple[Opening, list[Field]] | None:
        limits = self._shared.limits
        if len(data) > limits.head_size or b"\r\nsec-websocket-key:" not in data.lower():
            return None
        opened = open_head(data)
        return None if opened is None or len(opened[1]) > limits.head_count else opened

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._shared.connections.discard(self)

    def shutdown(self) -> None:
        """The server is going."""
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()
