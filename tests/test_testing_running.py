"""A server on a socket: what production does, at the pace of a test."""

from __future__ import annotations

import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from fairlead import App, Limits, WebSocket
from fairlead.errors import UsageError
from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings
from fairlead.testing import FakeApi, FakeClock, TimedOut, Unexpected, rejects, reply, running
from fairlead.testing.api import hang
from fairlead.testing.request import asking
from fairlead.testing.sockets import connected
from fairlead.transports.native import NativeTransport

app = App()


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/lobby")
async def lobby(ws: WebSocket) -> None:
    await ws.join("lobby")
    async for _ in ws:
        pass


@app.post("/body")
async def body(request: HttpRequest) -> Response:
    data = await request.json()
    return JSONResponse({"got": data, "type": request.headers["content-type"]}, status_code=201)


@app.get("/text")
async def text(request: HttpRequest) -> Response:
    return PlainTextResponse(request.headers["x-name"] + str(request.query_params), headers={"X-Answer": "7"})


@app.get("/away")
async def away(request: HttpRequest) -> Response:
    return RedirectResponse("/text")


async def test_http_requests_are_answered_and_redirects_are_not_followed() -> None:
    async with running(app) as server:
        assert server.url.startswith("http://127.0.0.1:")
        answer = await server.http("POST", "/body", json={"a": 1})
        assert (answer.status, answer.json()) == (201, {"got": {"a": 1}, "type": "application/json"})
        answer = await server.http("POST", "/body", body=b"[]", headers={"Content-Type": "text/x"})
        assert answer.json() == {"got": [], "type": "text/x"}
        answer = await server.http("GET", "/text?a=%20", headers={"X-Name": "me"})
        assert (answer.status, answer.headers["x-answer"], answer.text) == (200, "7", "mea=+")
        answer = await server.http("GET", "/away")
        assert (answer.status, answer.headers["location"]) == (307, "/text")


def test_http_requests_are_answered_without_async() -> None:
    with running(app) as server:
        assert server.http("POST", "/body", json=[1]).json() == {"got": [1], "type": "application/json"}
        assert server.urls == [server.url]


async def test_draining_tells_the_clients_to_come_back_and_ends_the_server() -> None:
    async with running(app) as server, server.connect("/echo") as client:
        await client.send("a")
        assert await client.receive() == "a"
        await server.drain()
        assert await client.closed() == (1012, "service restart")
        with pytest.raises(OSError, match="onnect"):
            async with server.connect("/echo"):
                pass


def test_draining_without_async() -> None:
    with running(app) as server, server.connect("/echo") as client:
        server.drain()
        assert client.closed().code == 1012


def test_stopping_without_async() -> None:
    with running(app) as server, server.connect("/echo") as client:
        client.pause_reading()  # a drain would wait for its answer
        server.stop()
        client.resume_reading()
        assert client.closed().code == 1006
        with pytest.raises(OSError, match="onnect"), server.connect("/echo"):
            pass


async def test_what_was_published_goes_out_before_the_drain() -> None:
    async with running(app) as server, server.connect("/lobby") as client:
        await client.assert_nothing()
        await app.room("lobby").publish("last words")
        await server.drain()
        assert [message async for message in client] == ["last words"]


async def test_a_client_that_answers_pings_stays_and_one_that_does_not_is_gone_after_45_seconds() -> None:
    clock = FakeClock()
    async with running(app, clock=clock) as server:
        async with server.connect("/lobby") as alive, server.connect("/lobby") as silent:
            await alive.assert_nothing()
            await silent.assert_nothing()
            silent.pause_reading()
            await clock.advance(44)
            assert len(app.room("lobby")) == 2
            await clock.advance(4)
            assert len(app.room("lobby")) == 1
            silent.resume_reading()
            assert await silent.closed() == (1011, "ping timeout")
            await clock.advance(1000)
            await alive.assert_nothing()


def test_the_clock_turns_without_async() -> None:
    clock = FakeClock()
    with running(app, clock=clock) as server, server.connect("/lobby") as client:
        client.assert_nothing()
        client.pause_reading()
        clock.advance(48)
        client.resume_reading()
        assert client.closed() == (1011, "ping timeout")


async def test_limits_and_compression_are_those_of_a_real_server() -> None:
    limits = Limits(message_size=10, compression="own")
    async with running(app, limits=limits) as server:
        async with server.connect("/echo", compression=True) as client:
            assert "permessage-deflate" in client.headers["sec-websocket-extensions"]
            await client.send("a" * 10)
            assert await client.receive() == "a" * 10
            await client.send("a" * 11)
            assert (await client.closed()).code == 1009
        async with server.connect("/echo") as client:
            assert "sec-websocket-extensions" not in client.headers


async def test_a_redirect_is_a_refusal_like_any_other() -> None:
    async def elsewhere(scope: object, receive: object, send: object) -> None:
        await RedirectResponse("/other")(scope, receive, send)  # type: ignore[arg-type]  # as the server gives them

    async with running(elsewhere) as server:
        with rejects(307) as refusal:
            async with server.connect("/"):
                pass
        assert refusal.headers["location"] == "/other"


async def test_a_gateway_is_served_with_its_other_listener() -> None:
    async with FakeApi() as api:
        api.default = reply(200, {"allowed_rooms": ["news"]})
        settings = GatewaySettings(upstream=UpstreamSettings(url=api.url), api=ApiSettings(keys=("a-key-for-testing",)))
        gateway = Gateway(settings)
        async with running(gateway, also=[gateway.admin]) as server, server.connect("/ws/") as client:
            assert (await client.receive_json())["is_authorized"]
            await client.send_json({"type": "subscribe", "room": "news", "requestId": 1})
            assert (await client.receive_json())["code"] == "success"
            answer = await server.http(
                "POST",
                "/trigger/",
                listener=1,
                headers={"X-API-Key": "a-key-for-testing"},
                json={"rooms": ["news"], "data": 7},
            )
            assert answer.json() == {"published": 1, "delivered": 1}
            assert (await client.receive_json())["data"] == 7
            await server.drain()
            assert (await client.closed()).code == 1012


async def test_an_application_that_cannot_start_is_told_of() -> None:
    async def failing(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.failed", "message": "no database"})  # type: ignore[operator]

    with pytest.raises(UsageError, match="startup failed"):
        async with running(failing):
            raise AssertionError("not started")


async def test_a_test_that_fails_ends_the_server_at_once_and_raises_its_own_error() -> None:
    with pytest.raises(ZeroDivisionError):
        async with running(app) as server, server.connect("/lobby") as client:
            client.pause_reading()
            raise ZeroDivisionError


async def test_two_asserts_of_nothing_see_what_comes_between_them() -> None:
    async with running(app) as server, server.connect("/lobby") as client:
        await client.assert_nothing()
        await app.room("lobby").publish("news")
        with pytest.raises(Unexpected, match="'news'"):
            await client.assert_nothing()


async def test_a_wait_for_a_server_that_does_not_answer_is_over_in_time() -> None:
    async with FakeApi() as silent:
        silent.default = hang
        url = silent.url.removesuffix("/api/bootstrap/").replace("http", "ws")
        with pytest.raises(TimedOut, match=r"waited 0\.01 s for the server to let the client in"):
            async with connected(url, asking("/"), timeout=0.01, compression=False):
                pass


async def test_on_the_server_the_connection_is_native() -> None:
    async with running(app) as server, server.connect("/echo"):
        held = [each for each in server._server.shared.connections if isinstance(each, NativeTransport)]
        assert len(held) == 1
