"""Between the event loop and one thread: what comes in is put into the thread's hands, what goes out taken from them.

Either side is bounded, and neither ever polls. What comes in goes through a SimpleQueue, which wakes a thread in C: a
message that is echoed costs 6 to 8 µs less than with a Condition.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from fairlead.connection import Connection
from fairlead.errors import CloseCode, Closed, UsageError
from fairlead.message import Message
from fairlead.threads import Bridge
from fairlead.transports import Transport
from fairlead.transports.direct import DirectTransport
from fairlead.transports.native import NativeTransport
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
    """

    def __init__(self, bridge: Bridge) -> None:
        self.connection: Connection | None = None
        self.transport: Transport | None = None
        self.outcome: tuple[int, str] | None = None
        self._loop = bridge.loop
        self._home = bridge.home
        self._arrived: SimpleQueue[str | bytes | None] = SimpleQueue()  # None is the last, and stays
        self._size = 0  # of what came in since it was empty
        self._paused = False  # changed by the event loop alone, as the size
        self._lock = threading.RLock()  # guards what follows and the outcome
        self._room = threading.Condition(self._lock)
        self._direct: DirectTransport | None = None
        self._outgoing: list[Message] = []
        self._unsent = 0  # bytes of them, and of what the client is behind with
        self._flushing = False
        self._closing: tuple[int, str] | None = None
        self._draining: asyncio.Task[None] | None = None

    # -- the Receiver, in the event loop -----------------------------------------------------------------------------

    def connected(self, transport: Transport) -> None:
        self.transport = transport
        if isinstance(transport, NativeTransport):
            self._direct = transport.direct()

    def received(self, payload: str | bytes) -> None:
        arrived = self._arrived
        if arrived.empty():
            self._size = 0
        self._size += len(payload)
        arrived.put(payload)
        if (self._size >= INBOX_SIZE or arrived.qsize() >= INBOX) and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
            self._read_on()  # the thread may have taken the last one before it could see that this waits for it

    def closed(self, code: int, reason: str) -> None:
        if self._direct is not None:
            self._direct.release()
        self._end(code, reason)
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.leave_rooms(code)  # at once, however long the thread goes on

    def _read_on(self) -> None:
        """Go on reading where the thread has taken everything. In the event loop."""
        if self._paused and self._arrived.empty() and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def _end(self, code: int, reason: str) -> None:
        with self._lock:
            if self.outcome is None:
                self.outcome = (code, reason)
                self._arrived.put(None)
            self._room.notify_all()

    # -- from the thread ---------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        return (
            self.outcome is not None
            or self._closing is not None
            or (self.transport is not None and not self.transport.open)
        )

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not taken."""
        with self._lock:
            return max(0, self._arrived.qsize() - (self.outcome is not None))

    def take(self, timeout: float | None = None) -> str | bytes | None:
        """The oldest message, which is waited for; None when there will be none any more.

        Args:
            timeout: Seconds; 0: do not block; None: as long as it takes.

        Raises:
            Empty: Nothing came in time.
            UsageError: This is the event loop, which would wait for itself.
        """
        arrived = self._arrived
        if timeout != 0 and arrived.empty():
            self._may_block()
        payload = arrived.get(timeout=timeout if timeout is None else max(timeout, 0))
        if payload is None:
            arrived.put(None)  # for whoever asks next
        elif self._paused and arrived.empty():
            self._in_loop(self._read_on)
        return payload

    def put(self, message: Message) -> None:
        """Send a message, blocking while the client is behind.

        Raises:
            Closed: The connection is over; this message was not sent.
            UsageError: This is the event loop, and it would have to wait for itself.
        """
        size = len(message.payload) + OVERHEAD
        with self._lock:
            while self._unsent and self._unsent + size > UNSENT and not self.over:
                self._may_block()
                self._room.wait()
            if not self.over:
                if self._sent_directly(message):
                    return
                self._outgoing.append(message)
                self._unsent += size
                if not self._flushing:
                    self._flushing = self._in_loop(self._flush)
            if self.over:
                raise Closed(*(self.outcome or self._closing or (CloseCode.ABNORMAL, "")))

    def _sent_directly(self, message: Message) -> bool:
        """Send it past the event loop, if that overtakes nothing: what was published to its rooms goes first."""
        if self._direct is None or self._flushing or self.connection is None or self.connection.memberships:
            return False
        return self._direct.send(message)

    def end(self, code: int, reason: str) -> None:
        """Begin the close handshake, behind what was sent."""
        with self._lock:
            if not self.over:
                self._closing = (code, reason)
                self._in_loop(self.finish, code, reason)
            self._room.notify_all()

    def _may_block(self) -> None:
        if threading.get_ident() == self._home:
            raise UsageError("this blocks, and would stop the event loop: call it in a thread")

    def _in_loop(self, call: Callable[..., object], *args: object) -> bool:
        """Have the event loop do something soon. If it is closed, so is the connection."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            self._end(CloseCode.ABNORMAL, "")
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
        with self._lock:
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
        with self._lock:
            self._unsent = sum(len(message.payload) + OVERHEAD for message in self._outgoing)
            self._flushing = bool(self._outgoing)
            self._room.notify_all()
        if self._flushing:
            self._loop.call_soon(self._flush)
