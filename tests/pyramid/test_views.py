"""Views and predicates over sockets: what a client gets, to the byte where that matters."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.request import Request
from pyramid.response import Response
from tests.pyramid.site import Asynchronous, Echo, Node, application, page, served
from tests.pyramid.wire import CLOSE, UPGRADE, text, wire

from fairlead.errors import Closed
from fairlead.pyramid import is_websocket
from fairlead.testing import FakeClock, RunningServer, rejects


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with served(application()) as server:
        yield server


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- the handshake -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/routes/echo", "/routes/shout", "/open/echo"], ids=["class", "function", "traversal"]
)
async def test_plain_http_is_told_to_upgrade(server: RunningServer, path: str) -> None:
    async with wire(server, path, {"Host": "localhost", "Cookie": "sid=secret"}) as client:
        status, headers = await client.head()
        assert status == "HTTP/1.1 426 Upgrade Required"
        assert ("upgrade", "websocket") in headers
        assert ("sec-websocket-version", "13") in headers
        assert {value.lower() for name, value in headers if name == "connection"} == {"close", "upgrade"}
        body = await client.rest()
        assert body.startswith(b"Upgrade negotiation failed: ")
        assert b"secret" not in body


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_another_method_finds_no_view_where_only_sockets_have_one(server: RunningServer, method: str) -> None:
    assert (await server.http(method, "/open/echo")).status == 404


async def test_a_path_without_any_view_is_404(server: RunningServer) -> None:
    assert (await server.http("GET", "/open/nothing")).status == 404
    with rejects(404):
        async with server.connect("/open/nothing"):
            pass


@pytest.mark.parametrize("path", ["/routes/echo", "/open/echo"])
async def test_a_good_handshake_gets_the_101(server: RunningServer, path: str) -> None:
    async with wire(server, path, UPGRADE) as client:
        status, headers = await client.head()
        assert status == "HTTP/1.1 101 Switching Protocols"
        assert dict(headers) == {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        }
        await client.send(CLOSE)


async def test_the_handshake_of_firefox_is_a_good_one(server: RunningServer) -> None:
    async with wire(server, "/open/echo", UPGRADE | {"Connection": "keep-alive, Upgrade"}) as client:
        assert (await client.head())[0] == "HTTP/1.1 101 Switching Protocols"
        await client.send(CLOSE)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Connection": "keep-alive"}, 426),
        ({"Upgrade": "h2c, websockets"}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": "99"}, 426),
        ({"Sec-WebSocket-Key": "short"}, 400),
    ],
)
async def test_a_faulty_handshake_is_refused(server: RunningServer, headers: dict[str, str], status: int) -> None:
    async with wire(server, "/routes/echo", UPGRADE | headers) as client:
        first, fields = await client.head()
        assert first.startswith(f"HTTP/1.1 {status} ")
        assert any(name == "connection" and "close" in value for name, value in fields)
        assert status != 426 or ("sec-websocket-version", "13") in fields


async def test_one_url_serves_a_page_and_a_socket(server: RunningServer) -> None:
    assert (await server.http("GET", "/open")).text == "<h1>page</h1>"
    async with server.connect("/open") as client:
        assert await client.receive() == "1 listening"


async def test_a_view_without_a_socket_refuses_with_its_own_answer(server: RunningServer) -> None:
    with rejects(200, "<h1>page</h1>"):
        async with server.connect("/page"):
            pass


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_the_handler_sees_who_asks_and_answers(server: RunningServer) -> None:
    async with server.connect("/open/echo", origin=server.url) as client:
        await client.send("hello")
        assert await client.receive() == f"{server.url} says hello"


async def test_a_message_in_two_segments_is_one_message(server: RunningServer) -> None:
    async with wire(server, "/routes/echo", UPGRADE) as client:
        await client.head()
        frame = text("start end")
        await client.send(frame[:9])
        await asyncio.sleep(0)
        await client.send(frame[9:])
        assert await client.read(21) == b"\x81\x13None says start end"
        await client.send(CLOSE)
        assert await client.rest() == b"\x88\x00"


async def test_what_is_pushed_comes_in_order_and_then_the_end(server: RunningServer) -> None:
    async with server.connect("/routes/counting") as client:
        assert [message async for message in client] == [f"msg {number}" for number in range(10)]
        assert (await client.closed()).code == 1000


async def test_after_the_101_there_are_frames_and_nothing_else(server: RunningServer) -> None:
    async with wire(server, "/routes/open", UPGRADE) as client:
        await client.head()
        assert await client.read(9) == b"\x81\x07welcome"
        assert await client.read(4) == b"\x88\x02\x03\xe8"  # close, 1000
        await client.send(CLOSE)
        assert await client.rest() == b""


async def test_a_client_that_leaves_is_no_error(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    async with server.connect("/routes/echo") as client:
        await client.send("hello")
        await client.receive()
    async with wire(server, "/routes/counting", UPGRADE) as rude:
        rude.drop()
    async with server.connect("/routes/echo") as client:
        await client.send("still there?")
        assert await client.receive() == "None says still there?"
    assert not errors(caplog)


async def test_a_silent_client_stays_as_long_as_it_answers_pings() -> None:
    clock = FakeClock()
    async with served(application(), clock=clock) as server, server.connect("/routes/echo") as client:
        await clock.advance(120)
        await client.send("still here")
        assert await client.receive() == "None says still here"


async def test_a_function_may_be_the_view(server: RunningServer) -> None:
    async with server.connect("/routes/shout") as client:
        await client.send("hello")
        assert await client.receive() == "HELLO"


async def test_a_handler_that_uses_nothing_is_a_connection_that_ends(server: RunningServer) -> None:
    async with server.connect("/routes/silent") as client:
        assert (await client.closed()).code == 1000


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_what_is_raised_before_the_101_is_the_answer(server: RunningServer) -> None:
    with rejects(410):
        async with server.connect("/routes/raising", query={"what": "gone"}):
            pass


async def test_a_bug_before_the_101_is_500_and_tells_nothing(server: RunningServer) -> None:
    with rejects(500) as refusal:
        async with server.connect("/routes/raising", query={"what": "bug"}):
            pass
    assert "secret words" not in refusal.text


def swallow(config: Configurator) -> None:
    config.add_exception_view(lambda error, request: Response("all is well"), context=Exception)


@pytest.mark.parametrize("more", [None, swallow], ids=["plain", "with an exception view"])
@pytest.mark.parametrize("what", ["gone", "bug"])
async def test_what_is_raised_after_the_101_is_1011_and_in_the_log_once(
    what: str, more: Callable[[Configurator], None] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        served(application(more=more)) as server,
        server.connect("/routes/raising", query={"what": what, "late": "1"}) as client,
    ):
        assert await client.receive() == "in"
        assert await client.closed() == (1011, "")
    (record,) = errors(caplog)
    assert record.exc_info is not None and "secret words" in str(record.exc_info[1])


async def test_that_another_ones_client_left_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    def forwards(request: Request) -> None:
        request.websocket.send("in")
        raise Closed(1006)  # as sending to a connection raises that is over; this one is not

    def more(config: Configurator) -> None:
        config.add_route("forwards", "/forwards")
        config.add_view(forwards, route_name="forwards", websocket=True)

    async with served(application(more=more)) as server, server.connect("/forwards") as client:
        assert await client.receive() == "in"
        assert await client.closed() == (1011, "")
    (record,) = errors(caplog)
    assert record.exc_info is not None and isinstance(record.exc_info[1], Closed)


async def test_what_is_around_a_failing_view_sees_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bool] = []

    def transaction(handler: Callable[[Request], Response], registry: object) -> Callable[[Request], Response]:
        def tween(request: Request) -> Response:
            try:
                response = handler(request)
            except Exception:
                seen.append(False)
                raise
            seen.append(True)
            return response

        return tween

    def more(config: Configurator) -> None:
        config.registry.transaction = transaction
        config.add_tween("tests.pyramid.test_views.around")

    async with served(application(more=more)) as server:
        async with server.connect("/routes/raising", query={"what": "bug", "late": "1"}) as client:
            await client.closed()
        async with server.connect("/routes/counting") as client:
            await client.closed()
    assert seen == [False, True]


def around(handler: Any, registry: Any) -> Any:
    return registry.transaction(handler, registry)


# -- asynchronous ------------------------------------------------------------------------------------------------------


def socket_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("fairlead-socket")]


async def test_an_async_handler_runs_in_the_event_loop_and_holds_no_thread(server: RunningServer) -> None:
    async with server.connect("/routes/asynchronous") as client:
        assert await client.receive() == "/routes/asynchronous in MainThread"
        async with asyncio.timeout(5):
            while socket_threads():
                await asyncio.sleep(0)
        await client.send("hello")
        assert await client.receive() == "hello"


async def test_an_async_handler_that_fails_ends_with_1011(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with server.connect("/routes/asynchronous") as client:
        await client.receive()
        await client.send("fail")
        assert await client.closed() == (1011, "")
    assert len(errors(caplog)) == 1


async def test_the_first_subprotocol_that_both_speak_is_agreed_on(server: RunningServer) -> None:
    async with server.connect("/routes/asynchronous", subprotocols=["echo.v1", "echo.v2"]) as client:
        assert client.subprotocol == "echo.v2"
    async with server.connect("/routes/asynchronous", subprotocols=["chat"]) as client:
        assert client.subprotocol is None


async def test_a_tween_may_answer_with_a_copy_of_what_an_async_view_answers() -> None:
    def more(config: Configurator) -> None:
        config.registry.transaction = lambda handler, registry: lambda request: handler(request).copy()
        config.add_tween("tests.pyramid.test_views.around")

    async with served(application(more=more)) as server, server.connect("/routes/asynchronous") as client:
        assert await client.receive() == "/routes/asynchronous in MainThread"


async def test_a_tween_may_refuse_what_an_async_view_would_accept() -> None:
    def more(config: Configurator) -> None:
        config.registry.transaction = lambda handler, registry: (
            lambda request: handler(request) and Response("closed on sundays", status=503)
        )
        config.add_tween("tests.pyramid.test_views.around")

    async with served(application(more=more)) as server:
        with rejects(503, "closed on sundays"):
            async with server.connect("/routes/asynchronous"):
                pass


async def test_async_connections_end_with_the_server() -> None:
    async with served(application()) as server:
        async with server.connect("/routes/asynchronous") as client:
            await client.receive()
            await server.drain()
            assert (await client.closed()).code == 1012


# -- configuration -----------------------------------------------------------------------------------------------------


async def test_a_view_may_be_for_everything_but_sockets() -> None:
    def more(config: Configurator) -> None:
        config.add_route("either", "/either")
        config.add_view(page, route_name="either", websocket=False)

    async with served(application(more=more)) as server:
        assert (await server.http("GET", "/either")).status == 200
        with rejects(404):
            async with server.connect("/either"):
                pass


async def test_the_function_is_a_custom_predicate_and_the_class_works_without_include() -> None:
    with Configurator(root_factory=lambda request: Node()) as config:
        config.add_view(page, context=Node)
        with pytest.warns(DeprecationWarning, match="custom_predicates"):
            config.add_view(Echo, context=Node, custom_predicates=(is_websocket,))
        app = config.make_wsgi_app()
    async with served(app) as server:
        assert (await server.http("GET", "/")).text == "<h1>page</h1>"
        async with server.connect("/", origin=server.url) as client:
            await client.send("hello")
            assert await client.receive() == f"{server.url} says hello"
        with rejects(403):
            async with server.connect("/", origin="https://evil.example"):
                pass


def test_a_setting_that_is_no_origin_is_told_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="'partner.example' is not an origin"):
        application(fairlead__allowed_origins="https://good.example partner.example")


def test_a_view_whose_origin_is_none_is_told_at_the_start() -> None:
    def more(config: Configurator) -> None:
        config.add_view(Asynchronous, name="x", allowed_origins=["nowhere"])

    with pytest.raises(ConfigurationError, match="'nowhere' is not an origin"):
        application(more=more)
