"""What ``config.include("fairlead.pyramid")`` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyramid.events import ApplicationCreated
from pyramid.exceptions import ConfigurationError, PredicateMismatch

from fairlead.errors import UsageError
from fairlead.guards import Origins, normal_origins
from fairlead.handshake import Reject
from fairlead.pyramid.predicates import MissedPredicate, WebSocketPredicate
from fairlead.pyramid.views import WebSocketView, configured_origins, conversation, refusal, take_websocket
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.wsgi.environ import ROOMS_KEY, SOCKET_KEY

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.request import Request
    from pyramid.response import Response

View = Callable[[Any, Any], Any]


def configure(config: Configurator) -> None:
    """See ``fairlead.pyramid.includeme``."""
    _checked(configured_origins(config.registry))
    config.add_view_predicate("websocket", WebSocketPredicate)
    config.add_view_predicate("websocket_missed", MissedPredicate)
    config.add_view_deriver(socket_view, "websocket", under="rendered_view", over="mapped_view")
    config.add_request_method(take_websocket, "websocket", reify=True)
    config.add_request_method(room)
    config.add_subscriber(checks_origins, ApplicationCreated)
    config.add_exception_view(rejected_view, context=Reject)
    config.add_exception_view(missed_view, context=PredicateMismatch, websocket_missed=True)


def checks_origins(event: ApplicationCreated) -> None:
    """Tell the server to leave the Origin to the views, which may allow more than it would."""
    event.app.fairlead_allowed_origins = "*"


def room(request: Request, name: RoomName) -> Room:
    """``request.room(name)``: one of the server's rooms; where its broker joins processes, it is the same in all.

    Raises:
        InvalidRoom: It cannot be a room's name.
        UsageError: Another server runs this application.
    """
    rooms: Rooms | None = request.environ.get(ROOMS_KEY)
    if rooms is None:
        raise UsageError("this server has no rooms; use `fairlead run --wsgi` or egg:fairlead")
    return rooms[name]


def socket_view(view: View, info: Any) -> View:
    """A view deriver: no view sees the handshake of another site's page, unless that is allowed.

    A function that took ``request.websocket`` may return nothing.
    """
    if info.exception_only:
        return view
    allowed = info.options.get("allowed_origins")
    if allowed is None and isinstance(info.original_view, type) and issubclass(info.original_view, WebSocketView):
        allowed = info.original_view.allowed_origins
    if allowed is not None:
        _checked(allowed)

    def view_of_handshakes(context: object, request: Request) -> object:
        if SOCKET_KEY not in request.environ or isinstance(context, Exception):
            return view(context, request)
        websocket = take_websocket(request, allowed)
        with conversation(websocket):
            answer = view(context, request)
            return request.response if answer is None and websocket.accepted else answer
        return request.response  # the client left

    return view_of_handshakes


socket_view.options = ("allowed_origins",)  # type: ignore[attr-defined]  # where Pyramid looks for a deriver's options


def rejected_view(rejected: Reject, request: Request) -> Response:
    """An exception view: a view raised Reject, or asked for a socket that is not there."""
    return refusal(rejected, request)


def missed_view(mismatch: PredicateMismatch, request: Request) -> Response:
    """An exception view: only a socket has a view here, and the request was plain HTTP."""
    return WebSocketView(request)()


def _checked(allowed: Origins) -> None:
    try:
        normal_origins(allowed)
    except UsageError as exc:
        raise ConfigurationError(str(exc)) from None
