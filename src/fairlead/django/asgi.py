"""The project as one ASGI application: HTTP for Django's own handler, sockets for the views that take them."""

from __future__ import annotations

import logging

import django
from asgiref.sync import sync_to_async
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIHandler

from fairlead.django.aside import Aside
from fairlead.django.databases import give_back, is_lent
from fairlead.django.handler import Answer, OtherKind, Outcome, SocketHandler, SocketRequest, is_async_view
from fairlead.django.origins import allowed_origins
from fairlead.django.publishing import all_rooms
from fairlead.django.settings import current
from fairlead.django.websocket import ViewWebSocket
from fairlead.errors import UsageError
from fairlead.handling import handle
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.rooms.lifespan import keep
from fairlead.rooms.room import Rooms
from fairlead.sync import BlockingWebSocket, Entrance, converse
from fairlead.threads import NoThread, Threads
from fairlead.transports.asgi import Receive, Scope, Send, refuse

logger = logging.getLogger(__name__)
host_logger = logging.getLogger("django.security.DisallowedHost")


def get_asgi_application() -> DjangoApplication:
    """The project's application, for ``asgi.py``, in the place of Django's function of the same name.

    Raises:
        SettingsError: The setting ``FAIRLEAD`` is wrong.
    """
    django.setup(set_prefix=False)
    return DjangoApplication()


class DjangoApplication:
    """HTTP, sockets and lifespan of a project.

    Its checks come in this order: Host (``ALLOWED_HOSTS``), Origin, then the project's middleware and the view.
    """

    def __init__(self) -> None:
        self._threads = Threads(current().threads)
        self._http = ASGIHandler()
        self._handlers: dict[bool, SocketHandler] = {}

    @property
    def limits(self) -> Limits:
        """What the server that carries the sockets should hold to."""
        return current().limits

    @property
    def rooms(self) -> Rooms:
        """The project's rooms."""
        return all_rooms()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await receive()  # websocket.connect
            refusal = await self._handshake(scope, receive, send)
            if refusal is not None:
                await refuse(scope, send, refusal.status, refusal.body, headers=refusal.headers)
        elif kind == "lifespan":
            await keep(self.rooms, receive, send)
        else:
            raise UsageError(f"a Django project answers http, websocket and lifespan, and no {kind!r}")

    async def _handshake(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """Let a view talk to the client; the refusal if it is not let in."""
        asked = Request(scope)
        refusal, is_async = _examine(asked)
        if refusal is not None:
            return refusal
        result = await self._talk(is_async, asked, receive, send)
        if isinstance(result, OtherKind):
            result = await self._talk(not is_async, asked, receive, send)
        return _FAILED if isinstance(result, OtherKind) else result

    async def _talk(self, is_async: bool, asked: Request, receive: Receive, send: Send) -> Outcome:
        handler = self._handlers.get(is_async)
        if handler is None:
            handler = self._handlers[is_async] = SocketHandler(is_async=is_async)
        talk = self._await if is_async else self._block
        return await talk(handler, asked, receive, send)

    async def _block(self, handler: SocketHandler, asked: Request, receive: Receive, send: Send) -> Outcome:
        def talk(ws: BlockingWebSocket) -> Outcome:
            return handler.run(SocketRequest(asked.scope), ws)

        try:
            _, result = await converse(
                talk, asked, receive, send, threads=self._threads, limits=self.limits, rooms=self.rooms
            )
        except NoThread as exc:
            logger.warning("%r refused, HTTP 503: %s", asked.path, exc)
            return Answer(503, [(b"retry-after", b"5")], b"too many connections\n")
        return result

    async def _await(self, handler: SocketHandler, asked: Request, receive: Receive, send: Send) -> Outcome:
        limits = self.limits
        entrance = Entrance(asked, receive, send, limits)
        aside = Aside()
        result: Outcome = _FAILED

        def waiting() -> None:
            aside.rest()
            if handler.holds_threads or is_lent():  # code that is synchronous runs somewhere else
                ws.spawn(sync_to_async(give_back)())

        async def talk() -> None:
            nonlocal result
            async with aside:
                result = await handler.run_async(SocketRequest(asked.scope), ws)

        ws = ViewWebSocket(entrance, rooms=self.rooms, on_wait=waiting)
        try:
            await handle(ws, ws.arrivals, talk(), grace=limits.handler_grace)
        finally:
            if entrance.carrying is not None:
                await entrance.carrying
        return None if ws.accepted else result


_FAILED = Answer(500, body=b"internal server error\n")


def _examine(asked: Request) -> tuple[Answer | None, bool]:
    """The refusal of a request that must not reach the project; and whether its view is a coroutine."""
    try:
        request = SocketRequest(asked.scope)
        host = request.get_host()
    except UnicodeDecodeError:
        return Answer(400, body=b"the query is not UTF-8\n"), False
    except DisallowedHost as exc:
        host_logger.error("%s", exc)
        return Answer(400, body=b"host not allowed\n"), False
    if (fault := allowed_origins().fault(asked, host)) is not None:
        logger.warning("%r refused, HTTP 403: %s, nor in CSRF_TRUSTED_ORIGINS", asked.path, fault)
        return Answer(403, body=b"origin not allowed\n"), False
    return None, is_async_view(request)
