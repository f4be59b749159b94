from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, MutableMapping
from typing import Any

import pytest

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import Burst, Message
from fairlead.transports import Transport
from fairlead.transports.asgi import _warn_of_daphne, accept, carry, refuse

Event = MutableMapping[str, Any]


class ForeignServer:
    """The server's end of an ASGI conversation."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Event] = asyncio.Queue()
        self.sent: list[Event] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.gone = False

    async def receive(self) -> Event:
        return await self.incoming.get()

    async def send(self, event: Event) -> None:
        await self.taking.wait()
        if self.gone:
            raise OSError("the client is gone")
        self.sent.append(event)

    def arrive(self, *events: Event) -> None:
        for event in events:
            self.incoming.put_nowait(event)


class Receiver:
    def __init__(self) -> None:
        self.transport: Transport
        self.log: list[object] = []
        self.on_message: Callable[[str | bytes], None] = lambda payload: None

    def connected(self, transport: Transport) -> None:
        self.transport = transport
        self.log.append("connected")

    def received(self, payload: str | bytes) -> None:
        self.log.append(payload)
        self.on_message(payload)

    def closed(self, code: int, reason: str) -> None:
        self.log.append((code, reason))


class Connection:
    """A client that was let in, under a server without our extension."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.server = ForeignServer()
        self.receiver = Receiver()
        self.running = asyncio.ensure_future(
            carry({}, self.server.receive, self.server.send, self.receiver, limits=limits)
        )

    async def open(self) -> Transport:
        while "connected" not in self.receiver.log:
            await asyncio.sleep(0)
        return self.receiver.transport

    async def over(self) -> list[object]:
        await asyncio.wait_for(self.running, 5)
        return self.receiver.log


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_messages_go_both_ways_in_order_until_the_client_leaves() -> None:
    connection = Connection()
    transport = await connection.open()
    transport.send(Message(b"one"))
    transport.send(Burst([b"two", b"three"], binary=True))
    await turns()
    connection.server.arrive(
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": b"b", "text": None},
        {"type": "websocket.disconnect", "code": 4000, "reason": "bye"},
    )
    assert await connection.over() == ["connected", "a", b"b", (4000, "bye")]
    assert connection.server.sent == [
        {"type": "websocket.accept", "subprotocol": None, "headers": []},
        {"type": "websocket.send", "text": "one"},
        {"type": "websocket.send", "bytes": b"two"},
        {"type": "websocket.send", "bytes": b"three"},
    ]


async def test_a_close_of_ours_comes_after_what_was_sent_before_it() -> None:
    connection = Connection()
    transport = await connection.open()
    transport.send(Message(b"last"))
    transport.close(4401, "out")
    transport.close(1000)
    transport.send(Message(b"too late"))
    assert not transport.open
    assert await connection.over() == ["connected", (4401, "out")]
    assert connection.server.sent[1:] == [
        {"type": "websocket.send", "text": "last"},
        {"type": "websocket.close", "code": 4401, "reason": "out"},
    ]


async def test_closed_is_never_called_from_inside_close() -> None:
    connection = Connection()
    transport = await connection.open()
    transport.close()
    assert connection.receiver.log == ["connected"]
    await connection.over()


async def test_a_slow_client_is_closed_with_1013_and_what_waits_is_dropped() -> None:
    connection = Connection(Limits(outbox_limit=1000, outbox_low=1000, burst_size=1000, close_timeout=0.1))
    transport = await connection.open()
    connection.server.taking.clear()
    for _ in range(5):
        transport.send(Message(b"x" * 300))
    assert not transport.open
    assert transport.buffered == 0
    assert (await connection.over())[-1] == (1013, "outbox full")


async def test_empty_messages_fill_an_outbox_too() -> None:
    connection = Connection(Limits(close_timeout=0.1))
    transport = await connection.open()
    connection.server.taking.clear()
    transport.send(Burst([b""] * 1000))
    assert transport.congested
    transport.send(Burst([b""] * 20_000))
    assert (await connection.over())[-1] == (1013, "outbox full")


async def test_drained_waits_for_the_low_water_mark_and_raises_when_closed() -> None:
    connection = Connection(Limits(outbox_low=200, close_timeout=0.1))
    transport = await connection.open()
    await transport.drained()
    connection.server.taking.clear()
    transport.send(Message(b"x" * 200))
    waiting = [asyncio.ensure_future(transport.drained()) for _ in range(2)]
    await turns()
    assert not any(each.done() for each in waiting)
    connection.server.taking.set()
    await asyncio.gather(*waiting)
    connection.server.taking.clear()
    transport.send(Message(b"x" * 200))
    closing = asyncio.ensure_future(transport.drained())
    await turns()
    transport.close(4000)
    with pytest.raises(Closed):
        await closing
    await connection.over()


async def test_nothing_is_delivered_while_reading_is_paused() -> None:
    connection = Connection()
    transport = await connection.open()
    connection.receiver.on_message = lambda payload: transport.pause_reading()
    connection.server.arrive(*({"type": "websocket.receive", "text": each} for each in "ab"))
    await turns()
    assert connection.receiver.log == ["connected", "a"]
    transport.resume_reading()
    await turns()
    assert connection.receiver.log == ["connected", "a", "b"]
    transport.close()
    await connection.over()


async def test_a_client_that_vanished_is_noticed_by_sending() -> None:
    connection = Connection()
    transport = await connection.open()
    connection.server.gone = True
    transport.send(Message(b"hello?"))
    assert await connection.over() == ["connected", (1006, "")]


