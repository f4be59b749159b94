"""permessage-deflate: which offers are accepted and how, and messages that other implementations can inflate."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode

from fairlead.errors import ProtocolError
from fairlead.wire.deflate import (
    OWN_SIZE,
    SHARED_SIZE,
    Agreement,
    OwnDeflate,
    SharedDeflate,
    negotiate,
    shared_deflate,
)
from fairlead.wire.extensions import Extension, parse_extensions
from fairlead.wire.frames import PLAIN, RSV1, FrameReader, Opcode

examples = settings(derandomize=True, deadline=None, max_examples=25)
JSON = b'{"type":"publish","requestId":"7","room":"prices","data":{"id":7,"name":"anna","price":%d}}'
UPDATES = [JSON % number * 4 for number in range(20)]


# -- the handshake ---------------------------------------------------------------------------------------------------


def agreed(offer: bytes, *, takeover: bool = False) -> bytes | None:
    agreement = negotiate(parse_extensions([offer]), takeover=takeover)
    return None if agreement is None else agreement.response()


SHARED = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12"
LIMITED = SHARED + b"; client_max_window_bits=12"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", SHARED),  # Firefox
        (b"permessage-deflate; client_max_window_bits", LIMITED),  # Chromium
        (b"permessage-deflate; server_no_context_takeover; client_no_context_takeover", SHARED),
        (b"permessage-deflate; server_max_window_bits=15", SHARED),
        (b"permessage-deflate; server_max_window_bits=12", SHARED),
        (b"permessage-deflate; server_max_window_bits=11", SHARED[:-1] + b"1"),
        (b'permessage-deflate; server_max_window_bits="8"', SHARED[:-2] + b"8"),
        (b"permessage-deflate; client_max_window_bits=15", LIMITED),
        (b"permessage-deflate; client_max_window_bits=12", LIMITED),
        (b"permessage-deflate; client_max_window_bits=11", LIMITED[:-1] + b"1"),
        (b"permessage-deflate; client_max_window_bits=8", LIMITED[:-2] + b"8"),
    ],
)
def test_without_takeover_nothing_is_taken_over(offer: bytes, answer: bytes) -> None:
    assert agreed(offer) == answer


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        # A window of 32 KiB for every client would be kept between messages.
        (b"permessage-deflate", b"permessage-deflate; client_no_context_takeover; server_max_window_bits=12"),
        (b"permessage-deflate; server_no_context_takeover", SHARED),
        (
            b"permessage-deflate; client_no_context_takeover; client_max_window_bits=9",
            b"permessage-deflate; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=9",
        ),
        (
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=15",
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=12",
        ),
        (b"permessage-deflate; server_max_window_bits=8", SHARED[:-2] + b"8"),
    ],
)
def test_with_takeover_both_sides_take_over_where_the_client_can(offer: bytes, answer: bytes) -> None:
    assert agreed(offer, takeover=True) == answer


ILLEGAL = [
    *(f"server_max_window_bits={value}" for value in ("7", "16", "0", "08", "010", "+9", "9.", "1e1", "x", "99999")),
    *(f"client_max_window_bits={value}" for value in ("7", "16", "0", "08", "015", "-9", "x")),
    "server_max_window_bits",
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    "client_no_context_takeover=12",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits; client_max_window_bits=10",
    "Server_No_Context_Takeover",
    "max_window_bits=10",
    "x",
    "x=1",
]


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("parameters", ILLEGAL)
def test_an_illegal_offer_is_declined_and_the_next_one_is_looked_at(parameters: str, takeover: bool) -> None:
    offer = b"permessage-deflate; " + parameters.encode()
    assert agreed(offer, takeover=takeover) is None
    assert agreed(offer + b"; client_max_window_bits=9", takeover=takeover) is None
    assert agreed(offer + b", permessage-deflate; server_max_window_bits=9") == SHARED[:-2] + b"9"


def test_other_extensions_are_passed_over() -> None:
    assert agreed(b"x-webkit-deflate-frame, permessage-bzip2; x=1") is None
    assert agreed(b"Permessage-Deflate") is None
    assert agreed(b"x; y=1, permessage-deflate, permessage-deflate; server_max_window_bits=9") == SHARED
    assert negotiate((), takeover=True) is None


@examples
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits"]
                + ["client_max_window_bits"]
            ),
            st.one_of(st.none(), st.integers(7, 16).map(str)),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_what_is_answered_is_what_the_offer_allows(parameters: list[tuple[str, str | None]], takeover: bool) -> None:
    agreement = negotiate([Extension("permessage-deflate", tuple(parameters))], takeover=takeover)
    asked = dict(parameters)
    if agreement is None:
        return
    (answer,) = parse_extensions([agreement.response()])
    given_ = dict(answer.parameters)
    assert len(asked) == len(parameters)
    assert 8 <= agreement.server_bits <= min(12, int(asked.get("server_max_window_bits") or 15))
    assert ("client_max_window_bits" in given_) == ("client_max_window_bits" in asked)
    assert agreement.client_bits <= int(asked.get("client_max_window_bits") or 15)
    assert "server_no_context_takeover" not in asked or "server_no_context_takeover" in given_
    assert takeover or not agreement.server_takeover and not agreement.client_takeover
    assert not agreement.client_takeover or agreement.client_bits <= 12


# -- outward ---------------------------------------------------------------------------------------------------------


def opened(frame: bytes) -> tuple[int, bytes]:
    """The first byte and the payload of the one frame."""
    reader = FrameReader(masked=False, rsv1=True)
    part = reader.read(frame, 0)
    assert part is not None
    first, payload, left, _, stop = part
    assert (left, stop) == (0, len(frame))
    return first, payload


def peer(bits: int = 12, *, takeover: bool = False) -> PerMessageDeflate:
    """Another implementation of the same extension, at the other end."""
    return PerMessageDeflate(not takeover, not takeover, bits, bits)


def theirs(reader: PerMessageDeflate, frame: bytes) -> bytes:
    first, payload = opened(frame)
    decoded = reader.decode(Frame(TheirOpcode(first & 0x0F), payload, rsv1=bool(first & RSV1)))
    return bytes(decoded.data)


@pytest.mark.parametrize("bits", range(9, 13))
@pytest.mark.parametrize("binary", [False, True])
def test_a_shared_frame_is_read_by_everyone(bits: int, binary: bool) -> None:
    form = shared_deflate(bits)
    for update in UPDATES:
        frame = form.encode(update, binary=binary)
        assert len(frame) < len(update) / 2
        assert opened(frame)[0] == 0x80 | RSV1 | (Opcode.BINARY if binary else Opcode.TEXT)
        assert theirs(peer(bits), frame) == update


def test_nothing_of_a_shared_message_shows_in_another_one() -> None:
    form = shared_deflate(12)
    frames = [form.encode(update, binary=False) for update in UPDATES]
    assert frames == [form.encode(update, binary=False) for update in UPDATES]
    assert frames[7] == SharedDeflate(12).encode(UPDATES[7], binary=False)


def test_there_is_one_shared_form_for_each_window() -> None:
    agreement = Agreement(12, 15, server_takeover=False, client_takeover=False)
    assert agreement.form() is agreement.form() is shared_deflate(12)
    assert shared_deflate(11) is not shared_deflate(12)
    assert agreement.form().shared and PLAIN.shared


def test_every_connection_with_takeover_has_a_form_of_its_own() -> None:
    agreement = Agreement(12, 12, server_takeover=True, client_takeover=True)
    assert agreement.form() is not agreement.form()
    assert not agreement.form().shared


@pytest.mark.parametrize("bits", range(9, 13))
def test_with_takeover_what_went_before_is_referred_to(bits: int) -> None:
    form, reader = OwnDeflate(bits), peer(bits, takeover=True)
    frames = [form.encode(update, binary=False) for update in UPDATES]
    assert [theirs(reader, frame) for frame in frames] == UPDATES
    if bits > 10:  # else the window is over before the message before is
        assert len(frames[1]) < len(frames[0]) / 2


def test_a_window_of_8_bits_is_never_referred_to() -> None:
    payload = random.Random(1).choices(b"abcdefgh", k=3000)
    frame = SharedDeflate(8).encode(bytes(payload) * 2, binary=False)
    first, data = opened(frame)
    assert first == 0x80 | RSV1 | Opcode.TEXT
    assert zlib.decompressobj(-8).decompress(data) == bytes(payload) * 2
    assert len(frame) > len(payload) * 2 * 3 / 8  # three bits for each of eight letters, and nothing found twice


def test_short_messages_are_not_compressed() -> None:
    for size in (0, 1, SHARED_SIZE - 1):
        assert shared_deflate(12).encode(bytes(size), binary=False) == PLAIN.encode(bytes(size), binary=False)
    assert len(shared_deflate(12).encode(bytes(SHARED_SIZE), binary=False)) < 20
    form = OwnDeflate(12)
    for size in (0, 1, OWN_SIZE - 1):
        assert form.encode(bytes(size), binary=True) == PLAIN.encode(bytes(size), binary=True)
    assert len(form.encode(bytes(OWN_SIZE), binary=True)) < 20


def test_a_shared_message_that_would_not_become_shorter_is_not_compressed() -> None:
    payload = random.Random(1).randbytes(5000)
    assert shared_deflate(12).encode(payload, binary=True) == PLAIN.encode(payload, binary=True)


def test_with_takeover_a_message_that_becomes_longer_is_still_what_comes_next() -> None:
    form, reader = OwnDeflate(12), peer(takeover=True)
    payload = random.Random(1).randbytes(3000)
    first, second = form.encode(payload, binary=True), form.encode(payload, binary=True)
    assert len(first) < 3000 + 20
    assert len(second) < 100
    assert [theirs(reader, first), theirs(reader, second)] == [payload, payload]


def test_a_connection_has_a_compressor_when_it_needs_one_and_then_of_a_known_size() -> None:
    tracemalloc.start()
    try:
        form = OwnDeflate(12)
        form.encode(b"pong", binary=False)
        assert tracemalloc.get_traced_memory()[0] < 500
        for update in UPDATES:
            form.encode(update * 50, binary=False)
        assert 30_000 < tracemalloc.get_traced_memory()[0] < 40_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("bits", "kept"), [(8, 512), (9, 512), (10, 1024), (12, 4096)])
def test_the_agreement_says_how_much_of_the_clients_messages_is_kept(bits: int, kept: int) -> None:
    def reaches(back: int, *, takeover: bool = True) -> bool:
        inflater = Agreement(12, bits, server_takeover=False, client_takeover=takeover).inflater()
        before = random.Random(1).randbytes(back)
        inflater.inflate(deflate(before), bytearray(), limit=back, last=True)
        output = bytearray()
        try:
            inflater.inflate(deflate(before[:100], zdict=before), output, limit=100, last=True)
        except ProtocolError:
            return False
        return output == before[:100]

    assert reaches(kept)
    assert not reaches(kept + 100)
    assert not reaches(kept, takeover=False)


def deflate(data: bytes, *, zdict: bytes = b"-") -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=zdict)
    return compressor.compress(data) + compressor.flush(zlib.Z_FINISH)
