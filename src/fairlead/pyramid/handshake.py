"""The opening handshake as a WSGI application sees it: whether a request is one, and whether it may become a socket.

``headers`` are those of a ``pyramid.request.Request``. The rules are those of the server (RFC 6455, 4.2): the drafts
before it, of which browsers have known nothing since 2012, are refused with 426 and the version that is spoken here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pyramid.request import Request

from fairlead.guards import Origins, normal_origins
from fairlead.handshake import RawHeaders, Reject, origin_fault
from fairlead.handshake import Request as Handshake
from fairlead.wire.opening import Refusal, judge

if TYPE_CHECKING:
    from webob.headers import EnvironHeaders

logger = logging.getLogger(__name__)


class HandShakeFailed(Reject):
    """The request does not become a WebSocket. Raised in a view, it is answered with ``status`` and ``headers``.

    Args:
        why: One line for whoever debugs the client; never anything of the request.
        status: 400, 403, 426 or 501.
        headers: What the status needs besides.
    """

    def __init__(self, why: str, status: int = 400, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(status, f"Upgrade negotiation failed: {why}\n", headers)
        self.why = why

    def __str__(self) -> str:
        return self.why


class InvalidOrigin(HandShakeFailed):
    """A page of another origin asks, and is not in ``allowed_origins``: 403."""

    def __init__(self) -> None:
        super().__init__("origin not allowed", 403)


def websocket_handshake(headers: Mapping[str, str], allowed_origins: Origins | None = None) -> bytes:
    """Judge a handshake by its headers.

    Args:
        headers: The request's.
        allowed_origins: Who may connect besides pages of the same origin; "*": anybody.

    Returns:
        The 101 response; for who writes to a socket himself.

    Raises:
        HandShakeFailed: It is none, or a faulty one.
        InvalidOrigin: It is another page's.
        UsageError: ``allowed_origins`` holds something that is no origin.
    """
    fields = _fields(headers)
    verdict = judge(b"GET", b"/", "1.1", fields)
    if isinstance(verdict, Refusal):
        raise HandShakeFailed(verdict.body.decode().rstrip(".\n"), verdict.status, verdict.headers)
    check_origin(Handshake({"headers": fields}), allowed_origins or ())
    return verdict.response()


def build_location_url(headers: EnvironHeaders) -> str:
    """The URL that the client connected to: ``ws`` or ``wss``, with the query."""
    url: str = Request(headers.environ).url
    return url.replace("http", "ws", 1)


def asks_for_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request wants to become a WebSocket: both headers are lists, in any case (RFC 6455, 4.2.1)."""
    return _lists(headers.get("Upgrade", ""), "websocket") and _lists(headers.get("Connection", ""), "upgrade")


def check_origin(handshake: Handshake, allowed: Origins) -> None:
    """See that nobody connects from another site's page with its visitor's cookies.

    Args:
        handshake: The request as the server has it.
        allowed: Who may besides pages of the same origin; "*": anybody.

    Raises:
        InvalidOrigin: This one may not. The log says why, and which setting would let it.
        UsageError: ``allowed`` holds something that is no origin.
    """
    exact = normal_origins(allowed)
    fault = None if "*" in exact else origin_fault(handshake, allowed=exact)
    if fault is not None:
        logger.warning("a handshake was refused with HTTP 403: %s", fault)
        raise InvalidOrigin


def _lists(header: str, option: str) -> bool:
    return option in (element.strip(" \t").lower() for element in header.split(","))


def _fields(headers: Mapping[str, str]) -> RawHeaders:
    """The headers as they came. WSGI servers may say of a body that is not there that its length is ""."""
    return [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
        if value or name.lower() != "content-length"
    ]
