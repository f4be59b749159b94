"""Frames (RFC 6455, 5): bytes to parts of frames and back. Knows no messages, no limits, no clock and no sockets.

``FrameReader`` judges a frame as early as its bytes allow, long before it is whole, and keeps almost nothing: the
payload of a data frame is handed on as it arrives, so the reader itself never holds more than one half-arrived head or
control frame.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire.masking import apply_mask

FIN = 0x80
RSV1 = 0x40
MASKED = 0x80
CONTROL = 0x08  # this bit is set in the opcodes of control frames
CONTROL_SIZE = 125
"""Bytes in a control frame at most (RFC 6455, 5.5); also the longest length that needs no further bytes (5.2)."""


class Opcode(IntEnum):
    """What a frame is (RFC 6455, 5.2). Those from 8 on are control frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_OPCODES = frozenset(Opcode)
_DATA = (Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY)
_LEGAL = frozenset({*_DATA, *(FIN | opcode for opcode in Opcode)})
_LEGAL_RSV1 = _LEGAL | {fin | RSV1 | opcode for fin in (0, FIN) for opcode in (Opcode.TEXT, Opcode.BINARY)}


Part = tuple[int, bytes, int, bool, int]
"""A whole frame, or as much of a data frame as has arrived. A bare tuple, since one is made for every frame:

* the frame's first byte: FIN, RSV1 and the opcode;
* the bytes of this part, unmasked;
* how many payload bytes of the frame are still to come;
* True for the first part of a frame;
* where the part ends in the data that was read.
"""


class FrameReader:
    """Cut a stream of bytes into parts of frames.

    Args:
        masked: What the other side must do: a client masks every frame, a server none (RFC 6455, 5.1).
        rsv1: True where an extension gave RSV1 a meaning on the first frame of a message (RFC 7692, 6).
    """

    __slots__ = ("_first", "_left", "_legal", "_mask", "_masked", "_rest")

    def __init__(self, *, masked: bool, rsv1: bool = False) -> None:
        self._masked = MASKED if masked else 0
        self._legal = _LEGAL_RSV1 if rsv1 else _LEGAL
        self._rest = b""  # a half-arrived head or control frame
        # Of a data frame in progress: the payload bytes to come, its first byte, and the mask of the next bytes.
        self._left = 0
        self._first = 0
        self._mask = b""

    def resume(self, data: bytes) -> bytes:
        """Return what the last ``read`` could not use, followed by ``data``: read on at the start of this."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        return data

    def keep(self, data: bytes) -> None:
        """Let ``resume`` return this first, though it could be read: the bytes behind a whole frame."""
        self._rest = data

    def read(self, data: bytes, at: int) -> Part | None:
        """Read one part.

        Args:
            data: What ``resume`` returned.
            at: Where to begin: 0, then where the part before ended. Less than ``len(data)``.

        Returns:
            The part, or None if it needs more bytes than there are: give them to ``resume``. A data frame comes in one
            or more parts, the first as soon as its head is there; a control frame comes whole.

        Raises:
            ProtocolError: RFC 6455 was broken (1002). Nothing after this can be read.
        """
        if self._left:
            return self._continue(data, at)
        first = data[at]
        if first not in self._legal:
            raise _broken(_why_illegal(first))
        head = self._head(data, at)
        if head is None:
            self._rest = data[at:]
            return None
        begin, stop = head
        mask = data[begin - 4 : begin] if self._masked else b""
        if stop <= len(data):
            payload = data[begin:stop]
            return first, apply_mask(payload, mask) if mask else payload, 0, True, stop
        if first & CONTROL:
            self._rest = data[at:]
            return None
        self._first, self._mask, self._left = first, mask, stop - begin
        return self._continue(data, begin, start=True)

    def _head(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Judge a head after its first byte; return where its payload begins and ends."""
        end = len(data)
        if end - at < 2:
            return None
        second = data[at + 1]
        if second & MASKED != self._masked:
            raise _broken("a frame from a client is not masked" if self._masked else "a frame from a server is masked")
        size = second & 0x7F
        begin = at + 2
        if size > CONTROL_SIZE:
            if data[at] & CONTROL:
                raise _broken("a control frame is longer than 125 bytes")
            begin += 2 if size == 126 else 8
            if begin > end:
                return None
            size = _extended(data[at + 2 : begin])
        if self._masked:
            begin += 4
        return (begin, begin + size) if begin <= end else None

    def _continue(self, data: bytes, begin: int, *, start: bool = False) -> Part:
        """Take what there is of the payload of a data frame in progress."""
        stop = min(begin + self._left, len(data))
        payload = data[begin:stop]
        self._left -= len(payload)
        if self._mask:
            payload = apply_mask(payload, self._mask)
            turn = len(payload) % 4  # the next part goes on in the middle of the mask
            self._mask = self._mask[turn:] + self._mask[:turn]
        return self._first, payload, self._left, start, stop


