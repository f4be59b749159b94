"""The outward half of a connection on a socket of ours: what is sent, how it waits for a slow client, how it ends.

One ``write`` for an outgoing message, of bytes that were encoded once for everybody. Knows nothing of what comes in.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from enum import IntEnum

from fairlead.errors import CloseCode, Closed
from fairlead.message import Burst, Form, Message
from fairlead.transports.shared import Shared, alone, take
from fairlead.transports.waiting import Waiting
from fairlead.wire.frames import Opcode, encode
from fairlead.wire.messages import close_payload

HIGH_WATER = 64 * 1024
"""Bytes in asyncio's own write buffer past which further messages wait in the outbox, where they can still be dropped
at a message border. asyncio's default without TLS."""

CORK = 64
CORKED_SIZE = 16 * 1024
"""Frames joined into one write, and bytes of the largest: at most 1 MiB waits unseen by the outbox's limit."""

_OUTBOX_FULL = (CloseCode.TRY_AGAIN_LATER, "outbox full")
"""How a slow client's connection ends. No other outcome is this object, whatever a client writes into its Close."""


class State(IntEnum):
    """Where the connection is (RFC 6455, 7.1.3 and 7.1.4)."""

    OPEN = 0
    CLOSING = 1  # a Close frame was sent or received; nothing more goes out
    ENDING = 2  # nothing more is read either; the socket ends when all is written
    LOST = 3  # the socket is gone


