"""Socket routes: paths with typed parameters, guards, handlers. On Starlette's routing, for any router of its kind.

The order of checks is always the same: route, Origin, guards from the outermost router to the innermost, the endpoint's
own ``authorize``; only then the 101. There is no way to serve a route that leaves one of them out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from copy import copy
from typing import Any, Final, Literal, TypeVar

from starlette._utils import get_route_path
from starlette.datastructures import URLPath
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Route, replace_params
from starlette.routing import Router as StarletteRouter
from starlette.routing import compile_path as compile_http_path
from starlette.types import ASGIApp, Receive, Scope, Send

from fairlead.callables import is_coroutine_function, title
from fairlead.errors import CloseCode, UsageError
from fairlead.guards import Guard, Origins, checked_guards, judge, normal_origins
from fairlead.handling import handle
from fairlead.handshake import Reject, Request
from fairlead.limits import Limits
from fairlead.paths import Index, compile_path, shape_of
from fairlead.rooms.room import Rooms
from fairlead.transports.asgi import accept, refuse
from fairlead.websocket import WebSocket

Handler = Callable[..., Awaitable[None]]
"""``async def handler(ws)`` with, by their names, any of the path's parameters."""

_METHODS: Final = ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")
"""Of a page whose endpoint is a class, which finds its methods itself."""

H = TypeVar("H", bound=Callable[..., Any])

REQUEST = "fairlead.request"
ROOMS = "fairlead.rooms"
"""An application's Rooms, which bring its limits along: with one key more, its 22nd, the scope would take 370 bytes
more of every connection."""


def request_of(scope: Scope) -> Request:
    """The request that a router further out has made of a handshake, with what its guards left on it; or a new one.

    It is taken out of the scope, which it has itself: a circle would keep both until the collector comes.
    """
    request: Request = scope.pop(REQUEST, None) or Request(scope)
    request.scope = scope
    return request


class Endpoint:
    """A route as a class. A new instance for each connection, the same one for both methods."""

    async def authorize(self, request: Request) -> Reject | None:
        """The last guard. What it leaves on ``self`` or in ``request.state`` the handler finds there."""
        return None

    async def handle(self, ws: WebSocket, *args: Any, **params: Any) -> None:
        """Talk to the client; the connection ends when this returns. May take the path's parameters by name."""
        raise NotImplementedError