def _extended(field: bytes) -> int:
    """The length in two or eight bytes; "the minimal number of bytes MUST be used" (RFC 6455, 5.2)."""
    size = int.from_bytes(field, "big")
    if size >> 63:
        raise _broken("the highest bit of a frame's length is set")
    if size <= (CONTROL_SIZE if len(field) == 2 else 0xFFFF):
        raise _broken("a frame's length is not in its shortest form")
    return size


def _broken(why: str) -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, why)


def _why_illegal(first: int) -> str:
    """Say what is wrong with a frame's first byte."""
    opcode = first & 0x0F
    if opcode not in _OPCODES:
        return f"opcode {opcode} is reserved"
    if opcode >= Opcode.CLOSE and not first & FIN:
        return "a control frame is fragmented"
    return "a reserved bit is set that no extension gave a meaning"


def encode(opcode: int, payload: bytes, *, fin: bool = True, mask: bytes | None = None) -> bytes:
    """Make one frame.

    Args:
        opcode: An ``Opcode``, with ``RSV1`` for a compressed message.
        payload: The frame's bytes, not masked.
        fin: False for a fragment that is not the message's last.
        mask: Four fresh random bytes in a client's frame (RFC 6455, 10.3), None in a server's.

    Raises:
        ValueError: A control frame over 125 bytes or not final, or a mask that is not four bytes.
    """
    size = len(payload)
    if opcode & CONTROL and (size > CONTROL_SIZE or not fin):
        raise ValueError(f"a control frame must be final and hold at most 125 bytes, not {size}")
    first = opcode | FIN if fin else opcode
    if mask is None:
        return _make_head(first, 0, size) + payload
    if len(mask) != 4:
        raise ValueError(f"a mask is four bytes, not {len(mask)}")
    return _make_head(first, MASKED, size) + mask + apply_mask(payload, mask)


def _make_head(first: int, masked: int, size: int) -> bytes:
    if size <= CONTROL_SIZE:
        return bytes((first, masked | size))
    if size <= 0xFFFF:
        return _HEAD_16(first, masked | 126, size)
    return _HEAD_64(first, masked | 127, size)


_HEAD_16 = struct.Struct(">BBH").pack
_HEAD_64 = struct.Struct(">BBQ").pack

# By Plain.encode(binary=...), since it runs for every message out.
_FIRST = (int(FIN | Opcode.TEXT), int(FIN | Opcode.BINARY))
_SHORT_HEADS = tuple(tuple(bytes((first, size)) for size in range(CONTROL_SIZE + 1)) for first in _FIRST)


class Plain:
    """The ``Form`` of a connection without extensions: one unmasked, unfragmented frame for each message."""

    __slots__ = ()
    shared = True

    def encode(self, payload: bytes, *, binary: bool) -> bytes:
        """Make the frame; ``payload`` of a text message is its UTF-8 encoding and is not checked."""
        size = len(payload)
        if size <= CONTROL_SIZE:
            return _SHORT_HEADS[binary][size] + payload
        return _make_head(_FIRST[binary], 0, size) + payload

    def prefix(self, size: int, *, binary: bool) -> bytes:
        """The frame's head."""
        return _make_head(_FIRST[binary], 0, size)


PLAIN = Plain()
"""The one instance: connections share encoded bytes by the identity of their form."""