class Outward(asyncio.Protocol):
    """What ``NativeTransport`` is to those who send.

    Args:
        transport: The socket's asyncio transport.
        shared: What it shares with the server's other connections.
        form: How its messages are encoded.
    """

    __slots__ = (
        "_congested",
        "_cork",
        "_descriptor",
        "_form",
        "_outcome",
        "_shared",
        "_state",
        "_transport",
        "_waiting",
        "outlet",
    )

    def __init__(self, transport: asyncio.Transport, shared: Shared, form: Form) -> None:
        self._shared = shared
        self._transport = transport
        self._form = form
        self._state = State.OPEN
        self._descriptor: int | None = None  # of the socket, while the event loop has nothing to write there
        self.outlet: int | None = None  # the same, while nothing else has to be looked at before a write either
        self._outcome: tuple[int, str] | None = None
        self._cork: list[bytes] | None = None
        self._congested = False
        self._waiting: Waiting | None = None

    # -- the Transport seam ------------------------------------------------------------------------------------------

    @property
    def form(self) -> Form:
        return self._form

    @property
    def open(self) -> bool:
        return not self._state

    @property
    def buffered(self) -> int:
        if self._state is State.LOST:
            return 0
        queued = self._waiting.queued if self._waiting is not None else 0
        corked = sum(map(len, self._cork)) if self._cork else 0
        return self._transport.get_write_buffer_size() + queued + corked

    def send(self, outgoing: Message | Burst) -> bool:
        if self._state:
            return False
        cork = self._cork
        if cork is not None:
            # It waits for what else is sent in answer to the same read; not much, so that a slow client is noticed.
            data = outgoing.wire(self._form)
            cork.append(data)
            if len(data) > CORKED_SIZE or len(cork) >= CORK:
                self._uncork()
        elif self._congested:
            self._enqueue(outgoing.wire(self._form))
        else:
            self._write(outgoing.wire(self._form))
        return not self._congested

    def write_rest(self, data: bytes, taken: int) -> None:
        self._descriptor = self.outlet = None  # so that nothing overtakes it
        if taken and len(data) - taken <= HIGH_WATER:
            data, taken = data[taken:], 0  # so little counts nowhere, and would keep all the rest behind a view
        self._transport.write(memoryview(data)[taken:] if taken else data)
        if self._congested:
            self._hold_back().writing += len(data)

    @property
    def congested(self) -> bool:
        return self._congested

    @property
    def outbox_full(self) -> bool:
        return self._outcome is _OUTBOX_FULL

    async def drained(self) -> None:
        if self._state is not State.OPEN:
            raise Closed(*(self._outcome or (CloseCode.ABNORMAL, "")))
        if not self._congested:
            return
        waiting = self._hold_back()
        if waiting.drained is None:
            waiting.drained = self._shared.loop.create_future()
        await asyncio.shield(waiting.drained)
        if self._state is not State.OPEN:
            raise Closed(*(self._outcome or (CloseCode.ABNORMAL, "")))

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._state is State.OPEN:
            self._closing(code, reason)
            self._emit(_close_frame(code, reason))

    def shutdown(self) -> None:
        """The server is going: tell the client to come back (RFC 6455, 7.4.1 and the registry: 1012)."""
        self.close(CloseCode.SERVICE_RESTART, "service restart")

    def abort(self) -> None:
        """Drop the connection without a Close frame."""
        if self._state is not State.LOST:
            self._state = State.CLOSING
            self.outlet = None
            self._transport.abort()

    # -- writing -----------------------------------------------------------------------------------------------------

    def _take_over(self, response: bytes) -> None:
        """The socket is ours; ``response`` is written, where it can be with what is sent before ``_uncork()``."""
        limits, transport = self._shared.limits, self._transport
        high = min(HIGH_WATER, limits.outbox_limit)
        low = min(limits.outbox_low, high)
        if transport.get_write_buffer_limits() != (low, high):  # behind TLS they are eight times asyncio's others
            transport.set_write_buffer_limits(high=high, low=low)
        take(transport, self)
        if self._congested:
            transport.write(response)  # what is in the outbox may be dropped
            response = b""
        self._cork = [response] if response else []
        self._choose()

    def _write(self, data: bytes) -> None:
        """Write what has nothing in front of it, at once where that is possible: by uvloop it takes 0.25 µs longer."""
        descriptor, taken = self._descriptor, 0
        if descriptor is None and len(data) > HIGH_WATER:
            # The event loop would keep all of it while the kernel has taken most, and nobody would count that.
            descriptor = self._idle_descriptor()
        if descriptor is not None:
            try:
                taken = os.write(descriptor, data)
            except OSError:  # it takes nothing now; or it is broken, and the event loop finds out by itself
                pass
        if taken < len(data):
            self.write_rest(data, taken)

    def _emit(self, data: bytes) -> None:
        """Write one of our own control frames, behind what waits."""
        if self._cork is not None:
            self._cork.append(data)
        elif self._waiting is not None and self._waiting.outbox:
            self._waiting.put(data)
        else:
            self._write(data)

    def _answer(self, pong: bytes) -> None:
        """A client that does not read gets one pong, the newest (RFC 6455, 5.5.3)."""
        if self._congested:
            self._hold_back().pong = pong
        else:
            self._emit(pong)

    def _uncork(self) -> None:
        """Write everything that was sent while one read was processed, at once."""
        cork = self._cork
        if not cork or self._state is State.LOST:
            self._cork = None
            self._set_outlet()
            return
        data = cork[0] if len(cork) == 1 else b"".join(cork)
        if not self._congested:
            self._write(data)
            self._cork = None  # not sooner: a thread that sees nothing waiting writes its own
            self._set_outlet()
            return
        self._cork = None
        if self._state is State.OPEN:
            self._enqueue(data)
        else:
            self._emit(data)

    def _set_outlet(self) -> None:
        """Let the hub write to the socket, unless that is for ``send()`` to do."""
        if self._cork is None and not self._state:
            self.outlet = self._descriptor

    def _choose(self) -> None:
        """Write past the event loop from now on, or by it; to be called now and then.

        No event loop tells when it has written everything. And to look for other threads before each write would cost
        as much as is won.
        """
        self._descriptor = self._idle_descriptor() if alone() else None
        self._set_outlet()

    def _idle_descriptor(self) -> int | None:
        """The socket's, if the event loop has nothing to write there, and we have nothing for it."""
        busy = self._congested or self._transport.get_write_buffer_size()  # it may be empty before resume_writing()
        return None if busy else descriptor_of(self._transport)

    # -- a slow client -----------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._congested = True
        self.outlet = None

    def resume_writing(self) -> None:
        self._congested = False
        waiting = self._waiting
        if waiting is None:
            self._set_outlet()
            return
        while waiting.outbox and not self._congested:
            waiting.write(self._transport, HIGH_WATER)
        if not self._congested:
            self._caught_up(waiting)

    def _caught_up(self, waiting: Waiting) -> None:
        if waiting.pong is not None and self._state is State.OPEN:
            self._transport.write(waiting.pong)
        waiting.pong = None
        waiting.writing = 0
        self._set_outlet()
        waiting.wake()
        self._release()
        if self._state is State.ENDING:
            self._end()

    def _enqueue(self, data: bytes) -> None:
        waiting = self._hold_back()
        waiting.put(data)
        written = max(waiting.writing, self._transport.get_write_buffer_size())
        if waiting.queued + written > self._shared.limits.outbox_limit:
            self._overflow(waiting)

    def _overflow(self, waiting: Waiting) -> None:
        """The client reads too slowly: what waits is dropped whole, so that 1013 is the next thing it reads."""
        waiting.drop()
        self._transport.write(_close_frame(*_OUTBOX_FULL))
        self._closing(*_OUTBOX_FULL)
        self._outcome = _OUTBOX_FULL

    def _hold_back(self) -> Waiting:
        if self._waiting is None:
            self._waiting = Waiting()
        return self._waiting

    def _release(self) -> None:
        if self._waiting is not None and self._waiting.empty:
            self._waiting = None

    # -- closing -----------------------------------------------------------------------------------------------------

    def _closing(self, code: int, reason: str) -> None:
        """A Close frame is about to go out, and nothing follows it."""
        self._state = State.CLOSING
        self.outlet = None
        self._outcome = (code, reason)
        if self._waiting is not None:
            self._waiting.pong = None
            self._waiting.wake()

    def _finish(self) -> None:
        """Both Close frames are there, or the peer broke the protocol: end the socket when all is written.

        RFC 6455, 7.1.1: the server closes first. Where the client may still be sending, our side is closed and its
        bytes are read and thrown away: closing a socket with unread input resets it, and the Close frame is lost.
        """
        self._state = State.ENDING
        self._shared.loop.call_soon(self._end)

    def _end(self) -> None:
        if self._state is State.LOST or self._transport.is_closing():
            return
        if self._waiting is not None and self._waiting.outbox:
            return  # again when it is written
        if self._transport.can_write_eof():
            with suppress(OSError):  # the client was quicker
                self._transport.write_eof()
        else:
            self._transport.close()

    def _lose(self) -> None:
        """The socket is going, and another one may get its number when it is closed."""
        self._state = State.LOST
        self._descriptor = self.outlet = None
        if self._waiting is not None:
            self._waiting.wake()
        self._waiting = None


def descriptor_of(transport: asyncio.Transport) -> int | None:
    """The descriptor that takes bytes for the client as they are; None: TLS is in between, or there is none."""
    socket = transport.get_extra_info("socket")
    return None if socket is None or transport.get_extra_info("sslcontext") else int(socket.fileno())


def _close_frame(code: int, reason: str) -> bytes:
    return encode(Opcode.CLOSE, close_payload(code, reason))
