"""The fast path: after the 101, this asyncio protocol object is the connection.

No task and no timer of its own: deadlines sit in the server's wheel. What it does per message is one pass of the reader
and one call of the receiver. What goes out is ``outward.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import IntEnum

from fairlead.errors import CloseCode
from fairlead.limits import Limits
from fairlead.transports import Receiver
from fairlead.transports.direct import DirectTransport
from fairlead.transports.outward import Outward, State, descriptor_of
from fairlead.transports.shared import Shared
from fairlead.wire.deflate import Agreement
from fairlead.wire.frames import PLAIN, Opcode, encode
from fairlead.wire.messages import Close, Event, Failure, InflatingReader, MessageReader, More, Ping, answer_payload

logger = logging.getLogger(__name__)

SLICE = 64 * 1024
"""Bytes parsed at once, so that a read full of tiny frames becomes objects ten thousand at a time. With less, messages
of 16 KiB are cut, and cost three times as much to read."""

_PING = encode(Opcode.PING, b"")
_PINGED = 0
"""In the place of the second when the client was last heard: a ping was sent since. The wheel's seconds begin at 1."""


class Hold(IntEnum):
    """Why nothing is delivered: bits, several may be set."""

    RECEIVER = 1
    RATE = 2
    INFLATED = 4  # there is enough for one turn of the loop


class NativeTransport(Outward):
    """An open WebSocket connection on a socket of ours.

    Args:
        transport: The socket's asyncio transport; little of what was written to it waits there.
        receiver: Who gets the messages.
        shared: What it shares with the server's other connections.
        deflate: What was agreed on with the client; None: nothing is compressed.
    """

    __slots__ = ("_budget", "_controls", "_heard", "_hold", "_reader", "_receiver", "_refilled", "due")

    def __init__(
        self, transport: asyncio.Transport, receiver: Receiver, shared: Shared, deflate: Agreement | None = None
    ) -> None:
        super().__init__(transport, shared, PLAIN if deflate is None else deflate.form())
        limits = shared.limits
        self.due = 0
        self._receiver: Receiver | None = receiver
        self._reader: MessageReader | None = _reader(limits, deflate)
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
        self._take_over(response)
        try:
            if self._receiver is not None:
                self._receiver.connected(self)
        except Exception:
            self._broken()
        self._uncork()
        if early:
            self.data_received(early)

    def direct(self) -> DirectTransport | None:
        """A way for threads to send by themselves; None: TLS or compression is in between. To be asked for once."""
        descriptor = descriptor_of(self._transport)
        if self._form is not PLAIN or descriptor is None:
            return None
        self._descriptor = self.outlet = None
        self._transport = direct = DirectTransport(self, self._transport, descriptor, self._shared.loop)
        return direct

    # -- reading -----------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._stop(Hold.RECEIVER)

    def resume_reading(self) -> None:
        self._go_on(Hold.RECEIVER)

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
        """See Outward; the client has ``close_timeout`` seconds to answer."""
        super()._closing(code, reason)
        shared = self._shared
        shared.ticker.schedule(self, shared.limits.close_timeout)
        if self._hold:
            # Messages are skipped from now on, but the client's Close may stand behind them.
            self._hold = 0
            shared.loop.call_soon(self._catch_up)

    def _finish(self) -> None:
        self._reader = None
        super()._finish()

    def _broken(self) -> None:
        logger.exception("a receiver failed")
        self.close(CloseCode.INTERNAL_ERROR)

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
        self._choose()
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
        self._lose()
        shared.connections.discard(self)
        shared.leave()
        shared.ticker.cancel(self)
        receiver, self._receiver = self._receiver, None
        self._reader = None
        if receiver is not None:
            receiver.closed(*(self._outcome or (CloseCode.ABNORMAL, "")))


def _reader(limits: Limits, deflate: Agreement | None) -> MessageReader:
    size, count = limits.message_size, limits.fragment_count
    if deflate is None:
        return MessageReader(message_size=size, fragment_count=count)
    return InflatingReader(deflate.inflater(), message_size=size, fragment_count=count)
