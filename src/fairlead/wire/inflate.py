"""Messages of permessage-deflate (RFC 7692) inflated: bytes in as they come, never more out than the limit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from fairlead.errors import CloseCode, ProtocolError

if TYPE_CHECKING:
    from zlib import _Decompress

PIECE = 32 * 1024
"""Bytes inflated at once; zlib's output buffer is never larger."""

STREAMS = 100
"""DEFLATE streams in one message. Honest clients send one or none with an end, and each costs a setup."""

_WINDOW_BITS = 15  # the largest

# RFC 7692, 7.2.2: the bytes that end a message and are not sent; then a final empty block, which only a whole message
# lets zlib find.
_END = b"\x00\x00\xff\xff\x03\x00"


class Inflater:
    """Inflate one connection's messages, one after the other, as their bytes come.

    A message is a DEFLATE stream without an end, or several: a block with BFINAL set ends one, and what follows is the
    next, which may refer to all before it (RFC 7692, 7.2.1). Beyond the rules two habits of clients are let pass: no
    bytes at all are an empty message, and nothing needs to follow a final block.

    Args:
        window: Bytes of earlier messages that a message may refer to; 0 without takeover.

    Attributes:
        inflated: Bytes inflated so far, for the caller to reset.
    """

    __slots__ = ("_kept", "_stream", "_streams", "_window", "inflated")

    def __init__(self, window: int = 0) -> None:
        self._window = window
        self._kept = b""  # of earlier messages; a zlib stream that waits for the next one takes 11 KiB to keep 4
        self._stream: _Decompress | None = None
        self._streams = 0
        self.inflated = 0

    def inflate(self, data: bytes, output: bytearray, *, limit: int, last: bool) -> None:
        """Inflate some bytes of a message.

        Args:
            data: The next bytes of the message's frames.
            output: The message so far, which this adds to.
            limit: Bytes of the message at most. ``output`` exceeds it by one when that is found out, never by more.
            last: Whether these are the message's last bytes.

        Raises:
            ProtocolError: This is not DEFLATE, or ends in the middle of it (1007); the message exceeds ``limit``
                (1009); it has more than ``STREAMS`` streams (1008). Nothing after this can be inflated.
        """
        before = len(output)
        self._run(data, output, limit)
        self.inflated += len(output) - before
        if last:
            self._finish(output, limit)

    def _run(self, data: bytes, output: bytearray, limit: int) -> None:
        stream = self._stream
        more = bool(data)
        while more:
            if stream is None:
                stream = self._open(output)
            room = limit - len(output)
            size = min(room + 1, PIECE)
            try:
                piece = stream.decompress(data, size)
            except zlib.error as error:
                raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message is not DEFLATE") from error
            output += piece
            if len(piece) > room:
                raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {limit} bytes")
            if stream.eof:
                data, stream = stream.unused_data, None
                more = bool(data)
            else:
                # zlib holds back output when it filled what it may, even if it has taken all of the input.
                data, more = stream.unconsumed_tail, len(piece) == size
        self._stream = stream

    def _finish(self, output: bytearray, limit: int) -> None:
        if self._stream is not None:
            size = len(output)
            self._run(_END, output, limit)
            if self._stream is not None or len(output) > size:
                raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message is cut short")
        self._streams = 0
        if self._window:
            self._kept = (self._kept + output[-self._window :])[-self._window :]

    def _open(self, output: bytearray) -> _Decompress:
        self._streams += 1
        if self._streams > STREAMS:
            raise ProtocolError(CloseCode.POLICY_VIOLATION, f"a compressed message of more than {STREAMS} streams")
        # Always the largest window, held only while a message is on its way: with a smaller one zlib finds a reference
        # too far back or not depending on how the bytes were cut.
        before = (self._kept + output[-(1 << _WINDOW_BITS) :])[-(1 << _WINDOW_BITS) :]
        return zlib.decompressobj(-_WINDOW_BITS, before) if before else zlib.decompressobj(-_WINDOW_BITS)
