"""Compressed messages inflated: whatever their blocks and however cut, within their bounds, or refused."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire.inflate import PIECE, STREAMS, Inflater

examples = settings(derandomize=True, deadline=None, max_examples=25)
LIMIT = 100_000
JSON = b'{"type":"publish","requestId":"7","room":"prices","data":{"id":7,"name":"anna","price":%d}}'
UPDATES = [JSON % number * 4 for number in range(20)]


def inflate(data: bytes, inflater: Inflater | None = None, *, cuts: Sequence[int] = (), limit: int = LIMIT) -> bytes:
    """One message that comes in pieces."""
    inflater = inflater or Inflater()
    output = bytearray()
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    begin = 0
    for end in ends[:-1]:
        inflater.inflate(data[begin:end], output, limit=limit, last=False)
        begin = end
    inflater.inflate(data[begin:], output, limit=limit, last=True)
    return bytes(output)


def code(data: bytes, inflater: Inflater | None = None, *, cuts: Sequence[int] = (), limit: int = LIMIT) -> CloseCode:
    with pytest.raises(ProtocolError) as caught:
        inflate(data, inflater, cuts=cuts, limit=limit)
    return caught.value.close_code


def deflate(data: bytes, *, bits: int = 15, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(b"\0\0\xff\xff")


HELLO = bytes.fromhex("f248cdc9c90700")


@pytest.mark.parametrize(
    "data",
    [
        HELLO,
        bytes.fromhex("000500faff48656c6c6f00"),  # a block without compression
        bytes.fromhex("f348cdc9c9070000"),  # a block with BFINAL set, and what the RFC wants behind it
        bytes.fromhex("f348cdc9c90700"),  # and what some clients make of it
        bytes.fromhex("f24805000000ffffcac9c90700"),  # two blocks
        HELLO + b"\0\0\xff\xff\0",  # one whose end was not taken away
    ],
)
def test_the_examples_of_the_rfc(data: bytes) -> None:  # RFC 7692, 7.2.3
    for takeover in (False, True):
        for cut in range(len(data) + 1):
            assert inflate(data, Inflater(1 << 15 if takeover else 0), cuts=[cut]) == b"Hello"
        assert inflate(data, Inflater(1 << 15 if takeover else 0), cuts=range(len(data))) == b"Hello"


def test_a_message_may_refer_to_the_one_before_it_only_with_takeover() -> None:  # RFC 7692, 7.2.3.2
    again = bytes.fromhex("f200110000")
    inflater = Inflater(4096)
    assert [inflate(HELLO, inflater), inflate(again, inflater), inflate(again, inflater)] == [b"Hello"] * 3
    inflater = Inflater()
    assert inflate(HELLO, inflater) == b"Hello"
    assert code(again, inflater) == CloseCode.INVALID_DATA


@pytest.mark.parametrize("data", [b"", b"\0", b"\x02\0", b"\x03\0", b"\x03\0\0", b"\0\0\0\xff\xff\0"])
def test_an_empty_message(data: bytes) -> None:
    inflater = Inflater(4096)
    assert inflate(HELLO, inflater) == b"Hello"
    assert inflate(data, inflater) == b""
    assert inflate(bytes.fromhex("f200110000"), inflater) == b"Hello"


@pytest.mark.parametrize(
    "data",
    [
        b"Hello",
        b"\xff",
        b"\x06",  # a reserved kind of block
        HELLO + b"\xff\xff",
        HELLO[:3],  # cut short
        HELLO[:-1],
        b"\x00\x05\x00\xfa\xff\x48",  # cut short where what is appended passes for data
        b"\x00\xff\xff\x00\x00" + bytes(1000),
        bytes.fromhex("f348cdc9c9070006"),
        bytes.fromhex("f348cdc9c907"),
        HELLO + b"\0\0\xff\xff",  # an end that was not taken away, with nothing behind it
        deflate(UPDATES[0])[:-9],
    ],
)
def test_what_is_not_deflate_or_not_whole_is_invalid(data: bytes) -> None:
    for takeover in (False, True):
        assert code(data, Inflater(1 << 15 if takeover else 0)) == CloseCode.INVALID_DATA
        assert code(data, Inflater(1 << 15 if takeover else 0), cuts=range(len(data))) == CloseCode.INVALID_DATA


@examples
@given(st.data(), st.booleans(), st.sampled_from([9, 12, 15]))
def test_everything_that_another_implementation_sends_is_read(data: st.DataObject, takeover: bool, bits: int) -> None:
    client, inflater = PerMessageDeflate(not takeover, not takeover, bits, bits), Inflater(1 << bits if takeover else 0)
    words = st.sampled_from([b"", b"a", b"the quick brown fox", bytes(range(256)), b"x" * 5000])
    for _ in range(3):
        message = b"".join(data.draw(st.lists(words, max_size=8)))
        frame = client.encode(Frame(Opcode.BINARY, message))
        assert frame.rsv1
        cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=5))
        assert inflate(bytes(frame.data), inflater, cuts=cuts) == message


@examples
@given(
    st.lists(st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH]), min_size=1, max_size=5),
    st.sampled_from([0, 512, 4096]),
    st.lists(st.integers(0, 10_000), max_size=5),
)
def test_blocks_may_end_and_go_on_in_any_way(flushes: list[int], window: int, cuts: list[int]) -> None:
    inflater = Inflater(window)
    kept = b""
    for _ in range(2):
        message, wire = b"", b""
        for number, flush in enumerate(flushes):
            part = UPDATES[number] * 2
            # What follows a final block may refer to what stands before it.
            compressor = zlib.compressobj(6, zlib.DEFLATED, -12, zdict=(kept + message)[-4096:])
            message += part
            wire += compressor.compress(part) + compressor.flush(flush)
            if flush == zlib.Z_SYNC_FLUSH:
                wire += compressor.compress(b"!") + compressor.flush(zlib.Z_FINISH)
                message += b"!"
        assert inflate(wire.removesuffix(b"\0\0\xff\xff"), inflater, cuts=cuts) == message
        kept = message[-window:] if window else b""


def test_with_takeover_the_window_reaches_over_final_blocks_and_uncompressed_messages() -> None:
    inflater = Inflater(4096)
    assert inflate(deflate(UPDATES[0], flush=zlib.Z_FINISH), inflater) == UPDATES[0]
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12, zdict=UPDATES[0])
    again = compressor.compress(UPDATES[0]) + compressor.flush(zlib.Z_FINISH)
    assert len(again) < 30
    assert inflate(again, inflater) == UPDATES[0]


def test_no_more_is_kept_between_messages_than_the_window() -> None:
    far = random.Random(1).randbytes(3000)
    again = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=far)
    data = again.compress(far) + again.flush(zlib.Z_FINISH)
    for window, fits in ((4096, True), (2048, False), (0, False)):
        inflater = Inflater(window)
        assert inflate(deflate(far), inflater) == far
        if fits:
            assert inflate(data, inflater) == far
        else:
            assert code(data, inflater) == CloseCode.INVALID_DATA


@pytest.mark.parametrize("size", [0, 1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE - 1])
@pytest.mark.parametrize("level", [0, 6])
def test_a_message_may_be_exactly_as_large_as_the_limit(size: int, level: int) -> None:
    message = bytes(size)
    data = deflate(message, level=level)
    assert inflate(data, limit=size) == message
    assert inflate(data, limit=size + 1) == message
    assert inflate(data, limit=size, cuts=range(0, len(data), 97)) == message
    if size:
        assert code(data, limit=size - 1) == CloseCode.MESSAGE_TOO_BIG
        assert code(data, limit=size - 1, cuts=range(0, len(data), 97)) == CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
def test_a_bomb_is_given_up_at_the_limit(flush: int) -> None:
    bomb = deflate(bytes(10_000_000), flush=flush)
    assert len(bomb) < 11_000

    def explode() -> bytearray:
        output = bytearray()
        with pytest.raises(ProtocolError) as caught:
            Inflater(32768).inflate(bomb, output, limit=LIMIT, last=True)
        assert caught.value.close_code == CloseCode.MESSAGE_TOO_BIG
        assert len(output) == LIMIT + 1
        return output

    explode()
    tracemalloc.start()
    try:
        explode()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The message as it grows, one piece of it, what is left of the bomb, and zlib's window.
    assert peak < 1.2 * LIMIT + 2 * PIECE + len(bomb) + 48 * 1024


def test_a_message_has_so_many_streams_at_most() -> None:
    empty = b"\x03\0"
    inflater = Inflater()
    for _ in range(2):
        assert inflate(empty * STREAMS, inflater) == b""
    assert code(empty * (STREAMS + 1), inflater) == CloseCode.POLICY_VIOLATION


def test_counts_what_it_inflates() -> None:
    inflater = Inflater()
    inflate(HELLO, inflater, cuts=[2, 4])
    inflate(deflate(bytes(70_000)), inflater)
    assert inflater.inflated == 70_005


def footprint(make: Callable[[], object]) -> int:
    """Bytes of what ``make`` returns; zlib's own memory counts, since Python allocates it."""
    make()
    gc.collect()
    tracemalloc.start()
    try:
        kept = make()
        return tracemalloc.get_traced_memory()[0] if kept else 0
    finally:
        tracemalloc.stop()


def test_without_takeover_nothing_is_kept_between_messages() -> None:
    def used(window: int) -> Inflater:
        inflater = Inflater(window)
        for update in UPDATES:
            inflate(deflate(update * 20, bits=12), inflater)
        return inflater

    assert footprint(lambda: used(0)) < 500
    assert 4096 <= footprint(lambda: used(4096)) < 4096 + 600


@pytest.mark.slow
def test_time_grows_with_the_bytes_however_they_are_cut() -> None:
    def cost(size: int) -> float:
        data = deflate(random.Random(1).randbytes(size), level=0)
        start = time.process_time()
        inflate(data, cuts=range(len(data)), limit=size)
        return time.process_time() - start

    cost(1000)
    assert cost(100_000) < 30 * cost(10_000)
