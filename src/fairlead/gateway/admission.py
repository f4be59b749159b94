"""From an upgrade request to a verdict: Origin, then the headers for the API, then the API.

Whoever is not let in is told so in the way the settings choose: by an HTTP status before the 101, or by a message and a
close code after it, which is all that a browser's script can see.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection
from ipaddress import ip_network

from fairlead.dialects.fairlead import refused
from fairlead.errors import CloseCode
from fairlead.gateway.answer import Answer, Refused, Verdict
from fairlead.gateway.attended import Attended
from fairlead.gateway.connection import Connection
from fairlead.gateway.headers import BadHeader, HeaderMap
from fairlead.gateway.settings import GatewaySettings
from fairlead.gateway.upstream import Upstream
from fairlead.handshake import Reject, Request, client_address, from_trusted_proxy, normal_origin, origin_fault
from fairlead.message import Message
from fairlead.transports import Transport
from fairlead.transports.asgi import Receive, Scope, Send, carry, refuse

logger = logging.getLogger(__name__)

_STATUS = {Verdict.UNAUTHORIZED: 401, Verdict.FORBIDDEN: 403, Verdict.UNAVAILABLE: 503}
_CLOSE = {
    Verdict.UNAUTHORIZED: CloseCode.UNAUTHORIZED,
    Verdict.FORBIDDEN: CloseCode.FORBIDDEN,
    Verdict.UNAVAILABLE: CloseCode.TRY_AGAIN_LATER,
}

RETRY_AFTER = "5"
"""Seconds told to a client that found the API unavailable, where the API itself named none."""

Admit = Callable[[str, Answer, bytes], Connection]
"""Makes the connection of a client that is in, from its id, the API's answer and the headers for asking again."""


class Admission:
    """Lets clients in, or not.

    Args:
        settings: ``[server]``, ``[upstream]`` and the limits.
        upstream: The API.
        admit: Makes the connection.
    """

    def __init__(self, settings: GatewaySettings, upstream: Upstream, admit: Admit) -> None:
        server = settings.server
        self._limits = settings.limits
        self._upstream = upstream
        self._admit = admit
        self._headers = HeaderMap(settings.upstream.headers)
        self._proxies = [ip_network(each) for each in server.trusted_proxies]
        self._origins: Collection[str | None] = frozenset(map(normal_origin, server.allowed_origins))
        self._require_origin = server.require_origin
        self._over_http = server.refuse == "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one handshake to its verdict; the path is the caller's to check, and to receive the first event."""
        id = secrets.token_hex(8)
        request = Request(scope)
        try:
            forwarded = self._judge(request, id)
            answer = await self._ask(forwarded, receive)
        except Reject as refusal:
            await refuse(scope, send, refusal.status, refusal.body, headers=refusal.headers)
        except Refused as refusal:
            level = logging.WARNING if refusal.verdict is Verdict.UNAVAILABLE else logging.INFO
            logger.log(level, "%s refused, %s: %s", id, refusal.verdict.value, refusal)
            await self._refuse(scope, receive, send, refusal)
        else:
            if answer is not None:
                connection = self._admit(id, answer, forwarded)
                await carry(scope, receive, send, connection, limits=self._limits)

    def _judge(self, request: Request, id: str) -> bytes:
        """Check the Origin and make the header block for the API.

        Raises:
            Reject: The API is not asked.
        """
        fault = origin_fault(request, allowed=self._origins, require=self._require_origin)
        if fault is not None:
            logger.warning("%s refused, HTTP 403: %s", id, fault)
            raise Reject(403, "origin not allowed\n")
        scheme = "https" if request.scheme in ("wss", "https") else "http"
        host, client = request.header(b"host") or "", request.address
        if self._proxies and from_trusted_proxy(client, self._proxies):
            told = request.header(b"x-forwarded-proto")
            scheme = told if told in ("http", "https") else scheme
            host = request.header(b"x-forwarded-host") or host
            client = client_address(client, request.values(b"x-forwarded-for"), self._proxies)
        try:
            return self._headers.build(request, client=client, scheme=scheme, host=host, request_id=id)
        except BadHeader as exc:
            logger.info("%s refused, HTTP 400: %s", id, exc)
            raise Reject(400, f"{exc}\n") from exc

    async def _ask(self, forwarded: bytes, receive: Receive) -> Answer | None:
        """Ask the API; None if the client left before the answer came."""
        async with Attended(receive):
            return await self._upstream.ask(forwarded)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, refusal: Refused) -> None:
        verdict = refusal.verdict
        if not self._over_http:
            farewell = Farewell(refused(verdict.value, retry=verdict is Verdict.UNAVAILABLE), _CLOSE[verdict])
            await carry(scope, receive, send, farewell, limits=self._limits)
            return
        headers = []
        if verdict is Verdict.UNAVAILABLE:
            headers.append((b"retry-after", (refusal.retry_after or RETRY_AFTER).encode()))
        body = refusal.body or verdict.value.encode() + b"\n"
        content_type = refusal.content_type or "text/plain"
        await refuse(scope, send, _STATUS[verdict], body, headers=headers, content_type=content_type)


class Farewell:
    """The Receiver of a client that is let in only to be told why it is not."""

    def __init__(self, message: bytes, code: CloseCode) -> None:
        self._message = message
        self._code = code

    def connected(self, transport: Transport) -> None:
        transport.send(Message(self._message))
        transport.close(self._code)

    def received(self, payload: str | bytes) -> None:
        """Nothing is received: the connection is closing from its first moment."""

    def closed(self, code: int, reason: str) -> None:
        """Nothing is kept."""
