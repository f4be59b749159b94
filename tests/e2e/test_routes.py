"""Routes, guards and handlers over real sockets: what the client sees, byte by byte where it matters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from tests.e2e.harness import PATIENCE, QuickServer, Raw, Reply, frame, upgrade
from tests.e2e.servers import DROP_IN, NATIVE, SANSIO, WSPROTO, end, running, until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode
from websockets.http11 import Response as Answer
from websockets.typing import Origin

from fairlead import App, Closed, Endpoint, Limits, Reject, Request, Router, WebSocket, WebSocketRoute
from fairlead.app.standalone import application
from fairlead.errors import UsageError
from fairlead.server import Listener


class Running:
    """A server of ours at work."""

    def __init__(self, server: QuickServer) -> None:
        self.server = server
        self.host = server.addresses[0].removeprefix("http://")

    def connect(self, path: str = "/", **options: Any) -> connect:
        options = {"compression": None, "ping_interval": None, "proxy": None, "max_size": None, **options}
        return connect(f"ws://{self.host}{path}", **options)

    async def refused(self, path: str, **options: Any) -> Answer:
        """The answer to a handshake that must fail."""
        with pytest.raises(InvalidStatus) as caught:
            await self.connect(path, **options)
        return caught.value.response

    async def raw(self, path: str = "/", *headers: str) -> Raw:
        """A connection past its handshake, frame by frame."""
        host, _, port = self.host.rpartition(":")
        raw = Raw(*await asyncio.open_connection(host, int(port)))
        raw.send(upgrade(self.host, path, *headers))
        assert b" 101 " in await raw.head()
        return raw

    async def http(self, method: str, path: str) -> Reply:
        async with aiohttp.request(method, f"http://{self.host}{path}") as response:
            return Reply(response.status, dict(response.headers), await response.text())


Serve = Callable[..., Any]


@pytest.fixture
async def serve(nothing_left: None) -> AsyncIterator[Serve]:
    """Serve applications until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(app: Any, **options: Any) -> Running:
            return await stack.enter_async_context(_serving(app, options))

        yield start


@asynccontextmanager
async def _serving(app: Any, options: dict[str, Any]) -> AsyncIterator[Running]:
    ready = asyncio.Event()
    server = QuickServer(Listener(app=app, port=0), ready=lambda addresses: ready.set(), **options)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE):
        await ready.wait()
    try:
        yield Running(server)
    finally:
        server.handle_exit(15, None)
        async with asyncio.timeout(PATIENCE):
            await serving


def saying(text: str) -> Callable[[WebSocket], Any]:
    async def say(ws: WebSocket) -> None:
        await ws.send(text)

    return say


def echoing(path: str = "/") -> Router:
    router = Router()

    @router.websocket(path)
    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    return router


# -- what a router is for ----------------------------------------------------------------------------------------------


async def test_each_path_has_its_handler(serve: Serve) -> None:
    router = Router()
    router.websocket("/a")(saying("route a"))
    router.websocket("/b")(saying("route b"))
    server = await serve(router)
    for path, said in (("/a", "route a"), ("/b", "route b")):
        async with server.connect(path) as client:
            assert await client.recv() == said
            assert await end(client) == (1000, "")


async def test_a_path_without_a_route_is_closed_with_4040_where_that_is_asked_for(serve: Serve) -> None:
    router = Router(unmatched="close")
    router.websocket("/")(saying("root"))
    server = await serve(router)
    async with server.connect("/not-found") as client:
        assert await end(client) == (4040, "")


async def test_a_path_without_a_route_is_otherwise_refused_with_404(serve: Serve) -> None:
    entered: list[str] = []
    router = Router()

    @router.websocket("/")
    async def root(ws: WebSocket) -> None:
        entered.append(ws.path)

    answer = await (await serve(router)).refused("/not-found")
    assert (answer.status_code, answer.body) == (404, b"not found\n")
    assert answer.headers["content-type"].startswith("text/plain") and entered == []


