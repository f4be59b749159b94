"""Between the event loop and one thread: what comes in is put into the thread's hands, what goes out taken from them.

Either side is bounded, and neither ever polls.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from fairlead.connection import Connection
from fairlead.errors import CloseCode, Closed, UsageError
from fairlead.message import Message
from fairlead.threads import Bridge
from fairlead.transports import Transport
from fairlead.websocket import INBOX, INBOX_SIZE

UNSENT = 64 * 1024
"""Bytes that a thread may be ahead of the event loop; past it ``send`` blocks. A message alone may be larger."""

OVERHEAD = 128
"""Bytes that a message counts besides its own: or as many empty ones could wait as memory holds."""


class Link:
    """Between the event loop and one thread: the Receiver on one side, calls that block on the other.

    Attributes:
        connection: Whose it is, from the accept to the end.
        transport: What carries the connection, once the client is in.
        outcome: Close code and reason, once the connection is over.
        messages: What has arrived and was not taken.
        changed: Guards all of it, and tells of every change.
    """

    def __init__(self, bridge: Bridge) -> None:
        self.connection: Connection | None = None
        self.transport: Transport | None = None
        self.outcome: tuple[int, str] | None = None
        self.messages: list[str | bytes] = []
        self.changed = threading.Condition()
        self._loop = bridge.loop
        self._home = bridge.home
        self._size = 0  # of what came in since it was empty
        self._paused = False
        self._outgoing: list[Message] = []
        self._unsent = 0  # bytes of them, and of what the client is behind with
        self._flushing = False
        self._closing: tuple[int, str] | None = None
        self._draining: asyncio.Task[None] | None = None

    # -- the Receiver, in the event loop -----------------------------------------------------------------------------

    def connected(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, payload: str | bytes) -> None:
        with self.changed:
            self.messages.append(payload)
            self._size += len(payload)
            full = not self._paused and (self._size >= INBOX_SIZE or len(self.messages) >= INBOX)
            self._paused = self._paused or full
            self.changed.notify_all()
        if full and self.transport is not None:
            self.transport.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        with self.changed:
            self.outcome = self.outcome or (code, reason)
            self.changed.notify_all()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.leave_rooms(code)  # at once, however long the thread goes on

    # -- from the thread ---------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        return (
            self.outcome is not None
            or self._closing is not None
            or (self.transport is not None and not self.transport.open)
        )

    def wait_for(self, condition: Callable[[], object], timeout: float | None = None) -> bool:
        """Block until something holds; False if it does not in so many seconds. ``changed`` must be held.

        Raises:
            UsageError: This is the event loop, which would wait for itself.
        """
        if condition():
            return True
        if threading.get_ident() == self._home:
            raise UsageError("this blocks, and would stop the event loop: call it in a thread")
        return self.changed.wait_for(lambda: bool(condition()), timeout)

    def take(self) -> str | bytes:
        """The oldest message; there must be one, and ``changed`` be held."""
        payload = self.messages.pop(0)
        if not self.messages:
            self._size = 0
            if self._paused and self.transport is not None:
                self._paused = False
                self._in_loop(self.transport.resume_reading)
        return payload

    def put(self, message: Message) -> None:
        """Send a message, blocking while the client is behind.

        Raises:
            Closed: The connection is over; this message was not sent.
        """
        size = len(message.payload) + OVERHEAD
        with self.changed:
            self.wait_for(lambda: self.over or not self._unsent or self._unsent + size <= UNSENT)
            if not self.over:
                self._outgoing.append(message)
                self._unsent += size
                if not self._flushing:
                    self._flushing = self._in_loop(self._flush)
            if self.over:
                raise Closed(*(self.outcome or self._closing or (CloseCode.ABNORMAL, "")))

    def end(self, code: int, reason: str) -> None:
        """Begin the close handshake, behind what was sent."""
        with self.changed:
            if not self.over:
                self._closing = (code, reason)
                self._in_loop(self.finish, code, reason)
            self.changed.notify_all()

    def _in_loop(self, call: Callable[..., object], *args: object) -> bool:
        """Have the event loop do something soon. If it is closed, so is the connection."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            self.outcome = self.outcome or (CloseCode.ABNORMAL, "")
            self.changed.notify_all()
            return False
        return True

    # -- in the event loop -------------------------------------------------------------------------------------------

    def finish(self, code: int, reason: str) -> None:
        """Close, behind what was sent; the first call counts."""
        if self.transport is not None:
            self._hand_over(self.transport)
            self.transport.close(code, reason)

    def _flush(self) -> None:
        assert self.transport is not None, "nothing is sent before the accept"
        self._hand_over(self.transport)
        if self.transport.congested:
            self._draining = self._loop.create_task(self._drain(self.transport))
        else:
            self._go_on()

    def _hand_over(self, transport: Transport) -> None:
        with self.changed:
            outgoing, self._outgoing = self._outgoing, []
        if self.connection is not None:
            self.connection.flush_rooms()
        for message in outgoing:
            transport.send(message)

    async def _drain(self, transport: Transport) -> None:
        with suppress(Closed):
            await transport.drained()
        self._go_on()

    def _go_on(self) -> None:
        with self.changed:
            self._unsent = sum(len(message.payload) + OVERHEAD for message in self._outgoing)
            self._flushing = bool(self._outgoing)
            self.changed.notify_all()
        if self._flushing:
            self._loop.call_soon(self._flush)
