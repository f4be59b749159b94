"""WebSockets and rooms for Python web applications, and for HTTP APIs that have none.

The public names are resolved when they are first used (PEP 562), so that ``import fairlead`` in a process that only
publishes loads no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead.app.application import App
    from fairlead.app.project import load_project
    from fairlead.app.standalone import run, serve
    from fairlead.dialects.calls import CallError, Calls, CallSocket
    from fairlead.errors import (
        BrokerUnavailable,
        CloseCode,
        Closed,
        FairleadError,
        InvalidMessage,
        InvalidRoom,
        UsageError,
    )
    from fairlead.handshake import Reject, Request
    from fairlead.limits import Limits
    from fairlead.message import Message
    from fairlead.paths import register_converter
    from fairlead.publisher import AsyncPublisher, Publisher, publish
    from fairlead.rooms.room import Room, Rooms
    from fairlead.routing import Endpoint, Router, WebSocketRoute
    from fairlead.sync import BlockingWebSocket
    from fairlead.websocket import WebSocket

__version__ = "0.1.0"

__all__ = [
    "App",
    "AsyncPublisher",
    "BlockingWebSocket",
    "BrokerUnavailable",
    "CallError",
    "CallSocket",
    "Calls",
    "CloseCode",
    "Closed",
    "Endpoint",
    "FairleadError",
    "InvalidMessage",
    "InvalidRoom",
    "Limits",
    "Message",
    "Publisher",
    "Reject",
    "Request",
    "Room",
    "Rooms",
    "Router",
    "UsageError",
    "WebSocket",
    "WebSocketRoute",
    "load_project",
    "publish",
    "register_converter",
    "run",
    "serve",
]

_MODULES = {
    "app.application": ("App",),
    "app.project": ("load_project",),
    "app.standalone": ("run", "serve"),
    "dialects.calls": ("CallError", "CallSocket", "Calls"),
    "errors": (
        "BrokerUnavailable",
        "CloseCode",
        "Closed",
        "FairleadError",
        "InvalidMessage",
        "InvalidRoom",
        "UsageError",
    ),
    "handshake": ("Reject", "Request"),
    "limits": ("Limits",),
    "message": ("Message",),
    "paths": ("register_converter",),
    "publisher": ("AsyncPublisher", "Publisher", "publish"),
    "rooms.room": ("Room", "Rooms"),
    "routing": ("Endpoint", "Router", "WebSocketRoute"),
    "sync": ("BlockingWebSocket",),
    "websocket": ("WebSocket",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            value: object = vars(import_module(f"fairlead.{module}"))[name]
            globals()[name] = value
            return value
    raise AttributeError(f"module 'fairlead' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
