"""Messages: joined, checked and bounded whatever way the bytes were cut; and the payloads of Close frames."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
import zlib
from random import Random

import pytest

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire.frames import RSV1, Opcode, encode
from fairlead.wire.inflate import STREAMS, Inflater
from fairlead.wire.messages import (
    INFLATED_SIZE,
    Close,
    Event,
    Failure,
    InflatingReader,
    MessageReader,
    More,
    Ping,
    Pong,
    answer_payload,
    close_payload,
    is_close_code,
    read_close,
)

MASK = b"\x11\x22\x33\x44"
KAPPA = "κόσμε".encode()


def server(message_size: int = 1000, fragment_count: int = 8) -> MessageReader:
    return MessageReader(message_size=message_size, fragment_count=fragment_count)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A frame from a client."""
    return encode(opcode, payload, fin=fin, mask=MASK)


def text(payload: bytes, *, fin: bool = True) -> bytes:
    return frame(Opcode.TEXT, payload, fin=fin)


def more(payload: bytes, *, fin: bool = False) -> bytes:
    return frame(Opcode.CONTINUATION, payload, fin=fin)


def feed_all(reader: MessageReader, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in reader.feed(piece)]


def code_of(events: list[Event]) -> int:
    """The code of the failure that must be the only event."""
    assert len(events) == 1
    assert isinstance(events[0], Failure)
    assert events[0].reason
    return events[0].code


def failure(*pieces: bytes, reader: MessageReader | None = None) -> int:
    return code_of(feed_all(reader or server(), list(pieces)))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000])
def test_a_message_in_one_frame(size: int) -> None:
    assert server().feed(text(b"x" * size)) == ["x" * size]
    assert server().feed(frame(Opcode.BINARY, b"x" * size)) == [b"x" * size]


def test_several_messages_in_one_read() -> None:
    data = text(b"a") + text(KAPPA) + frame(Opcode.BINARY, b"\xff") + text(b"") + text(b"y" * 200) + text(b"z")
    assert server().feed(data) == ["a", "κόσμε", b"\xff", "", "y" * 200, "z"]


def test_nothing_gives_nothing() -> None:
    assert server().feed(b"") == []


def test_every_cut_of_the_bytes_gives_the_same() -> None:
    data = text(b"one") + text(b"t", fin=False) + frame(Opcode.PING, b"p") + more(b"wo", fin=True) + text(b"x" * 126)
    expected = ["one", Ping(b"p"), "two", "x" * 126]
    for cut in range(len(data) + 1):
        assert feed_all(server(), [data[:cut], data[cut:]]) == expected
    assert feed_all(server(), [data[at : at + 1] for at in range(len(data))]) == expected


def test_fragments_are_joined() -> None:
    assert server().feed(text(b"a", fin=False) + more(b"") + more(b"b") + more(b"c", fin=True)) == ["abc"]
    first = frame(Opcode.BINARY, b"\x00", fin=False)
    assert server().feed(first + more(b"\xff", fin=True)) == [b"\x00\xff"]


def test_control_frames_come_at_once_between_fragments() -> None:
    reader = server()
    assert reader.feed(text(b"a", fin=False) + frame(Opcode.PING, b"1")) == [Ping(b"1")]
    assert reader.feed(frame(Opcode.PONG, b"2")) == [Pong(b"2")]
    assert reader.feed(more(b"b", fin=True) + text(b"c")) == ["ab", "c"]


def test_a_client_reads_unmasked_frames() -> None:
    reader = MessageReader(message_size=1000, fragment_count=8, client=True)
    unmasked = encode(Opcode.TEXT, b"a") + encode(Opcode.PING, b"") + encode(Opcode.BINARY, b"b" * 200)
    assert feed_all(reader, [unmasked[:60], unmasked[60:]]) == ["a", Ping(b""), b"b" * 200]
    assert failure(text(b"a"), reader=reader) == CloseCode.PROTOCOL_ERROR


