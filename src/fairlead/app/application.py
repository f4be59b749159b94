"""App: sockets, HTTP, rooms and calls in one application. It is a Starlette application and mounts like one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from fairlead.brokers import Broker
from fairlead.dialects.calls import Calls
from fairlead.guards import Guard, Origins
from fairlead.limits import Limits
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.routing import ROOMS, Registry, Router
from fairlead.static import browser_client

H = TypeVar("H", bound=Callable[..., Any])

AppLifespan = Callable[["App"], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""Runs around the application: ``async with lifespan(app)``; what it yields is in every request's state."""


class App(Registry, Starlette):
    """An application of sockets and HTTP routes.

    Its Origin rule and its guards hold for every socket that goes through it, mounted applications included.

    Args:
        routes: Any of Starlette's and ours.
        middleware: Starlette's, around HTTP and sockets alike.
        exception_handlers: Starlette's, for HTTP.
        lifespan: Runs around the application.
        debug: Tracebacks in answers to plain HTTP; never in production.
        guards: Are asked before every socket's own.
        allowed_origins: Of sockets, besides the same one; "*" turns the check off.
        unmatched: What becomes of a socket without a route: "404", HTTP 404 before the 101, or "close", a 101 and then
            close code 4040.
        broker: Carries publications between nodes: a Broker or its URL.
        limits: Of rooms, calls and handlers; of messages and outboxes, too; and of all the rest where ``fairlead.run``
            or ``fairlead.serve`` is not given others.
        calls_path: Where ``@app.call`` functions are called.
        client_path: Where the browser client is served; "": nowhere.

    Raises:
        SettingsError: There is no broker for the URL.
        UsageError: As Router.

    Attributes:
        rooms: The application's rooms.
        calls: The functions that clients may call.
        limits: As given.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute] = (),
        *,
        middleware: Sequence[Middleware] = (),
        exception_handlers: Mapping[Any, Callable[[HttpRequest, Exception], Any]] | None = None,
        lifespan: AppLifespan | None = None,
        debug: bool = False,
        guards: Sequence[Guard] = (),
        allowed_origins: Origins | None = None,
        unmatched: Literal["404", "close"] = "404",
        broker: Broker | str = "memory://",
        limits: Limits | None = None,
        calls_path: str = "/ws/",
        client_path: str = "/fairlead.js",
    ) -> None:
        super().__init__(debug=debug, middleware=middleware, exception_handlers=exception_handlers)
        self.limits = limits or Limits()
        self.rooms = Rooms(broker, limits=self.limits)
        self.calls = Calls(limits=self.limits)
        self._calls_route = self.calls.route(calls_path)
        self._inner = lifespan
        self.router: Router = Router(
            routes,
            guards=guards,
            allowed_origins=allowed_origins,
            unmatched=unmatched,
            lifespan=_lifespan,
        )
        if client_path:
            self.router.add(Route(client_path, _client, name="fairlead.js"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROOMS] = self.rooms
        if scope["type"] == "websocket" and not self.user_middleware:
            # Socket routes deal with their errors themselves: without the layers that do so for HTTP a handshake is
            # cheaper, and every connection smaller by 1.5 KiB.
            scope["app"] = self
            await self.router.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Mapping[str, Any] | None]:
        """What the lifespan does: rooms first and last, the application's own within."""
        await self.rooms.start()
        try:
            if self._inner is None:
                yield None
            else:
                async with self._inner(self) as state:
                    yield state
        finally:
            await self.rooms.close()

    # -- registering -------------------------------------------------------------------------------------------------

    def add(self, route: BaseRoute) -> None:
        self.router.add(route)

    def call(self, name: str | None = None) -> Callable[[H], H]:
        """Decorate a function that clients may call by name; see Calls.

        The first one adds the route ``calls_path``.

        Raises:
            UsageError: As ``Calls.add``, or another socket has that path.
        """
        if self._calls_route not in self.router.routes:
            self.router.add(self._calls_route)
        return self.calls.call(name)

    def static(self, path: str, directory: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Serve a directory's files, and nothing outside of it. Browsers ask each time whether one has changed.

        Raises:
            RuntimeError: There is no such directory.
        """
        self.mount(path, _Files(directory=directory), name)

    # -- rooms -------------------------------------------------------------------------------------------------------

    def room(self, name: RoomName) -> Room:
        """A room of this application; it need not have been used before.

        Raises:
            InvalidRoom: It cannot be a room's name.
        """
        return self.rooms[name]


@asynccontextmanager
async def _lifespan(app: App) -> AsyncIterator[Mapping[str, Any] | None]:
    async with app.running() as state:
        yield state


async def _client(request: HttpRequest) -> Response:
    return browser_client(request.headers)


class _Files(StaticFiles):
    """Without a word on caching browsers guess how long a file stays as it is."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response