class WebSocketRoute(BaseRoute):
    """A path whose clients talk to one endpoint. Goes into any Starlette or FastAPI list of routes.

    Args:
        path: Such as ``/thing/{id:int}``; ``{name}`` alone takes text up to the next slash, ``{name:path}`` the rest,
            ``{name:EXPRESSION}`` what a regular expression describes.
        endpoint: An ``async def`` handler, or an Endpoint class.
        name: For ``url_path_for``; the endpoint's own without it.
        guards: Are asked in order, before the endpoint's ``authorize``.
        allowed_origins: None: the router's rule, which without one is "the same origin".
        subprotocols: What it can speak, its favourite first; the first that the client offers is agreed on.
        limits: Of messages, outboxes and handlers, where neither an App nor our server sets them: in a foreign
            application under a foreign server.

    Raises:
        UsageError: The path, the endpoint or a guard cannot be used.
    """

    socket: type[WebSocket] = WebSocket
    """What the handler holds."""

    def __init__(
        self,
        path: str,
        endpoint: Handler | type[Endpoint],
        *,
        name: str | None = None,
        guards: Sequence[Guard] = (),
        allowed_origins: Origins | None = None,
        subprotocols: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.path = path
        self.limits = limits or Limits()
        self.endpoint = endpoint
        self.name = name or getattr(endpoint, "__name__", type(endpoint).__name__)
        self.guards = checked_guards(guards)
        self.allowed_origins = None if allowed_origins is None else normal_origins(allowed_origins)
        self.subprotocols = tuple(subprotocols)
        self._pattern = compile_path(path)
        function = _endpoint(endpoint)
        self._wanted = _wanted(function, self._pattern.converters, skip=2 if isinstance(endpoint, type) else 1)

    def __repr__(self) -> str:
        return f"<WebSocketRoute {self.path} {self.name}>"

    def within(self, prefix: str, guards: Sequence[Guard], allowed_origins: frozenset[str] | None) -> WebSocketRoute:
        """The same route under a prefix, behind further guards."""
        inner = type(self).__new__(type(self))
        inner.__dict__.update(self.__dict__)
        inner.path = prefix + self.path
        inner.guards = (*guards, *self.guards)
        inner._pattern = compile_path(inner.path)
        if self.allowed_origins is None:
            inner.allowed_origins = allowed_origins
        return inner

    # -- Starlette's side --------------------------------------------------------------------------------------------

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] not in ("http", "websocket"):
            return Match.NONE, {}
        params = self._pattern.match(get_route_path(scope))
        if params is None:
            return Match.NONE, {}
        if outer := scope.get("path_params"):
            params = {**outer, **params}
        child = {"endpoint": self.endpoint, "path_params": params}
        return Match.FULL if scope["type"] == "websocket" else Match.PARTIAL, child

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        if name != self.name or set(path_params) != set(self._pattern.converters):
            raise NoMatchFound(name, path_params)
        path, rest = replace_params(self._pattern.format, dict(self._pattern.converters), path_params)
        assert not rest
        return URLPath(path=path, protocol="websocket")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # One coroutine from the guards to the end of the connection: each more would cost every connection 300 bytes.
        if scope["type"] == "http":
            await _upgrade_required(scope, receive, send)
            return
        await receive()  # websocket.connect
        request = request_of(scope)
        instance = self.endpoint() if isinstance(self.endpoint, type) else None
        if not await judge(request, send, self._guards(instance), self.allowed_origins):
            return
        inbox = self.socket.inbox()
        rooms: Rooms | None = scope.get(ROOMS)
        limits = self.limits if rooms is None else rooms.limits
        subprotocol = self._agree(request)
        headers = request.accept_headers
        foreign = await accept(scope, receive, send, inbox, subprotocol=subprotocol, headers=headers, limits=limits)
        ws = self.socket(request, inbox, rooms=rooms)
        carrying = None if foreign is None else asyncio.create_task(foreign.run())
        try:
            await handle(ws, inbox, self._call(ws, instance), grace=limits.handler_grace)
        finally:
            if carrying is not None:
                await carrying

    def _guards(self, instance: Endpoint | None) -> Sequence[Guard]:
        return self.guards if instance is None else (*self.guards, instance.authorize)

    def _agree(self, request: Request) -> str | None:
        """The subprotocol: a guard's choice, or the first of ours that the client offers (RFC 6455, 4.2.2)."""
        if request.subprotocol is None and self.subprotocols:
            offered = request.subprotocols
            request.subprotocol = next((each for each in self.subprotocols if each in offered), None)
        return request.subprotocol

    def _call(self, ws: WebSocket, instance: Endpoint | None) -> Awaitable[None]:
        handler: Handler = self.endpoint if instance is None else instance.handle  # type: ignore[assignment]  # a function
        if not self._wanted:
            return handler(ws)
        params = ws.params
        return handler(ws, **{name: params[name] for name in self._wanted})


async def _upgrade_required(scope: Scope, receive: Receive, send: Send) -> None:
    """RFC 9110, 15.5.22. HTTP/2 has no Upgrade header (RFC 9113, 8.2.2)."""
    headers = {} if scope.get("http_version") == "2" else {"upgrade": "websocket", "connection": "upgrade"}
    await PlainTextResponse("this is a WebSocket endpoint\n", 426, headers=headers)(scope, receive, send)


# -- what may be registered --------------------------------------------------------------------------------------------


def _endpoint(endpoint: Handler | type[Endpoint]) -> Handler:
    """The function of an endpoint that takes the connection.

    Raises:
        UsageError: There is none, or it would block the event loop.
    """
    if not isinstance(endpoint, type):
        function: Handler = endpoint
    elif not issubclass(endpoint, Endpoint):
        raise UsageError(f"{endpoint.__name__} must be a subclass of fairlead.Endpoint")
    elif endpoint.handle is Endpoint.handle:
        raise UsageError(f"{endpoint.__name__} has no handle(self, ws)")
    else:
        checked_guards((endpoint.authorize,))  # type: ignore[arg-type]  # unbound: the instance comes first
        function = endpoint.handle
    if not is_coroutine_function(function):
        raise UsageError(f"handler {title(endpoint)} must be an async def: a plain one would block the event loop")
    return function


