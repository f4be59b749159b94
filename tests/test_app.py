"""App: sockets, pages, rooms and calls in one application, by itself and under others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.routes import http, refused, refusing, saying, told

from fairlead import App, Calls, Endpoint, Limits, Request, Router, WebSocket, WebSocketRoute
from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import BrokerUnavailable, SettingsError, UsageError
from fairlead.testing import connect, lifespan, rejects


class Noting(MemoryBroker):
    """Notes when it starts and ends."""

    def __init__(self, log: list[str], *, failing: bool = False) -> None:
        super().__init__()
        self.log = log
        self.failing = failing

    async def start(self, sink: Any) -> None:
        self.log.append("broker starts")
        if self.failing:
            raise BrokerUnavailable("no broker")
        await super().start(sink)

    async def close(self) -> None:
        self.log.append("broker ends")
        await super().close()


def chat(**options: Any) -> App:
    """Everybody in a room hears everybody."""
    app = App(**options)

    @app.websocket("/rooms/{name}", name="room")
    class Chat(Endpoint):
        async def authorize(self, request: Request) -> None:
            request.state["room"] = request.params["name"]

        async def handle(self, ws: WebSocket) -> None:
            room = app.room(ws.state["room"])
            await ws.join(room)
            async for text in ws:
                await room.publish(text)

    @app.post("/rooms/{name}")
    async def publish(request: HttpRequest) -> Response:
        await app.room(request.path_params["name"]).publish(await request.json())
        return Response(status_code=204)

    @app.post("/plain/{name}")
    def publish_from_a_thread(request: HttpRequest) -> Response:
        app.room(request.path_params["name"]).publish("from a thread")
        return Response(status_code=204)

    return app


async def converse(app: Any, prefix: str = "") -> None:
    """Two clients of a room hear each other and both kinds of pages."""
    async with connect(app, f"{prefix}/rooms/a") as ann, connect(app, f"{prefix}/rooms/a") as bob:
        await ann.send("hello")
        assert [await ann.receive(), await bob.receive()] == ["hello", "hello"]
        assert await post(app, f"{prefix}/rooms/a", {"n": 1}) == 204
        assert [await ann.receive_json(), await bob.receive_json()] == [{"n": 1}, {"n": 1}]
        assert await post(app, f"{prefix}/plain/a", None) == 204
        assert await ann.receive() == "from a thread"


async def post(app: Any, path: str, data: object) -> int:
    """A POST with a JSON body; the status."""
    return (await http(app, path, "POST", json.dumps(data).encode()))[0]


async def test_an_app_is_an_application() -> None:
    await converse(chat())


@pytest.mark.parametrize("kind", [Starlette, FastAPI, App])
async def test_an_app_can_be_mounted_and_its_rooms_start_by_themselves(kind: Any) -> None:
    log: list[str] = []
    inner = chat(broker=Noting(log))
    outer = kind(routes=[Mount("/in", app=inner, name="in")])
    await converse(outer, "/in")
    assert log == ["broker starts"]
    assert str(outer.url_path_for("in:room", name="a")) == "/in/rooms/a"
    await inner.rooms.close()


async def test_names_of_rooms_are_those_of_the_innermost_app() -> None:
    inner, outer = App(), App()

    @inner.websocket("/")
    async def join(ws: WebSocket) -> None:
        await ws.join("lobby")
        await ws.send_json([len(inner.room("lobby")), len(outer.room("lobby"))])

    outer.mount("/in", inner)
    assert await told(outer, "/in/") == [1, 0]
    await inner.rooms.close()


# -- the lifespan ------------------------------------------------------------------------------------------------------


async def test_rooms_are_there_before_the_lifespan_begins_and_after_it_ends() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def own(app: App) -> AsyncIterator[Mapping[str, Any]]:
        assert app.rooms.started
        log.append("own starts")
        yield {"database": "db"}
        await app.room("lobby").publish("bye")
        log.append("own ends")

    app = App(lifespan=own, broker=Noting(log))

    @app.websocket("/")
    async def say(ws: WebSocket) -> None:
        await ws.send_json(ws.state["database"])

    async with lifespan(app):
        assert await told(app, "/") == "db"
        assert log == ["broker starts", "own starts"]
    assert log == ["broker starts", "own starts", "own ends", "broker ends"]
    async with lifespan(app):
        assert await told(app, "/") == "db"


async def test_rooms_end_although_the_lifespan_fails() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def failing(app: App) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    with pytest.raises(UsageError, match="no database"):
        async with lifespan(App(lifespan=failing, broker=Noting(log))):
            pass
    assert log == ["broker starts", "broker ends"]


async def test_without_its_broker_an_app_does_not_start() -> None:
    with pytest.raises(UsageError, match="no broker"):
        async with lifespan(App(broker=Noting([], failing=True))):
            pass
    with pytest.raises(SettingsError, match="memory://"):
        App(broker="carrier-pigeon://")


# -- routes ------------------------------------------------------------------------------------------------------------


async def test_the_browser_client_is_served_where_it_is_said() -> None:
    status, headers, body = await http(App(), "/fairlead.js")
    assert status == 200 and headers["content-type"].startswith("text/javascript") and b"WebSocket" in body
    assert (await http(App(client_path="/js/client.js"), "/js/client.js"))[2] == body
    assert (await http(App(client_path=""), "/fairlead.js"))[0] == 404


async def test_pages_have_all_methods(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a file")
    (tmp_path.parent / "secret.txt").write_text("secret")
    app = App()

    async def page(request: HttpRequest) -> Response:
        return PlainTextResponse(request.method)

    for method in ("get", "post", "put", "patch", "delete"):
        getattr(app, method)("/x", name=method)(page)
        assert (await http(app, "/x", method.upper()))[::2] == (200, method.upper().encode())
    app.route("/y", methods=["GET", "QUERY"])(page)
    app.static("/files", tmp_path)
    assert (await http(app, "/y", "QUERY"))[0] == 200
    assert (await http(app, "/files/a.txt"))[0] == 200
    assert (await http(app, "/files/../secret.txt"))[0] == 404
    assert str(app.url_path_for("put")) == "/x"
    with pytest.raises(RuntimeError):
        app.static("/nowhere", tmp_path / "nowhere")


async def test_routers_are_included_under_a_prefix_and_applications_mounted() -> None:
    app, router = App(), Router(prefix="/v1")
    router.websocket("/a")(saying("a"))
    app.include(router, "/api")
    app.mount("/m", Starlette(routes=[WebSocketRoute("/b", saying("b"))]))
    assert [await told(app, "/api/v1/a"), await told(app, "/m/b")] == ["a", "b"]


async def test_what_is_given_to_an_app_holds_for_all_its_sockets() -> None:
    app = App([WebSocketRoute("/a", saying("a"))], guards=[refusing(401)], allowed_origins=["https://a.test"])
    await refused(app, "/a", 401, origin="https://a.test")
    await refused(app, "/a", 403, origin="https://b.test")
    await refused(app, "/b", 404)
    async with connect(App(unmatched="close"), "/b") as client:
        assert await client.closed() == (4040, "")


async def test_middleware_and_exception_handlers_are_starlettes() -> None:
    seen: list[str] = []

    class Note:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await self.app(scope, receive, send)

    async def sorry(request: HttpRequest, exc: Exception) -> Response:
        return JSONResponse({"sorry": True}, 500)

    async def fail(request: HttpRequest) -> Response:
        raise ValueError

    app = App(middleware=[Middleware(Note)], exception_handlers={ValueError: sorry})
    app.get("/fail")(fail)
    app.websocket("/a")(saying("a"))
    assert await told(app, "/a") == "a"
    assert (await http(app, "/fail"))[2] == b'{"sorry":true}'
    assert seen == ["lifespan", "websocket", "http"]


async def test_limits_reach_handlers_and_rooms() -> None:
    app = App(limits=Limits(subscriptions=1))

    @app.websocket("/")
    async def join(ws: WebSocket) -> None:
        await ws.join("a")
        try:
            await ws.join("b")
        except UsageError as exc:
            await ws.send(str(exc))

    async with connect(app) as client:
        assert "as many as it may be in" in await client.receive_text()


# -- calls -------------------------------------------------------------------------------------------------------------


async def test_functions_are_called_where_the_app_says() -> None:
    app = App(calls_path="/rpc")
    with rejects(404):
        async with connect(app, "/rpc"):
            pass

    @app.call()
    async def add(a: int, b: int) -> int:
        return a + b

    @app.call("mul")
    async def multiply(a: int, b: int) -> int:
        return a * b

    async with connect(app, "/rpc") as client:
        for method, result in (("add", 7), ("mul", 12)):
            await client.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": [3, 4]})
            assert (await client.receive_json())["result"] == result
    assert isinstance(app.calls, Calls) and list(app.calls.functions()) == ["add", "mul"]


async def test_functions_added_before_have_the_same_route() -> None:
    app = App()

    async def first() -> int:
        return 1

    async def second() -> int:
        return 2

    def plain() -> None: ...

    app.calls.add("first", first)
    with pytest.raises(UsageError):
        app.call()(plain)
    app.call()(second)
    async with connect(app, "/ws/") as client:
        await client.send_json({"jsonrpc": "2.0", "id": 1, "method": "first"})
        assert (await client.receive_json())["result"] == 1


async def test_a_path_that_is_taken_is_no_place_for_calls() -> None:
    app = App([Route("/ws/", lambda request: Response()), WebSocketRoute("/{any:path}", saying("a"))])

    @app.call()
    async def first() -> int:
        return 1

    app = App([WebSocketRoute("/ws/", saying("a"))])
    with pytest.raises(UsageError, match="is there already"):
        app.call()
