"""Any application in memory: complete ASGI semantics for those that do not know us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket
from starlette.websockets import WebSocketDisconnect

import fairlead
from fairlead import App, Endpoint, Limits, WebSocket
from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings
from fairlead.testing import Client, FakeApi, FakeClock, TimedOut, connect, rejects, reply
from fairlead.transports.ticker import Ticker

Event = MutableMapping[str, Any]
Conversation = Callable[[Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]


class Raw:
    """An ASGI application by hand."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.scope: Event = {}

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError
        self.scope = scope
        assert (await receive())["type"] == "websocket.connect"
        await self.conversation(receive, send)


ACCEPT: Event = {"type": "websocket.accept"}


async def test_starlette_applications_work_with_all_they_have() -> None:
    async def echo(ws: StarletteWebSocket) -> None:
        await ws.accept(subprotocol="two", headers=[(b"X-Id", b"7")])
        try:
            while True:
                await ws.send_text(await ws.receive_text() + ws.path_params["name"])
        except WebSocketDisconnect as left:
            seen.append((left.code, left.reason))

    async def refused(ws: StarletteWebSocket) -> None:
        raise HTTPException(402, "pay first", headers={"X-Price": "7"})

    async def closed(ws: StarletteWebSocket) -> None:
        await ws.close()

    seen: list[tuple[int, str | None]] = []
    routes = [WebSocketRoute("/echo/{name}", echo), WebSocketRoute("/refused", refused), WebSocketRoute("/no", closed)]
    app = Starlette(routes=[Mount("/sub", routes=routes)])
    async with connect(app, "/sub/echo/x", subprotocols=["one", "two"]) as client:
        assert (client.subprotocol, client.headers["x-id"]) == ("two", "7")
        await client.send("a")
        assert await client.receive() == "ax"
        await client.close(4000, "bye")
    assert seen == [(4000, "bye")]
    with rejects(402, "pay first") as refusal:
        async with connect(app, "/sub/refused"):
            pass
    assert refusal.headers["x-price"] == "7"
    with rejects(403):
        async with connect(app, "/sub/no"):
            pass


@pytest.mark.slow  # to import it takes half a second
async def test_fastapi_applications_work() -> None:
    async def add(ws: StarletteWebSocket, first: int, second: int) -> None:
        await ws.accept()
        await ws.send_json(first + second)

    app = pytest.importorskip("fastapi").FastAPI()
    app.websocket("/sum/{first}")(add)
    async with connect(app, "/sum/1", query={"second": "2"}) as client:
        assert await client.receive_json() == 3


async def test_a_handler_or_an_endpoint_alone_is_enough() -> None:
    async def shout(ws: WebSocket) -> None:
        async for text in ws:
            await ws.send(str(text).upper())

    class Whisper(Endpoint):
        async def handle(self, ws: WebSocket) -> None:
            await ws.send("psst")

    async with connect(shout) as client:
        await client.send("hey")
        assert await client.receive() == "HEY"
    async with connect(Whisper, "/anywhere") as client:
        assert await client.receive() == "psst"


async def test_the_scope_is_one_of_a_real_handshake() -> None:
    async def wait(receive: Any, send: Any) -> None:
        await send(ACCEPT)

    app = Raw(wait)
    async with connect(app, "/é/a%20b?x=1", subprotocols=["p"], headers={"Host": "example.org"}):
        pass
    scope = app.scope
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/é/a b", b"/%C3%A9/a%20b", b"x=1")
    assert scope["subprotocols"] == ["p"]
    headers = dict(scope["headers"])
    assert len(headers) == len(scope["headers"])
    assert headers[b"host"] == b"example.org"
    assert headers[b"sec-websocket-protocol"] == b"p"
    assert (headers[b"connection"], headers[b"upgrade"]) == (b"Upgrade", b"websocket")
    assert scope["client"][0] == "127.0.0.1"


async def test_a_refusal_may_come_in_parts() -> None:
    async def refuse(receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 429, "headers": [(b"Retry-After", b"3")]})
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})
        with pytest.raises(OSError, match="over"):
            await send({"type": "websocket.http.response.body", "body": b"more"})
        assert (await receive())["type"] == "websocket.disconnect"

    with rejects(429, "too many") as refusal:
        async with connect(Raw(refuse)):
            pass
    assert refusal.headers["retry-after"] == "3"


async def test_sending_to_a_client_that_left_is_an_oserror_and_receiving_tells_its_code() -> None:
    async def converse(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        seen.append(await receive())
        seen.append(await receive())
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "too late"})
        seen.append(await receive())

    seen: list[Event] = []
    async with connect(Raw(converse)) as client:
        await client.send(b"\x00")
        await client.close(4000, "bye")
    left = {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}
    assert seen == [{"type": "websocket.receive", "bytes": b"\x00"}, left, left]


