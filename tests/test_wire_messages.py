"""Messages: joined, checked and bounded whatever way the bytes were cut; and the payloads of Close frames."""

from __future__ import annotations

import gc
import sys
import time

import pytest

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire.frames import Opcode, encode
from fairlead.wire.messages import (
    Close,
    Event,
    Failure,
    MessageReader,
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
