"""WebSockets in Django: views that talk to them, rooms, a development server, and what a gateway beside it needs.

Put ``"fairlead.django"`` into ``INSTALLED_APPS``, before ``django.contrib.staticfiles``.
"""

from __future__ import annotations

from fairlead.django.asgi import get_asgi_application
from fairlead.django.client import browser_client
from fairlead.django.gateway import bootstrap, rooms, trigger
from fairlead.django.publishing import publish_on_commit, room
from fairlead.django.views import WebSocketMiddleware, accept_websocket, require_websocket

__all__ = [
    "WebSocketMiddleware",
    "accept_websocket",
    "bootstrap",
    "browser_client",
    "get_asgi_application",
    "publish_on_commit",
    "require_websocket",
    "room",
    "rooms",
    "trigger",
]
