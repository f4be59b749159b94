"""The HTTP backend that Pushpin asks about each client: in, and into the room. ``python grip_backend.py PORT``.

WebSocket-over-HTTP: a POST of events comes in, events go out. Here OPEN is answered with OPEN and a subscription, and
everything else with nothing.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web

SUBSCRIBE = b'c:{"type":"subscribe","channel":"room"}'
HEADERS = {"Content-Type": "application/websocket-events", "Sec-WebSocket-Extensions": 'grip; message-prefix=""'}


async def events(request: web.Request) -> web.Response:
    """Answer one POST."""
    body = await request.read()
    answer = b"OPEN\r\nTEXT %x\r\n%b\r\n" % (len(SUBSCRIBE), SUBSCRIBE) if body.startswith(b"OPEN") else b""
    return web.Response(body=answer, headers=HEADERS)


async def main() -> None:
    """Serve until killed."""
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", events)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=4096).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