def _wanted(function: Handler, known: Collection[str], *, skip: int) -> tuple[str, ...]:
    """Which of the path's parameters a handler takes, behind its first ``skip`` ones.

    Raises:
        UsageError: It wants one that the path does not have, or cannot be called with those it has.
    """
    signature = inspect.signature(function)
    names = list(signature.parameters)[skip:]
    takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    taken = tuple(name for name in known if takes_all or name in names)
    try:
        signature.bind(*[None] * skip, **dict.fromkeys(taken))
    except TypeError as exc:
        raise UsageError(f"handler {title(function)} takes the connection and the path's parameters: {exc}") from None
    return taken


# -- routers -----------------------------------------------------------------------------------------------------------


class Registry:
    """The decorators with which an App and a Router take routes."""

    prefix = ""
    """Stands before the path of everything that is registered here."""

    def add(self, route: BaseRoute) -> None:
        """Add a route as it is.

        Raises:
            UsageError: Another one is there that would always be found first.
        """
        raise NotImplementedError

    def websocket(
        self,
        path: str,
        *,
        name: str | None = None,
        guards: Sequence[Guard] = (),
        allowed_origins: Origins | None = None,
        subprotocols: Sequence[str] = (),
    ) -> Callable[[H], H]:
        """Decorate an ``async def`` handler or an Endpoint class; see WebSocketRoute.

        Raises:
            UsageError: As WebSocketRoute and ``add``.
        """

        def register(endpoint: H) -> H:
            self.add(
                WebSocketRoute(
                    self.prefix + path,
                    endpoint,
                    name=name,
                    guards=guards,
                    allowed_origins=allowed_origins,
                    subprotocols=subprotocols,
                )
            )
            return endpoint

        return register

    def route(self, path: str, *, methods: Sequence[str] = ("GET",), name: str | None = None) -> Callable[[H], H]:
        """Decorate an HTTP endpoint: Starlette's request in, its response out."""

        def register(endpoint: H) -> H:
            self.add(Route(self.prefix + path, endpoint, methods=list(methods), name=name))
            return endpoint

        return register

    def get(self, path: str, *, name: str | None = None) -> Callable[[H], H]:
        """Decorate an endpoint for GET and HEAD."""
        return self.route(path, methods=("GET",), name=name)

    def post(self, path: str, *, name: str | None = None) -> Callable[[H], H]:
        """Decorate an endpoint for POST."""
        return self.route(path, methods=("POST",), name=name)

    def put(self, path: str, *, name: str | None = None) -> Callable[[H], H]:
        """Decorate an endpoint for PUT."""
        return self.route(path, methods=("PUT",), name=name)

    def patch(self, path: str, *, name: str | None = None) -> Callable[[H], H]:
        """Decorate an endpoint for PATCH."""
        return self.route(path, methods=("PATCH",), name=name)

    def delete(self, path: str, *, name: str | None = None) -> Callable[[H], H]:
        """Decorate an endpoint for DELETE."""
        return self.route(path, methods=("DELETE",), name=name)

    def include(self, router: Router, prefix: str = "") -> None:
        """Take over everything that another router has now, under a prefix and behind its guards.

        Raises:
            UsageError: A path is there already, or one of the routes can only be mounted.
        """
        prefix = self.prefix + _prefix(prefix)
        for route in list(router.routes):
            self.add(_within(route, prefix, router.guards, router.allowed_origins))

    def mount(self, path: str, app: ASGIApp, name: str | None = None) -> None:
        """Give everything under a path to another application."""
        self.add(Mount(self.prefix + path, app=app, name=name))


