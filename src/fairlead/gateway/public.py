"""What the public listener answers to plain HTTP: the browser client, and whether it is alive."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

from fairlead.static import browser_client
from fairlead.transports.asgi import Receive, Scope, Send


class PublicPages:
    """A small ASGI application for GET and HEAD.

    Args:
        sockets: The paths where the sockets are; a plain request there is told to upgrade (RFC 9110, 15.5.22).
        ready: Whether new clients are welcome.
    """

    def __init__(self, sockets: Collection[str], ready: Callable[[], bool]) -> None:
        self._sockets = sockets
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._response(scope)
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    def _response(self, scope: Scope) -> Response:
        path: str = scope["path"]
        if path not in self._sockets and path not in ("/fairlead.js", "/healthz", "/readyz"):
            return PlainTextResponse("not found\n", 404)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("method not allowed\n", 405, headers={"allow": "GET, HEAD"})
        match path:
            case "/fairlead.js":
                return browser_client(Headers(scope=scope))
            case "/healthz":
                return PlainTextResponse("ok\n")
            case "/readyz":
                return PlainTextResponse("ready\n") if self._ready() else PlainTextResponse("draining\n", 503)
            case _:
                headers = {"upgrade": "websocket", "connection": "upgrade"}
                return PlainTextResponse("this is a WebSocket endpoint\n", 426, headers=headers)
