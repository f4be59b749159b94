from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from fairlead.errors import Closed
from fairlead.limits import Limits
from fairlead.message import Burst, Message
from fairlead.transports import Transport
from fairlead.transports.native import NativeTransport
from fairlead.transports.outward import HIGH_WATER
from fairlead.transports.shared import Shared
from fairlead.transports.ticker import Ticker
from fairlead.wire.deflate import Agreement, shared_deflate
from fairlead.wire.frames import PLAIN, RSV1, Opcode, encode
from fairlead.wire.inflate import Inflater
from fairlead.wire.messages import Close, Event, Failure, InflatingReader, MessageReader, More, Ping, Pong

MASK = b"\x01\x02\x03\x04"


class Socket(asyncio.Transport):
    """A socket's transport whose client reads everything, or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.taken = 0
        self.stalled = False
        self.protocol: Any = None
        self.reading = True
        self.ended = self.closed = self.aborted = False
        self._congested = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written.append(bytes(data))
        if self.get_write_buffer_size() > HIGH_WATER and not self._congested:
            self._congested = True
            self.protocol.pause_writing()

    def drain(self) -> None:
        """The client reads everything."""
        while self._congested:
            self.taken = sum(map(len, self.written))
            self._congested = False
            self.protocol.resume_writing()

    def stall(self) -> None:
        """The client stops reading: nothing written from now on leaves."""
        self.taken = sum(map(len, self.written))
        self.stalled = True

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written)) - self.taken if self.stalled else 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return HIGH_WATER // 4, HIGH_WATER

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def events(self) -> list[Event]:
        """What the client sees."""
        reader = MessageReader(message_size=2**30, fragment_count=10, client=True)
        return list(reader.feed(b"".join(self.written)))


class Receiver:
    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.messages: list[str | bytes] = []
        self.ends: list[tuple[int, str]] = []
        self.on_message: Callable[[str | bytes], object] = lambda payload: None

    def connected(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, payload: str | bytes) -> None:
        self.messages.append(payload)
        self.on_message(payload)

    def closed(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))


class Connection:
    """A native transport between a fake socket and a recording receiver, with the wheel turned by hand."""

    def __init__(self, limits: Limits | None = None, early: bytes = b"", deflate: Agreement | None = None) -> None:
        self.shared = Shared(asyncio.get_running_loop(), limits or Limits(), Ticker())
        self.socket = Socket()
        self.receiver = Receiver()
        self.transport = NativeTransport(self.socket, self.receiver, self.shared, deflate)
        self.transport.start(b"", early)

    def receive(self, *frames: bytes) -> None:
        self.transport.data_received(b"".join(frames))

    def pass_time(self, seconds: int) -> None:
        """Let seconds go by on the wheel, one by one."""
        wheel = self.shared.ticker.wheel
        for _ in range(seconds):
            for item in wheel.advance(wheel.now + 1):
                item.expired()

    def lose(self) -> None:
        self.transport.connection_lost(None)


def text(payload: str) -> bytes:
    return encode(Opcode.TEXT, payload.encode(), mask=MASK)


def control(opcode: Opcode, payload: bytes = b"") -> bytes:
    return encode(opcode, payload, mask=MASK)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_messages_reach_the_receiver_in_order() -> None:
    connection = Connection(early=text("0"))
    connection.receive(text("a"), encode(Opcode.BINARY, b"b", mask=MASK), text("c"))
    assert connection.receiver.messages == ["0", "a", b"b", "c"]
    assert connection.receiver.transport is connection.transport


async def test_everything_sent_while_one_read_is_processed_goes_out_in_one_write() -> None:
    connection = Connection()
    connection.receiver.on_message = lambda payload: connection.transport.send(Message(str(payload).encode()))
    connection.receive(text("a"), control(Opcode.PING, b"!"), text("b"), control(Opcode.CLOSE))
    assert len(connection.socket.written) == 1
    assert connection.socket.events == ["a", Pong(b"!"), "b", Close(1005, "")]


async def test_a_burst_is_several_messages_in_one_write() -> None:
    connection = Connection()
    connection.transport.send(Burst([b"a", b"b"]))
    assert len(connection.socket.written) == 1
    assert connection.socket.events == ["a", "b"]


async def test_a_slow_client_is_closed_with_1013_at_a_message_border() -> None:
    connection = Connection(Limits(outbox_limit=200_000, burst_size=200_000))
    connection.socket.stall()
    message = Message(b"x" * 50_000)
    for _ in range(4):
        connection.transport.send(message)
        assert connection.transport.buffered <= 200_000
        assert connection.transport.open or _ == 3
    assert not connection.transport.open
    assert connection.transport.buffered < 110_000, "what waited is dropped"
    assert connection.transport.outbox_full
    connection.transport.send(message)
    events = connection.socket.events
    assert events[-1] == Close(1013, "outbox full")
    assert len(events) == 3
    connection.pass_time(7)
    assert connection.socket.aborted
    connection.lose()
    assert connection.receiver.ends == [(1013, "outbox full")]


async def test_a_client_that_catches_up_gets_everything_in_order() -> None:
    connection = Connection()
    connection.socket.stall()
    sent = [f"{number}".ljust(9_000) for number in range(100)]
    for each in sent:
        connection.transport.send(Message(each.encode()))
    assert len(connection.socket.written) < 100
    connection.socket.drain()
    assert connection.socket.events == sent
    assert connection.transport.open


async def test_drained_waits_for_a_slow_client_and_wakes_all_who_wait() -> None:
    connection = Connection()
    await asyncio.wait_for(connection.transport.drained(), 1)
    connection.socket.stall()
    connection.transport.send(Message(b"x" * 100_000))
    waiting = [asyncio.ensure_future(connection.transport.drained()) for _ in range(3)]
    await turns()
    assert not any(each.done() for each in waiting)
    waiting[0].cancel()
    connection.socket.drain()
    await turns()
    assert waiting[0].cancelled()
    assert waiting[1].result() is None
    assert waiting[2].result() is None


async def test_drained_raises_when_the_connection_closes() -> None:
    connection = Connection()
    connection.socket.stall()
    connection.transport.send(Message(b"x" * 100_000))
    waiting = asyncio.ensure_future(connection.transport.drained())
    await turns()
    connection.transport.close(4000, "enough")
    with pytest.raises(Closed) as closed:
        await waiting
    assert (closed.value.code, closed.value.reason) == (4000, "enough")
    with pytest.raises(Closed):
        await connection.transport.drained()


async def test_pongs_for_a_client_that_does_not_read_are_the_newest_one() -> None:
    connection = Connection()
    connection.socket.stall()
    connection.transport.send(Message(b"x" * 100_000))
    before = connection.transport.buffered
    connection.receive(*[control(Opcode.PING, b"%d" % number) for number in range(50)])
    assert connection.transport.buffered == before
    connection.socket.drain()
    assert connection.socket.events[1:] == [Pong(b"49")]


async def test_a_close_of_ours_waits_for_the_clients_and_then_ends_the_socket() -> None:
    connection = Connection()
    connection.transport.close(4001, "bye")
    connection.transport.close(4002, "again")
    connection.transport.send(Message(b"too late"))
    assert connection.socket.events == [Close(4001, "bye")]
    connection.receive(text("ignored"), control(Opcode.CLOSE, b"\x0f\xa1"))
    await turns()
    assert connection.socket.ended
    assert connection.receiver.messages == []
    assert connection.receiver.ends == []
    connection.lose()
    assert connection.receiver.ends == [(4001, "bye")]


async def test_a_close_of_the_client_is_answered_and_the_socket_ended() -> None:
    connection = Connection()
    connection.receive(text("a"), control(Opcode.CLOSE, b"\x03\xe8bye"))
    assert not connection.transport.open
    assert connection.socket.events == [Close(1000, "")]
    await turns()
    assert connection.socket.ended
    connection.lose()
    assert connection.receiver.ends == [(1000, "bye")]


async def test_a_client_that_never_finishes_the_close_is_dropped() -> None:
    connection = Connection()
    connection.transport.close(1000)
    connection.pass_time(5)
    assert not connection.socket.aborted
    connection.pass_time(2)
    assert connection.socket.aborted


async def test_a_broken_rule_fails_the_connection_with_its_code() -> None:
    connection = Connection()
    connection.receive(text("good"), b"\xff\x80\x00\x00\x00\x00", text("never"))
    assert connection.receiver.messages == ["good"]
    (end,) = connection.socket.events
    assert isinstance(end, Close)
    assert end.code == 1002
    await turns()
    assert connection.socket.ended
    connection.receive(b"whatever" * 1000)
    connection.lose()
    assert connection.receiver.ends[0][0] == 1002
    assert not isinstance(connection.receiver.ends, Failure)


async def test_a_lost_connection_is_1006() -> None:
    connection = Connection()
    connection.lose()
    assert connection.receiver.ends == [(1006, "")]
    assert connection.shared.connections == set()
    assert not connection.shared.ticker.wheel
    connection.transport.send(Message(b"x"))
    connection.transport.close()
    assert connection.socket.written == []


async def test_a_failing_receiver_closes_its_connection_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection()

    def fail(payload: str | bytes) -> None:
        raise RuntimeError("secret")

    connection.receiver.on_message = fail
    connection.receive(text("a"), text("b"))
    assert connection.socket.events == [Close(1011, "")]
    assert connection.receiver.messages == ["a"]


# -- reading stopped ---------------------------------------------------------------------------------------------------


async def test_nothing_is_delivered_while_reading_is_paused_and_nothing_is_lost() -> None:
    connection = Connection()
    transport, receiver = connection.transport, connection.receiver
    receiver.on_message = lambda payload: transport.pause_reading() if payload == "b" else None
    connection.receive(*map(text, "abcd"), text("e")[:3])
    assert receiver.messages == ["a", "b"]
    assert not connection.socket.reading
    connection.receive(text("e")[3:], text("f"))
    transport.resume_reading()
    assert receiver.messages == ["a", "b"], "never from inside a call of ours"
    await turns()
    assert receiver.messages == list("abcdef")
    assert connection.socket.reading


async def test_pausing_again_while_catching_up_stops_again() -> None:
    connection = Connection()
    transport, receiver = connection.transport, connection.receiver
    receiver.on_message = lambda payload: transport.pause_reading()
    connection.receive(*map(text, "abc"))
    for count in (1, 2, 3):
        assert receiver.messages == list("abc"[:count])
        transport.resume_reading()
        await turns()
    assert connection.socket.reading


async def test_a_close_frame_behind_held_messages_keeps_its_place() -> None:
    connection = Connection()
    transport, receiver = connection.transport, connection.receiver
    receiver.on_message = lambda payload: transport.pause_reading() if payload == "a" else None
    connection.receive(text("a"), text("b"), control(Opcode.CLOSE, b"\x03\xe8"))
    assert transport.open
    transport.resume_reading()
    await turns()
    assert receiver.messages == ["a", "b"]
    assert not transport.open


async def test_past_the_message_rate_reading_stops_and_nothing_is_lost() -> None:
    connection = Connection(Limits(message_rate=10, message_burst=20))
    sent = [f"{number}" for number in range(100)]
    connection.receive(*map(text, sent))
    assert len(connection.receiver.messages) == 20
    assert not connection.socket.reading
    seconds = 0
    while len(connection.receiver.messages) < 100:
        before = len(connection.receiver.messages)
        connection.pass_time(1)
        await turns()
        seconds += 1
        assert len(connection.receiver.messages) - before <= 20
        assert seconds < 30
    assert connection.receiver.messages == sent
    assert seconds >= 7
    connection.pass_time(2)
    await turns()
    assert connection.socket.reading


async def test_an_honest_sender_is_never_stopped() -> None:
    connection = Connection(Limits(message_rate=10, message_burst=20))
    for _ in range(30):
        connection.receive(*[text("x")] * 10)
        assert connection.socket.reading
        connection.pass_time(1)


async def test_pings_have_a_rate_of_their_own() -> None:
    connection = Connection(Limits(control_rate=10))
    connection.receive(*[control(Opcode.PING)] * 1000)
    assert not connection.socket.reading
    assert len(connection.socket.events) <= 10


async def test_a_read_full_of_tiny_frames_is_parsed_in_slices() -> None:
    connection = Connection(Limits(message_burst=10, message_rate=1))
    connection.receive(text("") * 40_000)
    waiting = connection.transport._waiting
    assert waiting is not None
    assert len(waiting.events) < 11_000
    assert len(connection.receiver.messages) == 10


# -- silence -----------------------------------------------------------------------------------------------------------


async def test_a_silent_client_is_pinged_and_then_closed() -> None:
    connection = Connection()
    connection.pass_time(25)
    assert connection.socket.events == []
    connection.pass_time(2)
    assert connection.socket.events == [Ping(b"")]
    connection.pass_time(18)
    assert connection.transport.open
    connection.pass_time(2)
    assert connection.socket.events == [Ping(b""), Close(1011, "ping timeout")]
    connection.lose()
    assert connection.receiver.ends == [(1011, "ping timeout")]


async def test_a_ping_behind_a_large_write_does_not_hide_that_it_waits() -> None:
    connection = Connection(Limits(outbox_limit=200_000, burst_size=200_000))
    connection.socket.stall()
    connection.transport.send(Message(b"x" * 190_000))
    connection.socket.taken += 100_000  # of a write that an event loop may keep whole all the same
    connection.pass_time(27)
    assert connection.socket.written[1:] == [encode(Opcode.PING, b"")]
    connection.transport.send(Message(b"x" * 20_000))
    assert connection.transport.outbox_full


async def test_nobody_is_given_up_without_having_been_pinged() -> None:
    connection = Connection()
    wheel = connection.shared.ticker.wheel
    for item in wheel.advance(wheel.now + 100):  # the event loop stood still
        item.expired()
    assert connection.socket.events == [Ping(b"")]
    connection.receive(control(Opcode.PONG))
    connection.pass_time(24)
    assert connection.transport.open


async def test_any_byte_from_the_client_is_a_sign_of_life() -> None:
    connection = Connection()
    for _ in range(20):
        connection.pass_time(20)
        connection.receive(control(Opcode.PONG))
    assert connection.socket.events == []
    assert connection.transport.open


async def test_silence_says_nothing_while_nobody_listens() -> None:
    connection = Connection()
    connection.transport.pause_reading()
    connection.pass_time(300)
    assert connection.transport.open
    connection.transport.resume_reading()
    await turns()
    connection.pass_time(60)
    assert not connection.transport.open


# -- compression -------------------------------------------------------------------------------------------------------

SHARED = Agreement(12, 15, server_takeover=False, client_takeover=False)
OWN = Agreement(12, 12, server_takeover=True, client_takeover=True)
PRICES = [b'{"room":"prices","requestId":"7","data":{"price":%d,"currency":"EUR"}}' % price * 3 for price in range(5)]


def bomb(size: int, count: int) -> bytes:
    """Compressed messages from a client."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(b"x" * size) + compressor.flush(zlib.Z_FULL_FLUSH)
    return encode(Opcode.BINARY | RSV1, data.removesuffix(b"\0\0\xff\xff"), mask=MASK) * count