class Router(Registry, StarletteRouter):
    """Sockets and HTTP by path.

    Its Origin rule and its guards hold for every socket that goes through it, mounted applications included.

    Args:
        routes: Any of Starlette's and ours.
        prefix: Stands before the path of everything that is registered here by decorator.
        guards: Are asked before those of what is inside.
        allowed_origins: Besides the same one; a route's own rule goes first.
        unmatched: What becomes of a socket whose path no route has. "404": HTTP 404 before the 101. "close": it is let
            in and closed with 4040.
        options: Of Starlette's Router.

    Raises:
        UsageError: A guard, an origin, the prefix or two of the routes together cannot be used.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute] = (),
        *,
        prefix: str = "",
        guards: Sequence[Guard] = (),
        allowed_origins: Origins | None = None,
        unmatched: Literal["404", "close"] = "404",
        **options: Any,
    ) -> None:
        if unmatched not in ("404", "close"):
            raise UsageError(f"unmatched is '404' or 'close', not {unmatched!r}")
        super().__init__((), **options)
        self.prefix = _prefix(prefix)
        self.guards = checked_guards(guards)
        self.allowed_origins = None if allowed_origins is None else normal_origins(allowed_origins)
        self.unmatched = unmatched
        self._read([])
        for route in routes:
            self.add(route)

    # -- registering -------------------------------------------------------------------------------------------------

    def add(self, route: BaseRoute) -> None:
        self._follow()
        for key in _keys(route):
            if (other := self._taken.get(key)) is not None:
                raise UsageError(f"{key[0]} {_title(route)} is there already: {_title(other)}")
        self.routes.append(route)
        self._note(route)

    # -- finding -----------------------------------------------------------------------------------------------------

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await super().app(scope, receive, send)
            return
        scope.setdefault("router", self)
        route = self._find(scope)
        if route is None:
            await self._unmatched(receive, send, scope)
            return
        request = scope[REQUEST] = request_of(scope)
        own = route.allowed_origins if isinstance(route, WebSocketRoute) else None
        try:
            if await judge(request, send, self.guards, self.allowed_origins if own is None else own):
                await route.handle(scope, receive, send)
        finally:
            scope.pop(REQUEST, None)  # nobody asks for it in Starlette's endpoints, or where no route is found

    def _find(self, scope: Scope) -> BaseRoute | None:
        self._follow()
        for route in self._index.candidates(get_route_path(scope)):
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope["route"] = route
                scope.update(child)
                return route
        return None

    def _follow(self) -> None:
        """Read the routes again if they are others: whoever likes changes the list."""
        if self._noted != self.routes:
            self._read(self.routes)

    def _read(self, routes: Iterable[BaseRoute]) -> None:
        self._noted: list[BaseRoute] = []
        self._taken: dict[tuple[str, str], BaseRoute] = {}
        self._index: Index[BaseRoute] = Index()
        for route in routes:
            self._note(route)

    def _note(self, route: BaseRoute) -> None:
        self._noted.append(route)
        for key in _keys(route):
            self._taken.setdefault(key, route)
        if isinstance(route, WebSocketRoute):
            self._index.add(route.path, route)
        elif not isinstance(route, Route):
            self._index.add("/{anything}", route)

    async def _unmatched(self, receive: Receive, send: Send, scope: Scope) -> None:
        await receive()
        if self.unmatched == "close":
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await send({"type": "websocket.close", "code": int(CloseCode.UNMATCHED), "reason": ""})
        else:
            await refuse(scope, send, 404, b"not found\n")


def _within(route: BaseRoute, prefix: str, guards: Sequence[Guard], origins: frozenset[str] | None) -> BaseRoute:
    """A route as it is under a prefix and behind guards."""
    match route:
        case WebSocketRoute():
            return route.within(prefix, guards, origins)
        case Route():
            return _moved(route, prefix, "")
        case Mount() if not guards and origins is None:
            return _moved(route, prefix, "/{path:path}")
    raise UsageError(f"route {_title(route)} cannot be included: mount the router instead, as an application")


def _moved(route: Route | Mount, prefix: str, rest: str) -> BaseRoute:
    """One of Starlette's, or of a kind made from it, with all it has but another path."""
    moved = copy(route)
    moved.path = prefix + route.path
    moved.path_regex, moved.path_format, moved.param_convertors = compile_http_path(moved.path + rest)
    return moved


def _prefix(prefix: str) -> str:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise UsageError(f"prefix {prefix!r} must begin with a slash and not end with one")
    return prefix


def _keys(route: BaseRoute) -> list[tuple[str, str]]:
    """What a route answers to: "socket" or a method, and the shape of its path.

    Of two routes with one in common the later is never found there. HEAD does not count: it comes along with GET.
    """
    match route:
        case WebSocketRoute():
            return [("socket", route._pattern.shape)]
        case Route():
            shape = shape_of(route.path_regex.pattern)
            return [(method, shape) for method in sorted(route.methods or _METHODS) if method != "HEAD"]
    return []


def _title(route: BaseRoute) -> str:
    target = getattr(route, "endpoint", None) or getattr(route, "app", route)
    return f"{getattr(route, 'path', route)} ({title(target)})"