def test_a_server_refuses_unmasked_frames() -> None:
    for size in (0, 1, 64, 125, 126):
        assert failure(encode(Opcode.TEXT, b"a" * size)) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [more(b"", fin=True), more(b"a"), text(b"a") + more(b"b", fin=True)])
def test_a_continuation_needs_something_to_continue(data: bytes) -> None:
    events = server().feed(data)
    assert isinstance(events[-1], Failure)
    assert events[-1].code == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_cannot_begin_inside_another(opcode: Opcode) -> None:
    assert failure(text(b"a", fin=False) + frame(opcode, b"b")) == CloseCode.PROTOCOL_ERROR


def test_what_was_good_before_a_fault_is_delivered_and_nothing_after_it() -> None:
    reader = server()
    events = reader.feed(text(b"a") + frame(Opcode.PING, b"p") + b"\x83\x80" + MASK + text(b"b"))
    assert events[:2] == ["a", Ping(b"p")]
    assert isinstance(events[2], Failure)
    assert len(events) == 3
    assert reader.feed(text(b"c")) == []


def test_nothing_follows_a_close() -> None:
    reader = server()
    assert reader.feed(text(b"a") + frame(Opcode.CLOSE, b"\x03\xe8bye") + text(b"b")) == ["a", Close(1000, "bye")]
    assert reader.feed(text(b"c")) == []


def test_a_close_ends_an_unfinished_message() -> None:
    assert server().feed(text(b"a", fin=False) + frame(Opcode.CLOSE)) == [Close(CloseCode.NO_STATUS, "")]


def test_a_message_may_be_exactly_as_large_as_the_limit() -> None:
    assert server(200).feed(text(b"x" * 200)) == ["x" * 200]
    assert server(200).feed(text(b"x" * 100, fin=False) + more(b"x" * 100, fin=True)) == ["x" * 200]
    assert server(3).feed(text(b"abc")) == ["abc"]
    assert server(0).feed(text(b"") + text(b"")) == ["", ""]


@pytest.mark.parametrize("limit", [3, 150])
def test_a_larger_message_fails_before_its_payload_is_there(limit: int) -> None:
    whole = text(b"x" * (limit + 1))
    head = whole[: -(limit + 1)]
    assert failure(whole, reader=server(limit)) == CloseCode.MESSAGE_TOO_BIG
    assert failure(head, reader=server(limit)) == CloseCode.MESSAGE_TOO_BIG
    assert failure(b"\x82\xff" + (2**62).to_bytes(8, "big") + MASK) == CloseCode.MESSAGE_TOO_BIG


def test_all_fragments_count_against_the_size() -> None:
    assert failure(text(b"ab", fin=False), more(b"cd")[:6], reader=server(3)) == CloseCode.MESSAGE_TOO_BIG


def test_control_frames_do_not_count_against_the_size() -> None:
    assert server(3).feed(text(b"abc", fin=False) + frame(Opcode.PING, b"pppp") + more(b"", fin=True)) == [
        Ping(b"pppp"),
        "abc",
    ]


def test_empty_fragments_are_counted() -> None:
    exactly = [text(b"", fin=False), *[more(b"")] * 6, more(b"", fin=True)]
    assert feed_all(server(fragment_count=8), exactly) == [""]
    assert failure(*exactly[:-1], more(b""), more(b""), reader=server(fragment_count=8)) == CloseCode.POLICY_VIOLATION


def test_the_count_begins_anew_with_each_message() -> None:
    message = [text(b"a", fin=False), more(b"b", fin=True)]
    assert feed_all(server(fragment_count=2), message * 3) == ["ab"] * 3


INVALID = [
    b"\x80",  # a continuation byte alone
    b"\xc0",  # never a byte of UTF-8, like the next four
    b"\xc1",
    b"\xf5",
    b"\xfe",
    b"\xff",
    b"\xc3\x28",  # a continuation byte is missing
    b"\xe0\x9f",  # longer than needed
    b"\xf0\x8f",
    b"\xed\xa0",  # surrogates
    b"\xed\xbf",
    b"\xf4\x90",  # past U+10FFFF
    b"\xe2\x82\x41",
    b"\xf4\x8f\xbf\xc0",
]


