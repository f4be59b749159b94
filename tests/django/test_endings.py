"""How a connection to a view ends, and that nothing but WebSocket frames follows the 101."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from django.core import signals
from django.http import Http404, HttpResponse, JsonResponse
from django.urls import path
from tests.django.site import opened, serving
from tests.e2e.harness import upgrade
from websockets.frames import Opcode

from fairlead import Closed
from fairlead.django import require_websocket, room
from fairlead.testing import rejects


@require_websocket
def breaks(request: Any) -> None:
    request.websocket.send("so far so good")
    raise ValueError("the secret")


@require_websocket
async def breaks_async(request: Any) -> None:
    await request.websocket.send("so far so good")
    raise ValueError("the secret")


@pytest.mark.parametrize("view", [breaks, breaks_async])
@pytest.mark.parametrize("debug", [False, True])
async def test_a_view_that_raises_closes_with_1011_and_only_the_log_knows_why(
    view: Any, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(path("", view), DEBUG=debug) as server:
        async with opened(server, "/") as (raw, head):
            assert head.startswith(b"HTTP/1.1 101 ")
            assert await raw.frame() == (Opcode.TEXT, b"so far so good")
            assert await raw.frame() == (Opcode.CLOSE, (1011).to_bytes(2))
            raw.send_frame(Opcode.CLOSE, (1011).to_bytes(2))
            assert await raw.rest() == b""
    (record,) = [record for record in caplog.records if record.name == "django.request"]
    assert record.levelno == logging.ERROR and record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert (record.getMessage(), record.request.websocket_failed) == ("Internal Server Error: /", True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("view", [breaks, breaks_async])
async def test_a_project_that_lets_errors_out_ends_the_same_way(view: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(path("", view), DEBUG_PROPAGATE_EXCEPTIONS=True) as server, server.connect("/") as client:
        assert await client.receive() == "so far so good"
        assert await client.closed() == (1011, "")
    assert "the secret" in caplog.text


@pytest.mark.parametrize("place", ["/a", "/b"])
async def test_errors_let_out_before_the_accept_are_500(place: str, caplog: pytest.LogCaptureFixture) -> None:
    @require_websocket
    def view(request: Any) -> None:
        raise ValueError("the secret")

    @require_websocket
    async def view_async(request: Any) -> None:
        raise ValueError("the secret")

    async with serving(path("a", view), path("b", view_async), DEBUG_PROPAGATE_EXCEPTIONS=True) as server:
        with rejects(500) as refusal:
            async with server.connect(place):
                pass
    assert "secret" not in refusal.text and "the secret" in caplog.text


async def test_not_found_in_the_middle_of_a_conversation_is_a_failure_too() -> None:
    @require_websocket
    def view(request: Any) -> None:
        request.websocket.wait()
        raise Http404

    async with serving(path("", view)) as server, server.connect("/") as client:
        await client.send("x")
        assert await client.closed() == (1011, "")


async def test_what_a_view_returns_after_using_its_socket_is_thrown_away() -> None:
    closed: list[str] = []

    def answer() -> HttpResponse:
        response = JsonResponse({"page": "of HTML"}, status=500)
        response._resource_closers.append(lambda: closed.append("yes"))
        return response

    @require_websocket
    def view(request: Any) -> HttpResponse:
        request.websocket.send("one")
        return answer()

    @require_websocket
    async def view_async(request: Any) -> HttpResponse:
        await request.websocket.send("one")
        return answer()

    async with serving(path("a", view), path("b", view_async)) as server:
        for place in ("/a", "/b"):
            async with opened(server, place) as (raw, _):
                assert await raw.frame() == (Opcode.TEXT, b"one")
                assert await raw.frame() == (Opcode.CLOSE, (1000).to_bytes(2))
                raw.send_frame(Opcode.CLOSE, (1000).to_bytes(2))
                assert await raw.rest() == b""
    assert closed == ["yes", "yes"]


@pytest.mark.parametrize("nonsense", ["a text", 7, HttpResponse])
async def test_nonsense_that_a_view_returns_after_using_its_socket_does_no_harm(
    nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    @require_websocket
    def view(request: Any) -> object:
        request.websocket.send("one")
        return nonsense

    async with serving(path("", view)) as server, server.connect("/") as client:
        assert await client.closed() == (1000, "")
    assert "Traceback" not in caplog.text


async def test_a_client_that_left_before_it_was_let_in_is_one_that_left() -> None:
    entered, gone = asyncio.Event(), asyncio.Event()
    seen: list[object] = []

    @require_websocket
    async def view(request: Any) -> None:
        entered.set()
        await gone.wait()
        seen.extend([message async for message in request.websocket])
        with pytest.raises(Closed) as caught:
            await request.websocket.receive()
        seen.append(caught.value.code)
        await request.websocket.send("x")

    async with serving(path("", view)) as server:
        reader, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
        writer.write(upgrade(server.url.removeprefix("http://"), "/"))
        await entered.wait()
        writer.transport.abort()
        async with asyncio.timeout(5):
            while server._server.shared.connections:
                await asyncio.sleep(0)
        gone.set()
    assert seen == [1006]


async def test_a_blocked_view_ends_with_its_client_and_its_thread_with_it() -> None:
    threads: list[threading.Thread] = []
    seen: list[object] = []

    @require_websocket
    def view(request: Any) -> None:
        threads.append(threading.current_thread())
        request.websocket.send("waiting")
        seen.append(request.websocket.wait())

    async with serving(path("", view)) as server:
        async with server.connect("/") as client:
            assert await client.receive() == "waiting"
            client.abort()
        async with asyncio.timeout(5):
            while threads[0].is_alive():
                await asyncio.sleep(0.001)
    assert seen == [None]


async def test_a_view_that_sends_to_a_client_that_left_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    @require_websocket
    def view(request: Any) -> None:
        request.websocket.wait()
        while True:
            request.websocket.send("x" * 1000)

    async with serving(path("", view)) as server, server.connect("/") as client:
        await client.send("begin")
        await client.receive()
        client.abort()
    assert "Traceback" not in caplog.text


async def test_a_view_that_sends_to_another_ones_client_that_left_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    members: list[Any] = []

    @require_websocket
    def view(request: Any) -> None:
        members.append(request.websocket)
        for message in request.websocket:
            for each in members:
                each.send(message)

    @require_websocket
    async def view_async(request: Any) -> None:
        members.append(request.websocket)
        async for message in request.websocket:
            for each in members:
                await each.send(message)

    async with serving(path("", view), path("async", view_async)) as server:
        for where in ("/", "/async"):
            async with server.connect(where) as one:
                await one.send("hello")
                assert await one.receive() == "hello"
            async with server.connect(where) as two:
                await two.send("is anybody here?")
                assert await two.closed() == (1011, "")
            members.clear()
    assert caplog.text.count("Internal Server Error: ") == 2


async def test_an_async_view_that_neither_reads_nor_sends_is_ended_some_time_after_its_client_left() -> None:
    ended = asyncio.Event()

    @require_websocket
    async def view(request: Any) -> None:
        await request.websocket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(path("", view), FAIRLEAD={"limits": {"handler_grace": 0.1}}) as server:
        async with server.connect("/") as client:
            client.abort()
        async with asyncio.timeout(5):
            await ended.wait()


@pytest.mark.parametrize("place", ["/a", "/b"])
async def test_a_drain_tells_clients_to_come_back_and_views_that_it_is_over(place: str) -> None:
    seen: list[object] = []

    @require_websocket
    def view(request: Any) -> None:
        request.websocket.send("in")
        seen.append(request.websocket.wait())

    @require_websocket
    async def view_async(request: Any) -> None:
        await request.websocket.send("in")
        async for _ in request.websocket:
            pass
        seen.append(None)

    async with serving(path("a", view), path("b", view_async)) as server:
        async with server.connect(place) as client:
            assert await client.receive() == "in"
            await server.drain()
            assert await client.closed() == (1012, "service restart")
    assert seen == [None]


@pytest.mark.parametrize("place", ["/a", "/b"])
async def test_the_end_of_a_view_is_the_end_of_its_rooms_and_of_the_request(place: str) -> None:
    finished: list[object] = []

    def finish(sender: Any, **kwargs: Any) -> None:
        finished.append(threading.current_thread())

    @require_websocket
    def view(request: Any) -> None:
        request.websocket.join("lobby")
        request.websocket.send("in")
        request.websocket.wait()

    @require_websocket
    async def view_async(request: Any) -> None:
        await request.websocket.join("lobby")
        await request.websocket.send("in")
        await request.websocket.receive()

    async with serving(path("a", view), path("b", view_async)) as server:
        signals.request_finished.connect(finish)
        try:
            async with server.connect(place) as client:
                assert await client.receive() == "in"
                assert (len(room("lobby")), finished) == (1, [])
                await client.send("x")
                assert await client.closed() == (1000, "")
            assert len(room("lobby")) == 0
        finally:
            await server.drain()
            signals.request_finished.disconnect(finish)
    assert len(finished) == 1 and finished[0] is not threading.main_thread()
