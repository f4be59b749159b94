"""The benchmarks' work in Channels' consumers. ``DJANGO_SETTINGS_MODULE=... python with_consumers.py PORT SERVER``.

SERVER: uvicorn or daphne. Paths: /echo, and /idle, which waits for messages that never come.
"""

from __future__ import annotations

import sys

import django

django.setup()

from channels.auth import AuthMiddlewareStack  # type: ignore[import-untyped] # noqa: E402  # they read the settings
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped] # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped] # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # type: ignore[import-untyped] # noqa: E402
from django.urls import path  # noqa: E402


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends back each text."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data)


class Idle(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Says nothing."""


routes = URLRouter([path("echo", Echo.as_asgi()), path("idle", Idle.as_asgi())])
app = ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(routes))})


def on_uvicorn(port: int) -> None:
    """Serve, without pings and compression."""
    from on_uvicorn import serve

    serve(app, port, lifespan="off")


def on_daphne(port: int) -> None:
    """Serve, without pings; Twisted's default backlog would be 50."""
    import asyncio

    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # daphne makes its loop while it is imported
    from daphne.server import Server  # type: ignore[import-untyped]

    Server(app, [f"tcp:port={port}:interface=127.0.0.1:backlog=4096"], ping_interval=None, verbosity=0).run()


if __name__ == "__main__":
    {"uvicorn": on_uvicorn, "daphne": on_daphne}[sys.argv[2]](int(sys.argv[1]))
