from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from tests.contracts.transport import Carrier, RecordingReceiver, TransportContract

from fairlead.errors import Closed
from fairlead.limits import Limits
from fairlead.message import Burst, Message
from fairlead.testing import Client, FakeClock, connect
from fairlead.transports.memory import MemoryTransport
from fairlead.transports.ticker import Ticker


class TestMemoryTransport(TransportContract):
    def open(self, receiver: RecordingReceiver, limits: Limits) -> AbstractAsyncContextManager[Client]:
        return connect(Carrier(receiver, limits, foreign=False), limits=limits)


class Far:
    """The client's end: what it was told."""

    def __init__(self) -> None:
        self.log: list[object] = []

    def received(self, payload: str | bytes) -> None:
        self.log.append(payload)

    def closed(self, code: int, reason: str) -> None:
        self.log.append((code, reason))


class Connection:
    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = FakeClock()
        self.far = Far()
        self.receiver = RecordingReceiver()
        self.transport = MemoryTransport(self.receiver, self.far, limits or Limits(), Ticker(self.clock))
        self.transport.start()


SMALL = Limits(outbox_limit=1000, outbox_low=100, burst_size=1000)


async def test_a_client_that_reads_has_each_message_at_once() -> None:
    connection = Connection()
    connection.transport.send(Burst([b"a", b"b"]))
    assert connection.far.log == ["a", "b"]
    assert connection.transport.buffered == 0


async def test_what_a_client_does_not_read_waits_in_order() -> None:
    connection = Connection()
    connection.transport.client_pauses()
    connection.transport.send(Message(b"one"))
    connection.transport.send(Message(b"two", binary=True))
    assert connection.far.log == []
    assert connection.transport.buffered == 6
    connection.transport.client_resumes()
    assert connection.far.log == ["one", b"two"]
    assert connection.transport.buffered == 0


async def test_past_its_limit_the_outbox_is_dropped_whole_and_the_close_is_next() -> None:
    connection = Connection(SMALL)
    connection.transport.client_pauses()
    for _ in range(4):
        connection.transport.send(Message(b"x" * 300))
    assert connection.transport.outbox_full
    assert connection.transport.buffered == 0
    connection.transport.client_resumes()
    assert connection.far.log == [(1013, "outbox full")]
    assert await connection.receiver.end() == (1013, "outbox full")


async def test_it_is_congested_from_the_limit_to_the_low_water_mark() -> None:
    connection = Connection(Limits(outbox_low=1000))
    connection.transport.client_pauses()
    connection.transport.send(Message(b"x" * 60_000))
    assert not connection.transport.congested
    connection.transport.send(Message(b"x" * 6_000))
    assert connection.transport.congested
    connection.transport.client_resumes()
    assert not connection.transport.congested


async def test_a_message_larger_than_allowed_closes_with_1009() -> None:
    connection = Connection(Limits(message_size=3))
    connection.transport.client_sends("abc")
    connection.transport.client_sends("éé")
    assert await connection.receiver.end() == (1009, "a message of more than 3 bytes")
    assert connection.receiver.log[1] == "abc"


async def test_messages_are_delivered_from_the_event_loop_and_never_by_the_one_who_sends() -> None:
    connection = Connection()
    connection.transport.client_sends("a")
    connection.transport.client_closes(4000)
    connection.transport.client_sends("behind the close")
    assert connection.receiver.log == ["connected"]
    assert await connection.receiver.end() == (4000, "")
    assert connection.receiver.log == ["connected", "a", (4000, "")]
    assert connection.far.log == [(4000, ""), (1006, "")], "the answer, and the end"


async def test_only_codes_that_may_be_sent_are() -> None:
    connection = Connection()
    with pytest.raises(ValueError, match="1006"):
        connection.transport.client_closes(1006)
    with pytest.raises(ValueError, match="1005"):
        connection.transport.close(1005, "with a reason")
    assert connection.transport.open


async def test_a_long_reason_is_cut_to_what_a_frame_holds() -> None:
    connection = Connection()
    connection.transport.close(4000, "é" * 100)
    assert connection.far.log[0] == (4000, "é" * 61)


async def test_a_client_that_answers_no_ping_is_given_up() -> None:
    connection = Connection()
    connection.transport.client_pauses()
    await connection.clock.advance(30)
    connection.transport.client_sends("still here")
    await connection.clock.advance(44)
    assert connection.receiver.log == ["connected", "still here"]
    await connection.clock.advance(2)
    assert await connection.receiver.end() == (1011, "ping timeout")
    assert connection.far.log == [(1006, "")]


async def test_a_client_that_reads_again_is_not_given_up() -> None:
    connection = Connection()
    connection.transport.client_pauses()
    await connection.clock.advance(44)
    connection.transport.client_resumes()
    await connection.clock.advance(1000)
    assert connection.transport.open


async def test_a_client_that_does_not_answer_a_close_is_dropped_after_its_time() -> None:
    connection = Connection()
    connection.transport.client_pauses()
    connection.transport.close(4000, "out")
    await connection.clock.advance(4)
    assert connection.receiver.log == ["connected"]
    await connection.clock.advance(3)
    assert await connection.receiver.end() == (4000, "out")
    assert connection.far.log == [(1006, "")]


async def test_dropping_it_ends_it_without_a_close() -> None:
    connection = Connection()
    waiting = asyncio.ensure_future(connection.transport.drained())
    await waiting
    connection.transport.abort()
    assert not connection.transport.open
    assert connection.receiver.log == ["connected"]
    assert await connection.receiver.end() == (1006, "")
    with pytest.raises(Closed):
        await connection.transport.drained()
