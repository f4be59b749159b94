"""A client that left leaves nothing for the garbage collector: between its rare runs, memory stays where it is."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from starlette.routing import Mount
from starlette.routing import WebSocketRoute as StarletteRoute
from starlette.websockets import WebSocket as StarletteSocket
from tests.e2e.clients import CLOSE, frame, subscribe, upgrade
from tests.e2e.processes import KEY, PATIENCE, cheap_api
from tests.serving import port, serving

from fairlead.app.application import App
from fairlead.errors import Closed
from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings
from fairlead.routing import Router
from fairlead.server import Server
from fairlead.websocket import WebSocket
from fairlead.wsgi import WSGI

VISITS = 20


def framework() -> App:
    app = App(calls_path="/calls")

    @app.websocket("/iterating")
    async def iterating(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    @app.websocket("/receiving")
    async def receiving(ws: WebSocket) -> None:
        try:
            while True:
                await ws.send(await ws.receive())
        except Closed:
            pass

    @app.websocket("/impatient")
    async def impatient(ws: WebSocket) -> None:
        try:
            async with asyncio.timeout(0.001):
                await ws.receive()
        except TimeoutError:
            await ws.send(await ws.receive())

    @app.websocket("/room")
    async def room(ws: WebSocket) -> None:
        await ws.join("room")
        async for message in ws:
            await app.rooms["room"].publish(message)

    async def starlettes(ws: StarletteSocket) -> None:
        await ws.accept()
        async for message in ws.iter_text():
            await ws.send_text(message)

    app.add(Mount("/mounted", Router([StarletteRoute("/starlette", starlettes)])))

    @app.call()
    async def add(a: int, b: int) -> int:
        return a + b

    return app


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    ws = environ["fairlead.websocket"]
    if environ["PATH_INFO"] == "/room":
        ws.join(environ["fairlead.rooms"]["room"])
    for message in ws:
        ws.send(message)
    start_response("200 OK", [])
    return []


CALL = frame(b'{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}')
TEXT = frame(b"x")
VISITED: dict[str, tuple[Callable[[], Any], str, bytes]] = {
    "iterating": (framework, "/iterating", TEXT),
    "receiving": (framework, "/receiving", TEXT),
    "cancelled": (framework, "/impatient", TEXT),
    "in a room": (framework, "/room", TEXT),
    "calling": (framework, "/calls", CALL),
    "Starlette's": (framework, "/mounted/starlette", TEXT),
    "in a thread": (lambda: WSGI(wsgi), "/", TEXT),
    "in a thread, in a room": (lambda: WSGI(wsgi), "/room", TEXT),
}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """With uvloop: in asyncio's own loop each socket's transport is a circle by itself."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        yield made


def visit(number: int, path: str, message: bytes, *, politely: bool) -> None:
    """Come, say something, wait for an answer, and leave, with a Close frame or without."""
    with socket.create_connection(("127.0.0.1", number), timeout=PATIENCE) as client:
        client.sendall(upgrade(path=path))
        assert client.recv(12) == b"HTTP/1.1 101"
        client.sendall(message)
        while b"\r\n\r\n" not in client.recv(2**16):
            pass
        if politely:
            client.sendall(frame(b"\x03\xe8", CLOSE))
            while client.recv(2**16):
                pass


async def left_by(server: Server, come_and_go: Callable[[], None]) -> Counter[str]:
    """What clients leave that the server does not free by itself, by type."""

    async def several() -> None:
        for _ in range(VISITS):
            await asyncio.to_thread(come_and_go)
        async with asyncio.timeout(PATIENCE):
            while server.shared.connections or server.shared.websockets:
                await asyncio.sleep(0.001)

    await several()  # what is made once
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await several()
        gc.collect()
        return Counter(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("politely", [True, False], ids=["closed", "lost"])
@pytest.mark.parametrize(("application", "path", "message"), VISITED.values(), ids=VISITED)
def test_a_handlers_client_leaves_nothing(
    runner: asyncio.Runner, application: Callable[[], Any], path: str, message: bytes, politely: bool
) -> None:
    async def act() -> None:
        async with serving(application()) as server:
            number = port(server)
            assert await left_by(server, lambda: visit(number, path, message, politely=politely)) == {}

    runner.run(act())


def test_a_refused_client_leaves_nothing(runner: asyncio.Runner) -> None:
    def refused(number: int) -> None:
        with socket.create_connection(("127.0.0.1", number), timeout=PATIENCE) as client:
            client.sendall(upgrade(path="/mounted/nowhere"))
            assert client.recv(12) == b"HTTP/1.1 404"
            while client.recv(2**16):
                pass

    async def act() -> None:
        async with serving(framework()) as server:
            number = port(server)
            assert await left_by(server, lambda: refused(number)) == {}

    runner.run(act())


@pytest.mark.parametrize("politely", [True, False], ids=["closed", "lost"])
def test_a_client_of_the_gateway_leaves_nothing(runner: asyncio.Runner, politely: bool) -> None:
    async def act(upstream: str) -> None:
        app = Gateway(GatewaySettings(upstream=UpstreamSettings(url=upstream), api=ApiSettings(keys=(KEY,))))
        async with serving(app) as server:
            number = port(server)
            assert await left_by(server, lambda: visit(number, "/ws/", subscribe("news"), politely=politely)) == {}

    with cheap_api() as api:
        runner.run(act(api.url))
