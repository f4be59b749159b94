"""The reader of frames and messages: any bytes, cut anywhere, on either side.

The first three bytes choose: side and limits, and two places to cut. The rest is what arrives.

Documented are the events of ``MessageReader.feed`` and no exception. Of these a Close or a Failure is the last one
ever, a Close has a code that may be sent, a Failure one of four, a message is within its limit and a control frame
within 125 bytes, and the pieces give the same events as the whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from random import Random

from fuzzing.frames import mutate_frames
from fuzzing.harness import Mutation, cut, require

from fairlead.errors import CloseCode
from fairlead.wire.frames import FIN, encode
from fairlead.wire.messages import (
    Close,
    Event,
    Failure,
    MessageReader,
    More,
    Ping,
    Pong,
    answer_payload,
    close_payload,
    read_close,
)

LENGTH = 256
CLIENT, LARGE = 1, 2  # bits of the first byte

_CODES = frozenset(
    {CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.POLICY_VIOLATION, CloseCode.MESSAGE_TOO_BIG}
)
_PROBE = encode(FIN | 1, b"?", mask=bytes(4))


def check(data: bytes) -> None:
    """One conversation, whole and in pieces."""
    if len(data) < 3:
        return
    option, stream = data[0], data[3:]
    client = bool(option & CLIENT)
    size, count = (70_000, 64) if option & LARGE else (130, 4)

    def read(pieces: Iterable[bytes]) -> list[Event]:
        return read_all(MessageReader(message_size=size, fragment_count=count, client=client), pieces)

    events = read((stream,))
    check_events(events, size)
    require(read(cut(stream, data[1], data[2])) == events, "cutting the bytes changes the events")


def read_all(reader: MessageReader, pieces: Iterable[bytes], *, most: int = sys.maxsize) -> list[Event]:
    """All events but ``More``, of which one call gives ``most`` bytes, and nothing more after the last one."""
    events: list[Event] = []
    for piece in pieces:
        some = reader.feed(piece)
        while some and type(some[-1]) is More:
            require(_size(some) <= most, "too much at once")
            events += some[:-1]
            some = reader.feed(b"")
        require(_size(some) <= most, "too much at once")
        events += some
    if events and isinstance(events[-1], Close | Failure):
        require(not reader.feed(_PROBE), "something comes after the last event")
    return events


def _size(events: Sequence[Event]) -> int:
    return sum([len(event) for event in events if isinstance(event, str | bytes)])


def check_events(events: list[Event], size: int) -> None:
    """Raise a Finding for an event that is not as documented."""
    last = len(events) - 1
    for index, event in enumerate(events):
        if type(event) is str:
            require(len(event.encode()) <= size, "a text over the limit")
        elif type(event) is bytes:
            require(len(event) <= size, "a binary message over the limit")
        elif type(event) is Ping or type(event) is Pong:
            require(len(event.payload) <= 125, "a control frame over its limit")
        else:
            require(index == last, "an event after the last one")
            require(isinstance(event, Close | Failure), "an undocumented event")
            assert isinstance(event, Close | Failure)
            _check_last(event)


def _check_last(event: Close | Failure) -> None:
    if isinstance(event, Close):
        require(read_close(close_payload(event.code, event.reason)) == event, "a Close that cannot be sent")
        require(read_close(answer_payload(event.code)).code == event.code, "a Close that is not answered by its code")
    else:
        require(event.code in _CODES, "an undocumented close code")
        close_payload(event.code, event.reason)


def seeds() -> list[bytes]:
    """Sound and broken conversations, to a server and to a client."""
    euro = "€𝄞".encode()
    conversations = [
        [(0x81, b"hello"), (0x82, b"\x00\xff"), (0x89, b"ping"), (0x8A, b""), (0x88, b"\x03\xe8bye")],
        [(0x01, euro[:2]), (0x89, b""), (0x00, euro[2:4]), (0x80, euro[4:])],
        [(0x01, b"\xed"), (0x80, b"\xa0\x80")],
        [(0x02, b"a" * 126), (0x00, b""), (0x00, b"b" * 4), (0x80, b""), (0x88, b"")],
        [(0x82, b"c" * 130), (0x81, b"d" * 126), (0x81, b"e" * 125), (0x82, b"f" * 131)],
        [(0x02, b"")] + [(0x00, b"g")] * 4,
        [(0x88, b"\x03")],
        [(0x88, b"\x03\xed")],
        [(0x88, b"\x0b\xb8\xe2\x82")],
        [(0x80, b"h")],
        [(0x01, b"i"), (0x81, b"j")],
        [(0xC1, b"k")],
        [(0x83, b"l")],
        [(0x09, b"m")],
        [(0x89, b"n" * 126)],
    ]
    heads = [b"\x82\xff" + b"\x7f" + b"\xff" * 11, b"\x82\xff\x80" + bytes(11), b"\x82\xfe\x00\x7d" + bytes(9)]
    found = []
    for at, conversation in enumerate(conversations):
        for client in (0, CLIENT):
            mask = None if client else bytes((at, 0, 7 * at, 0))
            frames = b"".join(_frame(first, payload, mask) for first, payload in conversation)
            found += [bytes((client, 0, 0)) + frames, bytes((client | LARGE, 5, 9)) + frames]
    return found + [bytes((0, 3, 7)) + head for head in heads]


def _frame(first: int, payload: bytes, mask: bytes | None) -> bytes:
    return bytes((first,)) + encode(2, payload, mask=mask)[1:]


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes, or whole frames."""
    return mutate_frames(data, random, mutation, prefix=3)
