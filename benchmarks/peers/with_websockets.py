"""The benchmarks' work on the ``websockets`` asyncio server. ``python with_websockets.py PORT``.

Paths: /echo, /idle (keeps nothing), /room (gets what is broadcast), /publish (each message is broadcast).
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

room: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    """Do what the path says."""
    assert connection.request is not None
    path = connection.request.path
    if path == "/echo":
        async for message in connection:
            await connection.send(message)
    elif path == "/publish":
        async for message in connection:
            broadcast(room, message)
    else:
        if path == "/room":
            room.add(connection)
        await connection.wait_closed()
        room.discard(connection)


async def main() -> None:
    """Serve until killed."""
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), compression=None, ping_interval=None, backlog=4096):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
