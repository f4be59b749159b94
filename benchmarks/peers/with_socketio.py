"""The benchmarks' work on python-socketio and uvicorn. ``python with_socketio.py PORT``.

Every client is in the room. /publish: the JSON of each POST goes there.
"""

from __future__ import annotations

import json
import sys

import socketio  # type: ignore[import-untyped]
from on_uvicorn import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

sio = socketio.AsyncServer(async_mode="asgi", ping_interval=3600, ping_timeout=7200)


@sio.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: object) -> None:
    """Join the room."""
    await sio.enter_room(sid, "room")


async def publish(request: Request) -> PlainTextResponse:
    """Send to everybody in the room."""
    await sio.emit("message", json.loads(await request.body()), room="room")
    return PlainTextResponse("ok")


app = socketio.ASGIApp(sio, Starlette(routes=[Route("/publish", publish, methods=["POST"])]))

if __name__ == "__main__":
    serve(app, int(sys.argv[1]))
