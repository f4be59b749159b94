"""Properties of the wire: every cut of the bytes gives the same events, and the same ones as a slow, plain model.

``FAIRLEAD_EXAMPLES`` sets how many examples each property gets.
"""

from __future__ import annotations

import os
import zlib
from functools import partial
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.wire.extensions import parse_extensions
from fairlead.wire.frames import PLAIN, RSV1, Opcode, encode
from fairlead.wire.heads import Head
from fairlead.wire.inflate import Inflater
from fairlead.wire.masking import apply_mask, xor_mask
from fairlead.wire.messages import (
    Close,
    Event,
    Failure,
    InflatingReader,
    MessageReader,
    More,
    Ping,
    Pong,
    close_payload,
)
from fairlead.wire.opening import Opening, Refusal, judge, open_head, parse_head

EXAMPLES = int(os.environ.get("FAIRLEAD_EXAMPLES", "25"))
examples = settings(derandomize=True, deadline=None, max_examples=EXAMPLES)

SIZE, COUNT = 300, 4
CODES = {*range(1000, 1016), *range(3000, 5000)} - {1004, 1005, 1006, 1015}


# The model: RFC 6455 to the letter, over all bytes at once.


class Broken(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


def require(rule: bool, code: int = 1002) -> None:
    if not rule:
        raise Broken(code)


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def may_become_text(data: bytes) -> bool:
    """Whether anything can follow that makes the bytes UTF-8, found by trying: the ends of all ranges will do."""
    tails = [b""]
    for _ in range(4):
        if any(is_text(data + tail) for tail in tails):
            return True
        tails = [tail + bytes([byte]) for tail in tails for byte in (0x80, 0x90, 0xBF)]
    return False


def model(data: bytes, *, client: bool = False) -> list[Event | int]:
    """What all of ``data`` must give; a failure is its code."""
    events: list[Event | int] = []
    try:
        model_frames(data, client, events)
    except Broken as broken:
        events.append(broken.code)
    return events


def model_frames(data: bytes, client: bool, events: list[Event | int]) -> None:
    kind, joined, count = 0, b"", 0
    while data:
        fin, opcode = data[0] >> 7, data[0] & 15
        require(not data[0] & 0x70 and opcode in (0, 1, 2, 8, 9, 10) and (opcode < 8 or fin == 1))
        if len(data) < 2:
            return
        masked, short = divmod(data[1], 128)
        require(masked != client and (opcode < 8 or short < 126))
        more = {126: 2, 127: 8}.get(short, 0)
        begin = 2 + more
        if len(data) < begin:
            return
        size = int.from_bytes(data[2:begin], "big") if more else short
        require(size < 2**63 and size >= {0: 0, 2: 126, 8: 65536}[more])
        begin += 4 * masked
        if len(data) < begin:
            return
        mask = data[begin - 4 : begin] if masked else bytes(4)
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data[begin : begin + size]))
        data = data[begin + size :]
        whole = len(payload) == size
        if opcode > 7:
            if not whole:
                return
            if opcode == 8:
                events.append(model_close(payload))
                return
            events.append(Ping(payload) if opcode == 9 else Pong(payload))
            continue
        require((opcode == 0) == (kind != 0))
        kind, joined, count = kind or opcode, joined + payload, count + 1
        require(count <= COUNT, 1008)
        require(len(joined) - len(payload) + size <= SIZE, 1009)
        done = whole and fin
        require(kind == 2 or (is_text(joined) if done else may_become_text(joined)), 1007)
        if done:
            events.append(joined.decode() if kind == 1 else joined)
            kind, joined, count = 0, b"", 0


def model_close(payload: bytes) -> Close:
    code = int.from_bytes(payload[:2], "big") if payload else 1005
    require(not payload or (len(payload) > 1 and code in CODES))
    require(is_text(payload[2:]), 1007)
    return Close(code, payload[2:].decode())


# What is sent: sound conversations, which then may be damaged, and frames at random.