@pytest.mark.parametrize("bad", INVALID)
def test_invalid_text_fails_as_soon_as_its_byte_is_there(bad: bytes) -> None:
    whole = text(KAPPA + bad + b"x" * 50)
    end = len(whole) - 50
    for start in range(1, end):  # cut anywhere, up to the last byte that is needed to know
        assert failure(whole[:start], whole[start:end]) == CloseCode.INVALID_DATA
    reader = server()
    assert feed_all(reader, [whole[at : at + 1] for at in range(end - 1)]) == []
    assert failure(whole[end - 1 : end], reader=reader) == CloseCode.INVALID_DATA


@pytest.mark.parametrize("bad", INVALID)
def test_invalid_text_fails_in_the_fragment_that_makes_it_so(bad: bytes) -> None:
    assert failure(text(KAPPA + bad[:1], fin=False), more(bad[1:] + b"x")) == CloseCode.INVALID_DATA


@pytest.mark.parametrize("bad", [*INVALID, KAPPA[:-1], b"\xed", b"\xf0\x9f\x98"])
def test_a_whole_message_must_be_whole_text(bad: bytes) -> None:
    assert failure(text(bad)) == CloseCode.INVALID_DATA
    assert failure(text(b"x" * 126 + bad)) == CloseCode.INVALID_DATA
    assert failure(text(b"x", fin=False), more(bad, fin=True)) == CloseCode.INVALID_DATA


def test_a_character_may_be_cut_between_fragments() -> None:
    for character in ("ü", "€", "\ud7ff", "\ue000", "\U0010ffff"):
        encoded = character.encode()
        for cut in range(1, len(encoded)):
            data = text(encoded[:cut], fin=False) + frame(Opcode.PING) + more(encoded[cut:], fin=True)
            assert server().feed(data) == [Ping(b""), character]


def test_binary_messages_are_not_checked_as_text() -> None:
    data = frame(Opcode.BINARY, b"\xff" * 20)
    assert feed_all(server(), [data[:9], data[9:]]) == [b"\xff" * 20]


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_legal_close_codes(code: int) -> None:
    assert is_close_code(code)
    assert server().feed(frame(Opcode.CLOSE, code.to_bytes(2, "big"))) == [Close(code, "")]
    assert close_payload(code, "é") == code.to_bytes(2, "big") + b"\xc3\xa9"
    assert answer_payload(code) == code.to_bytes(2, "big")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_illegal_close_codes_are_a_protocol_error_and_never_sent(code: int) -> None:
    assert not is_close_code(code)
    assert failure(frame(Opcode.CLOSE, code.to_bytes(2, "big") + b"why")) == CloseCode.PROTOCOL_ERROR
    with pytest.raises(ValueError):
        close_payload(code, "why")


def test_an_illegal_code_is_answered_with_1002() -> None:
    assert answer_payload(1006) == answer_payload(0) == b"\x03\xea"


def test_an_empty_close_is_answered_empty() -> None:
    assert server().feed(frame(Opcode.CLOSE)) == [Close(1005, "")]
    assert answer_payload(1005) == close_payload(1005) == b""


def test_a_close_of_one_byte_is_a_protocol_error() -> None:
    assert failure(frame(Opcode.CLOSE, b"\x03")) == CloseCode.PROTOCOL_ERROR
    with pytest.raises(ProtocolError):
        read_close(b"\x03")


@pytest.mark.parametrize("bad", INVALID)
def test_the_reason_of_a_close_is_text(bad: bytes) -> None:
    assert failure(frame(Opcode.CLOSE, b"\x03\xe8" + bad)) == CloseCode.INVALID_DATA


def test_a_reason_is_cut_between_characters() -> None:
    assert close_payload(1000, "x" * 123) == b"\x03\xe8" + b"x" * 123
    assert close_payload(1000, "x" * 124) == b"\x03\xe8" + b"x" * 123
    assert close_payload(1000, "x" * 121 + "€") == b"\x03\xe8" + b"x" * 121
    assert close_payload(1000, "é" * 70) == b"\x03\xe8" + "é".encode() * 61


