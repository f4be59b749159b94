"""permessage-deflate: what is agreed on, messages inflated within their bounds, and messages deflated.

The first three bytes choose: a part, its options, and two places to cut.

* A conversation with compressed messages, as in ``messages``, through an ``InflatingReader``.
* Two messages for one ``Inflater``: documented are the message, of at most the limit, or a ``ProtocolError`` with
  1007, 1008 or 1009, with one byte over the limit at most. zlib at once must say the same, as must any pieces; only
  what is broken and too large may fail with 1007 or 1009.
* A line of extensions and a payload: documented are a ``ValueError`` for the line, no agreement, or one that zlib on
  the other side, held to its terms, can live with: it reads our messages and we read its.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from random import Random
from typing import TypeVar

from fuzzing.frames import Frame, join, mutate_frames, split
from fuzzing.harness import Mutation, cut, require
from fuzzing.targets.messages import check_events, read_all

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire.deflate import Agreement, negotiate
from fairlead.wire.extensions import parse_extensions
from fairlead.wire.frames import encode
from fairlead.wire.inflate import Inflater
from fairlead.wire.messages import INFLATED_SIZE, Event, Failure, InflatingReader

LENGTH = 256
CLIENT, LARGE, WINDOW = 1, 2, 4  # bits of the first byte, as are the parts: 0 is the conversation
INFLATE, AGREE = 0x10, 0x20

_END, _FINAL = b"\x00\x00\xff\xff", b"\x03\x00"  # what a message is sent without, and an empty final block
_CODES = frozenset({CloseCode.INVALID_DATA, CloseCode.POLICY_VIOLATION, CloseCode.MESSAGE_TOO_BIG})


def check(data: bytes) -> None:
    """One input, whole and in pieces."""
    if len(data) < 3:
        return
    option = data[0]
    if option & AGREE:
        _check_agreement(data[3:], takeover=bool(option & 1))
    elif option & INFLATE:
        _check_inflater(data)
    else:
        _check_reader(data)


def _check_reader(data: bytes) -> None:
    option, stream = data[0], data[3:]
    client = bool(option & CLIENT)
    size, count = (70_000, 64) if option & LARGE else (300, 4)
    window = 4096 if option & WINDOW else 0

    def read(pieces: Iterable[bytes]) -> list[Event]:
        reader = InflatingReader(Inflater(window), message_size=size, fragment_count=count, client=client)
        return read_all(reader, pieces, most=len(stream) + INFLATED_SIZE + size)

    events = read((stream,))
    check_events(events, size)
    require(_codes(read(cut(stream, data[1], data[2]))) == _codes(events), "cutting the bytes changes the events")


def _codes(events: list[Event]) -> list[Event | CloseCode]:
    """A failure by its code, and one code for two of them: see ``_alike``."""
    return [_alike(event.code) if type(event) is Failure else event for event in events]


T = TypeVar("T")


def _alike(outcome: T) -> T | CloseCode:
    """What breaks two rules fails for either: zlib reports an error at once and gives none of the bytes before it."""
    return CloseCode.INVALID_DATA if outcome is CloseCode.MESSAGE_TOO_BIG else outcome


def _check_inflater(data: bytes) -> None:
    """Two messages, so that the second can refer to the first."""
    option, first, second, messages = data[0], data[1], data[2], data[3:]
    limit = 70_000 if option & LARGE else 300
    at = messages[0] % len(messages) if messages else 0
    whole, pieces = Inflater(window := 1024 if option & WINDOW else 0), Inflater(window)
    kept = b""
    for message in (messages[1:at], messages[at:]):
        outcome = _inflate(whole, [message], limit)
        outcomes = (outcome, _inflate(pieces, cut(message, first, second), limit))
        require(_alike(outcomes[0]) == _alike(outcomes[1]), "cutting changes the outcome")
        for each in outcomes:
            _compare(message, kept, each, limit)
        if isinstance(outcome, CloseCode):
            return
        kept = (kept + outcome)[-window:] if window else b""


def _inflate(inflater: Inflater, pieces: list[bytes], limit: int) -> bytes | CloseCode:
    output = bytearray()
    last = len(pieces) - 1
    try:
        for index, piece in enumerate(pieces):
            inflater.inflate(piece, output, limit=limit, last=index == last)
        if last < 0:
            inflater.inflate(b"", output, limit=limit, last=True)
    except ProtocolError as error:
        require(error.close_code in _CODES, "an undocumented close code")
        require(len(output) <= limit + 1, "more inflated than the limit and one byte")
        return error.close_code
    require(len(output) <= limit, "a message over the limit")
    return bytes(output)


def _compare(message: bytes, kept: bytes, outcome: bytes | CloseCode, limit: int) -> None:
    """Compare with zlib's own verdict, but for messages that have a final block already."""
    if not message:
        require(outcome == b"", "no bytes are no empty message")
        return
    stream = zlib.decompressobj(-15, kept)
    try:
        output = stream.decompress(message)
        whole = not stream.decompress(b"" if stream.eof else _END + _FINAL) and stream.eof
        if stream.unused_data:
            return
    except zlib.error:
        whole = False
    if not whole:
        require(isinstance(outcome, CloseCode), "what is not DEFLATE, or not all of it, is a message")
    elif len(output) > limit:
        require(outcome is CloseCode.MESSAGE_TOO_BIG, "a message is too big")
    else:
        require(outcome == output, "inflated to something else")