def inflated(written: list[bytes], window: int = 0) -> list[Event]:
    """What a client sees that takes so much over."""
    reader = InflatingReader(Inflater(window), message_size=2**20, fragment_count=1, client=True)
    events = list(reader.feed(b"".join(written)))
    while events and events[-1] == More():
        events[-1:] = reader.feed(b"")
    return events


async def test_without_an_agreement_nothing_is_compressed() -> None:
    connection = Connection()
    assert connection.transport.form is PLAIN
    connection.receive(bomb(10, 1))
    assert [event.code for event in connection.socket.events if isinstance(event, Close)] == [1002]


async def test_connections_that_agreed_on_the_same_share_compressed_bytes() -> None:
    one, other = Connection(deflate=SHARED), Connection(deflate=SHARED)
    message, burst = Message(PRICES[0]), Burst(PRICES[1:])
    for connection in (one, other):
        assert connection.transport.form is shared_deflate(12)
        connection.transport.send(message)
        connection.transport.send(burst)
        assert inflated(connection.socket.written) == [price.decode() for price in PRICES]
    assert message.wire(shared_deflate(12)) is message.wire(one.transport.form)
    assert len(b"".join(one.socket.written)) < sum(map(len, PRICES)) / 2


async def test_a_connections_own_bytes_go_to_it_alone_and_are_never_sent_again() -> None:
    one, other = Connection(deflate=OWN), Connection(deflate=OWN)
    assert one.transport.form is not other.transport.form
    message, burst = Message(PRICES[0]), Burst(PRICES)
    one.transport.send(Message(PRICES[4]))
    for connection in (one, other, one, one):
        connection.transport.send(message)
        connection.transport.send(burst)
    twice = [PRICES[0].decode(), *(price.decode() for price in PRICES)]
    assert inflated(one.socket.written, window=4096) == [PRICES[4].decode(), *twice * 3]
    assert inflated(other.socket.written, window=4096) == twice