texts = partial(st.text, "a\0é€\ud7ff\U0010ffff")  # one to four bytes each; all of Unicode takes seconds to set up
masks = st.binary(min_size=4, max_size=4)
short_texts = texts(max_size=12).map(str.encode)
payloads = st.one_of(
    short_texts,
    st.binary(max_size=12),
    st.sampled_from(
        [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", "€".encode() * 50, b"\x03\xe8\xff", b"\x03\xed"]
    ),
    st.sampled_from([125, 126, 127, 150, 300, 301]).map(bytes),
)
damaged_firsts = st.one_of(st.sampled_from([0x00, 0x01, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]), st.integers(0, 255))


@st.composite
def random_frames(draw: st.DrawFn) -> bytes:
    frame = encode(Opcode.TEXT, draw(payloads), mask=draw(st.one_of(masks, masks, masks, st.none())))
    return bytes([draw(damaged_firsts)]) + frame[1:]


@st.composite
def control_frames(draw: st.DrawFn) -> bytes:
    return encode(draw(st.sampled_from([Opcode.PING, Opcode.PONG])), draw(st.binary(max_size=8)), mask=draw(masks))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One message, cut in the middle of characters too, into at most one fragment too many; pings between them."""
    opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.BINARY]))
    payload = draw(short_texts if opcode == Opcode.TEXT else payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=COUNT)))
    pieces = [payload[begin:end] for begin, end in pairwise([0, *cuts, len(payload)])]
    wire = b""
    for index, piece in enumerate(pieces):
        wire += encode(Opcode.CONTINUATION if index else opcode, piece, fin=index == len(cuts), mask=draw(masks))
        wire += draw(st.one_of(st.just(b""), control_frames()))
    return wire


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Mostly sound: the beginning of some messages, perhaps with one byte changed."""
    wire = b"".join(draw(st.lists(st.one_of(messages(), messages(), random_frames()), max_size=4)))
    if wire and draw(st.booleans()):
        at = draw(st.integers(0, len(wire) - 1))
        wire = wire[:at] + bytes([draw(st.integers(0, 255))]) + wire[at + 1 :]
    return wire[: draw(st.integers(0, len(wire)))] if draw(st.booleans()) else wire


def reader(*, client: bool = False) -> MessageReader:
    return MessageReader(message_size=SIZE, fragment_count=COUNT, client=client)


def read(data: bytes, *, cuts: list[int], client: bool = False) -> list[Event | int]:
    """What the reader makes of ``data`` that arrives in pieces; a failure is its code."""
    to = reader(client=client)
    pieces = [
        data[begin:end] for begin, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)])
    ]
    events = [event for piece in pieces for event in to.feed(piece)]
    assert list(to.feed(b"")) == []
    return [event.code if isinstance(event, Failure) else event for event in events]


some_cuts = st.lists(st.integers(0, 10_000), max_size=6)


@examples
@given(conversations(), some_cuts)
def test_accepts_and_refuses_exactly_what_the_model_does_however_cut(data: bytes, cuts: list[int]) -> None:
    expected = model(data)
    assert read(data, cuts=[]) == expected
    assert read(data, cuts=cuts) == expected
    assert read(data, cuts=list(range(len(data)))) == expected


@examples
@given(st.lists(random_frames(), max_size=3).map(b"".join), some_cuts, st.booleans())
def test_frames_at_random_are_judged_as_by_the_model(data: bytes, cuts: list[int], client: bool) -> None:
    assert read(data, cuts=cuts, client=client) == model(data, client=client)


@examples
@given(st.binary(max_size=40), some_cuts)
def test_bytes_at_random_are_judged_as_by_the_model(data: bytes, cuts: list[int]) -> None:
    assert read(data, cuts=cuts) == model(data)


@examples
@given(st.binary(max_size=6), st.binary(max_size=3), st.integers(1, 6))
def test_text_in_one_half_arrived_frame_fails_exactly_when_nothing_can_mend_it(
    begun: bytes, mask: bytes, left: int
) -> None:
    frame = encode(Opcode.TEXT, begun + bytes(left), mask=mask.ljust(4, b"\0"))
    assert read(frame[:-left], cuts=[]) == ([] if may_become_text(begun) else [1007])


def test_every_pair_of_bytes_is_known_for_text_or_not() -> None:
    edges = (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    for pair in (bytes([first, second]) for first in range(0x7F, 0x100) for second in edges):
        frame = encode(Opcode.TEXT, pair, fin=False, mask=bytes(4))
        assert read(frame, cuts=[]) == ([] if may_become_text(pair) else [1007]), pair


@examples
@given(st.lists(st.one_of(texts(max_size=SIZE // 4), st.binary(max_size=SIZE)), max_size=4), masks, some_cuts)
def test_what_is_encoded_is_read_back(sent: list[str | bytes], mask: bytes, cuts: list[int]) -> None:
    out = [(item if isinstance(item, bytes) else item.encode(), isinstance(item, bytes)) for item in sent]
    from_client = b"".join(
        encode(Opcode.BINARY if binary else Opcode.TEXT, payload, mask=mask) for payload, binary in out
    )
    from_server = b"".join(PLAIN.encode(payload, binary=binary) for payload, binary in out)
    assert read(from_client, cuts=cuts) == sent
    assert read(from_server, cuts=cuts, client=True) == sent


@examples
@given(st.sampled_from(sorted(CODES)), texts(max_size=130))
def test_every_close_payload_is_legal(code: int, reason: str) -> None:
    events = read(encode(Opcode.CLOSE, close_payload(code, reason), mask=bytes(4)), cuts=[])
    assert isinstance(close := events[0], Close)
    assert close.code == code
    assert reason.startswith(close.reason)
    assert len(reason.encode()) <= 123 or len(close.reason.encode()) > 119


# Compressed messages.


@st.composite
def compressed_conversations(draw: st.DrawFn, *, window: int) -> tuple[list[str | bytes], bytes]:
    """Messages and their frames; what each may refer to, where they are cut and how they are flushed is drawn."""
    sent: list[str | bytes] = []
    wire = kept = b""
    flushes = st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK])
    for payload in draw(
        st.lists(st.one_of(texts(max_size=60), st.binary(max_size=200), st.just("€" * 70)), max_size=4)
    ):
        sent.append(payload)
        data = payload if isinstance(payload, bytes) else payload.encode()
        opcode: int = Opcode.BINARY if isinstance(payload, bytes) else Opcode.TEXT
        if draw(st.booleans()):
            at = draw(st.integers(0, len(data)))
            level = draw(st.sampled_from([0, 1, 9]))
            compressor = (
                zlib.compressobj(level, zlib.DEFLATED, -12, zdict=kept) if kept else zlib.compressobj(level, 8, -12)
            )
            body = compressor.compress(data[:at]) + compressor.flush(draw(flushes))
            body += compressor.compress(data[at:]) + compressor.flush(zlib.Z_SYNC_FLUSH)
            body = body.removesuffix(b"\0\0\xff\xff")
            opcode |= RSV1
            kept = (kept + data)[-window:] if window else b""
        else:
            body = data
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=COUNT - 1)))
        for index, (begin, end) in enumerate(pairwise([0, *cuts, len(body)])):
            first = Opcode.CONTINUATION if index else opcode
            wire += encode(first, body[begin:end], fin=index == len(cuts), mask=draw(masks))
    return sent, wire


