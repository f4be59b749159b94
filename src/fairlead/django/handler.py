"""Django's request handling for upgrade requests: URLconf, middleware and view, as for any GET.

Blocking views run in a thread, behind the chain of middleware that Django makes for WSGI; async views in the event
loop, behind the one that it makes for ASGI. What comes back is the answer to the handshake if the socket was not used,
and of no interest if it was.
"""

from __future__ import annotations

import logging
from asyncio import iscoroutine
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, NamedTuple, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver, set_script_prefix
from django.utils.cache import patch_cache_control
from django.utils.module_loading import import_string

from fairlead.callables import title
from fairlead.django.databases import enter_thread, give_back
from fairlead.django.views import takes_sockets
from fairlead.django.websocket import ViewWebSocket
from fairlead.errors import CloseCode, InvalidMessage, UsageError
from fairlead.sync import BlockingWebSocket
from fairlead.transports.asgi import Scope
from fairlead.websocket import is_closed

logger = logging.getLogger(__name__)

Socket = BlockingWebSocket | ViewWebSocket


class OtherKind(BaseException):
    """The view is of the other kind than its handler. No Exception, which Django would make a response of."""


class SocketRequest(ASGIRequest):  # type: ignore[misc]  # Django has no types
    """The upgrade request as Django's middleware and views see it: a GET.

    Attributes:
        websocket: For the view, once it is there. Using it accepts the handshake.
        websocket_failed: Whether the view raised after that.

    Raises:
        UnicodeDecodeError: The query is not UTF-8.
    """

    websocket: Socket

    def __init__(self, scope: Scope) -> None:
        scheme = "https" if scope.get("scheme") == "wss" else "http"
        super().__init__({**scope, "type": "http", "method": "GET", "scheme": scheme}, BytesIO())
        self.websocket_failed = False

    def is_websocket(self) -> bool:
        """True: this is no plain request."""
        return True


class Answer(NamedTuple):
    """A refusal, as the wire has it."""

    status: int
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""


Outcome = Answer | OtherKind | None
"""Of a handshake: a refusal; None where the socket was used; OtherKind where the other handler has to try."""


class SocketHandler(BaseHandler):  # type: ignore[misc]
    """Middleware and views of one kind.

    Args:
        is_async: Whether its views are coroutines.

    Attributes:
        is_async: As given.
        holds_threads: Whether each of its connections keeps a thread although its view is a coroutine, because a
            middleware blocks around it.
    """

    def __init__(self, *, is_async: bool) -> None:
        super().__init__()
        self.is_async = is_async
        self.load_middleware(is_async=is_async)
        blocking = [path for path in settings.MIDDLEWARE if not getattr(import_string(path), "async_capable", False)]
        self.holds_threads = is_async and bool(blocking)
        if self.holds_threads:
            logger.warning("each socket of an async view keeps a thread: %s cannot run in the event loop", blocking[0])

    def run(self, request: SocketRequest, ws: BlockingWebSocket) -> Outcome:
        """Answer a handshake, in a thread of its own."""
        enter_thread()
        ws.on_wait = give_back
        request.websocket = ws
        _begin(request.scope)
        signals.request_started.send(sender=type(self), scope=request.scope)
        response = None
        try:
            response = self.get_response(request)
            return None if ws.accepted else answer(response)
        except OtherKind as other:
            return other
        finally:
            if request.websocket_failed:
                ws.close(CloseCode.INTERNAL_ERROR)
            _end(type(self), response)

    async def run_async(self, request: SocketRequest, ws: ViewWebSocket) -> Outcome:
        """Answer a handshake, in the event loop."""
        request.websocket = ws
        _begin(request.scope)
        await sync_to_async(signals.request_started.send)(sender=type(self), scope=request.scope)
        response = None
        try:
            response = await self.get_response_async(request)
            return None if ws.accepted else answer(response)
        except OtherKind as other:
            return other
        finally:
            if request.websocket_failed:
                ws.end(CloseCode.INTERNAL_ERROR)
            await sync_to_async(_end)(type(self), response)

    # -- Django's side -----------------------------------------------------------------------------------------------

    def resolve_request(self, request: SocketRequest) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        view, args, kwargs = super().resolve_request(request)
        if not takes_sockets(view):
            return _no_socket, args, kwargs
        if iscoroutinefunction(view) is not self.is_async:
            raise OtherKind
        request.websocket.request.scope["path_params"] = kwargs
        return _talking_async(view) if self.is_async else _talking(view), args, kwargs

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """``ATOMIC_REQUESTS`` is for requests: a socket may be open for days, and a transaction should not."""
        return view


