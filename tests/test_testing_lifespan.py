"""When an application's lifespan runs, and what happens if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket

from fairlead import App, WebSocket
from fairlead.errors import UsageError
from fairlead.testing import connect, lifespan


class Counting:
    """An application that counts its lifespans."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.app = App(lifespan=self._lifespan)
        self.app.websocket("/")(self._handle)

    @asynccontextmanager
    async def _lifespan(self, app: App) -> AsyncIterator[Mapping[str, Any]]:
        self.log.append("started")
        await asyncio.sleep(0)
        yield {"greeting": "hello"}
        self.log.append("ended")

    async def _handle(self, ws: WebSocket) -> None:
        self.log.append("client")
        await ws.send(ws.state["greeting"])
        async for _ in ws:
            pass


async def test_it_runs_around_one_connection() -> None:
    counting = Counting()
    for _ in range(2):
        async with connect(counting.app) as client:
            assert await client.receive() == "hello"
            assert counting.log[-2:] == ["started", "client"]
    assert counting.log == ["started", "client", "ended"] * 2


async def test_it_runs_from_the_first_to_the_last_of_several() -> None:
    counting = Counting()
    async with connect(counting.app) as one:
        async with connect(counting.app) as other:
            await one.receive()
            await other.receive()
        assert counting.log == ["started", "client", "client"]
        await one.assert_nothing()
    assert counting.log[-1] == "ended"


async def test_it_can_be_kept_over_several() -> None:
    counting = Counting()
    async with lifespan(counting.app):
        assert counting.log == ["started"]
        for _ in range(2):
            async with connect(counting.app) as client:
                await client.receive()
    assert counting.log == ["started", "client", "client", "ended"]


def test_it_is_kept_without_async() -> None:
    counting = Counting()
    with lifespan(counting.app), connect(counting.app) as one, connect(counting.app) as other:
        assert one.receive() == other.receive() == "hello"
    assert counting.log == ["started", "client", "client", "ended"]


async def test_it_starts_once_also_if_two_need_it_at_the_same_time() -> None:
    counting = Counting()

    async def visit() -> None:
        async with connect(counting.app) as client:
            await client.receive()

    await asyncio.gather(visit(), visit())
    assert sorted(counting.log) == ["client", "client", "ended", "started"]


async def test_an_application_without_one_is_fine() -> None:
    async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "websocket.accept"})
        await receive()

    async def silent(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await bare(scope, receive, send)

    for app in (bare, silent):
        async with connect(app), lifespan(app):
            pass


async def test_what_is_changed_in_one_connections_state_is_not_in_the_next_ones() -> None:
    seen: list[list[str]] = []

    async def handle(ws: StarletteWebSocket) -> None:
        await ws.accept()
        seen.append(sorted(ws.scope["state"]))
        ws.scope["state"]["mine"] = 1

    @asynccontextmanager
    async def state(app: Starlette) -> AsyncIterator[dict[str, int]]:
        yield {"shared": 1}

    app = Starlette(routes=[WebSocketRoute("/", handle)], lifespan=state)
    async with lifespan(app):
        for _ in range(2):
            async with connect(app) as client:
                await client.closed()
    assert seen == [["shared"], ["shared"]]


async def test_a_startup_that_fails_fails_the_test_with_its_text() -> None:
    @asynccontextmanager
    async def broken(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    with pytest.raises(UsageError, match=r"(?s)startup failed: .*no database"):
        async with connect(Starlette(lifespan=broken)):
            raise AssertionError("not started")


async def test_a_shutdown_that_fails_fails_the_test_with_its_text() -> None:
    @asynccontextmanager
    async def broken(app: Starlette) -> AsyncIterator[None]:
        yield
        raise RuntimeError("cannot flush")

    with pytest.raises(UsageError, match=r"(?s)shutdown failed: .*cannot flush"):
        async with lifespan(Starlette(lifespan=broken)):
            pass