def _check_agreement(data: bytes, *, takeover: bool) -> None:
    line, _, payload = data.partition(b"\n")
    try:
        offers = parse_extensions([line])
    except ValueError:
        return
    agreement = negotiate(offers, takeover=takeover)
    if agreement is None:
        return
    names = {name for offer in offers for name, _ in offer.parameters}
    (answer,) = parse_extensions([agreement.response()])
    require(answer.name == "permessage-deflate", "another extension is answered")
    for name, value in answer.parameters:
        require(name != "client_max_window_bits" or name in names, "the client's window was not offered")
        require(value is None or 8 <= int(value) <= 15, "a window that is none")
    require(agreement.server_bits <= 12, "a window larger than ours")
    require(takeover or not (agreement.server_takeover or agreement.client_takeover), "takeover against our will")
    _check_ours(agreement, payload)
    _check_theirs(agreement, payload)


def _check_ours(agreement: Agreement, payload: bytes) -> None:
    """The client reads us with no larger a window than agreed on (zlib's smallest raw one has 512 bytes)."""
    window = 1 << max(agreement.server_bits, 9) if agreement.server_takeover else 0
    reader = InflatingReader(Inflater(window), message_size=1 << 20, fragment_count=1, client=True)
    form = agreement.form()
    sent = [payload, b"", payload]
    frames = b"".join(form.encode(each, binary=True) for each in sent)
    require(read_all(reader, (frames,)) == sent, "our messages are read as something else")


def _check_theirs(agreement: Agreement, payload: bytes) -> None:
    """We read a client that makes the most of what was agreed on."""
    sent = [payload, payload]
    frames, compressor = b"", None
    for each in sent:
        if compressor is None or not agreement.client_takeover:
            compressor = zlib.compressobj(6, zlib.DEFLATED, -max(agreement.client_bits, 9), 1)
        data = (compressor.compress(each) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_END)
        frames += encode(0x42, data, mask=b"mask")
    reader = InflatingReader(agreement.inflater(), message_size=1 << 20, fragment_count=1)
    require(read_all(reader, (frames,)) == sent, "the client's messages are read as something else")


