"""Views that talk to sockets: how they are marked, and what every request can be asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

View = TypeVar("View", bound=Callable[..., Any])


def accept_websocket(view: View) -> View:
    """The view answers plain requests and talks to sockets; ``request.is_websocket()`` tells which it is.

    A blocking view finds a ``fairlead.sync.BlockingWebSocket`` in ``request.websocket`` and runs in a thread of its
    own, an ``async def`` view a ``fairlead.WebSocket`` and runs in the event loop. Either is accepted when it is first
    used. A view that returns a response instead has refused the handshake, with that response.
    """
    return _marked(view, lambda request: None)


def require_websocket(view: View) -> View:
    """As ``accept_websocket``, for sockets only: a plain request is answered 426 (RFC 9110, 15.5.22)."""
    return _marked(view, _upgrade_required)


def takes_sockets(view: object) -> bool:
    """Whether a view is marked: decorated, or with a true ``accept_websocket`` on it or on its class.

    With the setting ``WEBSOCKET_ACCEPT_ALL`` all are.
    """
    marked = (getattr(each, "accept_websocket", False) for each in (view, getattr(view, "view_class", None)))
    return bool(getattr(settings, "WEBSOCKET_ACCEPT_ALL", False)) or any(marked)


class WebSocketMiddleware:
    """Gives ``request.websocket`` and ``request.is_websocket()`` to all views, not only to those that are marked."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        prepare(request)
        return self.get_response(request)


def prepare(request: HttpRequest) -> None:
    """Let a plain request say that it is no socket."""
    if not hasattr(request, "is_websocket"):
        request.websocket = None
        request.is_websocket = _no


def _no() -> bool:
    return False


def _marked(view: View, refusal: Callable[[HttpRequest], HttpResponse | None]) -> View:
    def talk(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        prepare(request)
        return refusal(request) or _varying(view(request, *args, **kwargs))

    async def talk_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        prepare(request)
        return refusal(request) or _varying(await view(request, *args, **kwargs))

    marked = cast(View, wraps(view)(talk_async if iscoroutinefunction(view) else talk))
    marked.__dict__["accept_websocket"] = True
    return marked


def _varying(response: Any) -> Any:
    """Keep Django's cache from answering a handshake with the page at the same path."""
    if isinstance(response, HttpResponseBase):
        patch_vary_headers(response, ("Upgrade",))
    return response


def _upgrade_required(request: HttpRequest) -> HttpResponse | None:
    if request.is_websocket():
        return None
    response = HttpResponse("this is a WebSocket endpoint\n", content_type="text/plain", status=426)
    # HTTP/2 has no such header (RFC 9113, 8.2.2), and under WSGI it is the server's alone: some fail if an application
    # sends it (PEP 3333). Those name themselves, as Django's own test client does not.
    if "SERVER_SOFTWARE" not in request.META and getattr(request, "scope", {}).get("http_version") != "2":
        response.headers["Upgrade"] = "websocket"
        response.headers["Connection"] = "upgrade"
    return response
