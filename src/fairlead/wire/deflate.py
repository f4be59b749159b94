"""permessage-deflate (RFC 7692): what a handshake agrees on, and messages deflated.

Without context takeover nothing is kept between messages: a connection at rest takes under 200 bytes more than one that
is not compressed, and one compressed frame serves all members of a room. With it a connection keeps a compressor of
38 KiB, made when it is first needed, and the last 4 KiB it received.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fairlead.message import Form
from fairlead.wire.extensions import Extension
from fairlead.wire.frames import PLAIN, RSV1, Opcode, encode
from fairlead.wire.inflate import Inflater

if TYPE_CHECKING:
    from zlib import _Compress

WINDOW_BITS = 12
"""Base-2 logarithm of the window we use and ask clients for: JSON of up to 16 KB gains at most 8 % by 32 KiB."""

MEMORY_LEVEL = 5
"""zlib's memory level; with the window above a compressor takes 38 KiB, with zlib's defaults 206 KiB."""

LEVEL = 1
"""zlib's level: JSON of 4 KB takes 25 µs, by zlib's default 41 for 8 % fewer bytes. Everybody waits that long."""

SHARED_SIZE = 128
"""Bytes from which a message is worth a frame compressed by itself: shorter ones lose less than a quarter."""

OWN_SIZE = 32
"""Bytes from which a message is worth it beside its predecessors. The packet around it has 66 of its own."""

_NAME = "permessage-deflate"
_LARGEST = 15
_BITS = frozenset(map(str, range(8, _LARGEST + 1)))  # "without leading zeroes" (RFC 7692, 7.1.2)
_LEGAL: Mapping[str, frozenset[str | None]] = {
    "server_no_context_takeover": frozenset((None,)),
    "client_no_context_takeover": frozenset((None,)),
    "server_max_window_bits": frozenset(_BITS),
    "client_max_window_bits": _BITS | {None},
}

_FLUSHED = b"\x00\x00\xff\xff"  # what a message ends with and does not send (RFC 7692, 7.2.1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """The parameters of one connection (RFC 7692, 7.1).

    Attributes:
        server_bits: Base-2 logarithm of our window at most, 8 to 12.
        client_bits: The same of the client's; 15 for a client that cannot be asked for less.
        server_takeover: Our messages may refer to those before them.
        client_takeover: The client's may.
    """

    server_bits: int
    client_bits: int
    server_takeover: bool
    client_takeover: bool

    def response(self) -> bytes:
        """The value of ``Sec-WebSocket-Extensions`` in the 101."""
        parts = [_NAME]
        if not self.server_takeover:
            parts.append("server_no_context_takeover")
        if not self.client_takeover:
            parts.append("client_no_context_takeover")
        parts.append(f"server_max_window_bits={self.server_bits}")
        if self.client_bits < _LARGEST:  # "MUST NOT include" what the offer did not have (RFC 7692, 7.1.2.2)
            parts.append(f"client_max_window_bits={self.client_bits}")
        return "; ".join(parts).encode()

    def form(self) -> Form:
        """The form of the connection's outgoing messages: one for all with the same parameters, or its own."""
        return OwnDeflate(self.server_bits) if self.server_takeover else shared_deflate(self.server_bits)

    def inflater(self) -> Inflater:
        """A new ``Inflater`` for the connection's incoming messages."""
        # Old releases of zlib compress with 512 bytes where they were told 256.
        return Inflater(1 << max(self.client_bits, 9) if self.client_takeover else 0)


def negotiate(offers: Iterable[Extension], *, takeover: bool) -> Agreement | None:
    """Accept the first offer that can be accepted; None: there is none, so the connection is not compressed.

    An offer with an unknown or repeated parameter or an illegal value is declined, and the next one is looked at
    (RFC 7692, 7.1); other extensions are passed over.

    Args:
        offers: What the client offers, in its order of preference.
        takeover: Let messages refer to earlier ones, at the price of memory, where the client can: not if it asks us
            not to, and its own only if they stay within our window.
    """
    for offer in offers:
        if offer.name == _NAME:
            asked = dict(offer.parameters)
            if len(asked) == len(offer.parameters) and all(map(_is_legal, asked.items())):
                return _accept(asked, takeover)
    return None


def _is_legal(parameter: tuple[str, str | None]) -> bool:
    name, value = parameter
    return value in _LEGAL.get(name, ())


def _accept(asked: Mapping[str, str | None], takeover: bool) -> Agreement:
    limited = "client_max_window_bits" in asked
    server_bits = min(int(asked.get("server_max_window_bits") or _LARGEST), WINDOW_BITS)
    return Agreement(
        server_bits=server_bits,
        client_bits=min(int(asked["client_max_window_bits"] or _LARGEST), WINDOW_BITS) if limited else _LARGEST,
        # A compressor with the smallest window looks at nothing before, see _compressor().
        server_takeover=takeover and server_bits > 8 and "server_no_context_takeover" not in asked,
        client_takeover=takeover and limited and "client_no_context_takeover" not in asked,
    )


class SharedDeflate:
    """Each message compressed by itself, so that its frame fits every connection with the same window.

    What is short, or would not become shorter, is not compressed (RFC 7692, 6: the first frame says which).
    """

    __slots__ = ("_bits",)
    shared = True

    def __init__(self, bits: int) -> None:
        self._bits = bits

    def encode(self, payload: bytes, *, binary: bool) -> bytes:
        """Make the frame. Nothing of a message outlives the call: its length must tell nothing about others."""
        if len(payload) >= SHARED_SIZE:
            data = _deflate(_compressor(self._bits), payload)
            if len(data) < len(payload):
                return _frame(data, binary)
        return PLAIN.encode(payload, binary=binary)

    def prefix(self, size: int, *, binary: bool) -> bytes | None:
        """The frame's head, where nothing is compressed."""
        return PLAIN.prefix(size, binary=binary) if size < SHARED_SIZE else None


@cache
def shared_deflate(bits: int) -> SharedDeflate:
    """The one form for a window: connections share encoded bytes by the identity of their form."""
    return SharedDeflate(bits)


class OwnDeflate:
    """The messages of one connection, compressed with what it got before in mind.

    Its frames are for this connection, once, and in the order in which they were made.
    """

    __slots__ = ("_bits", "_compressor")
    shared = False

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._compressor: _Compress | None = None

    def encode(self, payload: bytes, *, binary: bool) -> bytes:
        """Make the frame, which must be sent."""
        if len(payload) < OWN_SIZE:
            return PLAIN.encode(payload, binary=binary)
        if self._compressor is None:
            self._compressor = _compressor(self._bits)
        return _frame(_deflate(self._compressor, payload), binary)

    def prefix(self, size: int, *, binary: bool) -> bytes | None:
        """The frame's head, where nothing is compressed."""
        return PLAIN.prefix(size, binary=binary) if size < OWN_SIZE else None


def _compressor(bits: int) -> _Compress:
    if bits > 8:
        return zlib.compressobj(LEVEL, zlib.DEFLATED, -bits, MEMORY_LEVEL)
    # zlib makes no raw stream with a window of 256 bytes. Huffman codes alone refer to nothing, so they fit any.
    return zlib.compressobj(LEVEL, zlib.DEFLATED, -9, MEMORY_LEVEL, zlib.Z_HUFFMAN_ONLY)


def _deflate(compressor: _Compress, payload: bytes) -> bytes:
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED)


def _frame(data: bytes, binary: bool) -> bytes:
    return encode(RSV1 | (Opcode.BINARY if binary else Opcode.TEXT), data)
