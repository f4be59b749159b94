"""Every limit, just below it, at it and just past it: with a small value and with its default.

``AMOUNTS`` are sizes, counts and rates, ``TIMES`` those of the event loop, ``SECONDS`` those of the timer wheel, and
``COVERED_ELSEWHERE`` what another test covers completely. No limit can be added without a place in one of them.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib
import itertools
import json
import math
import re
import resource
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fake_api import FakeApi, hang, raw, reply
from tests.test_gateway_api import Admin, View, trigger
from tests.test_gateway_connection import Client, Owner, no
from tests.test_gateway_rights import World, unavailable
from tests.test_transports_native import MASK, Connection, Receiver, Socket, control, text, turns

from fairlead.brokers.memory import MemoryBroker
from fairlead.dialects.fairlead import Subscribe, Unsubscribe, decode
from fairlead.errors import SettingsError
from fairlead.gateway.answer import Refused, judge
from fairlead.gateway.bodies import BadBody, read_trigger
from fairlead.gateway.http import Problem, read_body
from fairlead.gateway.idempotency import Idempotency
from fairlead.gateway.places import NoPlace, Places
from fairlead.gateway.settings import KEY_LENGTH, ApiSettings, GatewaySettings, ServerSettings, UpstreamSettings
from fairlead.gateway.upstream import Upstream
from fairlead.limits import MIB, Limits
from fairlead.message import Message, Publication
from fairlead.rooms.names import RoomKey
from fairlead.rooms.node import Node
from fairlead.rooms.room import Rooms
from fairlead.routing import ROOMS, WebSocketRoute
from fairlead.server import Listener, Server
from fairlead.server.http import HttpProtocol
from fairlead.server.run import DRAIN_RATE
from fairlead.settings import parse
from fairlead.testing import FakeMember, RecordingTransport
from fairlead.transports.asgi import OVERHEAD, AsgiTransport
from fairlead.transports.native import NativeTransport
from fairlead.transports.shared import SPARE_DESCRIPTORS, Shared
from fairlead.transports.ticker import Ticker
from fairlead.websocket import WebSocket
from fairlead.wire.frames import Opcode, encode
from fairlead.wire.messages import Close, Pong

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gateway.md"
KEY = "k" * 16
SETTINGS = GatewaySettings(upstream=UpstreamSettings(url="http://api.test/"), api=ApiSettings(keys=(KEY,)))

Passes = Callable[[int, int], Awaitable[bool]]
"""Whether so much (the second number) gets through where the limit is the first one."""


# -- the HTTP server -------------------------------------------------------------------------------------------------


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers a request; leaves a handshake without its verdict, as an API that takes its time would."""
    if scope["type"] == "websocket":
        await receive()
        await receive()
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


def http(limits: Limits) -> tuple[HttpProtocol, Socket]:
    """A connection to the server, on a socket of the test's."""
    server, socket = Server(Listener(app=application), limits=limits), Socket()
    protocol = HttpProtocol(server.config, server.server_state, {}, asyncio.get_running_loop(), shared=server.shared)
    socket.set_protocol(protocol)
    protocol.connection_made(socket)
    return protocol, socket


async def is_answered(limits: Limits, *parts: bytes) -> bool:
    """Whether a request that comes in these parts is answered with 200 and not with 431."""
    _, socket = http(limits)
    for part in parts:
        socket.protocol.data_received(part)
        await turns()
    status = b"".join(socket.written).split(b" ")[1]
    assert status in (b"200", b"431")
    return status == b"200"


def head(size: int) -> bytes:
    """A request whose target and header lines have so many bytes."""
    used = len(b"/" + b"Host: x\r\n" + b"X: \r\n")
    return b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"f" * (size - used) + b"\r\n\r\n"


async def head_size(limit: int, amount: int) -> bool:
    return await is_answered(Limits(head_size=limit), head(amount))


