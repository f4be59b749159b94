"""A server of ours on a free port, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fairlead.server import Listener, Server


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Server]:
    """Serve ``app`` while the block runs, then drain. ``options`` are the Server's, or the Listener's."""
    address = {name: options.pop(name) for name in ("uds", "certfile", "keyfile") if name in options}
    ready = asyncio.Event()
    server = Server(Listener(app=app, port=0, **address), ready=lambda addresses: ready.set(), **options)
    running = asyncio.create_task(server.serve())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        running.result()
    try:
        yield server
    finally:
        server.should_exit = True
        await running


def port(server: Server) -> int:
    """The port of its public listener."""
    return int(server.addresses[0].rpartition(":")[2])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, for servers in processes of their own."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    """As ``free_ports``, one."""
    return free_ports(1)[0]


async def exchange(server: Server, data: bytes, *, seconds: float = 5.0) -> bytes:
    """Send bytes over a new connection and read until the server ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            return await reader.read()
    except ConnectionResetError:
        return b"<reset>"
    finally:
        writer.close()
