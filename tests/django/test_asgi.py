"""The application among others: lifespan, other scopes, other servers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from django.http import HttpResponse
from django.test.utils import override_settings
from django.urls import path
from tests.e2e.servers import DROP_IN, NATIVE, SANSIO, WSPROTO, running

from fairlead.django import get_asgi_application, require_websocket, room
from fairlead.errors import BrokerUnavailable, UsageError


@require_websocket
def echo(request: Any) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket
async def echo_async(request: Any) -> None:
    async for message in request.websocket:
        await request.websocket.send(message)


@require_websocket
async def refuses(request: Any) -> HttpResponse:
    return HttpResponse("no", status=418)


@pytest.mark.parametrize("kind", [NATIVE, DROP_IN, SANSIO, WSPROTO])
async def test_it_runs_under_every_server(kind: str) -> None:
    from websockets.exceptions import InvalidStatus

    urls = (path("a/", echo), path("b/", echo_async), path("c/", refuses))
    with override_settings(ROOT_URLCONF=urls):
        async with running(kind, get_asgi_application()) as server:
            for place in ("/a/", "/b/"):
                async with server.connect(place) as client:
                    await client.send("hello")
                    assert await client.recv() == "hello"
            with pytest.raises(InvalidStatus) as caught:
                await server.connect("/c/")
            assert caught.value.response.status_code == 418


async def test_other_scopes_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="no 'carrier'"):
        await get_asgi_application()({"type": "carrier"}, receive, print)  # type: ignore[arg-type]


async def receive() -> dict[str, Any]:
    raise AssertionError("nothing is received")


async def test_its_rooms_are_there_from_startup_to_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    app = get_asgi_application()
    events: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.startup"})
    assert await answers.get() == {"type": "lifespan.startup.complete"}
    assert app.rooms.started and len(room("news")) == 0
    events.put_nowait({"type": "lifespan.shutdown"})
    assert await answers.get() == {"type": "lifespan.shutdown.complete"}
    await running
    assert not app.rooms.started


async def test_a_broker_that_cannot_be_reached_fails_the_startup_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise BrokerUnavailable("nobody there")

    app = get_asgi_application()
    monkeypatch.setattr(app.rooms, "start", fails)
    events: asyncio.Queue[Any] = asyncio.Queue()
    events.put_nowait({"type": "lifespan.startup"})
    answers: list[Any] = []

    async def send(event: Any) -> None:
        answers.append(event)

    await app({"type": "lifespan"}, events.get, send)
    assert answers == [{"type": "lifespan.startup.failed", "message": "nobody there"}]


def test_its_limits_are_the_projects() -> None:
    with override_settings(FAIRLEAD={"limits": {"message_size": 5}}):
        assert get_asgi_application().limits.message_size == 5


def test_a_project_that_only_triggers_loads_no_server() -> None:
    code = "import sys, fairlead.django; print([name for name in ('uvicorn', 'aiohttp') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
