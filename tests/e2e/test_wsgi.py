"""Applications of other people's WSGI libraries, unmodified, with the clients that they are made for."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.e2e.clients import upgrade
from tests.e2e.processes import PATIENCE

from fairlead.server import raw
from fairlead.testing import Rejected, RunningServer, running
from fairlead.threads import THREADS
from fairlead.wsgi import WSGI


@asynccontextmanager
async def serving(app: Any, caplog: pytest.LogCaptureFixture, **options: Any) -> AsyncIterator[RunningServer]:
    """The application under our server; whatever it fails in is a failure of the test."""
    async with running(WSGI(app, **options)) as server:
        yield server
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def threads_gone(before: set[threading.Thread]) -> None:
    """Every thread that a connection had has ended; those of the pool may stay."""
    async with asyncio.timeout(PATIENCE):
        while any(
            not each.name.startswith(("fairlead-http", "asyncio")) for each in set(threading.enumerate()) - before
        ):
            await asyncio.sleep(0.005)


# -- flask-sock --------------------------------------------------------------------------------------------------------


def flask_site(**options: Any) -> Any:
    """Pages and sockets of one Flask application."""
    flask: Any = pytest.importorskip("flask")
    flask_sock = pytest.importorskip("flask_sock")
    app = flask.Flask(__name__)
    app.secret_key = "of the tests"
    app.config["SOCK_SERVER_OPTIONS"] = options
    sock = flask_sock.Sock(app)

    @app.get("/")  # type: ignore[untyped-decorator]
    def home() -> str:
        flask.session["name"] = "ann"
        return "<p>hello"

    @sock.route("/echo")  # type: ignore[untyped-decorator]  # flask-sock has no types
    def echo(ws: Any) -> None:
        while True:
            data = ws.receive()
            if data == "close":
                break
            ws.send(data)

    @sock.route("/room/<int:number>")  # type: ignore[untyped-decorator]
    def room(ws: Any, number: int) -> None:
        ws.send(f"{flask.session.get('name')} in {number} with {flask.request.args.get('q')}")

    @sock.route("/private")  # type: ignore[untyped-decorator]
    def private(ws: Any) -> None:
        ws.send("only for those whom before_request lets pass")

    @sock.route("/broken")  # type: ignore[untyped-decorator]
    def broken(ws: Any) -> None:
        ws.send("so far")
        raise ValueError("of the test")

    @app.before_request  # type: ignore[untyped-decorator]
    def check() -> Any:
        if flask.request.path == "/private":
            flask.abort(401)

    return app


async def test_a_flask_sock_route_talks(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    async with serving(flask_site(), caplog) as server:
        async with server.connect("/echo") as client:
            for message in ("one", b"two", "ü" * 100_000, b"\x00" * 200_000, ""):
                await client.send(message)
                assert await client.receive() == message
            await client.send("close")
            assert await client.closed() == (1000, "")
        assert (await server.http("GET", "/")).text == "<p>hello"
        await threads_gone(before)


async def test_a_flask_sock_route_learns_that_its_client_left(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    async with serving(flask_site(), caplog) as server:
        async with server.connect("/echo") as polite, server.connect("/echo") as rude:
            await polite.close(3001, "bye")
            assert await polite.closed() == (3001, "bye")
            rude.abort()
        await threads_gone(before)


async def test_flask_sock_compresses_as_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(flask_site(), caplog) as server, server.connect("/echo", compression=True) as client:
        assert "permessage-deflate" in client.headers["Sec-WebSocket-Extensions"]
        await client.send("again and again " * 1_000)
        assert await client.receive() == "again and again " * 1_000


async def test_flask_sock_pings_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It waits for the socket with a selector then, which takes a descriptor."""
    async with serving(flask_site(ping_interval=0.05), caplog) as server, server.connect("/echo") as client:
        await client.send("x")
        assert await client.receive() == "x"
        client.pause_reading()  # and so answers no ping
        await asyncio.sleep(0.2)
        client.resume_reading()
        assert await client.closed() == (1008, "Ping/Pong timeout")