def inflate(data: bytes, *, window: int, cuts: list[int]) -> list[Event | int]:
    """What the reader makes of ``data`` that arrives in pieces; a failure is its code."""
    to = InflatingReader(Inflater(window), message_size=SIZE, fragment_count=COUNT)
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events = [event for begin, end in pairwise([0, *ends]) for event in to.feed(data[begin:end])]
    while events and events[-1] == More():
        events += to.feed(b"")
    return [event.code if isinstance(event, Failure) else event for event in events if event != More()]


@examples
@given(st.data(), st.sampled_from([0, 512, 4096]), some_cuts)
def test_compressed_messages_are_read_however_cut(data: st.DataObject, window: int, cuts: list[int]) -> None:
    sent, wire = data.draw(compressed_conversations(window=window))
    assert inflate(wire, window=window, cuts=[]) == sent
    assert inflate(wire, window=window, cuts=cuts) == sent
    assert inflate(wire, window=window, cuts=list(range(len(wire)))) == sent


@examples
@given(st.data(), some_cuts, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_compressed_messages_are_judged_alike_however_cut(
    data: st.DataObject, cuts: list[int], damages: list[tuple[int, int]]
) -> None:
    _, wire = data.draw(compressed_conversations(window=4096))
    damaged = bytearray(wire)
    for at, byte in damages:
        if damaged:
            damaged[at % len(damaged)] = byte
    expected = inflate(bytes(damaged), window=4096, cuts=[])
    assert inflate(bytes(damaged), window=4096, cuts=cuts) == expected
    assert inflate(bytes(damaged), window=4096, cuts=list(range(len(damaged)))) == expected


@examples
@given(st.binary(max_size=60), masks, st.booleans(), some_cuts)
def test_bytes_at_random_are_inflated_alike_however_cut(data: bytes, mask: bytes, text: bool, cuts: list[int]) -> None:
    wire = encode(RSV1 | (Opcode.TEXT if text else Opcode.BINARY), data, mask=mask)
    expected = inflate(wire, window=512, cuts=[])
    assert inflate(wire, window=512, cuts=cuts) == expected
    assert inflate(wire, window=512, cuts=list(range(len(wire)))) == expected


@examples
@given(st.text('ab;=,"\\ \t0é', max_size=12))
def test_extensions_are_read_or_refused_and_mean_the_same_when_written_again(value: str) -> None:
    try:
        offers = parse_extensions([value.encode()])
    except ValueError:
        return
    parts = (["".join((name, "" if given is None else f'="{given}"')) for name, given in each[1]] for each in offers)
    written = [";".join((offer.name, *part)).encode() for offer, part in zip(offers, parts, strict=True)]
    assert parse_extensions(written) == offers


@examples
@given(st.binary(max_size=300), masks)
def test_masking_twice_is_nothing(data: bytes, mask: bytes) -> None:
    assert apply_mask(data, mask) == xor_mask(data, mask)
    assert xor_mask(xor_mask(data, mask), mask) == data


HEAD = (
    b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: a, b\r\nX-Any: c\r\n\r\n"
)


@examples
@given(st.integers(0, len(HEAD)), st.integers(0, 3), st.binary(max_size=3))
def test_a_damaged_head_is_refused_or_opened_and_answered_without_its_bytes(at: int, lost: int, put: bytes) -> None:
    data = HEAD[:at] + put + HEAD[at + lost :]
    head = parse_head(data)
    verdict = judge(*head) if isinstance(head, Head) else head
    response = verdict.response()
    status = 101 if isinstance(verdict, Opening) else verdict.status
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert status in {101, 400, 405, 426, 505}
    if isinstance(verdict, Refusal):
        assert response.endswith(b"\r\n\r\n" + verdict.body)
        assert response.count(b"\r\n\r\n") == 1
    opened = isinstance(head, Head) and isinstance(verdict, Opening)
    assert open_head(data) == ((verdict, head.headers) if opened else None)
    if isinstance(head, Head):
        for name, value in head.headers:
            assert name.isascii() and not set(name + value) & set(b"\r\n\0\x0b\x0c")
