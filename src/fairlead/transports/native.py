"""The fast path: after the 101, this asyncio protocol object is the connection.

No task and no timer of its own: deadlines sit in the server's wheel. What it does per message is one pass of the reader
and one call of the receiver; per outgoing message one ``write`` of bytes that were encoded once for everybody.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import Burst, Form, Message
from fairlead.transports import Receiver
from fairlead.transports.direct import DirectTransport
from fairlead.transports.shared import Shared
from fairlead.wire.deflate import Agreement
from fairlead.wire.frames import PLAIN, Opcode, encode
from fairlead.wire.messages import (
    Close,
    Event,
    Failure,
    InflatingReader,
    MessageReader,
    More,
    Ping,
    answer_payload,
    close_payload,
)

logger = logging.getLogger(__name__)

HIGH_WATER = 64 * 1024
"""Bytes in asyncio's own write buffer past which further messages wait in the outbox, where they can still be dropped
at a message border. asyncio's default."""

SLICE = 64 * 1024
"""Bytes parsed at once, so that a read full of tiny frames becomes objects ten thousand at a time. With less, messages
of 16 KiB are cut, and cost three times as much to read."""

CORK = 64
CORKED_SIZE = 16 * 1024
"""Frames joined into one write, and bytes of the largest: at most 1 MiB waits unseen by the outbox's limit."""

_OUTBOX_FULL = (CloseCode.TRY_AGAIN_LATER, "outbox full")
"""How a slow client's connection ends. No other outcome is this object, whatever a client writes into its Close."""

_PING = encode(Opcode.PING, b"")
_PINGED = 0
"""In the place of the second when the client was last heard: a ping was sent since. The wheel's seconds begin at 1."""


class State(IntEnum):
    """Where the connection is (RFC 6455, 7.1.3 and 7.1.4)."""

    OPEN = 0
    CLOSING = 1  # a Close frame was sent or received; nothing more goes out
    LOST = 2  # the socket is gone


class Hold(IntEnum):
    """Why nothing is delivered: bits, several may be set."""

    RECEIVER = 1
    RATE = 2
    INFLATED = 4  # there is enough for one turn of the loop


class Waiting:
    """What a connection holds back: made when it is needed, dropped when it is empty.

    ``writing`` is the size of the writes that the socket's transport is in the middle of: an event loop may keep all
    of one until its last byte is taken, so all of it counts.
    """

    __slots__ = ("data", "drained", "events", "outbox", "pong", "queued", "writing")

    def __init__(self) -> None:
        self.outbox: list[bytes] = []
        self.queued = 0
        self.writing = 0
        self.pong: bytes | None = None
        self.drained: asyncio.Future[None] | None = None
        self.events: list[Event] = []
        self.data = b""


