"""The benchmarks' work on uvicorn with Starlette. ``python with_starlette.py PORT [ROUTES]``.

Paths: /echo, /idle (keeps nothing), /room (gets what is published), /publish (each message goes to the room, one after
the other); and /thing0/{id} and so on, ROUTES of them.
"""

from __future__ import annotations

import sys

from on_uvicorn import serve
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

room: set[WebSocket] = set()


async def echo(socket: WebSocket) -> None:
    """Send back each text."""
    await socket.accept()
    async for message in socket.iter_text():
        await socket.send_text(message)


async def join(socket: WebSocket) -> None:
    """Wait for the end; in the room if the path says so."""
    await socket.accept()
    if socket.url.path == "/room":
        room.add(socket)
    try:
        await socket.receive_text()
    except WebSocketDisconnect:
        room.discard(socket)


async def publish(socket: WebSocket) -> None:
    """Send each text to everybody in the room."""
    await socket.accept()
    async for message in socket.iter_text():
        for member in list(room):
            await member.send_text(message)


app = Starlette(
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/idle", join),
        WebSocketRoute("/room", join),
        WebSocketRoute("/publish", publish),
    ]
)


def add_routes(count: int) -> None:
    """Add so many routes more."""
    for number in range(count):
        app.routes.append(WebSocketRoute(f"/thing{number}/{{id:int}}", join))


if __name__ == "__main__":
    add_routes(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    serve(app, int(sys.argv[1]))
