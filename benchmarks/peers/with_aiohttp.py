"""The benchmarks' work on aiohttp's server. ``python with_aiohttp.py PORT``.

Paths: /echo, /idle (keeps nothing), /room (gets what is published), /publish (each message goes to the room, one after
the other: with ``gather`` it costs twice as much).
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web

room: set[web.WebSocketResponse] = set()


async def accept(request: web.Request) -> web.WebSocketResponse:
    """Finish the handshake, without compression and pings."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    return socket


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send back each text."""
    socket = await accept(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def join(request: web.Request) -> web.WebSocketResponse:
    """Wait for the end; in the room if the path says so."""
    socket = await accept(request)
    if request.path == "/room":
        room.add(socket)
    async for _ in socket:
        pass
    room.discard(socket)
    return socket


async def publish(request: web.Request) -> web.WebSocketResponse:
    """Send each text to everybody in the room."""
    socket = await accept(request)
    async for message in socket:
        for member in list(room):
            await member.send_str(message.data)
    return socket


async def main() -> None:
    """Serve until killed."""
    app = web.Application()
    app.add_routes([web.get("/echo", echo), web.get("/publish", publish)])
    app.add_routes([web.get(path, join) for path in ("/idle", "/room")])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=4096).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