def things() -> Router:
    """A guard that refuses some, and leaves what it found for the handler."""
    router = Router()

    @router.websocket("/test/{id}")
    class Thing(Endpoint):
        async def authorize(self, request: Request) -> None:
            id = request.params["id"]
            if id == "error-out":
                raise Reject(406, b"rejected by view\n")
            if id == "x":
                raise Reject(404, f"thing {id!r} not found\n")
            self.thing = request.state["thing"] = {"name": id}

        async def handle(self, ws: WebSocket) -> None:
            assert ws.state["thing"] is self.thing
            await ws.send(self.thing["name"])

    return router


async def test_an_endpoint_refuses_before_the_101_or_answers(serve: Serve) -> None:
    server = await serve(things())
    answer = await server.refused("/test/error-out")
    assert (answer.status_code, answer.body) == (406, b"rejected by view\n")
    answer = await server.refused("/test/x")
    assert (answer.status_code, answer.body) == (404, b"thing 'x' not found\n")
    async with server.connect("/test/this-works") as client:
        assert await client.recv() == "this-works"


async def test_a_handler_knows_its_path_and_parameters(serve: Serve) -> None:
    router = Router()

    @router.websocket("/thing/{id}")
    async def thing(ws: WebSocket, id: str) -> None:
        assert ws.params == {"id": id}
        await ws.send(ws.path)
        await ws.send(id)

    async with (await serve(router)).connect("/thing/123") as client:
        assert [await client.recv(), await client.recv()] == ["/thing/123", "123"]


# -- what routers get wrong --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NATIVE, DROP_IN, SANSIO, WSPROTO])
@pytest.mark.parametrize("within", ["router", "app", "starlette", "mounted", "alone"])
async def test_no_way_to_serve_it_leaves_out_a_guard(kind: str, within: str) -> None:
    entered: list[str] = []

    class Guarded(Endpoint):
        async def authorize(self, request: Request) -> Reject:
            return Reject(401, "log in first\n")

        async def handle(self, ws: WebSocket) -> None:
            entered.append(ws.path)

    route = WebSocketRoute("/{rest:path}", Guarded)
    router = Router([route])
    mounting = Starlette()
    mounting.mount("/m", router)
    app = {
        "router": router,
        "app": App([route]),
        "starlette": Starlette(routes=[route]),
        "mounted": mounting,
        "alone": application(Guarded),
    }[within]
    async with running(kind, app) as server:
        with pytest.raises(InvalidStatus) as caught:
            await server.connect("/m/x")
        assert caught.value.response.status_code == 401
        assert caught.value.response.body == b"log in first\n"
    assert entered == []


async def test_the_query_is_no_part_of_the_path(serve: Serve) -> None:
    router = Router()

    @router.websocket("/thing/{id}")
    async def thing(ws: WebSocket, id: str) -> None:
        await ws.send_json([id, dict(ws.query)])

    router.websocket("/")(saying("root"))
    server = await serve(router)
    async with server.connect("/thing/123?x=1") as client:
        assert json.loads(await client.recv()) == ["123", {"x": "1"}]
    async with server.connect("/?x=1") as client:
        assert await client.recv() == "root"
    assert (await server.refused("/thing/?x=1")).status_code == 404


async def test_parameters_are_percent_decoded_and_matching_is_exact(serve: Serve) -> None:
    router = Router()

    @router.websocket("/thing/{name}")
    async def thing(ws: WebSocket, name: str) -> None:
        await ws.send(name)

    server = await serve(router)
    for path, name in (("a%20b", "a b"), ("%C3%A9", "é"), ("%F0%9F%98%80", "😀"), ("100%25", "100%")):
        async with server.connect(f"/thing/{path}") as client:
            assert await client.recv() == name
    for path in ("/thing/a/", "/Thing/a", "/thing//", "//thing/a", "/thing/a%2Fb", "/thing"):
        assert (await server.refused(path)).status_code == 404


async def test_what_cannot_work_is_said_before_anybody_connects() -> None:
    def blocking(ws: WebSocket) -> None: ...

    with pytest.raises(UsageError, match="async def"):
        Router().websocket("/")(blocking)


