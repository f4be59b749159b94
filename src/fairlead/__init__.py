"""WebSockets and rooms for Python web applications, and for HTTP APIs that have none.

The public names are resolved when they are first used (PEP 562), so that ``import fairlead`` in a process that only
publishes loads no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead.errors import CloseCode, Closed, FairleadError
    from fairlead.handshake import Reject
    from fairlead.limits import Limits
    from fairlead.message import Message
    from fairlead.publisher import AsyncPublisher, Publisher, publish
    from fairlead.server import run, serve

__version__ = "0.1.0"

__all__ = [
    "AsyncPublisher",
    "CloseCode",
    "Closed",
    "FairleadError",
    "Limits",
    "Message",
    "Publisher",
    "Reject",
    "publish",
    "run",
    "serve",
]

_MODULES = {
    "errors": ("CloseCode", "Closed", "FairleadError"),
    "handshake": ("Reject",),
    "limits": ("Limits",),
    "message": ("Message",),
    "publisher": ("AsyncPublisher", "Publisher", "publish"),
    "server": ("run", "serve"),
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