async def test_what_waits_for_a_slow_client_stays_in_the_order_of_its_compressor() -> None:
    connection = Connection(deflate=OWN)
    connection.socket.stall()
    connection.transport.send(Message(bytes(range(256)) * 300, binary=True))
    connection.transport.pause_writing()
    connection.receive(text("a"))
    for price in PRICES:
        connection.transport.send(Message(price))
    connection.transport.resume_writing()
    assert inflated(connection.socket.written, window=4096)[1:] == [price.decode() for price in PRICES]


async def test_control_frames_are_never_compressed() -> None:
    connection = Connection(deflate=OWN)
    connection.receive(control(Opcode.PING, b"p" * 125), control(Opcode.CLOSE, b"\x03\xe8" + b"bye" * 40))
    assert connection.socket.events == [Pong(b"p" * 125), Close(1000, "")]


async def test_a_read_full_of_bombs_is_inflated_in_turns_of_the_loop_and_in_order() -> None:
    connection = Connection(Limits(message_size=64 * 1024), deflate=SHARED)
    messages = connection.receiver.messages
    connection.receive(bomb(64 * 1024, 20), text("behind"), bomb(100, 1)[:9])
    assert len(messages) == 1
    assert not connection.socket.reading
    connection.receive(bomb(100, 1)[9:], text("last"))  # a loop may still have had it
    await turns(3)
    assert len(messages) < 10
    await turns(60)
    assert [len(each) for each in messages] == [64 * 1024] * 20 + [6, 100, 4]
    assert connection.socket.reading
    assert connection.transport._waiting is None