async def test_converters_prefixes_names_pages_and_plain_requests(serve: Serve) -> None:
    api = Router(prefix="/v1")

    @api.websocket("/thing/{id:int}", name="thing")
    async def thing(ws: WebSocket, id: int) -> None:
        await ws.send_json(id)

    @api.get("/page")
    async def page(request: HttpRequest) -> Response:
        return PlainTextResponse("a page")

    app = App()
    app.include(api, "/api")
    server = await serve(app)
    path = str(app.url_path_for("thing", id=7))
    async with server.connect(path) as client:
        assert await client.recv() == "7"
    assert (await server.refused("/api/v1/thing/x")).status_code == 404
    assert [getattr(route, "path", "") for route in app.routes] == [
        "/fairlead.js",
        path.replace("7", "{id:int}"),
        "/api/v1/page",
    ]
    reply = await server.http("GET", path)
    assert (reply.status, reply.headers["Upgrade"], reply.headers["Connection"].lower()) == (
        426,
        "websocket",
        "upgrade",
    )
    assert (await server.http("GET", "/api/v1/page")).text == "a page"
    assert (await server.http("POST", "/api/v1/page")).status == 405
    assert (await server.refused("/api/v1/page")).status_code == 404


async def test_middleware_login_and_origins_stand_before_the_handler(serve: Serve) -> None:
    class Stamp:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "state": {**scope["state"], "stamp": "here"}}, receive, send)

    async def login(request: Request) -> None:
        if request.cookies.get("sid") != "ann":
            raise Reject(401, "log in first\n", {"WWW-Authenticate": "Cookie"})
        request.accept_headers.append((b"set-cookie", b"seen=1"))

    app = App(middleware=[Middleware(Stamp)], guards=[login], allowed_origins=["https://app.test"])

    @app.websocket("/", subprotocols=["b", "a"])
    async def say(ws: WebSocket) -> None:
        await ws.send_json([ws.state["stamp"], ws.headers["x-jar"][:1], ws.subprotocol])

    server = await serve(app)
    jar = {"Cookie": "sid=ann", "X-Jar": "x" * 8000}  # far more than 2048 bytes of headers
    options = {"additional_headers": jar, "subprotocols": ["a", "b"]}
    assert (await server.refused("/", origin=Origin("https://evil.test"), **options)).status_code == 403
    answer = await server.refused("/", origin=Origin("https://app.test"))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Cookie")
    for origin in (None, Origin("https://app.test"), Origin(f"http://{server.host}")):
        async with server.connect("/", origin=origin, **options) as client:
            assert json.loads(await client.recv()) == ["here", "x", "b"]
            assert client.response.headers["set-cookie"] == "seen=1" and client.subprotocol == "b"


# -- messages through a handler ----------------------------------------------------------------------------------------


async def test_text_is_utf8(serve: Serve) -> None:
    async with (await serve(echoing())).connect() as client:
        for text in ("é", "Ωμέγα", "😀👩‍🚀", "\0", "", "\N{BOM}x"):
            await client.send(text)
            assert await client.recv() == text