async def test_a_send_waits_for_a_client_that_does_not_read() -> None:
    async def flood(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await receive()
        for number in range(4):
            await send({"type": "websocket.send", "text": "x" * 40_000})
            sent.append(number)
        await send({"type": "websocket.close", "code": 4000, "reason": "done"})

    sent: list[int] = []
    async with connect(Raw(flood)) as client:
        client.pause_reading()
        await client.send("go")
        await client.assert_nothing()
        assert sent == [0], "the second one fills the outbox"
        client.resume_reading()
        assert [len(message) async for message in client] == [40_000] * 4
        assert await client.closed() == (4000, "done")


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([{"type": "websocket.send", "text": "early"}], "while asked"),
        ([ACCEPT, ACCEPT], "while accepted"),
        ([{"type": "websocket.http.response.start", "status": 400}, ACCEPT], "while refusing"),
    ],
)
async def test_messages_out_of_order_are_the_applications_error(
    events: list[Event], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def converse(receive: Any, send: Any) -> None:
        for event in events:
            await send(event)

    try:
        async with connect(Raw(converse)) as client:
            assert (await client.closed()).code == 1011
    except fairlead.testing.Rejected as rejected:
        assert rejected.status == 500
    assert text in caplog.text


async def test_an_application_that_fails_is_closed_with_1011_and_is_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await receive()
        raise ZeroDivisionError

    async with connect(Raw(fail)) as client:
        await client.send("a")
        with pytest.raises(fairlead.Closed) as closed:
            await client.receive()
        assert closed.value.code == 1011
        assert isinstance(closed.value.__cause__, ZeroDivisionError)
    assert "the application failed on /" in caplog.text


async def test_an_application_that_fails_in_the_handshake_answers_500_and_is_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async def say_nothing(receive: Any, send: Any) -> None: ...

    async def choose_what_nobody_offers(receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept", "subprotocol": "mine"})

    with rejects(500) as refusal:
        async with connect(Raw(fail)):
            pass
    assert isinstance(refusal.value.__cause__, ZeroDivisionError)
    with rejects(500):
        async with connect(Raw(say_nothing)):
            pass
    with rejects(500):
        async with connect(Raw(choose_what_nobody_offers)):
            pass
    assert "did not offer the subprotocol 'mine'" in caplog.text


async def test_an_application_that_returns_closes_with_1000() -> None:
    async def accept(receive: Any, send: Any) -> None:
        await send(ACCEPT)

    async with connect(Raw(accept)) as client:
        assert await client.closed() == (1000, "")


async def test_an_application_that_never_decides_or_never_ends_is_told_of() -> None:
    async def think(receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def stay(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    ended: list[bool] = []
    with pytest.raises(TimedOut, match="to let the client in, or to refuse it"):
        async with connect(Raw(think), timeout=0.01):
            pass
    with pytest.raises(TimedOut, match="to end after its client had left"):
        async with connect(Raw(stay), timeout=0.01):
            pass
    assert ended == [True]


async def test_a_test_that_is_cancelled_while_it_connects_leaves_nothing_behind() -> None:
    async def think(receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])

    seen: list[str] = []

    async def test() -> None:
        async with connect(Raw(think)):
            pass

    testing = asyncio.ensure_future(test())
    for _ in range(10):
        await asyncio.sleep(0)
    testing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await testing
    assert seen == ["websocket.disconnect"]


async def test_the_applications_own_limits_hold_unless_others_are_given() -> None:
    app = App(limits=Limits(message_size=3))

    @app.websocket("/")
    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    async with connect(app) as client:
        await client.send("four")
        assert (await client.closed()).code == 1009
    async with connect(app, limits=Limits()) as client:
        await client.send("four")
        assert await client.receive() == "four"


async def test_a_connection_of_ours_that_outlives_its_call_is_ended_before_the_lifespan() -> None:
    async with FakeApi() as api:
        api.on(reply(200, {"allowed_rooms": ["news"], "user_id": 7}), cookie="sid=alice")
        api.default = reply(401)
        gateway = _gateway(api)
        async with connect(gateway, "/ws/", cookies={"sid": "alice"}) as client:
            assert (await client.receive_json())["user"] == 7
            await _subscribe(client, "news")
            await gateway.disconnect(user="7", connection=None, code=4401, reason="out")
            assert await client.closed() == (4401, "out")
        async with connect(gateway, "/ws/", cookies={"sid": "mallory"}) as client:
            assert (await client.receive_json())["is_authorized"] is False
            assert (await client.closed()).code == 4401
        assert list(gateway.connections()) == []
    assert [ask.cookies for ask in api.requests] == [["sid=alice"], ["sid=mallory"]]


async def test_rights_end_when_the_clock_says_so() -> None:
    clock = FakeClock()
    async with FakeApi() as api:
        gateway = _gateway(api, Ticker(clock))
        api.script(reply(200, {"allowed_rooms": ["news"], "expires_in": 3600}), reply(401))
        async with connect(gateway, "/ws/", clock=clock) as client:
            assert (await client.receive_json())["expires_in"] == 3600
            await clock.advance(3000)
            assert len(api.requests) == 1
            await clock.advance(602)
            await api.asked(2)
            assert (await client.closed()).code == 4401


def _gateway(api: FakeApi, ticker: Ticker | None = None) -> Gateway:
    key = ApiSettings(keys=("the-key-of-these-tests",))
    return Gateway(GatewaySettings(upstream=UpstreamSettings(url=api.url), api=key), ticker=ticker)


async def _subscribe(client: Client, room: str) -> None:
    await client.send_json({"type": "subscribe", "room": room, "requestId": 1})
    assert await client.receive_json() == {"requestId": 1, "code": "success"}
