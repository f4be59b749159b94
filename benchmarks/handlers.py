"""The benchmarks' work on the framework: an App with handlers behind routes. ``python handlers.py PORT [ROUTES]``.

Paths: /echo, an ``async for`` handler; /idle, one that waits for messages that never come; /rpc, a function that is
called by name; and /thing0/{id} and so on, ROUTES of them.
"""

from __future__ import annotations

import sys

from ours import LIMITS

from fairlead import App, WebSocket, run

app = App(limits=LIMITS, calls_path="/rpc")


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    """Send back each message."""
    async for message in ws:
        await ws.send(message)


@app.websocket("/idle")
async def idle(ws: WebSocket) -> None:
    """Wait for the end."""
    async for _ in ws:
        pass


@app.call()
async def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def add_routes(count: int) -> None:
    """Add so many routes more, of which the last is the last that a search would come to."""
    for number in range(count):
        app.websocket(f"/thing{number}/{{id:int}}")(idle)


if __name__ == "__main__":
    add_routes(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    run(app, port=int(sys.argv[1]))
