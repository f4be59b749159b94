"""WebSockets for Pyramid applications, where their views and resources already are.

    config.include("fairlead.pyramid")

adds the view predicate ``websocket=True``, the view option ``allowed_origins``, ``request.websocket``, and answers
for handshakes that are refused. The application stays a WSGI application; ``fairlead run --wsgi`` serves it, or
``pserve`` with ``use = egg:fairlead``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.pyramid.handshake import HandShakeFailed, InvalidOrigin, build_location_url, websocket_handshake
from fairlead.pyramid.predicates import is_websocket
from fairlead.pyramid.resources import WebSocketAwareResource
from fairlead.pyramid.views import WebSocketView

if TYPE_CHECKING:
    from pyramid.config import Configurator

__all__ = [
    "HandShakeFailed",
    "InvalidOrigin",
    "WebSocketAwareResource",
    "WebSocketView",
    "build_location_url",
    "includeme",
    "is_websocket",
    "websocket_handshake",
]


def includeme(config: Configurator) -> None:
    """For ``config.include("fairlead.pyramid")``.

    Raises:
        ConfigurationError: The setting ``fairlead.allowed_origins`` holds something that is no origin.
    """
    from fairlead.pyramid import configuration

    configuration.configure(config)