def seeds() -> list[bytes]:
    """Good, broken and greedy streams in frames and alone, and offers."""
    streams = [
        _deflate(b"hello"),
        _deflate("€𝄞".encode() * 30),
        _deflate(b"hello", flush=zlib.Z_FINISH),
        _deflate(b"hello", flush=zlib.Z_FINISH) + b"\x00",
        _deflate(b"hel", flush=zlib.Z_FINISH) + _deflate(b"lo"),
        _deflate(bytes(300)),
        _deflate(bytes(301)),
        _deflate(bytes(70_000)),
        _deflate(bytes(70_001)),
        _deflate(bytes(range(256)), level=0),
        _deflate(bytes(range(200)))[:-9],
        b"\x03\x00" * 101,
        _deflate(bytes(301), level=0)[:-1] + b"\xff\xff",  # too large, and broken just there
        _deflate(bytes(300))[:-1] + b"\xff\xff",
        b"c`\x06",  # a final block that ends with what is not sent
        b"\x07",
        b"\x02\x0c\x41\x00",  # a reference 16 KiB back
        b"",
    ]
    found = []
    for stream in streams:
        half = len(stream) // 2
        for first in (0xC1, 0xC2):
            frames: list[Frame] = [(first, bytes(4), stream), (0x81, bytes(4), b"plain"), (first, bytes(4), stream)]
            fragments: list[Frame] = [
                (first & 0x7F, None, stream[:half]),
                (0x89, None, b""),
                (0x80, None, stream[half:]),
            ]
            found += [
                bytes((LARGE | WINDOW, 3, 9)) + join(frames),
                bytes((LARGE if first == 0xC1 else 0, 0, 0)) + join(frames),
                bytes((CLIENT | (LARGE if first == 0xC2 else 0), 4, 8)) + join(fragments),
            ]
        at = bytes((min(half + 1, 255),))
        found += [bytes((INFLATE | option, 2, 5)) + at + stream for option in (0, LARGE, WINDOW | LARGE)]
        found.append(bytes((INFLATE | WINDOW | LARGE, 2, 5, min(len(stream) + 1, 255))) + stream + stream)
    return found + _offers()


def _offers() -> list[bytes]:
    parameters = [
        b"",
        b"; client_max_window_bits",
        b"; client_max_window_bits=8; server_max_window_bits=8",
        b'; server_max_window_bits="10"; client_max_window_bits=15',
        b'; server_max_window_bits=12; client_max_window_bits="10"',
        b"; server_no_context_takeover; client_no_context_takeover",
        b"; server_max_window_bits=16, permessage-deflate",
        b"; unknown, x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
    ]
    payload = b'\n{"type":"publish","room":"a","data":' + b"[1,2]" * 30 + b"}"
    return [
        bytes((AGREE | own, 0, 0)) + b"permessage-deflate" + each + payload for each in parameters for own in (0, 1)
    ]


def _deflate(data: bytes, *, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH, strategy: int = 0) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -12, 1, strategy)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(_END)


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes or whole frames, or, in one case of four, what a compressed payload says."""
    if len(data) < 4 or data[0] & AGREE:
        return mutation(data)
    if random.random() > 0.25:
        return mutation(data) if data[0] & INFLATE else mutate_frames(data, random, mutation, prefix=3)
    if data[0] & INFLATE:
        return data[:4] + _mutate_message(data[4:], random, mutation)
    frames = split(data[3:])
    if not frames:
        return mutation(data)
    at = int(random.random() * len(frames))
    first, mask, payload = frames[at]
    frames[at] = (
        first & 0x80 | random.choice((0x41, 0x42)),
        mask and bytes(4),
        _mutate_message(payload, random, mutation),
    )
    return data[:3] + join(frames)


def _mutate_message(payload: bytes, random: Random, mutation: Mutation) -> bytes:
    try:
        message = zlib.decompressobj(-15).decompress(payload, 1000)
    except zlib.error:
        message = payload
    message = mutation(message)
    flush = random.choice((zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH))
    return _deflate(message, level=random.choice((0, 1, 6)), flush=flush, strategy=random.choice((0, 2, 3, 4)))
