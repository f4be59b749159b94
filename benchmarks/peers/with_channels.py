"""The benchmarks' work on Django Channels and uvicorn. ``LAYER=memory|redis python with_channels.py PORT``.

REDIS: the URL of the server for the Redis layer. Paths: /publish, each POST goes to the room; any socket joins it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from on_uvicorn import serve

BACKENDS = {
    "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    "redis": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("REDIS", "")]},
    },
}
settings.configure(CHANNEL_LAYERS={"default": BACKENDS[os.environ.get("LAYER", "memory")]})

from channels.generic.http import AsyncHttpConsumer  # type: ignore[import-untyped] # noqa: E402  # they read the settings
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped] # noqa: E402
from channels.layers import get_channel_layer  # type: ignore[import-untyped] # noqa: E402
from channels.routing import ProtocolTypeRouter  # type: ignore[import-untyped] # noqa: E402


class Member(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A client in the room."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)

    async def relay(self, event: dict[str, Any]) -> None:
        """Send on what was published."""
        await self.send(text_data=event["text"])


class Publish(AsyncHttpConsumer):  # type: ignore[misc]
    """Each body goes to the room."""

    async def handle(self, body: bytes) -> None:
        await get_channel_layer().group_send("room", {"type": "relay", "text": body.decode()})
        await self.send_response(200, b"ok", headers=[(b"Content-Length", b"2")])


app = ProtocolTypeRouter({"http": Publish.as_asgi(), "websocket": Member.as_asgi()})

if __name__ == "__main__":
    serve(app, int(sys.argv[1]), lifespan="off")