async def test_a_cancelled_call_still_tells_the_receiver_once() -> None:
    connection = Connection()
    await connection.open()
    connection.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.running
    assert connection.receiver.log == ["connected", (1006, "")]


async def test_with_the_extension_the_receiver_is_attached_before_the_accept() -> None:
    log: list[object] = []

    class Extension:
        def attach(self, receiver: object) -> None:
            log.append(receiver)

    async def send(event: Event) -> None:
        log.append(event["type"])

    receiver = Receiver()
    await accept({"extensions": {"fairlead": Extension()}}, ForeignServer().receive, send, receiver)
    assert log == [receiver, "websocket.accept"]


async def test_a_refusal_is_http_where_the_server_can_and_a_close_elsewhere() -> None:
    server = ForeignServer()
    await refuse({"extensions": {"websocket.http.response": {}}}, server.send, 401, b"no\n", headers=[(b"x", b"y")])
    await refuse({}, server.send, 401, b"no\n")
    start, body, close = server.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"x", b"y") in start["headers"]
    assert body == {"type": "websocket.http.response.body", "body": b"no\n"}
    assert close["type"] == "websocket.close"


async def test_what_comes_while_reading_is_paused_waits_also_if_it_was_waited_for() -> None:
    connection = Connection()
    transport = await connection.open()
    await turns()
    transport.pause_reading()
    connection.server.arrive({"type": "websocket.receive", "text": "a"})
    await turns()
    assert connection.receiver.log == ["connected"]
    transport.resume_reading()
    await turns()
    assert connection.receiver.log == ["connected", "a"]
    transport.close()
    await connection.over()


async def test_a_failing_receiver_closes_its_connection_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection()
    await connection.open()

    def fail(payload: str | bytes) -> None:
        raise RuntimeError("secret")

    connection.receiver.on_message = fail
    connection.server.arrive({"type": "websocket.receive", "text": "a"})
    assert (await connection.over())[-1] == (1011, "")
    assert connection.server.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": ""}
    assert "a receiver failed" in caplog.text


async def test_a_server_that_fails_to_send_ends_the_connection_and_gets_its_error_back() -> None:
    connection = Connection()
    transport = await connection.open()
    connection.server.sent = None  # type: ignore[assignment]  # so that sending fails in an unheard-of way
    transport.send(Message(b"x"))
    with pytest.raises(AttributeError):
        await connection.over()
    assert connection.receiver.log[-1] == (1006, "")


async def test_a_close_is_a_plain_integer_and_its_reason_as_long_as_may_be() -> None:
    connection = Connection()
    transport = await connection.open()
    transport.close(CloseCode.TRY_AGAIN_LATER, "ü" * 100)
    assert await connection.over() == ["connected", (1013, "ü" * 61)]
    close = connection.server.sent[-1]
    assert (type(close["code"]), close["reason"]) == (int, "ü" * 61)


async def test_a_code_that_must_not_be_sent_is_refused() -> None:
    connection = Connection()
    transport = await connection.open()
    with pytest.raises(ValueError, match="1006"):
        transport.close(1006)
    transport.close()
    await connection.over()


@pytest.mark.parametrize("message", [{"bytes": b"x" * 101}, {"text": "x" * 101}, {"text": "ü" * 51}])
async def test_a_message_past_the_limit_closes_with_1009(message: Event) -> None:
    connection = Connection(Limits(message_size=100))
    await connection.open()
    connection.server.arrive({"type": "websocket.receive", "text": "ü" * 50}, {"type": "websocket.receive", **message})
    assert await connection.over() == ["connected", "ü" * 50, (1009, "a message of more than 100 bytes")]


async def test_a_client_that_leaves_is_noticed_while_reading_is_paused() -> None:
    connection = Connection()
    transport = await connection.open()
    transport.pause_reading()
    connection.server.arrive({"type": "websocket.disconnect", "code": 4005})
    assert await connection.over() == ["connected", (4005, "")]


async def test_nobody_receives_any_more_when_a_close_is_sent() -> None:
    """Granian, for one, sends no close as long as somebody does."""
    receiving = 0

    async def receive() -> Event:
        nonlocal receiving
        receiving += 1
        try:
            return await asyncio.Future()
        finally:
            receiving -= 1

    sent: list[Event] = []

    async def send(event: Event) -> None:
        while event["type"] == "websocket.close" and receiving:
            await asyncio.sleep(0)
        sent.append(event)

    receiver = Receiver()
    carrying = asyncio.ensure_future(carry({}, receive, send, receiver))
    await turns()
    receiver.transport.close(4000)
    await asyncio.wait_for(carrying, 1)
    assert sent[-1] == {"type": "websocket.close", "code": 4000, "reason": ""}


async def test_what_a_server_gives_to_be_awaited_need_not_be_a_future() -> None:
    class Awaited:
        def __await__(self) -> Generator[None, None, Event]:
            yield
            return {"type": "websocket.disconnect", "code": 4005}

    receiver = Receiver()
    await asyncio.wait_for(carry({}, Awaited, ForeignServer().send, receiver), 1)
    assert receiver.log == ["connected", (4005, "")]


async def test_a_server_that_names_no_version_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_daphne.cache_clear()
    for asgi in ({"version": "3.0"}, {"version": "3.0"}, {"version": "3.0", "spec_version": "2.4"}):
        server = ForeignServer()
        server.arrive({"type": "websocket.disconnect", "code": 1000})
        await carry({"asgi": asgi}, server.receive, server.send, Receiver())
    assert caplog.text.count("does not name its version of ASGI") == 1