def test_a_reason_is_text_that_utf8_can_hold() -> None:
    with pytest.raises(ValueError):
        close_payload(1000, "\ud800")


def weight(reader: MessageReader) -> int:
    """Bytes of everything the reader alone holds."""
    found: dict[int, object] = {}
    waiting: list[object] = [reader]
    while waiting:
        item = waiting.pop()
        if id(item) not in found and not isinstance(item, type | frozenset):
            found[id(item)] = item
            waiting += gc.get_referents(item)
    return sum(map(sys.getsizeof, found.values()))


def test_a_reader_at_rest_holds_no_buffer() -> None:
    fresh, used = server(), server()
    ping = frame(Opcode.PING, b"p" * 100)
    feed_all(used, [text(b"x" * 500, fin=False) + ping[:50], ping[50:], more(b"y" * 400)[:300]])
    assert weight(used) > 700
    feed_all(used, [more(b"y" * 400)[300:], more(b"", fin=True)])
    assert weight(used) < weight(fresh) + 100
    assert weight(fresh) < 400


def test_a_reader_lets_go_of_everything_at_the_end() -> None:
    reader = server()
    feed_all(reader, [text(b"x" * 900, fin=False), b"\xff"])
    assert weight(reader) < weight(server())


# Compressed messages.

HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692, 7.2.3.1


def inflating(message_size: int = 1000, window: int = 0) -> InflatingReader:
    return InflatingReader(Inflater(window), message_size=message_size, fragment_count=8)


def deflate(payload: bytes, *, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def compressed(data: bytes, *, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    """The first or only frame of a compressed message."""
    return frame(opcode | RSV1, data, fin=fin)


def read_all(reader: MessageReader, data: bytes) -> list[Event]:
    """Everything, without the breaks."""
    events = list(reader.feed(data))
    while events and events[-1] == More():
        events[-1:] = reader.feed(b"")
    return events


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000])
def test_a_compressed_message_in_one_frame(size: int) -> None:
    data = deflate(b"x" * size)
    assert inflating().feed(compressed(data)) == ["x" * size]
    assert inflating().feed(compressed(data, opcode=Opcode.BINARY)) == [b"x" * size]


def test_compressed_and_other_messages_in_any_order() -> None:
    data = text(b"a") + compressed(HELLO) + text(b"b") + compressed(b"", opcode=Opcode.BINARY) + text(b"c" * 200)
    assert inflating().feed(data) == ["a", "Hello", "b", b"", "c" * 200]


def test_every_cut_of_compressed_bytes_gives_the_same() -> None:
    again = bytes.fromhex("f200110000")  # RFC 7692, 7.2.3.2
    fragments = compressed(HELLO[:3], fin=False) + frame(Opcode.PING, b"p") + more(b"") + more(HELLO[3:], fin=True)
    data = compressed(HELLO) + text(b"x") + compressed(again) + fragments + compressed(again, opcode=Opcode.BINARY)
    expected = ["Hello", "x", "Hello", Ping(b"p"), "Hello", b"Hello"]
    for cut in range(len(data) + 1):
        assert feed_all(inflating(window=4096), [data[:cut], data[cut:]]) == expected
    assert feed_all(inflating(window=4096), [data[at : at + 1] for at in range(len(data))]) == expected


def test_the_first_frame_alone_says_that_a_message_is_compressed() -> None:  # RFC 7692, 6.1 and 6.2
    begun = compressed(HELLO[:3], fin=False)
    marked = frame(Opcode.CONTINUATION | RSV1, HELLO[3:])
    assert failure(begun, marked, reader=inflating()) == CloseCode.PROTOCOL_ERROR
    assert failure(text(b"a", fin=False), marked, reader=inflating()) == CloseCode.PROTOCOL_ERROR
    binary = frame(Opcode.BINARY, b"a", fin=False)
    assert inflating().feed(binary + more(HELLO, fin=True)) == [b"a" + HELLO]