class NativeTransport(asyncio.Protocol):
    """An open WebSocket connection on a socket of ours.

    Args:
        transport: The socket's asyncio transport; nothing was written to it.
        receiver: Who gets the messages.
        shared: What it shares with the server's other connections.
        deflate: What was agreed on with the client; None: nothing is compressed.
    """

    __slots__ = (
        "_budget",
        "_congested",
        "_controls",
        "_cork",
        "_descriptor",
        "_form",
        "_heard",
        "_hold",
        "_outcome",
        "_reader",
        "_receiver",
        "_refilled",
        "_shared",
        "_state",
        "_transport",
        "_waiting",
        "due",
        "outlet",
    )

    def __init__(
        self, transport: asyncio.Transport, receiver: Receiver, shared: Shared, deflate: Agreement | None = None
    ) -> None:
        limits = shared.limits
        self.due = 0
        self._shared = shared
        self._transport = transport
        self._receiver: Receiver | None = receiver
        self._form: Form = PLAIN if deflate is None else deflate.form()
        self._reader: MessageReader | None = _reader(limits, deflate)
        self._state = State.OPEN
        self._descriptor: int | None = None  # of the socket, while the event loop has nothing to write there
        self.outlet: int | None = None  # the same, while nothing else has to be looked at before a write either
        self._outcome: tuple[int, str] | None = None
        self._cork: list[bytes] | None = None
        self._congested = False
        self._waiting: Waiting | None = None
        self._hold = 0
        self._budget = limits.message_burst
        self._controls = limits.control_rate
        self._heard = self._refilled = shared.ticker.wheel.now

    def start(self, response: bytes, early: bytes) -> None:
        """Take over the socket: write the 101, tell the receiver, parse what came right behind the request."""
        shared = self._shared
        shared.connections.add(self)
        shared.ticker.schedule(self, shared.limits.ping_after)
        self._heard = self._refilled = shared.ticker.wheel.now
        limits, transport = shared.limits, self._transport
        high = min(HIGH_WATER, limits.outbox_limit)
        if (high, limits.outbox_low) != (HIGH_WATER, HIGH_WATER // 4):
            transport.set_write_buffer_limits(high=high, low=min(limits.outbox_low, high))
        transport.set_protocol(self)
        self._descriptor = _descriptor_of(transport)
        self._cork = [response] if response else []
        try:
            if self._receiver is not None:
                self._receiver.connected(self)
        except Exception:
            self._broken()
        self._uncork()
        if early:
            self.data_received(early)

    # -- outward: the Transport seam ---------------------------------------------------------------------------------

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

    def pause_reading(self) -> None:
        self._stop(Hold.RECEIVER)

    def resume_reading(self) -> None:
        self._go_on(Hold.RECEIVER)

    def shutdown(self) -> None:
        """The server is going: tell the client to come back (RFC 6455, 7.4.1 and the registry: 1012)."""
        self.close(CloseCode.SERVICE_RESTART, "service restart")

    def abort(self) -> None:
        """Drop the connection without a Close frame."""
        if self._state is not State.LOST:
            self._state = State.CLOSING
            self.outlet = None
            self._transport.abort()

    def direct(self) -> DirectTransport | None:
        """A way for threads to send by themselves; None: TLS or compression is in between. To be asked for once."""
        descriptor = _descriptor_of(self._transport)
        if self._form is not PLAIN or descriptor is None:
            return None
        self._descriptor = self.outlet = None
        self._transport = direct = DirectTransport(self, self._transport, descriptor, self._shared.loop)
        return direct

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """Write what has nothing in front of it, at once where that is possible: by uvloop it takes 0.25 µs longer."""
        taken = 0
        if self._descriptor is not None:
            try:
                taken = os.write(self._descriptor, data)
            except OSError:  # it takes nothing now; or it is broken, and the event loop finds out by itself
                pass
        if taken < len(data):
            self.write_rest(data, taken)

    def _emit(self, data: bytes) -> None:
        """Write one of our own control frames, behind what waits."""
        if self._cork is not None:
            self._cork.append(data)
        elif self._waiting is not None and self._waiting.outbox:
            self._waiting.outbox.append(data)
            self._waiting.queued += len(data)
        else:
            self._write(data)

    def _enqueue(self, data: bytes) -> None:
        waiting = self._hold_back()
        waiting.outbox.append(data)
        waiting.queued += len(data)
        written = max(waiting.writing, self._transport.get_write_buffer_size())
        if waiting.queued + written > self._shared.limits.outbox_limit:
            self._overflow(waiting)

    def _overflow(self, waiting: Waiting) -> None:
        """The client reads too slowly: what waits is dropped whole, so that 1013 is the next thing it reads."""
        waiting.outbox.clear()
        waiting.queued = 0
        self._transport.write(_close_frame(*_OUTBOX_FULL))
        self._closing(*_OUTBOX_FULL)
        self._outcome = _OUTBOX_FULL

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

    def _look_for_outlet(self) -> None:
        """No event loop tells when it has written everything, so this is looked for now and then."""
        if self._descriptor is None and not self._transport.get_write_buffer_size():
            self._descriptor = _descriptor_of(self._transport)
            self._set_outlet()

    def pause_writing(self) -> None:
        self._congested = True
        self.outlet = None

    def resume_writing(self) -> None:
        self._congested = False
        waiting = self._waiting
        if waiting is None:
            self._set_outlet()
            return
        outbox = waiting.outbox
        taken = 0
        while taken < len(outbox) and not self._congested:
            start, size = taken, 0
            while taken < len(outbox) and size < HIGH_WATER:
                size += len(outbox[taken])
                taken += 1
            waiting.writing = size
            self._transport.write(b"".join(outbox[start:taken]))
            waiting.queued -= size  # not sooner, as above
        del outbox[:taken]
        if not self._congested:
            self._caught_up(waiting)

    def _caught_up(self, waiting: Waiting) -> None:
        if waiting.pong is not None and self._state is State.OPEN:
            self._transport.write(waiting.pong)
        waiting.pong = None
        waiting.writing = 0
        self._set_outlet()
        self._wake(waiting)
        self._release()
        if self._reader is None:
            self._end()

    def _hold_back(self) -> Waiting:
        if self._waiting is None:
            self._waiting = Waiting()
        return self._waiting

    def _release(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.outbox or waiting.events or waiting.data:
            return
        if waiting.drained is None and waiting.pong is None and not waiting.writing:
            self._waiting = None

    # -- reading -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = self._shared.ticker.wheel.now
        reader = self._reader
        if reader is None:
            return
        if self._hold:
            self._hold_back().data += data
            return
        if self._cork is None:
            self._cork = []
            self.outlet = None
        if len(data) <= SLICE:
            events = reader.feed(data)
            self._deliver(events)
            if len(events) > 1 and not self._state:
                # Whoever answers from a task of its own does so in the next turn: that, too, is one write. 32 messages
                # echoed by a handler cost 1.3 µs each this way, 6 with a write for each.
                self._shared.loop.call_soon(self._uncork)
                return
        else:
            self._deliver_slices(reader, data)
        if self._cork:
            self._uncork()
        else:
            self._cork = None
            self._set_outlet()

    def _deliver_slices(self, reader: MessageReader, data: bytes) -> None:
        for start in range(0, len(data) or 1, SLICE):  # once if there is nothing: the reader itself may hold back some
            if self._hold:
                self._hold_back().data += data[start:]
                return
            self._deliver(reader.feed(data[start : start + SLICE]))

    def _deliver(self, events: Sequence[Event]) -> None:
        """Hand out what one slice of the input held, until somebody says stop."""
        rest = iter(events)
        for event in rest:
            kind = type(event)
            if kind is not str and kind is not bytes:
                self._control(event)
            elif not self._state and self._receiver is not None:
                self._budget -= 1
                if self._budget <= 0:
                    self._refill()
                try:
                    self._receiver.received(event)  # type: ignore[arg-type]  # narrowed by its exact type above
                except Exception:
                    self._broken()
            if self._hold:
                self._hold_back().events.extend(rest)

    def _control(self, event: Event) -> None:
        match event:
            case Close():
                if self._state is State.OPEN:
                    self._closing(event.code, event.reason)
                    self._emit(encode(Opcode.CLOSE, answer_payload(event.code)))
                self._finish()
            case Failure():
                self.close(event.code, event.reason)
                self._finish()
            case More():
                self._stop(Hold.INFLATED)
                self._shared.loop.call_soon(self._read_on)
            case _ if self._state is State.OPEN:
                self._controls -= 1
                if self._controls <= 0:
                    self._refill()
                if isinstance(event, Ping):
                    self._answer(encode(Opcode.PONG, event.payload))

    def _answer(self, pong: bytes) -> None:
        """A client that does not read gets one pong, the newest (RFC 6455, 5.5.3)."""
        if self._congested:
            self._hold_back().pong = pong
        else:
            self._emit(pong)

    def _refill(self) -> None:
        """A budget is used up: fill it for the time gone by, or stop reading until there is some."""
        limits, now = self._shared.limits, self._shared.ticker.wheel.now
        seconds, self._refilled = now - self._refilled, now
        self._budget = min(limits.message_burst, max(self._budget, 0) + seconds * limits.message_rate)
        self._controls = min(limits.control_rate, max(self._controls, 0) + seconds * limits.control_rate)
        if self._budget <= 0 or self._controls <= 0:
            self._stop(Hold.RATE)
            self._shared.ticker.schedule(self, 0)

    def _stop(self, why: Hold) -> None:
        if self._state is not State.OPEN and why is not Hold.INFLATED:
            return
        if not self._hold:
            self._transport.pause_reading()
        self._hold |= why

    def _go_on(self, why: Hold) -> None:
        if self._hold & why:
            self._hold &= ~why
            if not self._hold:
                # From a later callback, as the seam promises, and with the reading still stopped, so in order.
                self._shared.loop.call_soon(self._catch_up)

    def _read_on(self) -> None:
        self._hold &= ~Hold.INFLATED
        self._catch_up()

    def _catch_up(self) -> None:
        """Deliver what was held back, then read on."""
        reader, waiting = self._reader, self._waiting
        if self._hold or reader is None:
            return
        if self._cork is None:
            self._cork = []
            self.outlet = None
        data = b""
        if waiting is not None:
            events, waiting.events = waiting.events, []
            data, waiting.data = waiting.data, b""
            self._deliver(events)
        self._deliver_slices(reader, data)
        self._release()
        self._uncork()
        if not self._hold and self._state is not State.LOST:
            self._transport.resume_reading()

    # -- closing -----------------------------------------------------------------------------------------------------

    def _closing(self, code: int, reason: str) -> None:
        """A Close frame is about to go out: nothing follows it, and the client has ``close_timeout`` seconds."""
        self._state = State.CLOSING
        self.outlet = None
        self._outcome = (code, reason)
        shared = self._shared
        shared.ticker.schedule(self, shared.limits.close_timeout)
        if self._waiting is not None:
            self._waiting.pong = None
            self._wake(self._waiting)
        if self._hold:
            # Messages are skipped from now on, but the client's Close may stand behind them.
            self._hold = 0
            shared.loop.call_soon(self._catch_up)

    def _finish(self) -> None:
        """Both Close frames are there, or the peer broke the protocol: end the socket when all is written.

        RFC 6455, 7.1.1: the server closes first. Where the client may still be sending, our side is closed and its
        bytes are read and thrown away: closing a socket with unread input resets it, and the Close frame is lost.
        """
        self._reader = None
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

    def _broken(self) -> None:
        logger.exception("a receiver failed")
        self.close(CloseCode.INTERNAL_ERROR)

    def _wake(self, waiting: Waiting) -> None:
        if waiting.drained is not None and not waiting.drained.done():
            waiting.drained.set_result(None)
        waiting.drained = None

    def expired(self) -> None:
        """The wheel's call: the budget is back, a ping is due, or the time is over."""
        shared = self._shared
        limits = shared.limits
        if self._state is not State.OPEN:
            self._transport.abort()
            return
        if self._hold & Hold.RATE:
            self._budget = min(limits.message_burst, max(self._budget, 0) + limits.message_rate)
            self._controls = limits.control_rate
            self._refilled = shared.ticker.wheel.now
            self._go_on(Hold.RATE)
        if self._hold:
            self._heard = shared.ticker.wheel.now  # nobody listens, so silence says nothing about the client
        self._look_for_outlet()
        silent = shared.ticker.wheel.now - self._heard
        if self._heard == _PINGED:
            self.close(CloseCode.INTERNAL_ERROR, "ping timeout")
            self._transport.close()
        elif silent >= limits.ping_after:
            self._emit(_PING)
            # However late this comes, who was not asked is not given up.
            self._heard = _PINGED
            # The wheel rounds up, and has done so once already: without this it is two seconds late in all.
            shared.ticker.schedule(self, limits.ping_timeout - limits.ping_after - 1)
        else:
            shared.ticker.schedule(self, limits.ping_after - silent)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        shared = self._shared
        self._state = State.LOST
        self._descriptor = self.outlet = None  # before the socket is closed, whose number another one may get
        shared.connections.discard(self)
        shared.leave()
        shared.ticker.cancel(self)
        code, reason = self._outcome or (CloseCode.ABNORMAL, "")
        if self._waiting is not None:
            self._wake(self._waiting)
        receiver, self._receiver = self._receiver, None
        self._reader = self._waiting = None
        if receiver is not None:
            receiver.closed(code, reason)


def _reader(limits: Limits, deflate: Agreement | None) -> MessageReader:
    size, count = limits.message_size, limits.fragment_count
    if deflate is None:
        return MessageReader(message_size=size, fragment_count=count)
    return InflatingReader(deflate.inflater(), message_size=size, fragment_count=count)


def _descriptor_of(transport: asyncio.Transport) -> int | None:
    """The descriptor that takes bytes for the client as they are; None: TLS is in between, or there is none."""
    socket = transport.get_extra_info("socket")
    return None if socket is None or transport.get_extra_info("sslcontext") else int(socket.fileno())


def _close_frame(code: int, reason: str) -> bytes:
    return encode(Opcode.CLOSE, close_payload(code, reason))
