"""Behind a web server: who the client is and how it speaks, from the headers of proxies that are believed."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from fairlead.handshake import Request, client_address, from_trusted_proxy


class TrustedProxies:
    """Middleware that puts the client's address and scheme where the application looks for them.

    ``X-Forwarded-For`` is read from the right up to the first address that is not trusted, since what stands left of
    it is whatever the client wrote; ``X-Forwarded-Proto`` is the nearest proxy's word. Headers of anybody else are
    left alone. The host is the ``Host`` header's, which the web server must pass on as it came.

    Args:
        app: The application behind it.
        trusted: Addresses and networks of proxies. Over a Unix socket there is no address; its peer is trusted if any
            proxy is.
    """

    def __init__(self, app: ASGIApp, trusted: Collection[str]) -> None:
        self.app = app
        self._trusted = [ip_network(each) for each in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self._seen(scope)
        await self.app(scope, receive, send)

    def _seen(self, scope: Scope) -> Scope:
        request = Request(scope)
        if not from_trusted_proxy(request.address, self._trusted):
            return scope
        address = client_address(request.address, request.values(b"x-forwarded-for"), self._trusted)
        seen = dict(scope)
        if address:
            seen["client"] = (address, 0)
        scheme = request.header(b"x-forwarded-proto")
        if scheme in ("http", "https"):
            seen["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme
        return seen