async def test_flask_has_its_session_its_parameters_and_its_hooks(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(flask_site(), caplog) as server:
        page = await server.http("GET", "/")
        cookie = page.headers["Set-Cookie"].partition(";")[0]
        async with server.connect("/room/7?q=%C3%BC", headers={"Cookie": cookie}) as client:
            assert await client.receive() == "ann in 7 with ü"
        for path, status in (("/private", 401), ("/nowhere", 404), ("/room/x", 404)):
            with pytest.raises(Rejected) as rejected:
                async with server.connect(path):
                    pass
            assert rejected.value.status == status and b"<!doctype html>" in rejected.value.body


async def test_other_sites_pages_do_not_reach_flask(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(flask_site(), caplog) as server:
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/echo", origin="https://evil.example"):
                pass
        assert rejected.value.status == 403
        async with server.connect("/echo", origin=server.url) as client:
            await client.send("x")
            assert await client.receive() == "x"


async def test_a_flask_sock_route_that_fails_ends_its_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "GRACE", 0.01)
    async with running(WSGI(flask_site())) as server, server.connect("/broken") as client:
        assert await client.receive() == "so far"
        await client.closed()
    assert "ValueError: of the test" in caplog.text


async def test_many_flask_sock_connections_leave_pages_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(flask_site(), caplog, threads=1) as server:
        clients = [server.connect("/echo") for _ in range(50)]
        entered = await asyncio.gather(*(each.__aenter__() for each in clients))
        assert (await server.http("GET", "/")).status == 200
        for number, client in enumerate(entered):
            await client.send(str(number))
        assert [await client.receive() for client in entered] == [str(number) for number in range(50)]
        for each in clients:
            await each.__aexit__(None, None, None)


# -- Flask-SocketIO ----------------------------------------------------------------------------------------------------


def socketio_site() -> Any:
    """A chat: names, rooms, acknowledgements, an emit from a background thread."""
    flask: Any = pytest.importorskip("flask")
    flask_socketio = pytest.importorskip("flask_socketio")
    app = flask.Flask(__name__)
    app.secret_key = "of the tests"
    sio = flask_socketio.SocketIO(app, async_mode="threading")

    @app.get("/")  # type: ignore[untyped-decorator]
    def home() -> str:
        return "home"

    @app.post("/news")  # type: ignore[untyped-decorator]
    def news() -> str:
        sio.emit("news", flask.request.get_json())
        return "sent"

    @sio.on("add")  # type: ignore[untyped-decorator]  # Flask-SocketIO has no types
    def add(data: Any) -> int:
        return sum(data)

    @sio.on("echo")  # type: ignore[untyped-decorator]
    def echo(data: Any) -> None:
        flask_socketio.emit("echoed", data)

    @sio.on("join")  # type: ignore[untyped-decorator]
    def join(data: Any) -> None:
        flask_socketio.join_room(data["room"])
        flask_socketio.emit("said", f"{data['name']} came", to=data["room"])

    @sio.on("work")  # type: ignore[untyped-decorator]
    def work() -> None:
        asked = flask.request.sid
        sio.start_background_task(lambda: sio.emit("worked", {"bytes": b"\x00\xff"}, to=asked))

    return app


class Events:
    """A client of python-socketio, and what came to it."""

    def __init__(self) -> None:
        socketio = pytest.importorskip("socketio")
        self.client = socketio.AsyncClient(reconnection=False)
        self._queues: dict[str, asyncio.Queue[Any]] = {}
        for name in ("echoed", "said", "worked", "news"):
            self._queues[name] = asyncio.Queue()
            self.client.on(name, self._queues[name].put)

    async def next(self, name: str) -> Any:
        """The next event of that name."""
        async with asyncio.timeout(PATIENCE):
            return await self._queues[name].get()


@asynccontextmanager
async def events(server: RunningServer, *transports: str) -> AsyncIterator[Events]:
    client = Events()
    await client.client.connect(server.url, transports=list(transports))
    try:
        yield client
        # Its writer ends with it, and whatever waits behind an unanswered POST then is not sent, the farewell included.
        async with asyncio.timeout(PATIENCE):
            await client.client.eio.queue.join()
    finally:
        await client.client.disconnect()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_flask_socketio_talks(transports: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async with serving(socketio_site(), caplog) as server, events(server, *transports) as one:
        if "websocket" in transports:
            async with asyncio.timeout(PATIENCE):
                while one.client.transport() != "websocket":
                    await asyncio.sleep(0.005)
        assert await one.client.call("add", [1, 2, 3], timeout=PATIENCE) == 6
        await one.client.emit("echo", {"text": "ü", "data": b"\x00\xff"})
        assert await one.next("echoed") == {"text": "ü", "data": b"\x00\xff"}
        await one.client.emit("work")
        assert await one.next("worked") == {"bytes": b"\x00\xff"}


async def test_flask_socketio_has_rooms_and_emits_from_pages(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    async with serving(socketio_site(), caplog) as server:
        async with events(server, "websocket") as one, events(server, "websocket") as two:
            await one.client.emit("join", {"room": "r", "name": "ann"})
            assert await one.next("said") == "ann came"
            await two.client.emit("join", {"room": "r", "name": "bob"})
            assert [await one.next("said"), await two.next("said")] == ["bob came", "bob came"]
            assert (await server.http("POST", "/news", json={"a": 1})).text == "sent"
            assert [await one.next("news"), await two.next("news")] == [{"a": 1}, {"a": 1}]
            assert (await server.http("GET", "/")).text == "home"
        async with asyncio.timeout(PATIENCE):
            while any(each.name.startswith("fairlead-socket") for each in set(threading.enumerate()) - before):
                await asyncio.sleep(0.005)


# -- bottle-websocket --------------------------------------------------------------------------------------------------


def bottle_site() -> Any:
    bottle = pytest.importorskip("bottle")
    pytest.importorskip("geventwebsocket")
    bottle_websocket = pytest.importorskip("bottle_websocket")
    app = bottle.Bottle()
    users: set[Any] = set()

    @app.get("/")  # type: ignore[untyped-decorator]  # bottle has no types
    def home() -> str:
        return "home"

    @app.get("/chat", apply=[bottle_websocket.websocket])  # type: ignore[untyped-decorator]
    def chat(ws: Any) -> None:
        users.add(ws)
        try:
            while True:
                message = ws.receive()
                if message is None:
                    break
                for user in users:
                    user.send(json.dumps({"said": message, "path": ws.path}))
        finally:
            users.remove(ws)

    return app


async def test_a_bottle_websocket_route_talks(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    async with serving(bottle_site(), caplog) as server:
        async with server.connect("/chat") as one, server.connect("/chat") as two:
            await one.send("first")  # so that both are in before anybody is told
            assert (await one.receive_json())["said"] == "first"
            await two.send("hello")
            assert await two.receive_json() in ({"said": "first", "path": "/chat"}, {"said": "hello", "path": "/chat"})
            assert await one.receive_json() == {"said": "hello", "path": "/chat"}
        assert (await server.http("GET", "/")).text == "home"
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/nowhere"):
                pass
        assert rejected.value.status == 404
        await threads_gone(before)


# -- a thousand --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_thousand_views_wait_and_pages_are_answered_at_once(caplog: pytest.LogCaptureFixture) -> None:
    def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            environ["fairlead.websocket"].send("in")
            environ["fairlead.websocket"].wait()
        start_response("200 OK", [])
        return [b"page"]

    before = set(threading.enumerate())
    async with serving(site, caplog) as server:
        port = int(server.url.rpartition(":")[2])
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(THREADS)]
        for _, writer in clients:
            writer.write(upgrade(path="/wait"))
        async with asyncio.timeout(PATIENCE):
            for reader, _ in clients:
                assert (await reader.readuntil(b"in")).startswith(b"HTTP/1.1 101 ")
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/wait"):
                pass
        assert rejected.value.status == 503
        assert [(await server.http("GET", "/")).text for _ in range(50)] == ["page"] * 50
        for _, writer in clients:
            writer.transport.abort()
        await threads_gone(before)
