"""WSGI: an ASGI application made of a WSGI one."""

from __future__ import annotations

from typing import Any

from fairlead.brokers import Broker
from fairlead.guards import Origins, judge, normal_origins
from fairlead.limits import Limits
from fairlead.rooms.lifespan import keep
from fairlead.rooms.room import Rooms
from fairlead.routing import ROOMS, request_of
from fairlead.threads import THREADS, Pool, Threads
from fairlead.transports.asgi import Receive, Scope, Send
from fairlead.wsgi.answer import WSGIApp
from fairlead.wsgi.environ import ROOMS_KEY
from fairlead.wsgi.http import Exchange
from fairlead.wsgi.sockets import serve_socket

POOL = 40
"""Plain requests at once: what other servers of the kind have, and what databases allow as connections."""


class WSGI:
    """Any WSGI application, with sockets beside its pages: an ASGI application.

    A plain request takes a thread of a pool; its body and its answer are streamed. A handshake takes a thread of its
    own: the application finds the connection in its environ, as ``fairlead.websocket`` (a BlockingWebSocket), as
    ``wsgi.websocket`` (gevent-websocket's) and, under Fairlead's server, as ``werkzeug.socket`` (the bare socket). It
    may use one of them, and doing so lets the client in; otherwise its answer refuses the handshake.
    ``fairlead.rooms`` is there for all requests.

    Args:
        app: The WSGI application.
        threads: Plain requests at once; others wait.
        sockets: Connections at once; past it a handshake is refused with 503.
        limits: ``ping_timeout`` is how long a client may be silent in the middle of a body, or slower than 500 bytes
            per second; ``outbox_limit`` is the most that the body of a refusal has; the others hold for sockets under
            a foreign server.
        allowed_origins: Of sockets, besides the same one; "*" turns the check off. None: what the application says
            itself by its attribute ``fairlead_allowed_origins``; else the same origin, or where this is part of an App
            the rule of that.
        broker: Carries publications between nodes: a Broker or its URL.

    Attributes:
        rooms: Its own; part of an App, it uses that one's instead.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        threads: int = POOL,
        sockets: int = THREADS,
        limits: Limits | None = None,
        allowed_origins: Origins | None = None,
        broker: Broker | str = "memory://",
    ) -> None:
        self.app = app
        self.limits = limits or Limits()
        self.rooms = Rooms(broker, limits=self.limits)
        if allowed_origins is None:
            allowed_origins = getattr(app, "fairlead_allowed_origins", None)
        self._origins = None if allowed_origins is None else normal_origins(allowed_origins)
        self._pool = Pool(threads)
        self._threads = Threads(sockets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await keep(self.rooms, receive, send)
            return
        rooms: Rooms = scope.get(ROOMS) or self.rooms
        if not rooms.started:
            await rooms.start()
        extra: dict[str, Any] = {ROOMS_KEY: rooms}
        if scope["type"] == "http":
            exchange = Exchange(scope, receive, send, patience=self.limits.ping_timeout)
            await exchange.run(self.app, self._pool, extra)
            return
        await receive()  # websocket.connect
        request = request_of(scope)
        if await judge(request, send, (), self._origins):
            await serve_socket(
                self.app, request, receive, send, threads=self._threads, limits=self.limits, rooms=rooms, extra=extra
            )
