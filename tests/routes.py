"""What the tests of routes share: handlers, guards, and how a client fares with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response

from fairlead.guards import Guard
from fairlead.handshake import Reject, Request
from fairlead.testing import Refusal, connect, rejects
from fairlead.websocket import WebSocket

App = Callable[[Any, Any, Any], Awaitable[None]]

OTHER, OWN = "https://other.test", "http://testserver"


async def tell(ws: WebSocket) -> None:
    """Say what the route found."""
    await ws.send_json({"path": ws.path, "params": ws.params, "query": dict(ws.query), "state": ws.state})


async def told(app: App, path: str, **options: Any) -> Any:
    """Connect and take what the handler says first."""
    async with connect(app, path, **options) as client:
        return await client.receive_json()


async def refused(app: App, path: str, status: int, **options: Any) -> Refusal:
    with rejects(status) as refusal:
        async with connect(app, path, **options):
            pass
    return refusal


def saying(word: str) -> Callable[[WebSocket], Awaitable[None]]:
    async def say(ws: WebSocket) -> None:
        await ws.send_json(word)

    return say


async def http(
    app: App, path: str, method: str = "GET", body: bytes = b"", **scope: Any
) -> tuple[int, dict[str, str], bytes]:
    """A plain request's status, headers and body."""
    sent: list[MutableMapping[str, Any]] = []
    incoming = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if not incoming:
            await asyncio.Event().wait()  # the client waits
        return incoming.pop()

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    asked = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [(b"host", b"h.test")]}
    await app({**asked, "scheme": "http", "http_version": "1.1", "state": {}, **scope}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(event.get("body", b"") for event in sent[1:])


async def page(request: HttpRequest) -> Response:
    return PlainTextResponse(f"page {request.path_params}")


def noting(log: list[str], word: str) -> Guard:
    async def note(request: Request) -> None:
        log.append(word)

    return note


def refusing(status: int, **options: Any) -> Guard:
    async def refuse(request: Request) -> Reject:
        return Reject(status, **options)

    return refuse
