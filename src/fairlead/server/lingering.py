"""The end of a refused connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

LINGER = 2.0
"""Seconds that a refused client has to read its answer and leave. A round trip is enough; a closed connection that
nobody reads is worth nothing."""


class Lingering(asyncio.Protocol):
    """Answers, closes our side, and throws away whatever else arrives.

    Closing a socket with unread input resets it, and the client would lose the answer that says why. Nothing that
    follows a refused request is ever looked at.
    """

    def __init__(self, transport: asyncio.Transport, connections: set[object]) -> None:
        self._transport = transport
        self._connections = connections
        self._deadline = asyncio.get_running_loop().call_later(LINGER, transport.abort)
        connections.add(self)

    @classmethod
    def answer(cls, transport: asyncio.Transport, connections: set[object], response: bytes) -> None:
        """Send the response and end the connection."""
        if transport.is_closing():
            return
        transport.set_protocol(cls(transport, connections))
        transport.resume_reading()  # whoever had it may have stopped it
        transport.write(response)
        if transport.can_write_eof():
            with suppress(OSError):  # the client was quicker
                transport.write_eof()
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._connections.discard(self)

    def shutdown(self) -> None:
        """The server is going."""
        self._transport.abort()