async def test_a_receiver_that_pauses_gets_none_of_what_is_not_inflated_yet() -> None:
    connection = Connection(Limits(message_size=64 * 1024), deflate=SHARED)
    connection.receiver.on_message = lambda payload: connection.transport.pause_reading()
    connection.receive(bomb(64 * 1024, 4))
    for count in range(1, 5):
        await turns()
        assert len(connection.receiver.messages) == count
        connection.transport.resume_reading()


async def test_bombs_count_against_the_rate() -> None:
    connection = Connection(Limits(message_size=64 * 1024, message_rate=1, message_burst=3), deflate=SHARED)
    connection.receive(bomb(64 * 1024, 20))
    await turns(60)
    assert len(connection.receiver.messages) == 3
    connection.pass_time(2)
    await turns(60)
    assert len(connection.receiver.messages) < 7


async def test_a_close_is_read_behind_what_was_not_inflated_yet() -> None:
    connection = Connection(Limits(message_size=64 * 1024), deflate=SHARED)
    connection.receive(bomb(64 * 1024, 4), control(Opcode.CLOSE, b"\x03\xe8"))
    connection.transport.close(4000)
    await turns(20)
    assert connection.socket.ended
    assert len(connection.receiver.messages) == 1
    connection.lose()
    assert connection.receiver.ends == [(4000, "")]