@pytest.mark.parametrize("first", [0xC9, 0xCA, 0xC8, 0xA1, 0x91, 0xE1, 0xF1, 0xA9])
def test_other_frames_and_bits_have_no_use(first: int) -> None:
    assert failure(bytes([first]) + text(b"")[1:], reader=inflating()) == CloseCode.PROTOCOL_ERROR


def test_without_an_agreement_nothing_may_be_compressed() -> None:
    assert failure(compressed(HELLO)) == CloseCode.PROTOCOL_ERROR
    assert failure(compressed(HELLO)[:1], b"\x80") == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [b"\xff", HELLO[:4], HELLO + b"\0\0\xff\xff"])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_what_cannot_be_inflated_is_invalid(data: bytes, opcode: Opcode) -> None:
    assert failure(compressed(data, opcode=opcode), reader=inflating()) == CloseCode.INVALID_DATA
    fragments = [compressed(data[:1], opcode=opcode, fin=False), more(data[1:], fin=True)]
    assert failure(*fragments, reader=inflating()) == CloseCode.INVALID_DATA


@pytest.mark.parametrize("bad", INVALID)
@pytest.mark.parametrize("level", [0, 6])
def test_invalid_text_fails_as_soon_as_its_byte_is_inflated(bad: bytes, level: int) -> None:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = compressor.compress(KAPPA + bad) + compressor.flush(zlib.Z_SYNC_FLUSH)
    rest = compressor.compress(b"x" * 50) + compressor.flush(zlib.Z_FINISH)
    whole = compressed(data + rest)
    assert failure(whole[: -len(rest)], reader=inflating()) == CloseCode.INVALID_DATA
    assert failure(whole, reader=inflating()) == CloseCode.INVALID_DATA
    assert failure(compressed(data, fin=False), reader=inflating()) == CloseCode.INVALID_DATA


@pytest.mark.parametrize("offset", range(3))
def test_characters_are_followed_through_any_amount_of_text(offset: int) -> None:
    good = b"x" * offset + "€".encode() * 30_000
    for bad in (b"", b"\xed\xa0", b"\xff", b"\xe2\x82x"):
        data = deflate(good + bad)
        begun = list(inflating(200_000).feed(compressed(data, fin=False)))
        assert code_of(begun) == CloseCode.INVALID_DATA if bad else begun == []


def test_compressed_text_must_be_whole() -> None:
    assert failure(compressed(deflate(KAPPA[:-1])), reader=inflating()) == CloseCode.INVALID_DATA
    data = deflate(KAPPA * 10)
    for cut in range(len(data)):
        pieces = [compressed(data[:cut], fin=False), more(data[cut:], fin=True)]
        assert feed_all(inflating(), pieces) == [KAPPA.decode() * 10]


@pytest.mark.parametrize("level", [0, 6])
def test_a_compressed_message_may_be_exactly_as_large_as_the_limit(level: int) -> None:
    assert inflating(200).feed(compressed(deflate(b"x" * 200, level=level))) == ["x" * 200]
    over = compressed(deflate(b"x" * 201, level=level))
    assert failure(over, reader=inflating(200)) == CloseCode.MESSAGE_TOO_BIG
    assert failure(*[over[at : at + 1] for at in range(len(over))], reader=inflating(200)) == CloseCode.MESSAGE_TOO_BIG
    assert inflating(0).feed(compressed(deflate(b""))) == [""]
    assert failure(compressed(deflate(b"x")), reader=inflating(0)) == CloseCode.MESSAGE_TOO_BIG


def test_compressed_frames_may_be_twice_as_large_as_the_message() -> None:
    flushed = b"\0\0\0\xff\xff"  # a flush that nothing came before
    exactly = flushed * 412 + b"\0" * 4  # 2 * 1000 + 64 bytes
    assert failure(compressed(exactly + b"\0"), reader=inflating()) == CloseCode.MESSAGE_TOO_BIG
    head = compressed(exactly + b"\0")[: -len(exactly) - 1]
    assert failure(head, reader=inflating()) == CloseCode.MESSAGE_TOO_BIG
    assert feed_all(inflating(), [compressed(flushed * 412 + b"\0")]) == [""]
    parts = [compressed(flushed * 206, fin=False), more(flushed * 206), more(b"\0\0\0\xff\xff")[:6]]
    assert failure(*parts, reader=inflating()) == CloseCode.MESSAGE_TOO_BIG


