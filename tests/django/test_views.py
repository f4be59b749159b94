"""What a view says about sockets, and what its socket does: over real sockets, in both kinds of views."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from tests.django.site import opened, serving
from websockets.frames import Opcode

from fairlead import Closed, WebSocket
from fairlead.django import WebSocketMiddleware, accept_websocket, browser_client, require_websocket, room
from fairlead.errors import UsageError
from fairlead.sync import BlockingWebSocket
from fairlead.testing import rejects

KISS = "Küss die Hand schöne Frau"


@accept_websocket
def add_one(request: Any) -> HttpResponse | None:
    if not request.is_websocket():
        return HttpResponse(int(request.GET["value"]) + 1)
    for message in request.websocket:
        request.websocket.send(str(int(message) + 1))
    return None


@accept_websocket
def lower_case(request: Any) -> HttpResponse | None:
    if not request.is_websocket():
        return HttpResponse(request.GET["message"].lower())
    for message in request.websocket:
        request.websocket.send(message.lower())
    return None


@accept_websocket
async def add_one_async(request: Any) -> HttpResponse | None:
    if not request.is_websocket():
        return HttpResponse(int(request.GET["value"]) + 1)
    async for message in request.websocket:
        await request.websocket.send(str(int(message) + 1))
    return None


@require_websocket
def echo(request: Any) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket
async def echo_async(request: Any) -> None:
    async for message in request.websocket:
        await request.websocket.send(message)


# -- a view for both ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [add_one, add_one_async])
async def test_one_view_answers_a_request_and_talks_to_a_socket(view: Any) -> None:
    async with serving(path("add/", view)) as server:
        answer = await server.http("GET", "/add/?value=23")
        assert (answer.status, answer.text) == (200, "24")
        async with server.connect("/add/") as client:
            await client.send("23")
            assert await client.receive() == "24"


async def test_the_lower_case_view_of_the_readme() -> None:
    async with serving(path("lower/", lower_case)) as server:
        assert (await server.http("GET", "/lower/?message=HeLLo")).text == "hello"
        async with server.connect("/lower/") as client:
            await client.send("HeLLo")
            assert await client.receive() == "hello"


@pytest.mark.parametrize("view", [echo, echo_async])
async def test_a_plain_request_to_a_view_for_sockets_is_426(view: Any) -> None:
    async with serving(path("echo/", view)) as server:
        answer = await server.http("GET", "/echo/")
        assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
        assert answer.headers["connection"].lower() == "upgrade"


def test_under_wsgi_the_upgrade_header_is_left_to_the_server() -> None:
    view: Any = echo
    factory = RequestFactory()
    assert view(factory.get("/"))["Upgrade"] == "websocket"
    answer = view(factory.get("/", SERVER_SOFTWARE="WSGIServer/0.2"))
    assert answer.status_code == 426 and "Upgrade" not in answer


@pytest.mark.parametrize("view", [add_one, add_one_async])
async def test_the_cache_answers_requests_and_never_handshakes(view: Any) -> None:
    caching = ["django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"]
    async with serving(path("add/", view), MIDDLEWARE=caching) as server:
        for _ in range(2):
            async with server.connect("/add/?value=23") as client:
                await client.send("1")
                assert await client.receive() == "2"
            assert (await server.http("GET", "/add/?value=23")).text == "24"


# -- the socket of a blocking view -------------------------------------------------------------------------------------


async def test_what_is_sent_is_one_frame_each_behind_one_answer_to_the_handshake() -> None:
    @require_websocket
    def view(request: Any) -> None:
        request.websocket.send("foobar")
        request.websocket.send(KISS)

    async with serving(path("", view)) as server:
        async with opened(server, "/") as (raw, head):
            assert head.startswith(b"HTTP/1.1 101 ")
            assert await raw.frame() == (Opcode.TEXT, b"foobar")
            assert await raw.frame() == (Opcode.TEXT, KISS.encode())


async def test_wait_returns_texts_in_order_and_then_that_the_client_left() -> None:
    seen: list[object] = []

    @require_websocket
    def view(request: Any) -> None:
        ws = request.websocket
        seen.extend([ws.wait(), ws.wait(), ws.closed, ws.wait(), ws.closed, ws.wait()])

    async with serving(path("", view)) as server, server.connect("/") as client:
        await client.send("spam & eggs")
        await client.send(KISS)
        await client.close()
    assert seen[:2] == ["spam & eggs", KISS]
    assert seen[3:] == [None, True, None]


async def test_a_view_that_looks_again_and_again_ends_when_its_client_left() -> None:
    seen: list[object] = []

    @require_websocket
    def view(request: Any) -> None:
        ws = request.websocket
        assert ws.wait() == "go"
        ws.send("gone")
        assert ws.wait() is None
        seen.extend([ws.read(), ws.read("nothing"), ws.has_messages(), ws.count_messages()])

    async with serving(path("", view)) as server:
        async with server.connect("/") as client:
            await client.send("go")
            assert await client.receive() == "gone"
            client.abort()
    assert seen == [None, "nothing", False, 0]


async def test_messages_that_have_arrived_can_be_counted_and_read_without_waiting() -> None:
    seen: list[object] = []
    arrived = threading.Event()

    @require_websocket
    def view(request: Any) -> None:
        ws = request.websocket
        seen.append(ws.wait())
        ws.send("one")
        assert arrived.wait(5)
        seen.extend([ws.has_messages(), ws.count_messages(), ws.read(), ws.read(), ws.read("none")])

    async with serving(path("", view)) as server, server.connect("/") as client:
        await client.send("1")
        assert await client.receive() == "one"
        await client.send("2")
        await client.send(b"3")
        await client.assert_nothing()  # so the server has them
        arrived.set()
        await client.closed()
    assert seen == ["1", True, 2, "2", b"3", "none"]


async def test_closing_twice_sends_one_close_frame() -> None:
    seen: list[object] = []

    @require_websocket
    def view(request: Any) -> None:
        request.websocket.close(4000, "first")
        request.websocket.close(4001, "second")
        seen.append(request.websocket.closed)

    async with serving(path("", view)) as server:
        async with opened(server, "/") as (raw, _):
            assert await raw.frame() == (Opcode.CLOSE, (4000).to_bytes(2) + b"first")
            raw.send_frame(Opcode.CLOSE, (4000).to_bytes(2))
            assert await raw.rest() == b""
    assert seen == [True]


async def test_iterating_yields_what_came_and_stops_when_the_client_closes() -> None:
    seen: list[list[str]] = []

    @require_websocket
    def view(request: Any) -> None:
        seen.append(list(request.websocket))

    @require_websocket
    async def view_async(request: Any) -> None:
        seen.append([message async for message in request.websocket])

    async with serving(path("a", view), path("b", view_async)) as server:
        for place in ("/a", "/b"):
            async with server.connect(place) as client:
                await client.send("one")
                await client.send("two")
                await client.close()
    assert seen == [["one", "two"], ["one", "two"]]


async def test_each_kind_of_view_has_its_kind_of_socket_with_the_parameters_of_its_path() -> None:
    seen: list[object] = []

    @require_websocket
    def view(request: Any, number: int) -> None:
        seen.append((type(request.websocket), request.websocket.params, number))
        request.websocket.accept()

    @require_websocket
    async def view_async(request: Any, number: int) -> None:
        seen.append((isinstance(request.websocket, WebSocket), request.websocket.params, number))
        await request.websocket.accept()

    async with serving(path("a/<int:number>", view), path("b/<int:number>", view_async)) as server:
        for place in ("/a/7", "/b/7"):
            async with server.connect(place) as client:
                assert await client.closed() == (1000, "")
    assert seen == [(BlockingWebSocket, {"number": 7}, 7), (True, {"number": 7}, 7)]


async def test_a_view_may_choose_a_subprotocol() -> None:
    @require_websocket
    def view(request: Any) -> None:
        request.websocket.accept(subprotocol="chat.v2")

    @require_websocket
    async def view_async(request: Any) -> None:
        await request.websocket.accept(subprotocol="chat.v2")

    async with serving(path("a", view), path("b", view_async)) as server:
        for place in ("/a", "/b"):
            async with server.connect(place, subprotocols=["chat.v1", "chat.v2"]) as client:
                assert client.subprotocol == "chat.v2"


# -- the socket of an async view ---------------------------------------------------------------------------------------


async def test_tasks_that_use_an_undecided_socket_at_once_accept_it_once() -> None:
    @require_websocket
    async def view(request: Any) -> None:
        ws = request.websocket
        task = ws.spawn(ws.send("beside"))
        assert ws.receive_nowait() is None and not ws.closed and ws.queued == 0
        await ws.send("first")
        await task
        async for message in ws:
            await ws.send(message)

    async with serving(path("", view)) as server, server.connect("/") as client:
        assert {await client.receive(), await client.receive()} == {"beside", "first"}
        await client.send("again")
        assert await client.receive() == "again"


async def test_an_async_view_that_sends_to_a_client_that_left_just_ends(caplog: pytest.LogCaptureFixture) -> None:
    codes: list[object] = []

    @require_websocket
    async def view(request: Any) -> None:
        assert await request.websocket.receive() == "bye"
        with pytest.raises(Closed):
            await request.websocket.receive()
        codes.append(request.websocket.close_code)
        await request.websocket.send("too late")

    async with serving(path("", view)) as server, server.connect("/") as client:
        await client.send("bye")
        await client.close(4001)
    assert codes == [4001]
    assert "Traceback" not in caplog.text


async def test_what_cannot_be_done_with_an_undecided_socket_says_so_and_leaves_it_undecided() -> None:
    seen: list[str] = []

    @require_websocket
    async def view(request: Any) -> HttpResponse:
        with pytest.raises(UsageError, match="accept the connection before"):
            room("news").add(request.websocket).send(None)  # type: ignore[attr-defined]  # a coroutine
        with pytest.raises(ValueError, match="subprotocol"):
            await request.websocket.accept(subprotocol="chat.v9")
        seen.append("both")
        return HttpResponse("no", status=418)

    async with serving(path("", view)) as server:
        with rejects(418):
            async with server.connect("/", subprotocols=["chat.v1"]):
                pass
    assert seen == ["both"]


async def test_json_that_cannot_be_used_ends_an_async_view_with_1007() -> None:
    @require_websocket
    async def view(request: Any) -> None:
        await request.websocket.receive_json(type=int, invalid="raise")

    async with serving(path("", view)) as server, server.connect("/") as client:
        await client.send('"seven"')
        assert (await client.closed()).code == 1007


# -- how views are marked ----------------------------------------------------------------------------------------------


class Counting(View):  # type: ignore[misc]  # Django has no types
    def get(self, request: Any) -> HttpResponse | None:
        if request.is_websocket():
            request.websocket.send("socket")
            return None
        return HttpResponse("page")


class AsyncCounting(View):  # type: ignore[misc]
    async def get(self, request: Any) -> HttpResponse | None:
        if request.is_websocket():
            await request.websocket.send("socket")
            return None
        return HttpResponse("page")


class Marked(Counting):
    accept_websocket = True

    def get(self, request: Any) -> HttpResponse | None:
        return super().get(request)


@method_decorator(accept_websocket, name="dispatch")
class Decorated(Counting):
    pass


@pytest.mark.parametrize("view", [accept_websocket(Counting.as_view()), accept_websocket(AsyncCounting.as_view())])
async def test_class_based_views_are_decorated_as_functions(view: Any) -> None:
    async with serving(path("", view)) as server:
        assert (await server.http("GET", "/")).text == "page"
        async with server.connect("/") as client:
            assert await client.receive() == "socket"


@pytest.mark.parametrize("view", [Marked.as_view(), Decorated.as_view()])
async def test_class_based_views_are_marked_on_the_class_or_on_dispatch(view: Any) -> None:
    async with serving(path("", view), MIDDLEWARE=["fairlead.django.WebSocketMiddleware"]) as server:
        assert (await server.http("GET", "/")).text == "page"
        async with server.connect("/") as client:
            assert await client.receive() == "socket"


def plain(request: Any) -> HttpResponse:
    if request.is_websocket():
        request.websocket.send("socket")
    return HttpResponse(f"{request.is_websocket()} {request.websocket}")


async def plain_async(request: Any) -> HttpResponse:
    if request.is_websocket():
        await request.websocket.send("socket")
    return HttpResponse(f"{request.is_websocket()} {request.websocket}")


@pytest.mark.parametrize("view", [plain, plain_async])
async def test_the_middleware_lets_every_view_ask_but_none_take_a_socket_unmarked(view: Any) -> None:
    async with serving(path("", view), MIDDLEWARE=["fairlead.django.WebSocketMiddleware"]) as server:
        assert (await server.http("GET", "/")).text == "False None"
        with rejects(404):
            async with server.connect("/"):
                pass


async def test_an_attribute_marks_a_view() -> None:
    def view(request: Any) -> None:
        request.websocket.send("socket")

    view.accept_websocket = True  # type: ignore[attr-defined]
    async with serving(path("", view)) as server, server.connect("/") as client:
        assert await client.receive() == "socket"


@pytest.mark.parametrize("view", [plain, plain_async])
async def test_one_setting_marks_all_views(view: Any) -> None:
    async with serving(path("", view), WEBSOCKET_ACCEPT_ALL=True) as server, server.connect("/") as client:
        assert await client.receive() == "socket"


async def test_the_mark_stays_under_other_decorators() -> None:
    from django.views.decorators.cache import never_cache

    async with serving(path("", never_cache(echo))) as server, server.connect("/") as client:
        await client.send("x")
        assert await client.receive() == "x"


async def test_the_browser_client_is_a_view() -> None:
    async with serving(path("fairlead.js", browser_client)) as server:
        answer = await server.http("GET", "/fairlead.js")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        assert "export function socket" in answer.text
        again = await server.http("GET", "/fairlead.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_middleware_does_not_disturb_what_is_there(is_async: bool) -> None:
    async def get_async(request: Any) -> HttpResponse:
        return HttpResponse("async")

    request = RequestFactory().get("/")
    with override_settings(ROOT_URLCONF=()):
        middleware = WebSocketMiddleware(get_async if is_async else lambda request: HttpResponse("sync"))
        answer = middleware(request)
        assert (await answer if is_async else answer).content == (b"async" if is_async else b"sync")
    assert request.websocket is None and not request.is_websocket()
