"""The bare socket, for code in a thread that speaks RFC 6455 by itself.

What it gets is one end of a socket pair; between the other one and the client stands the event loop. So it works behind
TLS, its bounds and its end are ours, and no descriptor is ever shared by two readers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from fairlead.server.lingering import Lingering
from fairlead.transports.shared import Shared, take

GRACE = 1.0
"""Seconds from the application's end to that of its socket, unless it has closed that. simple-websocket answers a Close
frame from a thread of its own, and tells the application before."""


class _Side(asyncio.Protocol):
    """One of two transports: what comes in goes out on the other one, and no faster than that takes it."""

    transport: asyncio.Transport
    other: _Side

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # no other kind is given
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        over = self._over
        self.release()
        over()

    def release(self) -> None:
        """Nothing comes any more: know nobody, or all of it would wait for the garbage collector."""
        del self._over, self.other


class _Client(_Side):
    """The client's side. Nobody pings it here, so that it takes what it is sent is all that tells of it.

    Args:
        over: Called when it has left.
        stall: Seconds that it may take nothing.
    """

    def __init__(self, over: Callable[[], None], stall: float) -> None:
        super().__init__(over)
        self._stall = stall
        self._stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(self._stall, self.transport.abort)

    def resume_writing(self) -> None:
        self._relax()
        super().resume_writing()

    def release(self) -> None:
        self._relax()
        super().release()

    def _relax(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()


class _Owner(_Side):
    """The side of those who have the socket."""

    def eof_received(self) -> None:
        self.transport.abort()  # close() would wait until they have read what nobody reads any more


class RawConnection:
    """A client's socket in the hands of somebody else.

    Attributes:
        socket: For them. It blocks, and ends when the client leaves.
    """

    def __init__(self, shared: Shared, end: socket.socket) -> None:
        self.socket = end
        self._shared = shared
        self._client = _Client(self._client_left, shared.limits.ping_timeout)
        self._owner = _Owner(self._owner_done)
        self._started = self._lost = self._ended = False
        self._ending: asyncio.TimerHandle | None = None
        self._client.other, self._owner.other = self._owner, self._client

    @classmethod
    async def make(cls, shared: Shared) -> RawConnection:
        """The pair, with no client yet."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        raw = cls(shared, theirs)
        try:
            await shared.loop.create_unix_connection(lambda: raw._owner, sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return raw

    def start(self, transport: asyncio.Transport, early: bytes) -> None:
        """Take over a client.

        Args:
            transport: Its socket's transport.
            early: What has arrived and nobody has read.
        """
        self._started = True
        self._shared.connections.add(self)
        self._client.connection_made(transport)
        take(transport, self._client)
        if early:
            self._client.data_received(early)

    def end(self) -> None:
        """The application is done: what was written still goes out, and threads that it left behind have a moment."""
        self._ended = True
        if self._lost:
            self.socket.close()
        elif self._owner.transport.is_closing():  # the client left, and they have not read all that came before
            self._owner.transport.abort()
        else:
            self._ending = self._shared.loop.call_later(GRACE if self._started else 0, self._cut)

    def _cut(self) -> None:
        with suppress(OSError):  # they have closed it
            self.socket.shutdown(socket.SHUT_WR)  # their end; ours reads the rest and then its end

    def shutdown(self) -> None:
        """The server is going: for them, the client leaves. A Close frame is theirs to send."""
        if not self._owner.transport.is_closing():
            self._owner.transport.write_eof()

    def abort(self) -> None:
        """Drop the connection."""
        self._owner.transport.abort()
        if self._started:
            self._client.transport.abort()

    def _client_left(self) -> None:
        self._shared.connections.discard(self)
        self._owner.transport.close()  # when they have read what came before

    def _owner_done(self) -> None:
        """They have closed their end, or we have ours."""
        self._lost = True
        if self._ending is not None:
            self._ending.cancel()
        if self._ended:  # and not before: a thread may still read from it, and its number would soon be another's
            self.socket.close()
        if self._started and not self._client.transport.is_closing():
            Lingering.answer(self._client.transport, self._shared.connections, b"")
            self._client.release()
        self._shared.connections.discard(self)
