"""Messages (RFC 6455, 5.4-5.6, 7 and 8.1): frames joined, checked and bounded; bytes in, events out.

Every rule is applied as soon as the bytes are there, in the middle of a frame too, so how the bytes were cut on their
way changes nothing. What was good before a fault is still delivered; nothing after a fault or a Close frame is.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire.frames import CONTROL, CONTROL_SIZE, FIN, MASKED, RSV1, FrameReader, Opcode
from fairlead.wire.inflate import Inflater
from fairlead.wire.masking import apply_mask


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping frame; answer with a Pong frame that holds the same payload (RFC 6455, 5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong frame, asked for or not."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A legal Close frame: the last event. ``code`` is 1005 if the frame had none (RFC 6455, 7.1.5)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The other side broke a rule or a limit: the last event. Fail the connection with this code (RFC 6455, 7.1.7)."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class More:
    """Reading stopped before the end of the data, for what came was compressed and has become much: the last event of
    its call. Hand out what is there, then read on with ``feed(b"")`` or with the data that comes next."""


Event = str | bytes | Ping | Pong | Close | Failure | More
"""What ``MessageReader.feed`` returns: ``str`` is a whole text message, ``bytes`` a whole binary one."""

INFLATED_SIZE = 64 * 1024
"""Bytes inflated before ``More``. A read of 16 KiB can hold 16 MiB, and nobody wants them all at once."""

# Plain integers: looking up a member of an enum costs as much as the rest of a comparison, on every frame.
_OPCODE = 0x0F
_TEXT = int(Opcode.TEXT)
_FINAL_TEXT = FIN | Opcode.TEXT
_CLOSE = FIN | Opcode.CLOSE
_PING = FIN | Opcode.PING

_PIECE = 16 * 1024  # bytes checked at once: to check means to copy them, and to make a string of the copy
_SPARE = 64  # bytes that a compressed message may be longer than itself, however short it is


class _Message:
    """A message of which some has arrived: one growing buffer, however small the pieces come."""

    __slots__ = ("_checked", "fragments", "inflater", "payload", "size", "text")

    def __init__(self, *, text: bool, inflater: Inflater | None) -> None:
        self.text = text
        self.inflater = inflater  # None: it is not compressed
        self.payload = bytearray()
        self.size = 0  # of its frames so far
        self.fragments = 1
        self._checked = 0

    def add(self, payload: bytes, *, limit: int, last: bool) -> None:
        """Add the next bytes of its frames."""
        self.size += len(payload)
        if self.inflater is None:
            self.payload += payload
            return
        try:
            self.inflater.inflate(payload, self.payload, limit=limit, last=last)
        except ProtocolError:
            if self.text:
                self.check()  # what was wrong before comes first, or the verdict would depend on how the bytes were cut
            raise

    def check(self) -> None:
        """Raise UnicodeDecodeError once nothing that may follow can make the text valid."""
        more = True
        while more:
            tail = self.payload[self._checked : self._checked + _PIECE]
            used = utf_8_decode(tail, "strict", False)[1]
            self._checked += used
            more = len(tail) == _PIECE
        # The decoder waits for the third byte of a surrogate, although the second one already says it all.
        if tail[used : used + 1] == b"\xed" and tail[used + 1 :] >= b"\xa0":
            raise UnicodeDecodeError("utf-8", bytes(tail), used, used + 2, "a surrogate")


class MessageReader:
    """Turn what arrives on one connection into messages and control frames.

    Args:
        message_size: Bytes of one message at most, its fragments together. Past it the connection fails with 1009 as
            soon as a frame's head says so, before the payload is there.
        fragment_count: Frames of one message at most; empty ones count. Past it the connection fails with 1008.
        client: True on the client's side, where frames must not be masked; False on the server's, where they must be.
    """

    __slots__ = ("_fragment_count", "_frames", "_message", "_message_size", "_quick", "_short")
    _inflater: Inflater | None = None  # a slot of the subclass, so that others do not pay for it

    def __init__(self, *, message_size: int, fragment_count: int, client: bool = False) -> None:
        self._message_size = message_size
        self._fragment_count = fragment_count
        self._frames: FrameReader | None = FrameReader(masked=not client)  # None: nothing more is read
        self._message: _Message | None = None
        # The second byte of a masked frame that feed() may take at once is at most _short; it is at most _quick in
        # the present state: the same between two messages, 0 in the middle of one. A client takes none at once.
        self._short = 0 if client else MASKED | min(CONTROL_SIZE, message_size)
        self._quick = self._short

    def feed(self, data: bytes) -> Sequence[Event]:
        """Take bytes as they arrived, cut anywhere; return what they complete, in order.

        After a ``Close`` or a ``Failure`` everything is ignored.
        """
        events: list[Event] = []
        frames = self._frames
        if frames is None:
            return events
        if not self._quick:
            data = frames.resume(data)
        at, end = 0, len(data)
        try:
            if end > 5 and end == data[1] - MASKED + 6 and data[0] == _FINAL_TEXT and data[1] <= self._quick:
                return [apply_mask(data[6:], data[2:6]).decode()]  # nearly all reads: one such frame, as below
            while at < end:
                # Nearly all traffic: whole, final, masked, short text frames between messages.
                while (
                    end - at > 5
                    and data[at] == _FINAL_TEXT
                    and MASKED <= (second := data[at + 1]) <= self._quick
                    and (stop := at + 6 + second - MASKED) <= end
                ):
                    events.append(apply_mask(data[at + 6 : stop], data[at + 2 : at + 6]).decode())
                    at = stop
                if at < end:
                    at = self._read(frames, data, at, events)
        except UnicodeDecodeError:
            self._end(events, Failure(CloseCode.INVALID_DATA, "text that is not UTF-8"))
        except ProtocolError as fault:
            self._end(events, Failure(fault.close_code, fault.reason))
        return events

    def _read(self, frames: FrameReader, data: bytes, at: int, events: list[Event]) -> int:
        """Take one frame, or what there is of it; return where to read on."""
        part = frames.read(data, at)
        if part is None:
            self._quick = 0
            return len(data)
        first, payload, left, start, stop = part
        if first == _CLOSE:
            self._end(events, read_close(payload))
            return len(data)
        if first & CONTROL:
            events.append(Ping(payload) if first == _PING else Pong(payload))
        else:
            if start:
                self._judge(first, len(payload) + left)
            message = self._add(first, payload, last=bool(first & FIN) and not left)
            if message is not None:
                events.append(message)
        self._quick = self._short if self._message is None else 0
        return stop

    def _judge(self, first: int, size: int) -> None:
        """Judge a data frame by its head: its place in a message (RFC 6455, 5.4) and the limits."""
        message = self._message
        if first & _OPCODE:
            if message is not None:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a message begins inside another one")
        elif message is None:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a continuation frame continues nothing")
        else:
            message.fragments += 1
            if message.fragments > self._fragment_count:
                raise ProtocolError(CloseCode.POLICY_VIOLATION, f"a message of more than {self._fragment_count} frames")
            size += message.size
        if size > self._message_size:
            compressed = first & RSV1 if message is None else message.inflater
            if not compressed or size > 2 * self._message_size + _SPARE:
                raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self._message_size} bytes")

    def _add(self, first: int, payload: bytes, *, last: bool) -> str | bytes | None:
        """Add a part of a data frame; return the message if that completes it."""
        message = self._message
        if message is None:
            text = first & _OPCODE == _TEXT
            if last and not first & RSV1:
                return payload.decode() if text else payload
            message = self._message = _Message(text=text, inflater=self._inflater if first & RSV1 else None)
        message.add(payload, limit=self._message_size, last=last)
        if not last:
            if message.text:
                message.check()
            return None
        self._message = None
        return message.payload.decode() if message.text else bytes(message.payload)

    def _end(self, events: list[Event], last: Close | Failure) -> None:
        """Deliver the last event and let go of everything."""
        events.append(last)
        self._frames = self._message = None


class InflatingReader(MessageReader):
    """Read compressed messages too, where permessage-deflate was agreed on.

    Such a message is judged as it is inflated, which stops at ``message_size``. Its frames may be twice as large, since
    a client may flush often, and incompressible bytes become more. A message that breaks two rules in the same bytes
    fails for either, depending on how the bytes were cut: bad DEFLATE, bad UTF-8 (both 1007) or too large (1009).

    Args:
        inflater: The connection's.
        message_size: As for a ``MessageReader``, like the rest.
    """

    __slots__ = ("_inflater",)

    def __init__(self, inflater: Inflater, *, message_size: int, fragment_count: int, client: bool = False) -> None:
        super().__init__(message_size=message_size, fragment_count=fragment_count, client=client)
        self._frames = FrameReader(masked=not client, rsv1=True)
        self._inflater: Inflater = inflater

    def _read(self, frames: FrameReader, data: bytes, at: int, events: list[Event]) -> int:
        stop = super()._read(frames, data, at, events)
        if self._inflater.inflated >= INFLATED_SIZE and self._message is None and stop < len(data):
            self._inflater.inflated = 0
            events.append(More())
            frames.keep(data[stop:])
            self._quick = 0
            return len(data)
        return stop


def is_close_code(code: int) -> bool:
    """True for a code that may stand in a Close frame (RFC 6455, 7.4 and the IANA registry).

    Not so 1004 (never defined), 1005, 1006 and 1015 (only for an application's eyes), 1016-2999 (unassigned).
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def read_close(payload: bytes) -> Close:
    """Judge a Close frame's payload (RFC 6455, 5.5.1 and 7.4).

    Raises:
        ProtocolError: One byte alone, or a code that must not be sent (1002).
        UnicodeDecodeError: The reason is not UTF-8; fail with 1007.
    """
    if not payload:
        return Close(CloseCode.NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")  # of one byte alone: under 256, so not legal
    if not is_close_code(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a Close frame has no legal code")
    return Close(code, payload[2:].decode())


def close_payload(code: int, reason: str = "") -> bytes:
    """Make a Close frame's payload.

    Args:
        code: A code that may be sent, or 1005 for a frame without code and reason.
        reason: For people who read logs; cut before the character that would make it longer than 123 bytes, since a
            close must not fail over its explanation.

    Raises:
        ValueError: A code that must not be sent, 1005 with a reason, or a reason with lone surrogates.
    """
    if code == CloseCode.NO_STATUS and not reason:
        return b""
    if not is_close_code(code):
        raise ValueError(f"close code {code} must not be sent")
    text = reason.encode()
    if len(text) > CONTROL_SIZE - 2:
        text = text[: CONTROL_SIZE - 2].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text


def answer_payload(code: int) -> bytes:
    """Make the payload that answers a Close frame: its code, nothing if it had none (1005), 1002 if it was illegal."""
    return close_payload(code if is_close_code(code) or code == CloseCode.NO_STATUS else CloseCode.PROTOCOL_ERROR)
