"""The server: HTTP and process management by uvicorn, WebSockets by the wire core."""

from __future__ import annotations

from fairlead.server.run import Listener, Server, run, serve

__all__ = ["Listener", "Server", "run", "serve"]
