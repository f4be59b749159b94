"""The benchmarks' work in Django's views. ``DJANGO_SETTINGS_MODULE=... python django_site.py PORT [blocking]``.

Paths: /echo, and /idle, which waits for messages that never come. They know their user, as Channels' consumers do.
"""

from __future__ import annotations

import sys

from django.http import HttpRequest
from django.urls import path

from fairlead.django import get_asgi_application, require_websocket
from fairlead.server import run


@require_websocket
async def echo(request: HttpRequest) -> None:
    """Send back each message."""
    await request.auser()
    async for message in request.websocket:
        await request.websocket.send(message)


@require_websocket
async def idle(request: HttpRequest) -> None:
    """Wait for the end."""
    await request.auser()
    async for _ in request.websocket:
        pass


@require_websocket
def blocking_echo(request: HttpRequest) -> None:
    """Send back each message."""
    bool(request.user.is_authenticated)
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket
def blocking_idle(request: HttpRequest) -> None:
    """Wait for the end."""
    bool(request.user.is_authenticated)
    for _ in request.websocket:
        pass


_VIEWS = (blocking_echo, blocking_idle) if "blocking" in sys.argv else (echo, idle)
urlpatterns = [path(name, view) for name, view in zip(("echo", "idle"), _VIEWS, strict=True)]

if __name__ == "__main__":
    from ours import LIMITS

    run(get_asgi_application(), port=int(sys.argv[1]), limits=LIMITS)
