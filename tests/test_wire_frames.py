"""Frames: read from any cut of the bytes, judged as early as possible, and made."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from fairlead.errors import CloseCode, ProtocolError
from fairlead.wire import masking
from fairlead.wire.frames import PLAIN, FrameReader, Opcode, Part, encode

MASK = b"\x11\x22\x33\x44"


def read_all(data: bytes, reader: FrameReader | None = None) -> list[Part]:
    """The parts of one read."""
    reader = reader or FrameReader(masked=True)
    data = reader.resume(data)
    parts: list[Part] = []
    at = 0
    while at < len(data) and (part := reader.read(data, at)) is not None:
        parts.append(part)
        at = part[-1]
    return parts


def fault(data: bytes, reader: FrameReader | None = None) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_all(data, reader)
    assert caught.value.close_code == CloseCode.PROTOCOL_ERROR
    return caught.value.reason


def test_the_examples_of_the_rfc() -> None:  # RFC 6455, 5.7
    assert encode(Opcode.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert encode(Opcode.TEXT, b"Hello", mask=bytes.fromhex("37fa213d")) == bytes.fromhex("818537fa213d7f9f4d5158")
    assert encode(Opcode.TEXT, b"Hel", fin=False) == bytes.fromhex("010348656c")
    assert encode(Opcode.CONTINUATION, b"lo") == bytes.fromhex("80026c6f")
    assert encode(Opcode.BINARY, bytes(256)) == bytes.fromhex("827e0100") + bytes(256)
    assert encode(Opcode.BINARY, bytes(65536)) == bytes.fromhex("827f0000000000010000") + bytes(65536)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [None, MASK])
def test_what_is_encoded_is_read_back(size: int, mask: bytes | None) -> None:
    payload = bytes(range(256)) * 257
    frame = encode(Opcode.BINARY, payload[:size], mask=mask)
    reader = FrameReader(masked=mask is not None)
    assert read_all(frame, reader) == [(0x82, payload[:size], 0, True, len(frame))]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_the_plain_form_is_one_unmasked_frame(size: int) -> None:
    assert PLAIN.encode(bytes(size), binary=False) == encode(Opcode.TEXT, bytes(size))
    assert PLAIN.encode(bytes(size), binary=True) == encode(Opcode.BINARY, bytes(size))


def test_a_control_frame_is_short_and_final() -> None:
    assert encode(Opcode.PING, bytes(125)) == b"\x89\x7d" + bytes(125)
    with pytest.raises(ValueError):
        encode(Opcode.PING, bytes(126))
    with pytest.raises(ValueError):
        encode(Opcode.CLOSE, b"", fin=False)


@pytest.mark.parametrize("mask", [b"", b"abc", b"abcde"])
def test_a_mask_is_four_bytes(mask: bytes) -> None:
    with pytest.raises(ValueError):
        encode(Opcode.TEXT, b"", mask=mask)


def test_frames_are_read_one_after_the_other() -> None:
    one, two = encode(Opcode.TEXT, b"one", mask=MASK), encode(Opcode.PING, b"", mask=MASK)
    assert read_all(one + two) == [(0x81, b"one", 0, True, 9), (0x89, b"", 0, True, 15)]


def test_a_data_frame_comes_in_parts_as_it_arrives() -> None:
    frame = encode(Opcode.BINARY, b"abcdefghij", mask=MASK)
    reader = FrameReader(masked=True)
    assert read_all(frame[:6], reader) == [(0x82, b"", 10, True, 6)]
    assert read_all(frame[6:9], reader) == [(0x82, b"abc", 7, False, 3)]
    assert read_all(frame[9:14], reader) == [(0x82, b"defgh", 2, False, 5)]
    assert read_all(frame[14:] + frame[:7], reader) == [(0x82, b"ij", 0, False, 2), (0x82, b"a", 9, True, 9)]


def test_an_unmasked_frame_comes_in_parts_too() -> None:
    reader = FrameReader(masked=False)
    assert read_all(b"\x82\x03a", reader) == [(0x82, b"a", 2, True, 3)]
    assert read_all(b"bc", reader) == [(0x82, b"bc", 0, False, 2)]


@pytest.mark.parametrize("size", [3, 126, 65536])
def test_a_head_may_be_cut_anywhere(size: int) -> None:
    frame = encode(Opcode.BINARY, bytes(size), mask=MASK)
    for cut in range(1, len(frame) - size):
        reader = FrameReader(masked=True)
        assert read_all(frame[:cut], reader) == []
        assert [part[1] for part in read_all(frame[cut:], reader)] == [bytes(size)]


def test_a_control_frame_comes_whole() -> None:
    frame = encode(Opcode.PING, b"abc", mask=MASK)
    reader = FrameReader(masked=True)
    for cut in range(len(frame) - 1):
        assert read_all(frame[cut : cut + 1], reader) == []
    assert [part[1] for part in read_all(frame[-1:], reader)] == [b"abc"]


@pytest.mark.parametrize("first", [0x03, 0x07, 0x83, 0x8B, 0x8F])
def test_reserved_opcodes_fail_at_the_first_byte(first: int) -> None:
    assert "reserved" in fault(bytes([first]))


@pytest.mark.parametrize("bit", [0x10, 0x20, 0x40])
@pytest.mark.parametrize("first", [0x00, 0x01, 0x82, 0x88, 0x89])
def test_reserved_bits_fail_at_the_first_byte(first: int, bit: int) -> None:
    assert "reserved bit" in fault(bytes([first | bit]))


@pytest.mark.parametrize("first", [0x41, 0x42, 0xC1, 0xC2])
def test_an_extension_may_give_rsv1_a_meaning(first: int) -> None:
    frame = bytes([first, 0x80]) + MASK
    assert read_all(frame, FrameReader(masked=True, rsv1=True)) == [(first, b"", 0, True, 6)]


@pytest.mark.parametrize("first", [0x40, 0xC0, 0xC8, 0xC9, 0xCA, 0x21, 0x11])
def test_rsv1_means_nothing_on_other_frames(first: int) -> None:
    fault(bytes([first]), FrameReader(masked=True, rsv1=True))


@pytest.mark.parametrize("first", [0x08, 0x09, 0x0A])
def test_a_fragmented_control_frame_fails_at_its_first_byte(first: int) -> None:
    assert "fragmented" in fault(bytes([first]))


@pytest.mark.parametrize("second", [0xFE, 0xFF])
def test_a_long_control_frame_fails_at_its_second_byte(second: int) -> None:
    assert "125" in fault(bytes([0x89, second]))


def test_the_masking_rule_fails_at_the_second_byte() -> None:
    assert "client" in fault(b"\x81\x00")
    assert "server" in fault(b"\x81\x80", FrameReader(masked=False))


@pytest.mark.parametrize("length", ["fe0000", "fe007d", "ff0000000000000000", "ff000000000000ffff"])
def test_a_length_that_is_not_in_its_shortest_form_fails(length: str) -> None:
    assert "shortest" in fault(b"\x82" + bytes.fromhex(length))


def test_a_length_with_its_highest_bit_set_fails() -> None:
    assert "highest bit" in fault(b"\x82\xff\x80" + bytes(7))


def test_what_is_not_whole_yet_is_no_fault() -> None:
    assert read_all(b"\x82\xfe\x00") == []
    assert read_all(b"\x82\xff\x80" + bytes(6)) == []


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 63, 64, 65, 1000])
@pytest.mark.parametrize("mask", [MASK, bytes(4), b"\xff\x00\xff\x00"])
def test_masking_with_and_without_c_is_the_same(size: int, mask: bytes) -> None:
    data = (bytes(range(256)) * 4)[:size]
    plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    assert masking.xor_mask(data, mask) == plain
    assert masking.apply_mask(data, mask) == plain


def test_masking_works_where_the_extension_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("masking_without_c", masking.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.apply_mask is module.xor_mask
