"""Applications that know nothing of us, under our server and with our WebSocket class under stock uvicorn."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.e2e.processes import PATIENCE, Process, exchange
from tests.e2e.servers import DROP_IN, DROP_IN_H11, NATIVE, end, running, until
from uvicorn.config import Config
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import connect as connect_sync
from websockets.typing import Subprotocol

from fairlead.limits import Limits
from fairlead.server.conversation import Disconnected
from fairlead.server.websocket import configured

pytestmark = pytest.mark.slow

SERVERS = [NATIVE, DROP_IN, DROP_IN_H11]


class Endpoints:
    """A Starlette application with a route for every way in which an endpoint may behave.

    Attributes:
        ends: How each ``/echo`` learnt that its client was gone: code and reason.
    """

    def __init__(self) -> None:
        self.ends: list[tuple[int, str | None]] = []
        sockets = {
            "/echo/{name}": self.echo,
            "/close": self.close,
            "/deny": self.deny,
            "/refuse": self.refuse,
            "/http-exception": self.http_exception,
            "/raise-before": self.raise_before,
            "/raise-after": self.raise_after,
            "/return-before": self.return_before,
            "/return-after": self.return_after,
            "/talk": self.talk,
            "/crowd": self.crowd,
            "/cancelled": self.cancelled,
            "/wrong-socket": self.wrong_socket,
        }
        routes = [WebSocketRoute(path, endpoint) for path, endpoint in sockets.items()]
        self.app = Starlette(routes=[Route("/page", self.page), *routes])

    async def page(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("a page\n")

    async def echo(self, socket: WebSocket) -> None:
        wanted = socket.scope["subprotocols"]
        await socket.accept("b" if "b" in wanted else None, headers=[(b"x-room", socket.path_params["name"].encode())])
        await socket.send_json({"query": dict(socket.query_params), "cookies": socket.cookies, "wanted": wanted})
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message.get("reason"))
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect as gone:
            self.ends.append((gone.code, gone.reason))

    async def close(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("last")
        await socket.close(4001, "enough")

    async def deny(self, socket: WebSocket) -> None:
        await socket.send_denial_response(JSONResponse({"error": "teapot"}, 418, headers={"x-why": "tea"}))

    async def refuse(self, socket: WebSocket) -> None:
        await socket.close(4000)

    async def http_exception(self, socket: WebSocket) -> None:
        raise HTTPException(401, "log in first")

    async def raise_before(self, socket: WebSocket) -> None:
        raise ValueError("secret before")

    async def raise_after(self, socket: WebSocket) -> None:
        await socket.accept()
        raise ValueError("secret after")

    async def return_before(self, socket: WebSocket) -> None:
        """Nothing."""

    async def return_after(self, socket: WebSocket) -> None:
        await socket.accept()

    async def talk(self, socket: WebSocket) -> None:
        """Send until the client is gone; never receive."""
        await socket.accept()
        try:
            while True:
                await socket.send_text("x" * 10_000)
        except WebSocketDisconnect as gone:
            self.ends.append((gone.code, gone.reason))

    async def crowd(self, socket: WebSocket) -> None:
        """A hundred tasks send at once, more than a slow client's outbox takes."""
        await socket.accept()
        await asyncio.gather(*(socket.send_text(f"{number:100000}") for number in range(100)))

    async def cancelled(self, socket: WebSocket) -> None:
        await socket.accept()
        raise asyncio.CancelledError

    async def wrong_socket(self, socket: WebSocket) -> None:
        """What is left by whoever sends to another client than its own, and that one is gone."""
        await socket.accept()
        raise Disconnected("another client")


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_endpoint_talks_both_ways(kind: str) -> None:
    async with running(kind, Endpoints().app) as server:
        options: dict[str, Any] = {
            "subprotocols": [Subprotocol("a"), Subprotocol("b")],
            "additional_headers": {"Cookie": "k=v"},
        }
        async with server.connect("/echo/m%C3%BCll?q=1%202", max_size=None, **options) as client:
            assert client.subprotocol == "b"
            assert client.response is not None
            assert client.response.headers["x-room"].encode("latin-1").decode() == "müll"
            told = '{"query":{"q":"1 2"},"cookies":{"k":"v"},"wanted":["a","b"]}'
            assert await client.recv() == told
            for message in ("", "text", "ünïcödé 😀", b"", b"\0\xff", "x" * 1_000_000, b"y" * 1_000_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "three ", "fragments"])
            assert await client.recv() == "in three fragments"
            await asyncio.gather(*(client.send(str(number)) for number in range(100)))
            assert [await client.recv() for _ in range(100)] == [str(number) for number in range(100)]
            await (await client.ping(b"are you there"))


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/close", 4001, "enough"),
        ("/raise-after", 1011, ""),
        ("/cancelled", 1011, ""),
        ("/wrong-socket", 1011, ""),
        ("/return-after", 1000, ""),
    ],
)
async def test_how_an_endpoint_ends_is_how_its_client_is_closed(
    kind: str, path: str, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(kind, Endpoints().app) as server, server.connect(path) as client:
        assert await end(client) == (code, reason)
    assert ("secret after" in caplog.text) is (path == "/raise-after")


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/deny", 418, b'{"error":"teapot"}'),
        ("/refuse", 403, b""),
        ("/http-exception", 401, b"log in first"),
        ("/raise-before", 500, b"internal server error\n"),
        ("/return-before", 500, b"internal server error\n"),
        ("/no-such-route", 403, b""),
    ],
)
async def test_without_an_accept_the_client_gets_an_http_answer(
    kind: str, path: str, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(kind, Endpoints().app) as server:
        with pytest.raises(InvalidStatus) as caught:
            await server.connect(path)
        response = caught.value.response
        assert (response.status_code, response.body) == (status, body)
        assert response.headers["connection"] == "close"
        assert response.headers.get("x-why") == ("tea" if path == "/deny" else None)
    assert ("neither accepted nor refused" in caplog.text) is (path == "/return-before")


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_endpoint_learns_how_its_client_left(kind: str) -> None:
    endpoints = Endpoints()
    async with running(kind, endpoints.app) as server:
        async with server.connect("/echo/a") as client:
            await client.close(3001, "bye")
        async with server.connect("/echo/a") as client:
            client.transport.abort()
        await until(lambda: len(endpoints.ends) == 2)
        assert sorted(endpoints.ends) == [(1006, ""), (3001, "bye")]
        async with server.connect("/talk") as client:
            await client.recv()
            client.transport.abort()
        await until(lambda: len(endpoints.ends) == 3)
        assert endpoints.ends[2][0] == 1006


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_endpoint_waits_for_a_client_that_does_not_read_and_goes_on_when_it_does(kind: str) -> None:
    endpoints = Endpoints()
    async with running(kind, endpoints.app) as server, server.connect("/talk", max_queue=1) as client:
        for _ in range(1000):  # 10 MB: more than the kernel and the outbox hold
            assert await client.recv() == "x" * 10_000
        assert endpoints.ends == []
        client.transport.abort()


@pytest.mark.parametrize("kind", SERVERS)
async def test_many_tasks_that_send_at_once_wait_for_the_client_and_lose_nothing(kind: str) -> None:
    async with running(kind, Endpoints().app) as server, server.connect("/crowd", max_queue=1) as client:
        assert sorted([int(await client.recv()) for _ in range(100)]) == list(range(100))
        assert await end(client) == (1000, "")


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_that_is_stopped_sends_1012_and_the_endpoint_learns_it(kind: str) -> None:
    endpoints = Endpoints()
    async with running(kind, endpoints.app) as server:
        async with server.connect("/echo/a") as client:
            server.server.should_exit = True
            assert await end(client) == (1012, "service restart")
        async with asyncio.timeout(PATIENCE):
            await server.ended
        assert endpoints.ends == [(1012, "service restart")]


@pytest.mark.parametrize("kind", SERVERS)
async def test_http_and_the_lifespan_are_as_ever(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with running(kind, Endpoints().app) as server:
            reply = await asyncio.to_thread(exchange, server.ports[0], "GET", "/page")
            assert (reply.status, reply.body) == (200, b"a page\n")
            assert (await asyncio.to_thread(exchange, server.ports[0], "GET", "/nowhere")).status == 404
    assert caplog.text == ""


ECHO = """
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

async def echo(socket):
    await socket.accept(next(iter(socket.scope["subprotocols"]), None))
    while (event := await socket.receive())["type"] == "websocket.receive":
        if event.get("text") == "close":
            await socket.close(4002, "asked for")
            return
        await socket.send({**event, "type": "websocket.send"})

app = Starlette(routes=[WebSocketRoute("/", echo)])
"""


@pytest.mark.parametrize("http", ["auto", "h11"])
def test_uvicorns_command_line_takes_our_websocket_class_and_keeps_its_settings(tmp_path: Path, http: str) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    options = ["--ws", "fairlead.server:WebSocketProtocol", "--http", http, "--port", "0"]
    settings = ["--ws-max-size", "600000", "--header", "X-Env:test"]
    process = Process([sys.executable, "-m", "uvicorn", *options, *settings, "echo:app"], folder=tmp_path)
    try:
        port = process.line(r"running on http://127\.0\.0\.1:(\d+)")[1]
        with connect_sync(f"ws://127.0.0.1:{port}/", subprotocols=[Subprotocol("one")], proxy=None) as client:
            assert client.subprotocol == "one"
            assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
            assert client.response is not None
            assert (client.response.headers["server"], client.response.headers["x-env"]) == ("uvicorn", "test")
            for message in ("hello", "", b"\0\1\2", "x" * 500_000):
                client.send(message)
                assert client.recv(PATIENCE) == message
            client.send("close")
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(PATIENCE)
            assert caught.value.rcvd == Close(4002, "asked for")
        with connect_sync(f"ws://127.0.0.1:{port}/", proxy=None) as client:
            client.send("x" * 600_001)
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(PATIENCE)
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009
        with connect_sync(f"ws://127.0.0.1:{port}/", proxy=None) as client:
            process.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(PATIENCE)
            assert caught.value.rcvd == Close(1012, "service restart")
        assert process.wait() == -signal.SIGTERM  # uvicorn's own way: the signal once more, after its shutdown
        assert not [line for line in process.lines if "Traceback" in line or "ERROR" in line]
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ({}, {"message_size": 16 * 2**20, "compression": "shared", "ping_after": 20, "ping_timeout": 40}),
        ({"ws_max_size": 5, "ws_per_message_deflate": False}, {"message_size": 5, "compression": "off"}),
        ({"ws_ping_interval": 3.0, "ws_ping_timeout": 0.5}, {"ping_after": 3, "ping_timeout": 3.5}),
        ({"ws_ping_interval": None}, {"ping_after": 43_200, "ping_timeout": 43_220}),
        ({"ws_ping_interval": 0.0, "ws_ping_timeout": None}, {"ping_after": 43_200, "ping_timeout": 86_400}),
        ({"ws_max_size": 2**40, "ws_ping_interval": 1e-9, "ws_ping_timeout": 1e9}, {"message_size": 2**31}),
        ({"ws_max_size": 0}, {"message_size": 1}),
    ],
)
def test_a_drop_in_is_limited_as_uvicorn_is_set(settings: dict[str, Any], limits: dict[str, object]) -> None:
    found = configured(Config(Endpoints().app, log_config=None, **settings))
    assert {name: getattr(found, name) for name in limits} == limits


async def test_a_drop_in_does_not_slow_down_a_client_that_sends_much() -> None:
    async with running(DROP_IN, Endpoints().app) as server, server.connect("/echo/a") as client:
        await client.recv()
        started = time.monotonic()
        for _ in range(1000):
            await client.send("x")
            await client.recv()
        assert time.monotonic() - started < 1000 / Limits().message_rate / 2