def test_of_two_faults_the_earlier_one_counts_however_the_bytes_are_cut() -> None:
    faults = {
        deflate(b"\xff" + bytes(2000)): CloseCode.INVALID_DATA,
        deflate(bytes(2000) + b"\xff"): CloseCode.MESSAGE_TOO_BIG,
        deflate(bytes(1000) + b"\xff"): CloseCode.INVALID_DATA,
        deflate(b"\xff") + b"\0\0\xff\xff\3\0" * (STREAMS + 1): CloseCode.INVALID_DATA,
        b"\3\0" * (STREAMS + 1) + deflate(b"\xff"): CloseCode.POLICY_VIOLATION,
    }
    for data, expected in faults.items():
        whole = compressed(data)
        assert failure(whole, reader=inflating()) == expected
        assert failure(*[whole[at : at + 1] for at in range(len(whole))], reader=inflating()) == expected


def test_what_inflates_to_much_is_handed_out_in_turns() -> None:
    size = INFLATED_SIZE // 4
    bomb = compressed(deflate(b"x" * size), opcode=Opcode.BINARY)
    reader = inflating(size)
    assert reader.feed(bomb * 6 + text(b"a") + bomb[:9]) == [b"x" * size] * 4 + [More()]
    assert reader.feed(b"") == [b"x" * size] * 2 + ["a"]
    assert reader.feed(bomb[9:] + bomb + text(b"b")) == [b"x" * size] * 2 + [More()]
    assert reader.feed(text(b"c")) == ["b", "c"]
    assert reader.feed(bomb * 4) == [b"x" * size] * 4  # nothing is left of the data


def test_many_bombs_in_one_read_are_not_in_memory_together() -> None:
    size = 64 * 1024
    data = compressed(deflate(bytes(size)), opcode=Opcode.BINARY) * 150
    assert len(data) < 16 * 1024
    reader = inflating(size)
    tracemalloc.start()
    try:
        count = 0
        events = reader.feed(data)
        while events:
            count += sum(type(event) is bytes for event in events)
            del events
            events = reader.feed(b"")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 150
    assert peak < 2 * size + INFLATED_SIZE + 2 * len(data) + 64 * 1024  # the message twice, while it is handed out


def test_a_bomb_in_fragments_takes_no_more_than_the_limit() -> None:
    size = 256 * 1024
    bomb = deflate(bytes(20_000_000))
    pieces = [bomb[at : at + 4000] for at in range(0, len(bomb), 4000)]
    wire = compressed(pieces[0], fin=False) + b"".join(map(more, pieces[1:]))
    reader = inflating(size)
    tracemalloc.start()
    try:
        assert failure(wire, reader=reader) == CloseCode.MESSAGE_TOO_BIG
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * size


def test_an_inflating_reader_at_rest_holds_no_buffer() -> None:
    fresh, used = inflating(), inflating()
    read_all(used, compressed(deflate(Random(1).randbytes(900)), opcode=Opcode.BINARY) * 3)
    assert weight(used) < weight(fresh) + 100
    assert weight(fresh) < weight(server()) + 200


@pytest.mark.slow
def test_the_time_for_a_message_byte_by_byte_grows_with_its_size() -> None:
    def cost(size: int) -> float:
        reader = server(size)
        data = text(b"x" * size)
        pieces = [data[at : at + 1] for at in range(len(data))]
        start = time.process_time()
        assert feed_all(reader, pieces) == ["x" * size]
        return time.process_time() - start

    cost(1000)
    assert cost(200_000) < 40 * cost(10_000)  # 20 times as many bytes; a quadratic reader takes 400 times as long
