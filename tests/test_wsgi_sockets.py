"""Handshakes to a WSGI application: who takes the connection, and what its answer is worth if nobody does."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any
from wsgiref.validate import validator

import pytest
from tests.e2e.clients import upgrade
from tests.e2e.servers import SANSIO
from tests.e2e.servers import running as serving_foreign
from websockets.exceptions import InvalidStatus

from fairlead.app.application import App
from fairlead.errors import Closed, UsageError
from fairlead.limits import Limits
from fairlead.link import Link
from fairlead.server import raw
from fairlead.sync import BlockingWebSocket
from fairlead.testing import Client, Rejected, RunningServer, connect, running
from fairlead.wsgi import WSGI
from fairlead.wsgi.sockets import RawSocket

PATIENCE = 5.0

Start = Callable[..., Any]
Environ = dict[str, Any]

KEYS = ("fairlead.websocket", "wsgi.websocket", "werkzeug.socket")


def no(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("403 Forbidden", [("X-Why", "because")])
    return [b"no"]


def by_path(**pages: Callable[[Environ], object]) -> Callable[[Environ, Start], Iterable[bytes]]:
    """An application with a function for each path; what it answers behind them is the plain page of other servers."""

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        pages[environ["PATH_INFO"].strip("/")](environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"never seen"]

    return app


async def come_and_go(server: RunningServer, path: str, at_work: threading.Event) -> None:
    """Ask for a WebSocket and leave when the application is at work on it; the server has seen it when this returns."""
    dialing = asyncio.create_task(server.connect(path).__aenter__())
    assert await asyncio.to_thread(at_work.wait, PATIENCE)
    dialing.cancel()
    await asyncio.wait((dialing,))
    async with asyncio.timeout(PATIENCE):
        while server._server.shared.connections:
            await asyncio.sleep(0.001)


async def reject(app: Any, path: str = "/", **options: Any) -> Rejected:
    with pytest.raises(Rejected) as rejected:
        async with connect(app, path, **options):
            pass
    return rejected.value


def use(key: str) -> Callable[[Environ], object]:
    """The first use of one of the three."""
    uses: dict[str, Callable[[Any], object]] = {
        "fairlead.websocket": lambda ws: ws.send("fairlead"),
        "wsgi.websocket": lambda ws: ws.send("wsgi"),
        "werkzeug.socket": lambda raw: (raw.send(b"HTTP/1.1 400 werkzeug\r\n\r\n"), raw.close()),
    }
    return lambda environ: uses[key](environ[key])


# -- which of them there are -------------------------------------------------------------------------------------------


async def test_a_plain_request_has_none_of_them() -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [",".join(key for key in KEYS if key in environ).encode()]

    async with running(WSGI(app)) as server:
        assert (await server.http("GET", "/")).body == b""


async def test_only_our_server_has_the_bare_socket() -> None:
    seen: list[list[str]] = []

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        seen.append([key for key in KEYS if key in environ])
        assert environ["REQUEST_METHOD"] == "GET" and environ["HTTP_UPGRADE"] == "websocket"
        return no(environ, start_response)

    async with running(WSGI(app)) as server:
        with pytest.raises(Rejected):
            async with server.connect("/"):
                pass
    async with serving_foreign(SANSIO, WSGI(app)) as foreign:
        with pytest.raises(InvalidStatus):
            async with foreign.connect("/"):
                pass
    assert seen == [list(KEYS), list(KEYS[:2])]


@pytest.mark.parametrize("first", KEYS)
@pytest.mark.parametrize("second", KEYS)
async def test_the_first_that_is_used_has_it_and_the_others_say_so(first: str, second: str) -> None:
    said: list[str] = []

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        copy.copy(environ)
        repr(environ)
        assert not hasattr(environ["werkzeug.socket"], "__wrapped__")
        use(first)(environ)
        if first != second:
            with pytest.raises(UsageError, match="taken already") as caught:
                use(second)(environ)
            said.append(str(caught.value))
        return no(environ, start_response)

    async with running(WSGI(app)) as server:
        try:
            async with server.connect("/") as client:
                async for _ in client:
                    pass
        except Rejected as rejected:
            assert rejected.status == 400 and first == "werkzeug.socket"
    assert len(said) == (first != second)
    assert first == "fairlead.websocket" or all(first in each for each in said)


async def test_behind_an_answer_nobody_can_take_it() -> None:
    said: list[str] = []

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("403 Forbidden", [])
        yield b"no"
        for key in KEYS[:2]:
            with pytest.raises(UsageError, match="an HTTP answer"):
                use(key)(environ)
            said.append(key)

    assert (await reject(WSGI(app))).body == b"no"
    assert said == list(KEYS[:2])


# -- fairlead.websocket ------------------------------------------------------------------------------------------------


async def test_an_application_talks_and_what_it_answers_then_is_not_sent() -> None:
    def echo(environ: Environ) -> None:
        ws: BlockingWebSocket = environ["fairlead.websocket"]
        for message in ws:
            ws.send(message)

    async with connect(WSGI(by_path(ws=echo)), "/ws?a=1") as client:
        await client.send("x")
        assert await client.receive() == "x"
        await client.send(b"y")
        assert await client.receive() == b"y"


async def test_an_application_that_is_a_generator_talks_while_it_is_iterated() -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        ws: BlockingWebSocket = environ["fairlead.websocket"]
        ws.send("one")
        yield b"thrown away"
        ws.send("two")

    async with connect(WSGI(app)) as client:
        assert [message async for message in client] == ["one", "two"]
        assert await client.closed() == (1000, "")


async def test_rooms_are_there_for_sockets_and_pages() -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        room = environ["fairlead.rooms"]["lobby"]
        if environ["PATH_INFO"] == "/say":
            room.publish(environ["wsgi.input"].read().decode())
            start_response("204 No Content", [])
            return []
        ws: BlockingWebSocket = environ["fairlead.websocket"]
        ws.join("lobby")
        ws.send("in")
        ws.wait()
        return []

    async with running(WSGI(app)) as server:
        assert (await server.http("POST", "/say", body=b"to nobody")).status == 204
        async with server.connect("/ws") as client:
            assert await client.receive() == "in"
            await server.http("POST", "/say", body=b"hello")
            assert await client.receive() == "hello"


@pytest.mark.parametrize("end", [StopIteration, ConnectionError, BrokenPipeError])
async def test_how_other_servers_applications_leave_is_no_failure(
    end: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def leave(environ: Environ) -> None:
        environ["fairlead.websocket"].send("in")
        raise end

    async with connect(WSGI(by_path(ws=leave)), "/ws") as client:
        assert await client.receive() == "in"
        assert (await client.closed()).code == 1000
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_before_the_connection_is_taken_it_is_one(caplog: pytest.LogCaptureFixture) -> None:
    def leave(environ: Environ) -> None:
        raise ConnectionError("to the database")

    assert (await reject(WSGI(by_path(ws=leave)), "/ws")).status == 500


async def test_an_application_that_fails_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    def fail(environ: Environ) -> None:
        environ["fairlead.websocket"].send("in")
        raise ValueError("secret")

    async with connect(WSGI(by_path(ws=fail)), "/ws") as client:
        assert await client.receive() == "in"
        assert await client.closed() == (1011, "")
    assert "ValueError: secret" in caplog.text


# -- wsgi.websocket ----------------------------------------------------------------------------------------------------


async def test_it_looks_like_gevent_websockets() -> None:
    seen: list[Any] = []

    def talk(environ: Environ) -> None:
        ws = environ["wsgi.websocket"]
        assert environ["wsgi.websocket_version"] == "13"
        seen.extend([ws.path, ws.origin, ws.protocol, ws.version, ws.closed, ws.environ is environ])
        while not ws.closed:
            message = ws.receive()
            seen.append(message)
            if message is not None:
                ws.send(message)
        seen.append(ws.receive())

    origin = "http://testserver"
    async with connect(WSGI(by_path(ws=talk)), "/ws", origin=origin, subprotocols=["a", "b"]) as client:
        for message in ("one", b"two"):
            await client.send(message)
        assert [await client.receive(), await client.receive()] == ["one", b"two"]
        assert client.subprotocol is None
    assert seen == ["/ws", origin, "a, b", "13", False, True, "one", b"two", None, None]


async def test_it_sends_what_it_is_told_as_it_is_told() -> None:
    def talk(environ: Environ) -> None:
        ws = environ["wsgi.websocket"]
        ws.send("ü", binary=True)
        ws.send("ü".encode(), binary=False)
        ws.send(bytearray(b"x"))
        ws.send(7, binary=False)
        ws.close(3001, b"bye")

    async with connect(WSGI(by_path(ws=talk)), "/ws") as client:
        assert [message async for message in client] == ["ü".encode(), "ü", b"x", "7"]
        assert await client.closed() == (3001, "bye")


async def test_a_loop_that_asks_whether_it_is_closed_misses_nothing_that_came_before() -> None:
    got: list[object] = []
    arrived = threading.Event()

    def talk(environ: Environ) -> None:
        ws = environ["wsgi.websocket"]
        got.append(ws.receive())
        assert arrived.wait(PATIENCE)
        while not ws.closed:
            got.append(ws.receive())

    site = WSGI(by_path(ws=talk))
    async with connect(site, "/ws") as client:
        for number in range(5):
            await client.send(str(number))
        await client.close()
        arrived.set()
    assert got[:5] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("loaded", [True, False])
async def test_what_it_raises_is_what_its_applications_catch(loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class WebSocketError(OSError):
        pass

    if loaded:
        module = ModuleType("geventwebsocket.exceptions")
        vars(module)["WebSocketError"] = WebSocketError
        monkeypatch.setitem(sys.modules, "geventwebsocket.exceptions", module)
    else:
        monkeypatch.delitem(sys.modules, "geventwebsocket.exceptions", raising=False)
    caught: list[Exception] = []

    def talk(environ: Environ) -> None:
        ws = environ["wsgi.websocket"]
        assert ws.receive() is None
        try:
            ws.send("x")
        except Exception as exc:
            caught.append(exc)
            raise

    async with connect(WSGI(by_path(ws=talk)), "/ws") as client:
        await client.close(3001)
    assert isinstance(caught[0], Closed) and caught[0].code == 3001
    assert isinstance(caught[0], WebSocketError) == loaded


@pytest.mark.parametrize("key", KEYS[:2])
async def test_nothing_of_a_connection_waits_for_the_garbage_collector(key: str) -> None:
    def alive() -> int:
        return sum(issubclass(type(each), BlockingWebSocket | RawSocket | Link) for each in gc.get_objects())

    async with running(WSGI(by_path(ws=lambda environ: use(key)(environ)))) as server:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(5):
                async with server.connect("/ws") as client:
                    await client.receive()
                    await client.closed()
            async with asyncio.timeout(PATIENCE):
                while alive() > before:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()


# -- werkzeug.socket ---------------------------------------------------------------------------------------------------


async def test_the_bare_socket_has_all_that_sockets_have(caplog: pytest.LogCaptureFixture) -> None:
    def talk(environ: Environ) -> None:
        import select

        bare = environ["werkzeug.socket"]
        assert bare.fileno() >= 0 and bare.gettimeout() is None
        select.select([], [bare], [], PATIENCE)
        bare.sendall(b"HTTP/1.1 418 bare\r\nContent-Length: 0\r\n\r\n")
        bare.close()
        bare.close()
        raise ConnectionError

    async with running(WSGI(by_path(ws=talk))) as server:
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/ws"):
                pass
    assert rejected.value.status == 418 and caplog.text == ""


async def test_the_bare_socket_of_a_client_that_left_is_reset(caplog: pytest.LogCaptureFixture) -> None:
    waits, go, said = threading.Event(), threading.Event(), threading.Event()

    def talk(environ: Environ) -> None:
        waits.set()
        assert go.wait(PATIENCE)
        try:
            environ["werkzeug.socket"].recv(1)
        except ConnectionResetError:
            said.set()
            raise

    async with running(WSGI(by_path(ws=talk))) as server:
        await come_and_go(server, "/ws", waits)
        go.set()
        assert await asyncio.to_thread(said.wait, PATIENCE)
    assert caplog.text == ""


async def test_a_failure_on_the_bare_socket_is_logged_and_ends_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "GRACE", 0.01)

    def talk(environ: Environ) -> None:
        environ["werkzeug.socket"].sendall(b"HTTP/1.1 418 bare\r\n")
        raise ValueError("secret")

    async with running(WSGI(by_path(ws=talk))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(upgrade(path="/ws"))
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"HTTP/1.1 418 bare\r\n"
        writer.close()
    assert caplog.text.count("ValueError: secret") == 1


async def test_closing_a_bare_socket_that_nobody_used_leaves_the_handshake_alone() -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        environ["werkzeug.socket"].close()
        return no(environ, start_response)

    async with running(WSGI(app)) as server:
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/"):
                pass
    assert rejected.value.status == 403


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_what_the_application_answers_refuses_the_handshake() -> None:
    async with running(WSGI(no)) as server:
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/"):
                pass
    answer = rejected.value
    assert (answer.status, answer.body, answer.headers["X-Why"]) == (403, b"no", "because")


async def test_a_refusal_passes_the_validator() -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"no"]

    assert (await reject(WSGI(validator(app)))).body == b"no"


async def test_a_server_that_can_only_say_no_does() -> None:
    closed = threading.Event()

    class Page(list[bytes]):
        def close(self) -> None:
            closed.set()

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("404 Not Found", [])
        return Page([b"not here"])

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        scope.get("extensions", {}).pop("websocket.http.response", None)
        await WSGI(app)(scope, receive, send)

    assert (await reject(limited)).status == 403
    assert closed.is_set()


async def test_an_endless_page_is_not_asked_for_a_socket_for_ever() -> None:
    closed = threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 1_000
        finally:
            closed.set()

    refusal = await reject(WSGI(app, limits=Limits(outbox_limit=100_000, outbox_low=1_000, burst_size=1_000)))
    assert refusal.status == 200 and 100_000 <= len(refusal.body) <= 102_000
    assert closed.is_set()


async def test_a_client_that_leaves_ends_an_answer_that_takes_its_time() -> None:
    closed, step, go = threading.Event(), threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield b"x"
            step.set()
            assert go.wait(PATIENCE)
            while True:
                yield b"x"
        finally:
            closed.set()

    async with running(WSGI(app)) as server:
        await come_and_go(server, "/", step)
        go.set()
        assert await asyncio.to_thread(closed.wait, PATIENCE)


async def test_an_application_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        raise ValueError("secret")

    async with running(WSGI(app)) as server:
        with pytest.raises(Rejected) as rejected:
            async with server.connect("/"):
                pass
    assert rejected.value.status == 500 and b"secret" not in rejected.value.body and "secret" in caplog.text


# -- before the application --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        (None, "http://testserver", 200),
        (None, "http://evil.example", 403),
        (None, "null", 403),
        (["http://page.example"], "http://page.example", 200),
        (["http://page.example"], "http://evil.example", 403),
        ("*", "http://evil.example", 200),
    ],
)
async def test_other_sites_pages_do_not_reach_the_application(allowed: Any, origin: str, status: int) -> None:
    called: list[int] = []

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        called.append(1)
        start_response("200 OK", [])
        return []

    assert (await reject(WSGI(app, allowed_origins=allowed), origin=origin)).status == status
    assert len(called) == (status == 200)


async def test_an_application_may_say_itself_whose_pages_reach_it() -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        return no(environ, start_response)

    vars(app)["fairlead_allowed_origins"] = ["http://page.example"]
    assert (await reject(WSGI(app), origin="http://page.example")).body == b"no"
    assert (await reject(WSGI(app), origin="http://evil.example")).body == b"origin not allowed\n"
    assert (await reject(WSGI(app, allowed_origins=()), origin="http://page.example")).body == b"origin not allowed\n"


async def test_mounted_the_rule_of_the_outer_application_holds() -> None:
    outer = App(allowed_origins=["http://page.example"])
    outer.mount("/old", WSGI(no))
    assert (await reject(outer, "/old/", origin="http://evil.example")).body == b"origin not allowed\n"
    assert (await reject(outer, "/old/", origin="http://page.example")).body == b"no"


def test_an_origin_that_is_none_is_an_error_at_once() -> None:
    with pytest.raises(UsageError, match="is not an origin"):
        WSGI(no, allowed_origins=["page.example"])


async def test_past_the_limit_of_sockets_the_handshake_gets_a_503_and_pages_go_on() -> None:
    def stay(environ: Environ) -> None:
        environ["fairlead.websocket"].wait()

    wsgi = WSGI(by_path(ws=stay, page=lambda environ: None), sockets=2, threads=1)
    async with running(wsgi) as server:
        entered: list[Client] = []
        async with server.connect("/ws") as one, server.connect("/ws") as two:
            entered += [one, two]
            with pytest.raises(Rejected) as rejected:
                async with server.connect("/ws"):
                    pass
            assert (rejected.value.status, rejected.value.headers["Retry-After"]) == (503, "5")
            assert (await server.http("GET", "/page")).text == "never seen"
        async with asyncio.timeout(PATIENCE):
            while wsgi._threads.running:  # its client has been answered before the thread knows
                await asyncio.sleep(0.001)
        async with server.connect("/ws"):
            pass
