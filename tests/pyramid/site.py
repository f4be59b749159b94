"""A Pyramid application that has a view for each rule, and ways to serve it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from pyramid.authorization import ALL_PERMISSIONS, ACLHelper, Allow, Deny, Everyone
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPGone
from pyramid.request import Request
from pyramid.response import Response

from fairlead.guards import Origins
from fairlead.pyramid import WebSocketAwareResource, WebSocketView
from fairlead.sync import BlockingWebSocket
from fairlead.testing import running
from fairlead.websocket import WebSocket
from fairlead.wsgi import WSGI


class Echo(WebSocketView):
    """Says who said what."""

    def handler(self, websocket: BlockingWebSocket) -> None:
        for message in websocket:
            assert isinstance(message, str)
            websocket.send(f"{websocket.headers.get('origin')} says {message}")


class Counting(WebSocketView):
    """Pushes ten messages and is done."""

    def handler(self, websocket: BlockingWebSocket) -> None:
        for number in range(10):
            websocket.send(f"msg {number}")


class Asynchronous(WebSocketView):
    """Talks in the event loop."""

    subprotocols = ("echo.v2", "echo.v1")

    async def handler(self, websocket: WebSocket) -> None:
        await websocket.send(f"{self.request.path} in {threading.current_thread().name}")
        async for message in websocket:
            if message == "fail":
                raise ValueError("as told")
            await websocket.send(message)


class Raising(WebSocketView):
    """Raises what the query says, before or after the client is in."""

    def handler(self, websocket: BlockingWebSocket) -> None:
        if "late" in self.request.params:
            websocket.send("in")
        raise {"gone": HTTPGone, "bug": ZeroDivisionError}[self.request.params["what"]]("secret words")


class Silent(WebSocketView):
    """Returns, and has not used the socket."""

    def handler(self, websocket: BlockingWebSocket) -> None:
        return None


class Open(WebSocketView):
    """For every origin."""

    allowed_origins: ClassVar[Origins] = "*"

    def handler(self, websocket: BlockingWebSocket) -> None:
        websocket.send("welcome")


class Partner(Open):
    """For one other origin, which is not that of the settings."""

    allowed_origins = ("https://partner.example",)


def shout(request: Request) -> None:
    """A function is enough."""
    for message in request.websocket:
        assert isinstance(message, str)
        request.websocket.send(message.upper())


def page(context: object, request: Request) -> Response:
    """HTML at the same URL."""
    return Response("<h1>page</h1>", content_type="text/html")


class Node(WebSocketAwareResource, dict[str, Any]):
    """A resource that is a dict, and so falsy without children."""

    def __init__(self, name: str = "", parent: object = None, acl: object = None) -> None:
        self.__name__ = name
        self.__parent__ = parent
        if acl is not None:
            self.__acl__ = acl

    def add(self, name: str, acl: object = None) -> Node:
        """Make a child."""
        self[name] = Node(name, self, acl)
        child: Node = self[name]
        return child


class Listener(WebSocketView):
    """Adds its client to the listeners, and does what the client asks for."""

    def handler(self, websocket: BlockingWebSocket) -> None:
        node = self.context
        node.add_listener(websocket)
        websocket.send(f"{len(node.listeners)} listening")
        for message in websocket:
            if message == "again":
                node.add_listener(websocket)
            elif message == "leave":
                node.remove_listener(websocket)
            else:
                node.send(message)
            websocket.send(f"{len(node.listeners)} listening")


class AsynchronousListener(WebSocketView):
    """The same in the event loop."""

    async def handler(self, websocket: WebSocket) -> None:
        node = self.context
        await node.add_listener(websocket)
        async for message in websocket:
            await node.send(message)


class Named(WebSocketView):
    """Joins a room by its name."""

    async def handler(self, websocket: WebSocket) -> None:
        await websocket.join("news")
        await websocket.send("in")
        async for _ in websocket:
            pass


def news(request: Request) -> Response:
    """Publishes to that room."""
    request.room("news").publish("ahoy")
    return Response("published")


def push(node: Node, request: Request) -> Response:
    """An ordinary POST that tells all listeners, and answers how many there were."""
    count = len(node.listeners)
    node.send(request.text * int(request.GET.get("times", 1)))
    return Response(str(count))


class Policy:
    """Whoever names himself in a header is that one."""

    def identity(self, request: Request) -> str | None:
        name: str | None = request.headers.get("X-User")
        return name

    authenticated_userid = identity

    def permits(self, request: Request, context: object, permission: str) -> object:
        user = self.identity(request)
        return ACLHelper().permits(context, [Everyone, *([user] if user else [])], permission)


def forbidden(request: Request) -> Response:
    """The application's own words for whoever may not."""
    response = Response("ask the harbour master", status=403)
    response.headers["X-Reason"] = "rank"
    return response


def tree() -> Node:
    """The resources: ``/``, ``/open``, and ``/closed`` for ada alone."""
    root = Node(acl=[(Allow, Everyone, ALL_PERMISSIONS)])
    root.add("open").add("inner")
    root.add("closed", [(Allow, "ada", "follow"), (Deny, Everyone, "follow")])
    return root


def application(
    root: Node | Callable[[Request], Node] | None = None,
    *,
    more: Callable[[Configurator], None] | None = None,
    **settings: str,
) -> Any:
    """The WSGI application.

    Args:
        root: Its resources, or what makes them anew for each request.
        more: Further configuration.
        settings: As of an ini file, with ``__`` for each dot.
    """
    resources = tree() if root is None else root
    factory = (lambda request: resources) if isinstance(resources, Node) else resources
    given = {name.replace("__", "."): value for name, value in settings.items()}
    with Configurator(root_factory=factory, settings=given) as config:
        config.include("fairlead.pyramid")
        config.set_security_policy(Policy())
        config.add_forbidden_view(forbidden)
        for view in (Echo, Counting, Asynchronous, Raising, Silent, Open, Partner, shout):
            name = view.__name__.lower()
            config.add_route(name, f"/routes/{name}")
            config.add_view(view, route_name=name)
        config.add_view(page, context=Node, permission="follow")
        config.add_view(push, context=Node, request_method="POST")
        config.add_view(page, name="page")
        config.add_view(news, name="news")
        config.add_view(Named, name="news", websocket=True)
        config.add_view(Listener, context=Node, websocket=True, permission="follow")
        config.add_view(AsynchronousListener, context=Node, name="async", websocket=True)
        config.add_view(Echo, context=Node, name="echo", websocket=True)
        if more is not None:
            more(config)
        return config.make_wsgi_app()


def served(app: Any, **options: Any) -> Any:
    """Serve a WSGI application on a socket; see ``fairlead.testing.running``."""
    return running(WSGI(app), **options)
