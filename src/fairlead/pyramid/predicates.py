"""Choosing views: for sockets, for everything else, or for either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fairlead.pyramid.handshake import asks_for_websocket
from fairlead.wsgi.environ import SOCKET_KEY

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.request import Request

MISSED: Final = "fairlead.pyramid.missed"
"""In the WSGI environment: a view for sockets is there, and this request was none."""


def is_websocket(context: object, request: Request) -> bool:
    """Whether the request is the handshake of a WebSocket; as a predicate, with the context it does not look at."""
    return SOCKET_KEY in request.environ or asks_for_websocket(request.headers)


class WebSocketPredicate:
    """``websocket=True``: a view for handshakes. ``websocket=False``: a view for all other requests."""

    def __init__(self, wanted: bool, config: Configurator) -> None:
        self._wanted = bool(wanted)

    def text(self) -> str:
        return f"websocket = {self._wanted}"

    phash = text

    def __call__(self, context: object, request: Request) -> bool:
        found = is_websocket(context, request)
        if self._wanted and not found and request.method == "GET":  # no other method can be a handshake
            request.environ[MISSED] = True
        return found is self._wanted


class MissedPredicate:
    """For our own exception view: no view was found, and there would have been one for a socket."""

    def __init__(self, value: bool, config: Configurator) -> None:
        pass

    def text(self) -> str:
        return "a view for sockets was missed"

    phash = text

    def __call__(self, context: object, request: Request) -> bool:
        return MISSED in request.environ