async def head_count(limit: int, amount: int) -> bool:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(amount - 1))
    return await is_answered(Limits(head_count=limit), b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def early_size(limit: int, amount: int) -> bool:
    _, socket = http(Limits(early_size=limit))
    behind = min(10, amount)  # some of it comes with the head
    socket.protocol.data_received(HANDSHAKE + b"e" * behind)
    await turns()
    for start in range(behind, amount, 16_384):
        socket.protocol.data_received(b"e" * min(16_384, amount - start))
    return not socket.aborted


async def connections(limit: int, amount: int) -> bool:
    """Only the last few are counted one by one: by default there may be a million."""
    given = None if limit == default("limits.connections") else limit
    shared = Shared(asyncio.get_running_loop(), Limits(connections=given), Ticker())
    shared.websockets = limit - 2
    return all([shared.enter() for _ in range(shared.websockets, amount)])


# -- open connections ------------------------------------------------------------------------------------------------


async def message_size(limit: int, amount: int) -> bool:
    connection = Connection(Limits(message_size=limit))
    connection.receive(text("x" * amount))
    await turns()
    whole = connection.receiver.messages == ["x" * amount]
    assert whole is not (Close(1009, f"a message of more than {limit} bytes") in connection.socket.events)
    return whole


async def fragment_count(limit: int, amount: int) -> bool:
    connection = Connection(Limits(fragment_count=limit))
    more = [encode(Opcode.CONTINUATION, b"", mask=MASK, fin=False)] * (amount - 2)
    connection.receive(
        encode(Opcode.TEXT, b"", mask=MASK, fin=False), *more, encode(Opcode.CONTINUATION, b"", mask=MASK)
    )
    await turns()
    whole = connection.receiver.messages == [""]
    assert whole is not (Close(1008, f"a message of more than {limit} frames") in connection.socket.events)
    return whole


async def outbox_limit(limit: int, amount: int) -> bool:
    connection = Connection(Limits(outbox_limit=limit, burst_size=min(limit, 1000)))
    connection.socket.stall()
    connection.transport.send(Message(b"x" * 99_990, binary=True))  # 100,000 with the frame's head
    for size in (1000, amount - 101_000):
        connection.transport.send(Message(b"x" * (size - (4 if size < 65_540 else 10)), binary=True))
    assert connection.transport.outbox_full is not connection.transport.open
    assert connection.transport.buffered == amount or not connection.transport.open
    return connection.transport.open


def foreign(limits: Limits) -> AsgiTransport:
    """A connection under a server of somebody else's that takes nothing."""

    async def never(*events: object) -> Any:
        await asyncio.Event().wait()

    return AsgiTransport(never, never, Receiver(), limits)


async def outbox_limit_elsewhere(limit: int, amount: int) -> bool:
    transport = foreign(Limits(outbox_limit=limit, outbox_low=1, burst_size=1))
    transport.send(Message(b"x"))
    transport.send(Message(b"x" * (amount - 1 - 2 * OVERHEAD)))
    return transport.open


async def outbox_low_elsewhere(limit: int, amount: int) -> bool:
    """Whether a sender goes on."""
    transport = foreign(Limits(outbox_low=limit))
    transport.send(Message(b"x" * (amount - OVERHEAD)))
    waiting = asyncio.ensure_future(transport.drained())
    await turns()
    going_on = waiting.done()
    waiting.cancel()
    return going_on


async def outbox_low(limit: int, amount: int) -> bool:
    """Here the event loop's own mark is used: a sender goes on with as many bytes (asyncio's default is 16 KiB)."""

    class Marked(Socket):
        low = 16_384

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            self.low = low or 0

    shared = Shared(asyncio.get_running_loop(), Limits(outbox_low=limit), Ticker())
    socket = Marked()
    NativeTransport(socket, Receiver(), shared).start(b"", b"")
    return amount <= socket.low


async def message_rate(limit: int, amount: int) -> bool:
    """So many messages in each of several seconds; once the burst is used up, nothing may be left over."""
    connection = Connection(Limits(message_rate=limit, message_burst=2 * limit))
    connection.receive(*[text("x")] * 2 * limit)
    got = connection.receiver.messages
    for second in range(1, 11):
        connection.pass_time(1)
        await turns()
        connection.receive(*[text("x")] * amount)
        assert len(got) == 2 * limit + second * min(limit, amount)
    return len(got) == 2 * limit + 10 * amount


async def message_burst(limit: int, amount: int) -> bool:
    connection = Connection(Limits(message_rate=1, message_burst=limit))
    connection.receive(*[text("x")] * amount)
    return len(connection.receiver.messages) == amount


async def control_rate(limit: int, amount: int) -> bool:
    connection = Connection(Limits(control_rate=limit))
    connection.receive(*[control(Opcode.PING, b"p")] * amount)
    await turns()
    return connection.socket.events == [Pong(b"p")] * amount


# -- rooms and the gateway's clients ---------------------------------------------------------------------------------


async def subscriptions(limit: int, amount: int) -> bool:
    owner = Owner(limits=Limits(subscriptions=limit))
    await owner.node.start()
    client = Client(owner, rooms=["a"])
    client.subscribe("a", 0)
    await asyncio.gather(*owner.tasks)
    client.news()
    said = client.say(*({"type": "subscribe", "room": "a", "requestId": number} for number in range(1, amount)))
    assert owner.node.hub.count(RoomKey("a")) == min(limit, amount)
    refused = [answer for answer in said if answer["code"] == "error"]
    assert refused in ([], [no(amount - 1, "too-many-subscriptions")])
    return not refused


async def room_size(limit: int, amount: int) -> bool:
    asked = json.dumps({"type": "subscribe", "room": "é" * (amount // 2) + "x" * (amount % 2), "requestId": 1})
    return isinstance(decode(asked, limits=Limits(room_size=limit)), Subscribe)


async def request_id_size(limit: int, amount: int) -> bool:
    asked = json.dumps({"type": "unsubscribe", "requestId": "é" * (amount // 2) + "x" * (amount % 2)})
    return isinstance(decode(asked, limits=Limits(request_id_size=limit)), Unsubscribe)


async def burst_size(limit: int, amount: int) -> bool:
    """Whether two publications are one write. With each, 192 bytes are reckoned for its request id and frame."""
    node, member = Node(MemoryBroker(), limits=Limits(burst_size=limit)), FakeMember()
    await node.start()
    await node.join(member, RoomKey("r"))
    for size in (100, amount - 100 - 2 * 192):
        node.deliver(RoomKey("r"), Publication(data=b"x" * size))
    node.flush()
    await node.close()
    assert isinstance(member.transport, RecordingTransport)
    assert len(member.transport.payloads) == 2
    return len(member.transport.sent) == 1


# -- asks ------------------------------------------------------------------------------------------------------------


async def is_in(settings: UpstreamSettings) -> bool:
    upstream = Upstream(settings)
    await upstream.start()
    try:
        await upstream.ask(b"")
    except Refused:
        return False
    else:
        return True
    finally:
        await upstream.close()


async def answer_size(limit: int, amount: int) -> bool:
    async with FakeApi() as api:
        api.script(reply(200, b"{}" + b" " * (amount - 2)))
        return await is_in(UpstreamSettings(url=api.url, answer_size=limit))


async def interim(limit: int, amount: int) -> bool:
    async with FakeApi() as api:
        api.script(
            raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * amount + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        )
        return await is_in(UpstreamSettings(url=api.url))


async def answer_head_size(limit: int, amount: int) -> bool:
    """A line counts with its colon, a blank and its end."""
    async with FakeApi() as api:
        api.script(reply(200, b"{}", {"X": "y" * (amount - len("Content-Length: 2\r\n") - len("X: \r\n"))}))
        return await is_in(UpstreamSettings(url=api.url))


async def answer_head_count(limit: int, amount: int) -> bool:
    async with FakeApi() as api:
        api.script(reply(200, b"{}", {f"X-{number}": "y" for number in range(amount - 1)}))
        return await is_in(UpstreamSettings(url=api.url))


async def in_flight(limit: int, amount: int) -> bool:
    places = Places(limit, waiting=0, wait=1.0)
    return not await refusals(places, amount)


async def waiting(limit: int, amount: int) -> bool:
    places = Places(1, waiting=limit, wait=1.0)
    await places.take()
    return not await refusals(places, amount)


async def refusals(places: Places, count: int) -> int:
    """How many of so many that come now are sent away at once."""
    coming = [asyncio.ensure_future(places.take()) for _ in range(count)]
    await turns()
    refused = [each for each in coming if each.done() and isinstance(each.exception(), NoPlace)]
    for each in coming:
        each.cancel()
    await asyncio.gather(*coming, return_exceptions=True)
    return len(refused)


async def refusal_body(limit: int, amount: int) -> bool:
    with pytest.raises(Refused) as refused:
        judge(403, {"Content-Type": "text/plain"}, b"x" * amount, room_size=512)
    return bool(refused.value.body)


# -- calls of the API ------------------------------------------------------------------------------------------------


async def body_size(limit: int, amount: int) -> bool:
    async with Admin(body_size=limit) as admin:
        body = json.dumps(trigger("a")).encode()
        status = (await admin.post("/trigger/", body + b" " * (amount - len(body)))).status
    assert status in (200, 413)
    return status == 200


async def idempotency_keys(limit: int, amount: int) -> bool:
    """Whether the first of so many is still known at the end."""
    known = Idempotency(seconds=1.0, keys=limit, clock=lambda: 0.0)
    for key in range(amount):
        await known.once(key, b"", _answer)
    return (await known.once(0, b"", _answer))[1]


async def _answer() -> bytes:
    return b""


async def answers_size(limit: int, amount: int) -> bool:
    known = Idempotency(seconds=1.0, keys=10, clock=lambda: 0.0)

    async def large(size: int) -> bytes:
        return bytes(size)

    for key, size in enumerate((100, amount - 100)):
        await known.once(key, b"", lambda size=size: large(size))  # type: ignore[misc]  # its default is its type
    return len(known) == 2


async def idempotency_key_size(limit: int, amount: int) -> bool:
    async with Admin() as admin:
        status = (await admin.post("/trigger/", trigger("a"), idempotency_key="k" * amount)).status
    return status == 200


async def trigger_rooms(limit: int, amount: int) -> bool:
    return is_read(trigger(*(f"r{number}" for number in range(amount))))


async def batch(limit: int, amount: int) -> bool:
    return is_read([trigger("a")] * amount)


async def batch_rooms(limit: int, amount: int) -> bool:
    full, rest = divmod(amount, 1000)
    return is_read([trigger(*["a"] * 1000)] * full + [trigger(*["a"] * rest)])


def is_read(body: object) -> bool:
    try:
        read_trigger(json.dumps(body).encode(), room_size=512)
    except BadBody:
        return False
    return True


async def page(limit: int, amount: int) -> bool:
    """Whether so many are one page."""
    return (await listed("", amount))["next"] is None


async def page_limit(limit: int, amount: int) -> bool:
    async with Admin() as admin:
        return (await admin.get(f"/rooms?limit={amount}")).status == 200


async def listed(query: str, count: int) -> Any:
    async with Admin() as admin:
        admin.control.views = [View(f"c{number:05}") for number in range(count)]
        return (await admin.get(f"/connections{query}")).json


AMOUNTS: list[tuple[str, Passes, list[int]]] = [
    # the limit, what measures it, and values to try besides its default
    ("limits.head_size", head_size, [1000]),
    ("limits.head_count", head_count, [3]),
    ("limits.early_size", early_size, [1, 1000]),
    ("limits.message_size", message_size, [1, 125, 126, SETTINGS.limits.message_size]),
    ("limits.fragment_count", fragment_count, [3]),
    ("limits.outbox_limit", outbox_limit, [200_000]),
    ("limits.outbox_limit", outbox_limit_elsewhere, [1000]),
    ("limits.outbox_low", outbox_low, [1000]),
    ("limits.outbox_low", outbox_low_elsewhere, [1000]),
    ("limits.message_rate", message_rate, [3]),
    ("limits.message_burst", message_burst, [3]),
    ("limits.control_rate", control_rate, [3]),
    ("limits.connections", connections, [3]),
    ("limits.subscriptions", subscriptions, [3]),
    ("limits.room_size", room_size, [20]),
    ("limits.request_id_size", request_id_size, [3]),
    ("limits.burst_size", burst_size, [1000]),
    ("upstream.answer_size", answer_size, [10]),
    ("upstream.in_flight", in_flight, [2]),
    ("upstream.waiting", waiting, [2]),
    ("api.body_size", body_size, [100]),
    ("api.idempotency_keys", idempotency_keys, [2]),
    ("api.PAGE", page, []),
    ("api.PAGE_LIMIT", page_limit, []),
    ("api.IDEMPOTENCY_KEY_SIZE", idempotency_key_size, []),
    ("bodies.BATCH", batch, []),
    ("bodies.TRIGGER_ROOMS", trigger_rooms, []),
    ("bodies.BATCH_ROOMS", batch_rooms, []),
    ("idempotency.ANSWERS_SIZE", answers_size, []),
    ("answer.BODY_KEPT", refusal_body, []),
    ("exchange.INTERIM", interim, []),
    ("exchange.HEAD_SIZE", answer_head_size, []),
    ("exchange.HEAD_COUNT", answer_head_count, []),
]


def default(name: str) -> Any:
    """The value that a limit has where nobody sets it."""
    section, _, key = name.partition(".")
    if key.isupper():
        return getattr(importlib.import_module(f"fairlead.gateway.{section}"), key)
    value = getattr(Limits() if section == "limits" else getattr(SETTINGS, section), key)
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS if name == "limits.connections" else value


SLOW = {("upstream.waiting", 20_000), ("api.idempotency_keys", 100_000)}


def with_default(table: Iterable[tuple[str, Any, Sequence[float]]]) -> list[Any]:
    """For each limit its default, then the other values."""
    return [
        pytest.param(
            *(name, measure, value),
            id=f"{name}-{measure.__name__}-{value}",
            marks=[pytest.mark.slow] if (name, value) in SLOW else [],
        )
        for name, measure, values in table
        for value in (default(name), *values)
    ]


@pytest.mark.parametrize(("name", "passes", "limit"), with_default(AMOUNTS))
async def test_as_much_as_the_limit_says_passes_and_not_one_more(name: str, passes: Passes, limit: int) -> None:
    assert [await passes(limit, limit + over) for over in (-1, 0, 1)] == [True, True, False]


@pytest.mark.parametrize("setting", ["keys", "secret"])
def test_a_key_has_so_many_characters_at_least(setting: str) -> None:
    def is_accepted(length: int) -> bool:
        try:
            if setting == "keys":
                ApiSettings(keys=("k" * length,))
            else:
                UpstreamSettings(url="http://api.test/", secret="k" * length)
        except SettingsError:
            return False
        return True

    assert [is_accepted(KEY_LENGTH + over) for over in (-1, 0, 1)] == [False, True, True]


@pytest.mark.parametrize("cut", [1, 2, 15, 17, 500])
async def test_a_head_may_be_as_large_in_two_pieces_as_in_one(cut: int) -> None:
    limits = Limits(head_size=1000)
    for over in (-1, 0, 1):
        whole = head(1000 + over)
        assert await is_answered(limits, whole[:-cut], whole[-cut:]) is (over < 1)


async def test_a_body_does_not_count_for_the_next_head() -> None:
    limits = Limits(head_size=1000)
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"b" * 5000
    _, socket = http(limits)
    whole = head(500)
    for part in (body + whole[:10], whole[10:]):
        socket.protocol.data_received(part)
        await turns()
    assert b"".join(socket.written).count(b"HTTP/1.1 200 OK") == 2


async def test_an_unfinished_line_is_bounded_too() -> None:
    assert not await is_answered(Limits(head_size=1000), head(5000)[:-10])


# -- deadlines -------------------------------------------------------------------------------------------------------


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.used = AsyncExitStack()
        super().__init__()

    def time(self) -> float:
        return self.now

    async def move(self, to: float) -> None:
        """Have it be that late, and let everything happen that is due then."""
        self.now = to
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            quiet = 0 if self._ready else quiet + 1  # type: ignore[attr-defined]  # what runs next; asyncio's own


Over = Callable[[], bool]
"""Whether the time is over."""


async def head_timeout(clock: Clock, limit: float) -> Over:
    protocol, socket = http(Limits(head_timeout=limit))
    protocol.data_received(b"GET / HTTP/1.1\r\n")
    return lambda: socket.aborted


async def ping_timeout_of_http(clock: Clock, limit: float) -> Over:
    protocol, socket = http(Limits(ping_timeout=limit, ping_after=0.1))
    protocol.data_received(head(100))
    await turns()
    protocol.pause_writing()
    return lambda: socket.aborted


async def handler_grace(clock: Clock, limit: float) -> Over:
    """Of a handler that waits for something else than its client, which leaves at once."""
    events: list[dict[str, Any]] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]

    async def handler(ws: WebSocket) -> None:
        await asyncio.Event().wait()

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: object) -> None: ...

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "scheme": "ws"}
    given = {ROOMS: Rooms(limits=Limits(handler_grace=limit))}
    carrying = asyncio.ensure_future(WebSocketRoute("/", handler).handle({**scope, **given}, receive, send))
    while events:
        await asyncio.sleep(0)
    return carrying.done


async def drain_window(clock: Clock, limit: float) -> Over:
    """Also whoever comes in during the drain is told within the window."""
    server = draining(clock, Limits(drain_window=limit), [Socket() for _ in range(int(limit * 1.2 * DRAIN_RATE))])
    await turns()
    late = client(server, Socket())
    return lambda: not late.open


async def drain_grace(clock: Clock, limit: float) -> Over:
    sockets = [Socket() for _ in range(3)]
    draining(clock, Limits(drain_window=0.0, drain_grace=limit), sockets)
    await turns()
    return lambda: all(socket.aborted for socket in sockets)


def draining(clock: Clock, limits: Limits, sockets: Sequence[Socket]) -> Server:
    """A server that drains, and whose clients do not leave."""
    server = Server(Listener(app=application), limits=limits)
    server.lifespan = server.config.lifespan_class(server.config)
    for socket in sockets:
        client(server, socket)
    clock.used.callback(asyncio.ensure_future(server.shutdown()).cancel)
    return server


def client(server: Server, socket: Socket) -> NativeTransport:
    transport = NativeTransport(socket, Receiver(), server.shared)
    transport.start(b"", b"")
    return transport


async def connect_timeout(clock: Clock, limit: float) -> Over:
    api = await clock.used.enter_async_context(FakeApi())
    api.default = hang  # a TLS handshake that is not answered is a connection that does not come about
    url = api.url.replace("http:", "https:")
    return await asking(clock, UpstreamSettings(url=url, connect_timeout=limit, timeout=100.0), api)


async def timeout(clock: Clock, limit: float) -> Over:
    api = await clock.used.enter_async_context(FakeApi())
    api.default = hang
    over = await asking(clock, UpstreamSettings(url=api.url, timeout=limit), api)
    await api.asked(1)
    return over


async def asking(clock: Clock, settings: UpstreamSettings, api: FakeApi) -> Over:
    upstream = Upstream(settings)
    await upstream.start()
    clock.used.push_async_callback(upstream.close)
    ask = asyncio.ensure_future(upstream.ask(b""))
    while not api.connections:
        await asyncio.sleep(0)
    return lambda: ask.done() and isinstance(ask.exception(), Refused)


async def wait(clock: Clock, limit: float) -> Over:
    places = Places(1, waiting=1, wait=limit)
    await places.take()
    coming = asyncio.ensure_future(places.take())
    await turns()
    return lambda: coming.done() and isinstance(coming.exception(), NoPlace)


async def body_timeout(clock: Clock, limit: float) -> Over:
    async def never() -> Any:
        await asyncio.Event().wait()

    reading = asyncio.ensure_future(read_body({"headers": []}, never, size=1, seconds=limit))
    await turns()
    return lambda: reading.done() and isinstance(reading.exception(), Problem)


async def idempotency_time(clock: Clock, limit: float) -> Over:
    known = Idempotency(seconds=limit, keys=10, clock=clock.time)
    await known.once("k", b"", _answer)

    def is_forgotten() -> bool:
        known._forget()
        return not len(known)

    return is_forgotten


TIMES: list[tuple[str, Callable[[Clock, float], Awaitable[Over]], list[float]]] = [
    ("limits.head_timeout", head_timeout, [0.5]),
    ("limits.ping_timeout", ping_timeout_of_http, [0.5]),
    ("limits.handler_grace", handler_grace, [0.5]),
    ("limits.drain_window", drain_window, [0.5]),
    ("limits.drain_grace", drain_grace, [0.5]),
    ("upstream.connect_timeout", connect_timeout, [0.5]),
    ("upstream.timeout", timeout, [0.5]),
    ("upstream.wait", wait, [0.5]),
    ("api.body_timeout", body_timeout, [0.5]),
    ("api.idempotency_time", idempotency_time, [1.5]),
]


@pytest.mark.parametrize(("name", "start", "limit"), with_default(TIMES))
def test_a_time_is_over_when_the_limit_says_and_not_before(
    name: str, start: Callable[[Clock, float], Awaitable[Over]], limit: float
) -> None:
    async def follow() -> list[bool]:
        clock = asyncio.get_running_loop()
        assert isinstance(clock, Clock)
        begun = clock.now
        async with clock.used:
            over = await start(clock, limit)
            seen = []
            for moment in (begun, begun + limit - 0.1, begun + limit, begun + limit + 0.1):
                await clock.move(moment)
                seen.append(over())
        return seen

    with asyncio.Runner(loop_factory=Clock) as runner:
        assert runner.run(follow()) == [False, False, True, True]


async def close_timeout(limit: int, seconds: int) -> bool:
    connection = Connection(Limits(close_timeout=limit))
    connection.transport.close()
    connection.pass_time(seconds)
    return connection.socket.aborted


async def ping_after(limit: int, seconds: int) -> bool:
    connection = Connection(Limits(ping_after=limit))
    connection.pass_time(seconds)
    return bool(connection.socket.events)


async def ping_timeout(limit: int, seconds: int) -> bool:
    connection = Connection(Limits(ping_after=min(25, limit // 2), ping_timeout=limit))
    connection.pass_time(seconds)
    return not connection.transport.open


async def grace(limit: int, seconds: int) -> bool:
    """The API answers none of the asks that come meanwhile."""
    world = World(grace=limit)
    world.rights.refresh(world.connection)
    await turns()
    for _ in range(seconds):
        if not world.asks[-1].done():
            await world.reply(unavailable())
        await world.wait(1)
    if not world.asks[-1].done():
        await world.reply(unavailable())
    return not world.transport.open


SECONDS: list[tuple[str, Callable[[int, int], Awaitable[bool]], list[int]]] = [
    ("limits.close_timeout", close_timeout, [1, 3]),
    ("limits.ping_after", ping_after, [1, 3]),
    ("limits.ping_timeout", ping_timeout, [4, 7]),
    ("upstream.grace", grace, [10]),
]


@pytest.mark.parametrize(("name", "over", "limit"), with_default(SECONDS))
async def test_a_time_of_the_wheel_is_over_within_a_second_after_the_limit(
    name: str, over: Callable[[int, int], Awaitable[bool]], limit: float
) -> None:
    """The wheel's seconds: one that has begun counts for nothing, so that no deadline is early."""
    at_once = over is grace  # counts the seconds by itself
    assert [await over(int(limit), int(limit) + late) for late in (-1, 0, 1)] == [False, at_once, True]


# -- what may be set -------------------------------------------------------------------------------------------------

DAY = 86_400.0
RANGES: dict[str, tuple[float, float]] = {
    "server.port": (0, 65_535),
    "upstream.connect_timeout": (0.01, DAY),
    "upstream.timeout": (0.01, DAY),
    "upstream.answer_size": (1, 1024 * MIB),
    "upstream.in_flight": (1, 10_000),
    "upstream.wait": (0, DAY),
    "upstream.waiting": (0, 1_000_000),
    "upstream.grace": (0, 30 * DAY),
    "api.port": (0, 65_535),
    "api.body_size": (1, 1024 * MIB),
    "api.body_timeout": (0.01, DAY),
    "api.idempotency_time": (1, 30 * DAY),
    "api.idempotency_keys": (1, 100_000_000),
    "limits.early_size": (0, 2**31),
    "limits.drain_window": (0, DAY),
    "limits.drain_grace": (0, DAY),
    **dict.fromkeys(
        [
            *("limits.head_timeout", "limits.close_timeout", "limits.ping_after", "limits.ping_timeout"),
            "limits.handler_grace",
        ],
        (0.1, DAY),
    ),
    **dict.fromkeys(
        [
            *("limits.head_size", "limits.head_count", "limits.message_size", "limits.fragment_count"),
            *("limits.outbox_limit", "limits.outbox_low", "limits.message_rate", "limits.message_burst"),
            *("limits.control_rate", "limits.connections", "limits.subscriptions", "limits.room_size"),
            *("limits.request_id_size", "limits.calls", "limits.burst_size"),
        ],
        (1, 2**31),
    ),
}
NEEDED: dict[str, dict[str, Any]] = {"upstream": {"url": "http://api.test/"}, "api": {"keys": (KEY,)}}
SECTIONS = {"server": ServerSettings, "upstream": UpstreamSettings, "api": ApiSettings, "limits": Limits}


def fault(name: str, value: object) -> str:
    """What is said about a value; nothing if it may be set."""
    section, _, key = name.partition(".")
    made: Callable[..., object] = SECTIONS[section]
    try:
        made(**{**NEEDED.get(section, {}), key: value})
    except SettingsError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("name", RANGES)
def test_a_setting_has_its_range_both_ends_included(name: str) -> None:
    low, high = RANGES[name]
    key = name.partition(".")[2]
    is_time = isinstance(default(name), float)
    below, above = (math.nextafter(low, -1), math.nextafter(high, math.inf)) if is_time else (low - 1, high + 1)
    for value in (low, high, default(name)):
        assert "must be from" not in fault(name, value)
    for value in (below, above, math.nan, -math.inf, math.inf):
        assert fault(name, value) == f"{key}: must be from {low} to {high}, not {value!r}"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ping_after": 45}, "ping_timeout: must be longer than limits.ping_after, or no ping is ever sent"),
        ({"message_rate": 201}, "message_burst: must not be less than limits.message_rate, or it is the real rate"),
        ({"outbox_low": MIB + 1}, "outbox_low: must not be more than limits.outbox_limit"),
        ({"burst_size": MIB + 1}, "burst_size: must not be more than limits.outbox_limit"),
        ({"compression": "on"}, "compression: must be 'off' or 'shared' or 'own'"),
    ],
)
def test_limits_that_do_not_go_together_are_refused_wherever_they_are_made(given: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Limits(**given)
    assert str(caught.value) == text
    file = "[limits]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    environ = {"FAIRLEAD_API__KEYS": KEY, "FAIRLEAD_UPSTREAM__URL": "http://api.test/"}
    with pytest.raises(SettingsError, match=re.escape(f"limits.{text}")):
        parse(GatewaySettings, file.encode(), environ, {})


@pytest.mark.parametrize(
    "given",
    [
        {"ping_after": 44.9},
        {"message_rate": 200},
        {"outbox_low": MIB, "burst_size": MIB},
        {"early_size": 0, "drain_window": 0, "drain_grace": 0},
        {"head_timeout": 1, "close_timeout": 1},
    ],
)
def test_limits_that_just_go_together_are_taken(given: dict[str, Any]) -> None:
    assert dataclasses.asdict(Limits(**given)).items() >= given.items()


# -- nothing is left out ---------------------------------------------------------------------------------------------

COVERED_ELSEWHERE = {
    "limits.calls": "tests/test_dialects_calls.py::test_so_many_calls_run_at_once_and_no_more",
    "limits.compression": "tests/test_server_websocket.py::test_what_is_sent_is_compressed_as_agreed",
    "server.port": "tests/test_gateway_settings.py::test_fault_names_the_key",
    "api.port": "tests/test_gateway_settings.py::test_fault_names_the_key",
    "settings.KEY_LENGTH": "tests/test_limits.py::test_a_key_has_so_many_characters_at_least",
    "answer.MIN_EXPIRES_IN": "tests/test_gateway_answer.py::test_expires_in_is_a_positive_number_and_at_least_five",
}
FIXED = ("answer", "api", "bodies", "exchange", "idempotency", "settings")
"""Modules of the gateway with bounds that nobody can set."""


def is_numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def settable() -> set[str]:
    """Every field of Limits, and every setting that is a number."""
    found = {f"limits.{field.name}" for field in dataclasses.fields(Limits)}
    for section, made in msgspec.structs.asdict(SETTINGS).items():
        if isinstance(made, msgspec.Struct):
            found |= {f"{section}.{key}" for key, value in msgspec.structs.asdict(made).items() if is_numeric(value)}
    return found


def fixed() -> set[str]:
    """The public numbers that stand in those modules."""
    found = set()
    for module in FIXED:
        tree = ast.parse((ROOT / "src" / "fairlead" / "gateway" / f"{module}.py").read_text())
        for node in tree.body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(target, ast.Name) and not target.id.startswith("_") and target.id.isupper():
                if is_numeric(default(f"{module}.{target.id}")):
                    found.add(f"{module}.{target.id}")
    return found


def test_every_limit_is_tested_and_nothing_else() -> None:
    tested = {name for name, *_ in itertools.chain[Any](AMOUNTS, TIMES, SECONDS)}
    assert not tested & COVERED_ELSEWHERE.keys()
    assert tested | COVERED_ELSEWHERE.keys() == settable() | fixed()
    assert RANGES.keys() == settable() - {"limits.compression"}


@pytest.mark.parametrize("place", sorted(set(COVERED_ELSEWHERE.values())))
def test_what_is_said_to_be_covered_elsewhere_is_there(place: str) -> None:
    file, _, name = place.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


DOCUMENTED = {
    "api.IDEMPOTENCY_KEY_SIZE": "`Idempotency-Key` (at most {:,} bytes)",
    "api.PAGE": "`limit` from 1 to 1,000 ({:,})",
    "api.PAGE_LIMIT": "`limit` from 1 to {:,} (",
    "bodies.TRIGGER_ROOMS": "| `rooms` | list of rooms | At most {:,}.",
    "bodies.BATCH": "An array of such objects, at most {:,} with",
    "bodies.BATCH_ROOMS": "with {:,} rooms",
    "settings.KEY_LENGTH": "Signs the asks; {:,} characters or more",
    "answer.MIN_EXPIRES_IN": "under {0:g} counts as {0:g}",
    "answer.BODY_KEPT": "at most {kib:g} KiB",
    "exchange.HEAD_SIZE": "more than {kib:g} KiB or",
    "exchange.HEAD_COUNT": "or {:,} lines before its body",
}
INTERNAL = {"exchange.INTERIM", "idempotency.ANSWERS_SIZE"}
"""Nobody who keeps to HTTP, and to the documented limits, meets these."""


def test_the_page_tells_every_bound_that_cannot_be_set() -> None:
    text = " ".join(PAGE.read_text().split())
    assert DOCUMENTED.keys() | INTERNAL == fixed()
    for name, words in DOCUMENTED.items():
        assert words.format(default(name), kib=default(name) / 1024) in text, name


def test_the_page_tells_the_limits_that_have_no_number_and_those_that_may_be_none_at_all() -> None:
    """That it has all of them, with their defaults, is tested in ``test_docs_gateway``."""
    section = PAGE.read_text().partition("### `[limits]`")[2].partition("\n#")[0]
    assert f"| `connections` | *the descriptor limit less {SPARE_DESCRIPTORS}* |" in section
    told = re.search(r"[^;]+ may be 0\.", section)
    assert told is not None
    may_be_zero = {
        name.partition(".")[2] for name, (low, _) in RANGES.items() if name.startswith("limits.") and not low
    }
    assert set(re.findall(r"`(\w+)`", told[0])) == may_be_zero
