"""What every transport must do, as tests. Inherit ``TransportContract`` and open the line; pytest finds the rest."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from fairlead.errors import Closed
from fairlead.limits import KIB, MIB, Limits
from fairlead.message import Burst, Message
from fairlead.testing import Client
from fairlead.testing.clock import come_to_rest
from fairlead.transports import Transport
from fairlead.transports.asgi import EXTENSION, carry

Scope = Any
BIG = Message(b"x" * 256 * KIB)
ENDLESS = 64 * MIB
"""More than any kernel holds for one connection."""

PATIENT = Limits(outbox_limit=ENDLESS)


class RecordingReceiver:
    """Keeps what the transport tells, and does what the test says about it."""

    def __init__(self) -> None:
        self.transport: Transport
        self.log: list[str | bytes | tuple[int, str]] = []
        self.on_connected: Callable[[], object] = lambda: None
        self.on_message: Callable[[str | bytes], object] = lambda payload: None
        self.over = asyncio.Event()

    def connected(self, transport: Transport) -> None:
        self.transport = transport
        self.log.append("connected")
        self.on_connected()

    def received(self, payload: str | bytes) -> None:
        self.log.append(payload)
        self.on_message(payload)

    def closed(self, code: int, reason: str) -> None:
        self.log.append((code, reason))
        self.over.set()

    async def end(self) -> tuple[int, str]:
        """Wait for the end, and see that nothing follows it."""
        async with asyncio.timeout(5):
            await self.over.wait()
        await come_to_rest()
        ends = [each for each in self.log if isinstance(each, tuple)]
        assert self.log[0] == "connected" and self.log[-1:] == ends, self.log
        return ends[0]


class Carrier:
    """The application: it lets everybody in and gives the connection to the receiver."""

    def __init__(self, receiver: RecordingReceiver, limits: Limits, *, foreign: bool) -> None:
        self._receiver = receiver
        self._limits = limits
        self._foreign = foreign

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        if self._foreign:
            scope["extensions"].pop(EXTENSION, None)
        await carry(scope, receive, send, self._receiver, limits=self._limits)


@dataclass(frozen=True, slots=True)
class Line:
    """A connection: the receiver at the server's end, and the client."""

    receiver: RecordingReceiver
    client: Client

    @property
    def transport(self) -> Transport:
        return self.receiver.transport

    async def congest(self) -> None:
        """Stop the client's reading and send until the transport is congested."""
        self.client.pause_reading()
        for _ in range(ENDLESS // len(BIG.payload)):
            self.transport.send(BIG)
            await come_to_rest()
            if self.transport.congested:
                return
        raise AssertionError("never congested")


class TransportContract:
    """The promises of ``fairlead.transports.Transport`` and ``Receiver``.

    Attributes:
        vanished: What is told of a client that vanished; some servers say it otherwise.
        left: What is told of a client that closed with 4005 while nothing could be sent to it. A transport that only
            learns that sending fails cannot know more than that.
    """

    vanished = (1006, "")
    left = (4005, "")

    def open(self, receiver: RecordingReceiver, limits: Limits) -> AbstractAsyncContextManager[Client]:
        """Connect a client; its connection is carried for the receiver."""
        raise NotImplementedError

    def line(
        self, limits: Limits | None = None, *, receiver: RecordingReceiver | None = None
    ) -> AbstractAsyncContextManager[Line]:
        made = receiver or RecordingReceiver()
        return _Lined(self.open(made, limits or Limits()), made)

    # -- messages ----------------------------------------------------------------------------------------------------

    async def test_messages_come_in_order_after_connected_and_before_closed(self) -> None:
        async with self.line() as line:
            for message in ("a", b"b", "", b"", "é"):
                await line.client.send(message)
            await line.client.close(4000, "bye")
            assert await line.receiver.end() == (4000, "bye")
        assert line.receiver.log == ["connected", "a", b"b", "", b"", "é", (4000, "bye")]

    async def test_what_is_sent_arrives_in_order_as_what_it_was(self) -> None:
        receiver = RecordingReceiver()
        receiver.on_connected = lambda: receiver.transport.send(Message(b"first"))
        async with self.line(receiver=receiver) as line:
            line.transport.send(Message("é".encode()))
            line.transport.send(Burst([b"1", b"", b"3"], binary=True))
            line.transport.send(Message(b""))
            came = [await line.client.receive() for _ in range(6)]
            assert came == ["first", "é", b"1", b"", b"3", ""]

    async def test_what_is_sent_in_answer_to_a_message_arrives(self) -> None:
        receiver = RecordingReceiver()
        receiver.on_message = lambda payload: receiver.transport.send(Message(str(payload).encode()))
        async with self.line(receiver=receiver) as line:
            await line.client.send("1")
            await line.client.send("2")
            assert [await line.client.receive(), await line.client.receive()] == ["1", "2"]

    # -- reading -----------------------------------------------------------------------------------------------------

    async def test_while_reading_is_paused_nothing_is_delivered_and_then_all_of_it_in_order(self) -> None:
        receiver = RecordingReceiver()
        receiver.on_message = lambda payload: receiver.transport.pause_reading()
        async with self.line(receiver=receiver) as line:
            for number in range(5):
                await line.client.send(str(number))
            await self.settled(lambda: "0" in receiver.log)
            assert receiver.log == ["connected", "0"]
            receiver.on_message = lambda payload: None
            line.transport.resume_reading()
            await self.settled(lambda: "4" in receiver.log)
            assert receiver.log == ["connected", "0", "1", "2", "3", "4"]

    async def test_a_receiver_that_pauses_at_every_message_gets_them_one_by_one(self) -> None:
        receiver = RecordingReceiver()
        receiver.on_message = lambda payload: receiver.transport.pause_reading()
        async with self.line(receiver=receiver) as line:
            for number in range(4):
                await line.client.send(str(number))
            for number in range(4):
                await self.settled(lambda: str(number) in receiver.log)  # noqa: B023  # awaited within its turn
                assert receiver.log[1:] == [str(each) for each in range(number + 1)]
                line.transport.resume_reading()

    async def test_a_close_of_ours_is_finished_also_while_reading_is_paused(self) -> None:
        async with self.line() as line:
            line.transport.pause_reading()
            await line.client.send("unread")
            line.transport.close(4001)
            assert await line.client.closed() == (4001, "")
            assert await line.receiver.end() == (4001, "")

    async def settled(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)
        await come_to_rest()

    async def test_a_message_larger_than_allowed_closes_with_1009(self) -> None:
        async with self.line(Limits(message_size=10)) as line:
            await line.client.send("x" * 10)
            await line.client.send("é" * 6)
            assert (await line.client.closed()).code == 1009
            assert (await line.receiver.end())[0] == 1009
            assert line.receiver.log[1:-1] == ["x" * 10]

    # -- a client that does not read ---------------------------------------------------------------------------------

    async def test_drained_returns_at_once_where_nothing_waits(self) -> None:
        async with self.line() as line:
            async with asyncio.timeout(1):
                await line.transport.drained()
            assert not line.transport.congested

    async def test_send_says_whether_the_client_takes_more(self) -> None:
        async with self.line(PATIENT) as line:
            assert line.transport.send(Message(b"x"))
            await line.congest()
            assert not line.transport.send(Message(b"x"))
            line.client.resume_reading()
            await asyncio.wait_for(line.transport.drained(), 5)
            assert line.transport.send(Message(b"x"))
            line.transport.close()
            assert not line.transport.send(Message(b"x"))

    async def test_drained_waits_while_the_client_is_congested_for_all_who_wait(self) -> None:
        async with self.line(PATIENT) as line:
            await line.congest()
            assert line.transport.buffered > 0
            waiting = [asyncio.ensure_future(line.transport.drained()) for _ in range(3)]
            await come_to_rest()
            assert not any(each.done() for each in waiting)
            waiting[0].cancel()
            line.client.resume_reading()
            async with asyncio.timeout(5):
                await asyncio.gather(*waiting[1:])
            assert not line.transport.congested
            assert line.transport.open

    async def test_drained_raises_when_the_connection_is_closed_meanwhile_or_was_before(self) -> None:
        async with self.line(PATIENT) as line:
            await line.congest()
            waiting = asyncio.ensure_future(line.transport.drained())
            await come_to_rest()
            line.transport.close(4002, "enough")
            for awaited in (waiting, line.transport.drained()):
                with pytest.raises(Closed) as closed:
                    await asyncio.wait_for(awaited, 5)
                assert (closed.value.code, closed.value.reason) == (4002, "enough")
            line.client.abort()

    async def test_a_client_past_its_outbox_limit_is_closed_with_1013_from_a_later_callback(self) -> None:
        async with self.line() as line:
            line.client.pause_reading()
            for _ in range(ENDLESS // len(BIG.payload)):
                line.transport.send(BIG)
                if not line.transport.open:
                    break
                await come_to_rest()
            assert not line.transport.open and line.transport.outbox_full
            assert line.receiver.log == ["connected"]
            line.transport.send(BIG)
            line.client.resume_reading()
            assert await line.client.closed() == (1013, "outbox full")
            assert await line.receiver.end() == (1013, "outbox full")

    async def test_one_message_larger_than_the_outbox_is_sent_to_a_client_that_reads(self) -> None:
        async with self.line(Limits(outbox_limit=1000, outbox_low=1000, burst_size=1000)) as line:
            line.transport.send(BIG)
            assert await line.client.receive_text() == BIG.payload.decode()
            assert line.transport.open

    # -- the end -----------------------------------------------------------------------------------------------------

    async def test_a_close_comes_after_what_was_sent_and_the_first_one_counts(self) -> None:
        async with self.line() as line:
            line.transport.send(Message(b"last"))
            line.transport.close(4401, "out")
            line.transport.close(4402, "twice")
            line.transport.send(Message(b"too late"))
            assert not line.transport.open
            assert line.receiver.log == ["connected"], "not from inside close()"
            assert await line.client.receive() == "last"
            assert await line.client.closed() == (4401, "out")
            assert await line.receiver.end() == (4401, "out")
            line.transport.close(1000)
            line.transport.send(Message(b"after the end"))
            assert not line.transport.outbox_full

    async def test_closing_while_a_message_is_received_ends_after_that_callback(self) -> None:
        receiver = RecordingReceiver()

        def close(payload: str | bytes) -> None:
            receiver.transport.close(4003)
            receiver.log.append("closing")

        receiver.on_message = close
        async with self.line(receiver=receiver) as line:
            await line.client.send("a")
            assert await line.client.closed() == (4003, "")
            assert await receiver.end() == (4003, "")
        assert receiver.log == ["connected", "a", "closing", (4003, "")]

    async def test_closing_in_connected_gives_the_client_the_reason(self) -> None:
        receiver = RecordingReceiver()
        receiver.on_connected = lambda: receiver.transport.close(4004, "not you")
        async with self.line(receiver=receiver) as line:
            assert await line.client.closed() == (4004, "not you")
            assert await receiver.end() == (4004, "not you")

    async def test_a_client_that_vanishes_is_a_connection_lost(self) -> None:
        async with self.line() as line:
            await line.client.send("a")
            line.client.abort()
            assert await line.receiver.end() == self.vanished
            assert not line.transport.open
            assert line.receiver.log[1] == "a"

    async def test_a_client_may_close_while_messages_wait_for_it(self) -> None:
        async with self.line(PATIENT) as line:
            await line.congest()
            await line.client.close(4005)
            assert await line.receiver.end() == self.left

    async def test_a_receiver_that_fails_closes_its_connection_with_1011(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(payload: str | bytes = "") -> None:
            raise RuntimeError("secret")

        for name in ("on_message", "on_connected"):
            receiver = RecordingReceiver()
            setattr(receiver, name, fail)
            async with self.line(receiver=receiver) as line:
                if name == "on_message":
                    await line.client.send("a")
                assert await line.client.closed() == (1011, "")
                assert await receiver.end() == (1011, "")
        assert caplog.text.count("a receiver failed") == 2

    async def test_transports_that_can_share_encoded_bytes_have_the_same_form(self) -> None:
        async with self.line() as one, self.line() as other:
            assert one.transport.form is other.transport.form
            assert one.transport.form.shared


class _Lined(AbstractAsyncContextManager[Line]):
    """A Line for as long as its client is connected; the receiver has been told of it."""

    def __init__(self, opening: AbstractAsyncContextManager[Client], receiver: RecordingReceiver) -> None:
        self._opening = opening
        self._receiver = receiver

    async def __aenter__(self) -> Line:
        client = await self._opening.__aenter__()
        async with asyncio.timeout(5):
            while not self._receiver.log:
                await asyncio.sleep(0)
        return Line(self._receiver, client)

    async def __aexit__(self, *error: Any) -> None:
        await self._opening.__aexit__(*error)
