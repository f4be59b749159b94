"""ASGI applications under our server, under stock uvicorn with our WebSocket class, and under stock uvicorn alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from tests.e2e.processes import PATIENCE
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fairlead.server import Listener, Server
from fairlead.server.websocket import WebSocketProtocol

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

NATIVE = "fairlead"
DROP_IN, DROP_IN_H11 = "uvicorn --ws fairlead", "uvicorn --http h11 --ws fairlead"
SANSIO, WSPROTO = "uvicorn", "uvicorn --ws wsproto"  # uvicorn takes websockets-sansio by itself

_OPTIONS: dict[str, dict[str, Any]] = {
    DROP_IN: {"ws": WebSocketProtocol},
    DROP_IN_H11: {"http": "h11", "ws": WebSocketProtocol},
    SANSIO: {},
    WSPROTO: {"ws": "wsproto"},
}


@dataclass
class Running:
    """A server at work in the test's own event loop.

    Attributes:
        server: It; ``should_exit`` ends it.
        ended: Done when it has.
        ports: The application's, then those of what is beside it.
    """

    server: uvicorn.Server
    ended: asyncio.Task[None]
    ports: list[int]

    def connect(self, path: str, *, host: str = "127.0.0.1", **options: Any) -> connect:
        """A client; without compression, so that what is sent takes the room it seems to take."""
        options = {"compression": None, "ping_interval": None, "proxy": None, **options}
        return connect(f"ws://{host}:{self.ports[0]}{path}", host="127.0.0.1", port=self.ports[0], **options)


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody else run until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(kind: str, app: Any, *beside: Any, **options: Any) -> AsyncIterator[Running]:
    """Serve on free ports until the block ends.

    Args:
        kind: One of the names above; skipped if it is not installed.
        app: The application that gets the lifespan.
        beside: Others, on ports of their own.
        options: Our Server's, for NATIVE.
    """
    if kind == WSPROTO:
        pytest.importorskip("wsproto")
    async with AsyncExitStack() as stack:
        ports: list[int] = []
        if kind == NATIVE:
            listener, *also = (Listener(app=each, port=0) for each in (app, *beside))
            server: uvicorn.Server = Server(listener, also=also, **options)
        else:
            # Started first and ended last: each puts its signal handlers over those it finds.
            for each in beside:
                other = _stock(each, lifespan="off")
                await stack.enter_async_context(_serving(other))
                ports += _ports(other)
            server = _stock(app, **_OPTIONS[kind])
        ended = await stack.enter_async_context(_serving(server))
        yield Running(server, ended, _ports(server) + ports)


def _stock(app: Any, **options: Any) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **options))


@asynccontextmanager
async def _serving(server: uvicorn.Server) -> AsyncIterator[asyncio.Task[None]]:
    ended = asyncio.create_task(server.serve())
    await until(lambda: server.started or ended.done())
    try:
        yield ended
    finally:
        server.should_exit = True
        await ended


def _ports(server: uvicorn.Server) -> list[int]:
    if isinstance(server, Server):
        return [int(address.rpartition(":")[2]) for address in server.addresses]
    return [each.sockets[0].getsockname()[1] for each in server.servers]


async def end(client: ClientConnection) -> tuple[int, str]:
    """Read until the connection is over; how the server closed it."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await client.recv()
    assert caught.value.rcvd is not None, "lost without a Close frame"
    return caught.value.rcvd.code, caught.value.rcvd.reason