@pytest.mark.parametrize("size", [125, 126, 127, 128, 65_535, 65_536, 70_004, 1_000_000])
async def test_messages_of_every_length_come_back_whole(serve: Serve, size: int) -> None:
    async with (await serve(echoing())).connect() as client:
        for message in ("é" * (size // 2), b"\xff" * size):
            await client.send(message)
            assert await client.recv() == message


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
async def test_frames_split_over_packets_and_packets_of_many_frames_are_read_alike(serve: Serve, pieces: int) -> None:
    raw = await (await serve(echoing())).raw()
    words = ["split-me", "", "x" * 130, "end"]
    stream = b"".join(frame(Opcode.TEXT, word.encode()) for word in words)
    for at in range(0, len(stream), pieces):
        raw.send(stream[at : at + pieces])
        await asyncio.sleep(0)
    assert [await raw.frame() for _ in words] == [(Opcode.TEXT, word.encode()) for word in words]
    raw.send(stream)
    assert [await raw.frame() for _ in words] == [(Opcode.TEXT, word.encode()) for word in words]
    raw.vanish()


async def test_fragments_are_one_message_with_pings_answered_between(serve: Serve) -> None:
    raw = await (await serve(echoing())).raw()
    raw.send_frame(Opcode.TEXT, b"in ", fin=False)
    raw.send_frame(Opcode.PING, b"now")
    raw.send_frame(Opcode.CONT, "zwölf ".encode()[:3], fin=False)
    raw.send_frame(Opcode.CONT, "zwölf ".encode()[3:])
    assert await raw.frame() == (Opcode.PONG, b"now")
    assert await raw.frame() == (Opcode.TEXT, "in zwölf ".encode())
    raw.send_frame(Opcode.CLOSE, b"\x0b\xb9bye")
    assert await raw.frame() == (Opcode.CLOSE, b"\x0b\xb9")
    assert await raw.rest() == b""
    raw.vanish()


@pytest.mark.parametrize(
    ("sent", "code"), [(b"\x81\x01x", 1002), (frame(Opcode.TEXT, b"\xff"), 1007), (frame(Opcode.CONT, b"x"), 1002)]
)
async def test_what_breaks_the_protocol_ends_the_connection_and_the_handler(
    serve: Serve, sent: bytes, code: int
) -> None:
    ends: list[int] = []
    router = Router()

    @router.websocket("/")
    async def wait(ws: WebSocket) -> None:
        with pytest.raises(Closed) as caught:
            await ws.receive()
        ends.append(caught.value.code)

    raw = await (await serve(router)).raw()
    raw.send(sent)
    opcode, payload = await raw.frame()
    assert (opcode, int.from_bytes(payload[:2])) == (Opcode.CLOSE, code)
    raw.vanish()
    await until(lambda: ends == [code])


async def test_many_messages_in_one_packet_are_answered_in_order(serve: Serve) -> None:
    raw = await (await serve(echoing(), limits=Limits(message_rate=10_000, message_burst=10_000))).raw()
    numbers = [str(number).encode() for number in range(1000)]
    raw.send(b"".join(frame(Opcode.TEXT, number) for number in numbers))
    assert [await raw.frame() for _ in numbers] == [(Opcode.TEXT, number) for number in numbers]
    raw.vanish()


async def test_what_is_sent_before_the_client_reads_its_101_is_received(serve: Serve) -> None:
    server = await serve(echoing())
    host, _, port = server.host.rpartition(":")
    raw = Raw(*await asyncio.open_connection(host, int(port)))
    raw.send(upgrade(server.host, "/") + frame(Opcode.TEXT, b"early"))
    await raw.head()
    assert await raw.frame() == (Opcode.TEXT, b"early")
    raw.vanish()


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_a_push_loop_ends_when_its_client_leaves(serve: Serve) -> None:
    ended: list[str] = []
    router = Router()

    @router.websocket("/{how}")
    async def push(ws: WebSocket, how: str) -> None:
        try:
            while True:
                await ws.send("tick")
                await asyncio.sleep(0)
        finally:
            ended.append(how)

    server = await serve(router)
    async with server.connect("/closes") as client:
        await client.recv()
    async with server.connect("/vanishes") as client:
        await client.recv()
        client.transport.abort()
    await until(lambda: sorted(ended) == ["closes", "vanishes"])


async def test_a_handler_that_waits_for_something_else_is_cancelled(serve: Serve) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()
    app = App(limits=Limits(handler_grace=0.1))

    @app.websocket("/")
    async def wait(ws: WebSocket) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with (await serve(app, limits=app.limits)).connect():
        await entered.wait()
    async with asyncio.timeout(PATIENCE):
        await ended.wait()


async def test_a_handler_that_closed_cannot_send(serve: Serve) -> None:
    router = Router()

    @router.websocket("/")
    async def close(ws: WebSocket) -> None:
        await ws.close(4001, "enough")
        await ws.send("never")

    async with (await serve(router)).connect() as client:
        assert await end(client) == (4001, "enough")


async def test_a_drain_tells_handlers_and_clients_alike(serve: Serve) -> None:
    ends: list[tuple[int, str]] = []
    router = Router()

    @router.websocket("/")
    async def wait(ws: WebSocket) -> None:
        with pytest.raises(Closed) as caught:
            await ws.receive()
        ends.append((caught.value.code, caught.value.reason))

    server = await serve(router, limits=Limits(drain_window=0.1))
    async with server.connect() as client:
        server.server.handle_exit(15, None)
        assert await end(client) == (1012, "service restart")
    await until(lambda: ends == [(1012, "service restart")])


async def test_a_handler_that_does_not_read_stops_its_client_and_then_gets_everything(serve: Serve) -> None:
    go, received = asyncio.Event(), list[int]()
    limits = Limits(message_rate=100_000, message_burst=100_000)
    router = Router()

    @router.websocket("/")
    async def later(ws: WebSocket) -> None:
        await go.wait()
        async for message in ws:
            received.append(int.from_bytes(message[:4]))  # type: ignore[arg-type]  # bytes are sent
            assert ws.queued < 200

    async with (await serve(router, limits=limits)).connect() as client:

        async def send() -> None:
            for number in range(2000):
                await client.send(number.to_bytes(4) + bytes(10_000))

        sending = asyncio.create_task(send())
        _, pending = await asyncio.wait((sending,), timeout=0.1)
        assert pending  # 20 MB fit nowhere
        go.set()
        await sending
    await until(lambda: len(received) == 2000)
    assert received == list(range(2000))


async def test_a_client_that_does_not_read_makes_its_handler_wait_and_nobody_else(serve: Serve) -> None:
    sent = 0
    router = echoing("/echo")

    @router.websocket("/push")
    async def push(ws: WebSocket) -> None:
        nonlocal sent
        for number in range(500):
            await ws.send(number.to_bytes(4) + bytes(100_000))
            sent += 1

    server = await serve(router)
    raw = await server.raw("/push")
    raw.pause()
    async with server.connect("/echo") as client:
        for _ in range(100):
            await client.send("still there")
            assert await client.recv() == "still there"
    assert 0 < sent < 200  # 50 MB fit nowhere
    raw.resume()
    for number in range(500):
        assert (await raw.frame())[1][:4] == number.to_bytes(4)
    assert await raw.frame() == (Opcode.CLOSE, b"\x03\xe8")
    raw.vanish()


async def test_rooms_reach_sockets_from_pages_and_from_handlers(serve: Serve) -> None:
    app = App()

    @app.websocket("/rooms/{name}")
    async def chat(ws: WebSocket, name: str) -> None:
        room = app.room(name)
        await ws.join(room)
        await ws.send(f"{len(room)} here")
        async for text in ws:
            await room.publish(text, exclude=ws)
            await ws.send("sent")

    @app.post("/rooms/{name}")
    def say(request: HttpRequest) -> Response:
        app.room(request.path_params["name"]).publish({"from": "a page"})
        return Response(status_code=204)

    server = await serve(app, flush=app.rooms.flush)
    async with server.connect("/rooms/a") as ann:
        assert await ann.recv() == "1 here"
        async with server.connect("/rooms/a") as bob:
            assert await bob.recv() == "2 here"
            await ann.send("hello")
            assert [await ann.recv(), await bob.recv()] == ["sent", "hello"]
            assert (await server.http("POST", "/rooms/a")).status == 204
            assert await ann.recv() == await bob.recv() == '{"from":"a page"}'
        await until(lambda: len(app.room("a")) == 1)
    await until(lambda: len(app.room("a")) == 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DROP_IN, SANSIO, WSPROTO])
async def test_under_other_servers_handlers_are_the_same(kind: str) -> None:
    ends: list[tuple[int, str]] = []
    app = App(limits=Limits(handler_grace=0.1))

    @app.websocket("/echo/{room}")
    async def echo(ws: WebSocket, room: str) -> None:
        await ws.join(room)
        try:
            while True:
                await app.room(room).publish(await ws.receive())
        except Closed as closed:
            ends.append((closed.code, closed.reason))

    @app.websocket("/never")
    async def never(ws: WebSocket) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append((0, "cancelled"))

    app.websocket("/say")(saying("last"))
    async with running(kind, app) as server:
        async with server.connect("/echo/%C3%A9") as client:
            for message in ("é" * 40_000, b"\xff" * 65_536, "", b""):
                await client.send(message)
                assert await client.recv() == message
            await client.close(3001, "bye")
        await until(lambda: ends == [(3001, "bye")])
        async with server.connect("/never"):
            pass
        await until(lambda: ends[1:] == [(0, "cancelled")])
        async with server.connect("/say") as client:
            assert await client.recv() == "last"
            assert await end(client) == (1000, "")
        with pytest.raises(InvalidStatus) as caught:
            await server.connect("/nowhere")
        assert (caught.value.response.status_code, caught.value.response.body) == (404, b"not found\n")
