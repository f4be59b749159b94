"""Named calls: functions that clients call over one connection, several at once, and that call back.

    calls = Calls()

    @calls.call()
    async def add(a: int, b: int) -> int:
        return a + b

    @calls.call("clock")
    async def every_second(ws: CallSocket) -> AsyncIterator[str]:
        while True:
            yield time.ctime()
            await asyncio.sleep(1)

    app = Starlette(routes=[calls.route("/ws/")])

A coroutine function answers once, an async generator function with as many values as it yields. Arguments become what
the annotations say, or the call is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fairlead.callables import title
from fairlead.dialects.callsocket import SOCKETS, CallSocket
from fairlead.dialects.codec import CallError, Codec, ErrorCode
from fairlead.dialects.exchange import Exchange, Function
from fairlead.dialects.jsonrpc import JSONRPC
from fairlead.dialects.signatures import Signature
from fairlead.dialects.textcalls import TEXT
from fairlead.errors import Closed, UsageError
from fairlead.guards import Guard, Origins
from fairlead.limits import Limits
from fairlead.routing import ROOMS, WebSocketRoute
from fairlead.websocket import WebSocket

__all__ = ["JSONRPC", "TEXT", "CallError", "CallSocket", "Calls", "ErrorCode"]

F = TypeVar("F", bound=Callable[..., Any])


class Calls:
    """Functions by the names under which clients call them.

    Args:
        limits: For ``calls`` and ``request_id_size``; None: those of the application that the route is in.
    """

    def __init__(self, *, limits: Limits | None = None) -> None:
        self._limits = limits
        self._functions: dict[str, Function] = {}

    def call(self, name: str | None = None) -> Callable[[F], F]:
        """Let clients call the decorated function. The function itself stays as it is.

        Args:
            name: What they call it; None: its own name.

        Raises:
            UsageError: As ``add``.
        """
        if callable(name):
            raise UsageError(f"write @call() with parentheses above {title(name)}")

        def register(function: F) -> F:
            self.add(name, function)
            return function

        return register

    def add(self, name: str | None, function: Callable[..., Any]) -> None:
        """Let clients call a function.

        Args:
            name: What they call it; None: its own name.
            function: A coroutine function or an async generator function. A parameter annotated with WebSocket or
                CallSocket gets the connection, all others the caller's arguments.

        Raises:
            UsageError: The name is taken or reserved, the function would block the event loop, or it has a parameter
                that no caller can give.
        """
        name = getattr(function, "__name__", "") if name is None else name
        if not name or name.startswith(("rpc.", "$/")):
            # JSON-RPC 2.0, 4.3, and the Language Server Protocol.
            raise UsageError(
                f"{title(function)} cannot be called {name!r}: names are not empty, and those that begin "
                "with 'rpc.' or '$/' are reserved"
            )
        if (other := self._functions.get(name)) is not None:
            raise UsageError(f"two functions are called {name!r}: {title(other.function)} and {title(function)}")
        streams = inspect.isasyncgenfunction(function)
        if not streams and not inspect.iscoroutinefunction(function):
            raise UsageError(f"{title(function)} must be an async def: a plain one would block the event loop")
        try:
            signature = Signature(function, WebSocket)
        except UsageError as exc:
            raise UsageError(f"{title(function)}, {exc}") from exc
        self._functions[name] = Function(function, signature, streams)

    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """What can be called, in the order of the names, and what it calls."""
        return {name: self._functions[name].function for name in sorted(self._functions)}

    def route(
        self,
        path: str,
        *,
        codec: Codec = JSONRPC,
        name: str = "calls",
        guards: Sequence[Guard] = (),
        allowed_origins: Origins | None = None,
        subprotocols: Sequence[str] = (),
    ) -> WebSocketRoute:
        """A route whose clients call these functions, those added later as well.

        Args:
            path: Like all the others as for WebSocketRoute.
            codec: How calls look on the wire: ``JSONRPC`` or ``TEXT``.

        Raises:
            UsageError: As WebSocketRoute, or there is no such codec.
        """
        if codec not in SOCKETS:
            raise UsageError(f"codec is JSONRPC or TEXT of fairlead.dialects.calls, not {codec!r}")
        route = WebSocketRoute(
            path, self.serve, name=name, guards=guards, allowed_origins=allowed_origins, subprotocols=subprotocols
        )
        route.socket = SOCKETS[codec]
        return route

    async def serve(self, ws: CallSocket) -> None:
        """Carry out one client's calls until it leaves; then those that still run are cancelled."""
        rooms = ws.request.scope.get(ROOMS)
        ws.limits = limits = self._limits or (ws.limits if rooms is None else rooms.limits)
        exchange = Exchange(ws, self._functions, limits)
        try:
            await ws.give_to(exchange.received)
        except Closed:
            pass
        finally:
            await exchange.close()
