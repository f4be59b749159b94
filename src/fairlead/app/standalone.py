"""Serve one thing: a handler, an Endpoint, an object with callbacks, or a whole application."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp

from fairlead.app.application import App
from fairlead.errors import CloseCode, UsageError
from fairlead.guards import Origins
from fairlead.limits import Limits
from fairlead.rooms.room import Rooms
from fairlead.routing import Endpoint, Handler
from fairlead.server import run as run_server
from fairlead.server import serve as serve_server
from fairlead.websocket import WebSocket

_CALLBACKS = ("on_connect", "on_text", "on_binary", "on_close")

_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


async def serve(
    target: object,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    allowed_origins: Origins | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> int:
    """Serve until a signal ends it.

    Args:
        target: An ASGI application; or for every path an ``async def`` handler that takes a WebSocket, an Endpoint
            class, or an object with any of the callbacks ``on_connect(ws)``, ``on_text(ws, text)``,
            ``on_binary(ws, data)`` and ``on_close(ws, code, reason)``, each an ``async def``. A message for which there
            is no callback closes the connection with 1003.
        host: Address to bind; loopback unless told otherwise.
        port: 0 lets the system choose.
        allowed_origins: For a handler: who may connect besides pages of the same origin; "*": anybody.
        limits: Of the server, and of a handler's application; None: those that an App brings, or the defaults.
        options: Of ``fairlead.server.serve``: a Unix socket, TLS, hooks.

    Returns:
        The process's exit status: 0 after a drain, 1 if a second signal cut it short.

    Raises:
        CannotListen: The address cannot be bound.
        UsageError: The target is none of these, or its startup failed.
    """
    app = application(target, allowed_origins=allowed_origins, limits=limits)
    return await serve_server(app, host=host, port=port, **_options(app, limits), **options)


def run(
    target: object,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    allowed_origins: Origins | None = None,
    limits: Limits | None = None,
    loop: str = "auto",
    **options: Any,
) -> int:
    """``serve`` in a new event loop.

    Args:
        target: See ``serve``, as for the others.
        host: See ``serve``.
        port: See ``serve``.
        allowed_origins: See ``serve``.
        limits: See ``serve``.
        loop: "uvloop", "asyncio", or "auto" for uvloop where it is installed.
        options: See ``serve``. Without ``ready`` a line on stderr says where it listens.
    """
    options.setdefault("ready", _say)
    app = application(target, allowed_origins=allowed_origins, limits=limits)
    return run_server(app, loop=loop, host=host, port=port, **_options(app, limits), **options)


def _say(addresses: Sequence[str]) -> None:
    print("listening:", *addresses, file=sys.stderr)


def server_options(app: object) -> dict[str, Any]:
    """What an application asks of its server: its ``limits``, and that its ``rooms`` are flushed before a drain."""
    limits, rooms = getattr(app, "limits", None), getattr(app, "rooms", None)
    asked: dict[str, Any] = {}
    if isinstance(limits, Limits):
        asked["limits"] = limits
    if isinstance(rooms, Rooms):
        asked["flush"] = rooms.flush
    return asked


def _options(app: object, limits: Limits | None) -> dict[str, Any]:
    asked = server_options(app)
    return asked if limits is None else {**asked, "limits": limits}


def application(target: object, *, allowed_origins: Origins | None = None, limits: Limits | None = None) -> ASGIApp:
    """The ASGI application that ``serve`` makes of its target.

    Raises:
        UsageError: The target is nothing that can be served.
    """
    handler = _handler(target)
    if handler is not None:
        app = App(allowed_origins=allowed_origins, limits=limits, client_path="")
        app.websocket("/{path:path}")(handler)
        return app
    if not callable(target) or isinstance(target, type):
        raise UsageError(f"{target!r} is neither an application nor a handler")
    if _takes(target, 2) and not _takes(target, 3):
        raise UsageError(
            f"{type(target).__name__} is a WSGI application: run it with --wsgi, or wrap it in fairlead.wsgi.WSGI"
        )
    if allowed_origins is not None:
        raise UsageError("allowed_origins is for a handler; an application has its own rule")
    called: ASGIApp = target
    return called


def _takes(target: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments: WSGI has two, ASGI three."""
    try:
        inspect.signature(target).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def _handler(target: object) -> Handler | type[Endpoint] | None:
    if isinstance(target, type) and issubclass(target, Endpoint):
        return target
    callbacks = {name: getattr(target, name) for name in _CALLBACKS if hasattr(target, name)}
    if callbacks and not isinstance(target, type):
        return _converse(callbacks)
    if callable(target) and not isinstance(target, type):
        parameters = inspect.signature(target).parameters.values()
        required = [each for each in parameters if each.default is each.empty and each.kind not in _REST]
        if len(required) == 1:  # an ASGI application takes three
            return target
    return None


def _converse(callbacks: dict[str, Callable[..., Any]]) -> Handler:
    """A handler that calls back.

    Raises:
        UsageError: One of the callbacks is a plain function.
    """
    for name, callback in callbacks.items():
        if not inspect.iscoroutinefunction(callback):
            raise UsageError(f"{name} must be an async def: a plain one would block the event loop")
    connect, text, binary, close = (callbacks.get(name) for name in _CALLBACKS)

    async def converse(ws: WebSocket) -> None:
        code: int = CloseCode.INTERNAL_ERROR
        try:
            if connect is not None:
                await connect(ws)
            async for message in ws:
                callback = text if isinstance(message, str) else binary
                if callback is None:
                    code = CloseCode.UNSUPPORTED_DATA
                    await ws.close(code)
                    return
                await callback(ws, message)
        finally:
            if close is not None:
                await close(ws, code if ws.close_code is None else ws.close_code, ws.close_reason)

    return converse
