"""In process, for tests: a connection without bytes.

Messages go from hand to hand, so there are no frames, no compression, no rates and no buffers of a kernel. Everything
else holds as on a socket: order, bounds, both close handshakes, callbacks from the event loop only. The client reads
all the time, as a browser does, until it is told not to; then what is sent to it waits in the outbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import PAYLOAD, Burst, Message
from fairlead.transports import Receiver
from fairlead.transports.outward import HIGH_WATER, State
from fairlead.transports.ticker import Ticker
from fairlead.wire.messages import Close, close_payload, read_close

logger = logging.getLogger(__name__)


class Client(Protocol):
    """The far end: what the client is told, at once and whoever calls."""

    def received(self, payload: str | bytes) -> None:
        """The client reads one whole message."""
        ...

    def closed(self, code: int, reason: str) -> None:
        """The client reads a Close frame, or sees that the connection is lost (1006). Only the first call counts."""
        ...


class MemoryTransport:
    """The server's end. What the client does is said with the methods whose names begin with ``client_``.

    To be made and used inside one running event loop.

    Args:
        receiver: Who gets the client's messages.
        client: The far end.
        limits: ``message_size``, ``outbox_limit``, ``outbox_low``, ``close_timeout`` and ``ping_timeout`` hold.
        ticker: For the deadlines. There is one only while the client does not read.
    """

    form = PAYLOAD
    outlet = None

    def __init__(self, receiver: Receiver, client: Client, limits: Limits, ticker: Ticker) -> None:
        self.due = 0
        self.outbox_full = False
        self._receiver = receiver
        self._client = client
        self._limits = limits
        self._high = min(HIGH_WATER, limits.outbox_limit)
        self._ticker = ticker
        self._loop = asyncio.get_running_loop()
        self._state = State.OPEN
        self._outcome: tuple[int, str] = (CloseCode.ABNORMAL, "")
        self._outbox: deque[Message | Close] = deque()  # what the client has not read
        self._queued = 0  # bytes of it
        self._arrived: deque[str | bytes | Close] = deque()  # what the receiver has not been given
        self._reading = True  # the receiver
        self._taking = True  # the client
        self._relieved = asyncio.Event()
        self._relieved.set()

    def start(self) -> None:
        """Tell the receiver that the client is in."""
        try:
            self._receiver.connected(self)
        except Exception:
            self._broken()

    # -- outward: the Transport seam ---------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        return self._state is State.OPEN

    @property
    def buffered(self) -> int:
        return self._queued

    @property
    def congested(self) -> bool:
        return self.open and not self._relieved.is_set()

    def send(self, outgoing: Message | Burst) -> bool:
        if not self.open:
            return False
        for message in outgoing.messages:
            self._outbox.append(message)
            self._queued += len(message.payload)
        self._hand_over()
        if self._queued > self._limits.outbox_limit and len(self._outbox) > 1:
            self._outbox.clear()
            self._queued = 0
            self.outbox_full = True
            self.close(CloseCode.TRY_AGAIN_LATER, "outbox full")
        elif self._queued > self._high:
            self._relieved.clear()
        return self.open and self._relieved.is_set()

    async def drained(self) -> None:
        if self.open:
            await self._relieved.wait()
        if not self.open:
            raise Closed(*self._outcome)

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.open:
            close = read_close(close_payload(code, reason))
            self._end(close, close)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._deliver)

    def abort(self) -> None:
        """Drop the connection without a Close frame."""
        if self.open:
            self._state = State.CLOSING
        self._loop.call_soon(self._lose)

    # -- what the client does ----------------------------------------------------------------------------------------

    def client_sends(self, payload: str | bytes) -> None:
        """One whole message."""
        self._arrive(payload)

    def client_closes(self, code: int = 1000, reason: str = "") -> None:
        """A Close frame, behind what it sent before.

        Raises:
            ValueError: A code that must not be sent (RFC 6455, 7.4).
        """
        self._arrive(read_close(close_payload(code, reason)))

    def client_leaves(self) -> None:
        """The connection is lost without a Close frame, behind what the client sent before."""
        self._arrive(Close(CloseCode.ABNORMAL, ""))

    def client_pauses(self) -> None:
        """It reads nothing from now on, and so answers no ping: ``ping_timeout`` later it counts as gone."""
        self._taking = False
        self._heard()

    def client_resumes(self) -> None:
        """It reads again, first what waits for it."""
        self._taking = True
        self._ticker.cancel(self)
        self._hand_over()

    # -- to the receiver ---------------------------------------------------------------------------------------------

    def _arrive(self, what: str | bytes | Close) -> None:
        self._arrived.append(what)
        self._heard()
        self._loop.call_soon(self._deliver)

    def _heard(self) -> None:
        if not self._taking and self.open:
            self._ticker.schedule(self, self._limits.ping_timeout)

    def _deliver(self) -> None:
        while self._arrived and self._reading and self.open:
            match self._arrived.popleft():
                case Close(CloseCode.ABNORMAL):
                    self._lose()
                case Close(code) as close:
                    self._end(close, Close(code, ""))
                case payload if _size(payload) > self._limits.message_size:
                    limit = self._limits.message_size
                    self.close(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {limit} bytes")
                case payload:
                    self._give(payload)

    def _give(self, payload: str | bytes) -> None:
        try:
            self._receiver.received(payload)
        except Exception:
            self._broken()

    def _broken(self) -> None:
        logger.exception("a receiver failed")
        self.close(CloseCode.INTERNAL_ERROR)

    # -- to the client, and the end ----------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Let the client read what waits for it."""
        while self._outbox and self._taking:
            match self._outbox.popleft():
                case Close(code, reason):
                    self._client.closed(code, reason)
                    self._loop.call_soon(self._lose)
                case Message(payload=payload, binary=binary):
                    self._queued -= len(payload)
                    self._client.received(payload if binary else payload.decode())
        if self._queued < min(self._limits.outbox_low, self._high):
            self._relieved.set()

    def _end(self, outcome: Close, frame: Close) -> None:
        """Either side began to close: what was sent before goes first, then our Close frame."""
        self._state = State.CLOSING
        self._outcome = (outcome.code, outcome.reason)
        self._relieved.set()
        self._outbox.append(frame)
        self._hand_over()
        if self._outbox:
            self._ticker.schedule(self, self._limits.close_timeout)

    def _lose(self) -> None:
        if self._state is State.LOST:
            return
        self._state = State.LOST
        self._ticker.cancel(self)
        self._outbox.clear()
        self._arrived.clear()
        self._queued = 0
        self._relieved.set()
        self._client.closed(CloseCode.ABNORMAL, "")
        self._receiver.closed(*self._outcome)

    def expired(self) -> None:
        """The wheel's call: a client that does not read is given up."""
        if self.open:
            self._outcome = (CloseCode.INTERNAL_ERROR, "ping timeout")
        self._lose()


def _size(payload: str | bytes) -> int:
    return len(payload if isinstance(payload, bytes) else payload.encode())
