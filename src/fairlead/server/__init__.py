"""The server: HTTP and process management by uvicorn, WebSockets by the wire core."""

from __future__ import annotations

from fairlead.server.run import Listener, Server, run, serve
from fairlead.server.websocket import WebSocketProtocol

__all__ = ["Listener", "Server", "WebSocketProtocol", "run", "serve"]
