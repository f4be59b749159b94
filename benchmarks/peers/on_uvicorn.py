"""uvicorn as the peers run on it."""

from __future__ import annotations

from typing import Any, Literal

import uvicorn


def serve(app: Any, port: int, *, lifespan: Literal["auto", "off"] = "auto") -> None:
    """Serve an application, without pings and compression, and with nothing logged that is not wrong."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan=lifespan,
        log_level="warning",
        access_log=False,
        backlog=4096,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
