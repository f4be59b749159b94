"""Views that take sockets: the class to derive from, and what every view with a socket goes through."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from pyramid.response import Response
from pyramid.settings import aslist

from fairlead.errors import CloseCode, Closed
from fairlead.guards import Origins
from fairlead.handshake import Reject
from fairlead.pyramid.asynchronous import Successor
from fairlead.pyramid.handshake import HandShakeFailed, check_origin, websocket_handshake
from fairlead.sync import BlockingWebSocket
from fairlead.wsgi.environ import ROOMS_KEY, SOCKET_KEY

if TYPE_CHECKING:
    from pyramid.registry import Registry
    from pyramid.request import Request

logger = logging.getLogger(__name__)

SETTING = "fairlead.allowed_origins"
ADMITTED = "fairlead.pyramid.admitted"


class WebSocketView:
    """A view whose clients talk to ``handler``. Register the class as the view, with ``websocket=True`` or without.

    Without the predicate, a request that is no handshake gets 426. Permissions are those of the view: whoever may not
    see it gets the forbidden view's answer instead of the 101.

    Attributes:
        request: Pyramid's.
        context: The resource; also when the request is over, and Pyramid has taken it off the request.
        allowed_origins: Who may connect besides pages of the same origin, such as ``["https://app.example.org"]``;
            "*": anybody; None: the setting ``fairlead.allowed_origins``.
        subprotocols: What it can speak, its favourite first; the first that the client offers is agreed on.
    """

    allowed_origins: ClassVar[Origins | None] = None
    subprotocols: ClassVar[Sequence[str]] = ()

    def __init__(self, request: Request) -> None:
        self.request = request
        self.context: Any = getattr(request, "context", None)

    def __call__(self) -> Response:
        return self.handle_upgrade()

    def handler(self, websocket: Any) -> Awaitable[None] | None:
        """Talk to the client; the connection ends when this returns. To be overridden.

        A plain method is given a BlockingWebSocket, in a thread of its own. The client is let in when the socket is
        first used: what is raised before that, such as HTTPForbidden, is the answer to the handshake.

        An ``async def`` is given a WebSocket when the request is over, in the event loop: it needs no thread, and must
        not block.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handler(self, websocket)")

    def handle_upgrade(self) -> Response:
        """Judge the handshake, and have the socket handled.

        Returns:
            The refusal: 403 for another site's page, 426 or 400 for what is no good handshake, 501 under a server that
            has no sockets. Otherwise what ``handle_websocket`` returns.
        """
        try:
            websocket = take_websocket(self.request, self.allowed_origins)
        except HandShakeFailed as failed:
            return refusal(failed, self.request)
        offered = websocket.request.subprotocols
        websocket.request.subprotocol = next((each for each in self.subprotocols if each in offered), None)
        return self.handle_websocket(websocket)

    def handle_websocket(self, websocket: BlockingWebSocket) -> Response:
        """Call ``handler``, or leave it to the event loop.

        Returns:
            An empty response, for Pyramid's sake: after the 101 it is not sent.
        """
        if inspect.iscoroutinefunction(self.handler):
            return _Continued(Successor(websocket, self.handler, self.request.environ[ROOMS_KEY]))
        with conversation(websocket):
            self.handler(websocket)
            websocket.accept()
        return Response()


class _Continued(Response):  # type: ignore[misc]  # Pyramid has no types
    """Lets the coroutine begin if this is what the application answers in the end: tweens may put another in its place.

    By then the request is over, so that no transaction of it stays open as long as the connection.
    """

    def __init__(self, successor: Successor) -> None:
        super().__init__()
        self._successor = successor

    def copy(self) -> Response:
        """Itself: tweens that copy a response answer with the copy."""
        return self

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self._successor.begin()
        return super().__call__(environ, start_response)


class Failed(Closed):
    """A view failed while it talked to its client: the cause is in the log, and the client was told 1011.

    What is around the view, such as a transaction, shall see a failure; but there is nothing to answer.
    """


def take_websocket(request: Request, allowed_origins: Origins | None = None) -> BlockingWebSocket:
    """The connection behind a request, once its Origin has been found allowed.

    Args:
        request: Pyramid's.
        allowed_origins: See WebSocketView.

    Raises:
        HandShakeFailed: There is none.
        InvalidOrigin: Another site's page asks.
    """
    websocket: BlockingWebSocket | None = request.environ.get(SOCKET_KEY)
    if websocket is None:
        websocket_handshake(request.headers, "*")
        logger.error("%r: this server carries no WebSockets; use `fairlead run --wsgi` or egg:fairlead", request.path)
        raise HandShakeFailed("this server carries no WebSockets", HTTPStatus.NOT_IMPLEMENTED)
    if request.environ.get(ADMITTED) is not websocket:
        allowed = configured_origins(request.registry) if allowed_origins is None else allowed_origins
        check_origin(websocket.request, allowed)
        request.environ[ADMITTED] = websocket
    return websocket


def configured_origins(registry: Registry) -> Origins:
    """The setting ``fairlead.allowed_origins``: origins with white space between them, or a list."""
    allowed: list[str] = aslist(registry.settings.get(SETTING, ()))
    return allowed


@contextmanager
def conversation(websocket: BlockingWebSocket) -> Iterator[None]:
    """Around code that talks to the client: its end is no error, and a failure after the 101 is the connection's.

    Raises:
        Failed: It failed after the 101. The application's exception views would make responses of what it raised,
            which nobody would see.
    """
    try:
        yield
    except Failed:
        raise
    except Exception as exc:
        if isinstance(exc, Closed) and (websocket.closed or not websocket.accepted):
            return  # the client left, and not another one's that the view sends to
        if not websocket.accepted:
            raise
        logger.exception("connection %s: the view of %r failed", websocket.id, websocket.path)
        websocket.close(CloseCode.INTERNAL_ERROR)
        raise Failed(CloseCode.INTERNAL_ERROR) from exc


def refusal(rejected: Reject, request: Request) -> Response:
    """What a client gets instead of the 101."""
    response = Response(rejected.body, rejected.status, content_type="text/plain", charset="utf-8")
    for name, value in rejected.headers:
        if name != b"upgrade" or _may_upgrade(request.environ):
            response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
    return response


def _may_upgrade(environ: Mapping[str, object]) -> bool:
    """Whether an application may send ``Upgrade``: others than our server forbid it (PEP 3333), and so does HTTP/2."""
    return ROOMS_KEY in environ and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
