"""The end of a refused connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fairlead.transports.shared import Held

LINGER = 2.0
"""Seconds that a refused client has to leave, once its answer is sent. A round trip is enough; a closed connection that
nobody reads is worth nothing."""


class Lingering(asyncio.Protocol):
    """Answers, closes our side, and throws away whatever else arrives.

    Closing a socket with unread input resets it, and the client would lose the answer that says why. Nothing that
    follows a refused request is ever looked at.
    """

    def __init__(self, transport: asyncio.Transport, connections: set[Held]) -> None:
        self._transport = transport
        self._connections = connections
        self._unsent = 0
        self._deadline = asyncio.get_running_loop().call_later(LINGER, self._look)
        connections.add(self)

    def _look(self) -> None:
        """End it, unless the last time brought something of its answer on the way."""
        unsent = self._transport.get_write_buffer_size()
        if unsent == self._unsent:
            self._transport.abort()
        else:
            self._unsent = unsent
            self._deadline = asyncio.get_running_loop().call_later(LINGER, self._look)

    @classmethod
    def answer(cls, transport: asyncio.Transport, connections: set[Held], response: bytes) -> None:
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
        """The server is going: nobody waits for this client."""
        self._transport.abort()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()