async def test_a_connection_lost_between_two_turns_reads_no_further() -> None:
    connection = Connection(Limits(message_size=64 * 1024), deflate=SHARED)
    connection.receive(bomb(64 * 1024, 4))
    connection.lose()
    await turns(10)
    assert len(connection.receiver.messages) == 1
    assert connection.receiver.ends == [(1006, "")]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (encode(Opcode.BINARY | RSV1, b"\xff", mask=MASK), 1007),
        (encode(Opcode.TEXT | RSV1, b"\x00\x02\x00\xfd\xff\xc3\x28\x00", mask=MASK), 1007),
        (bomb(1001, 1), 1009),
    ],
)
async def test_what_cannot_be_inflated_closes_the_connection(frame: bytes, code: int) -> None:
    connection = Connection(Limits(message_size=1000), deflate=SHARED)
    connection.receive(frame)
    assert [event.code for event in connection.socket.events if isinstance(event, Close)] == [code]
    assert connection.receiver.messages == []


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), (HIGH_WATER // 4, HIGH_WATER)),
        (Limits(outbox_limit=10_000, outbox_low=5_000, burst_size=1000), (5_000, 10_000)),
    ],
)
async def test_the_event_loop_holds_no_more_where_it_would_by_itself_as_behind_tls(
    limits: Limits, expected: tuple[int, int]
) -> None:
    class Encrypted(Socket):
        marks = 128 * 1024, 512 * 1024

        def get_write_buffer_limits(self) -> tuple[int, int]:
            return self.marks

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            assert low is not None and high is not None
            self.marks = low, high

    socket = Encrypted()
    NativeTransport(socket, Receiver(), Shared(asyncio.get_running_loop(), limits, Ticker())).start(b"", b"")
    assert socket.marks == expected