def is_async_view(request: SocketRequest) -> bool:
    """Whether the URLconf leads to a coroutine that takes sockets; as far as that can be told before the middleware,
    which may choose another URLconf or language."""
    try:
        view = get_resolver().resolve(request.path_info).func
    except Exception:  # a path without a view, or that a converter fails on: for the handler to answer
        return False
    return takes_sockets(view) and iscoroutinefunction(view)


def answer(response: HttpResponse) -> Answer:
    """A view's or a middleware's response as a refusal. The body of a streaming one is left out."""
    if response.status_code < 200:
        logger.error("a handshake is not answered with HTTP %d: use the socket instead", response.status_code)
        return Answer(500)
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    headers += [(b"set-cookie", cookie.OutputString().encode("ascii")) for cookie in response.cookies.values()]
    body = b"" if response.streaming else response.content
    return Answer(response.status_code, [field for field in headers if field[0] != b"content-length"], body)


def _begin(scope: Scope) -> None:
    set_script_prefix(settings.FORCE_SCRIPT_NAME or scope.get("root_path", ""))


def _end(sender: type, response: HttpResponse | None) -> None:
    """The end of the request, in the thread of its synchronous code. Django closes connections that are in the middle
    of a transaction, or older than they may be; here all go."""
    if response is None:
        signals.request_finished.send(sender=sender)
    else:
        response.close()
    give_back()


def _no_socket(request: SocketRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """In the place of a view that is not marked: an upgrade request never runs it."""
    logger.warning("%s takes no sockets: decorate its view with accept_websocket", request.path)
    return HttpResponse("no WebSocket here\n", content_type="text/plain", status=404)


# -- around a view -----------------------------------------------------------------------------------------------------


def _talking(view: Callable[..., Any]) -> Callable[..., object]:
    @wraps(view)
    def talking(request: SocketRequest, *args: Any, **kwargs: Any) -> object:
        try:
            response = view(request, *args, **kwargs)
        except Exception as exc:
            _excuse(request, exc)
            response = None
        if iscoroutine(response):
            response.close()
            raise UsageError(f"{title(view)} returned a coroutine: a decorator around it is not made for async def")
        return _outcome(request, response)

    return talking


def _talking_async(view: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[object]]:
    @wraps(view)
    async def talking(request: SocketRequest, *args: Any, **kwargs: Any) -> object:
        try:
            response = await view(request, *args, **kwargs)
        except InvalidMessage as exc:
            logger.info("connection %s: %s", request.websocket.id, exc)
            await cast(ViewWebSocket, request.websocket).close(CloseCode.INVALID_DATA, "invalid message")
            response = None
        except Exception as exc:
            _excuse(request, exc)
            response = None
        return _outcome(request, response)

    return talking


def _excuse(request: SocketRequest, error: Exception) -> None:
    """Raise a view's error, unless it says nothing but that the client left while the view was sending to it."""
    accepted = request.websocket.accepted
    if not (accepted and request.websocket.closed and is_closed(error)):
        request.websocket_failed = accepted
        raise error


def _outcome(request: SocketRequest, response: object) -> object:
    """What goes back to the middleware; where the socket was used it is nothing but polite, and not for caches."""
    if not request.websocket.accepted:
        return response
    if not isinstance(response, HttpResponseBase):
        response = HttpResponse()
    patch_cache_control(response, private=True, no_store=True)
    session = getattr(request, "session", None)
    if session is not None and settings.SESSION_SAVE_EVERY_REQUEST and not session.modified:
        # It was read when the socket was opened. To save it now would undo what other requests have changed since.
        request.session = type(session)()
    return response
