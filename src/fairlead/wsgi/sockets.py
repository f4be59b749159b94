"""One handshake: what the application may take the connection with, and what becomes of its answer if it does not.

Three things in the environ stand for the connection, each in the manner of another server. They are not alive before
they are used, and the first one that is used has it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from fairlead.errors import CloseCode, Closed
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.rooms.room import Rooms
from fairlead.sync import BlockingWebSocket, Entrance, converse
from fairlead.threads import NoThread, Threads
from fairlead.transports.asgi import RAW, RawExtension, Receive, Send, refuse
from fairlead.wsgi.answer import Answer, Head, WSGIApp
from fairlead.wsgi.body import ClientLeft
from fairlead.wsgi.environ import SOCKET_KEY, Environ, make_environ
from fairlead.wsgi.gevent import GeventWebSocket

logger = logging.getLogger(__name__)

_SOCKETS = (SOCKET_KEY, "wsgi.websocket", "werkzeug.socket")
_RESPONSE = "websocket.http.response"


class RawSocket:
    """``environ["werkzeug.socket"]``: the client's socket, on which nothing was written, not even the 101.

    It has all that sockets have. The handshake is its owner's from the first use of anything on.
    """

    def __init__(self, entrance: Entrance, extension: RawExtension) -> None:
        self._entrance = entrance
        self._extension = extension
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return 'environ["werkzeug.socket"]'

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # whoever looks at an object, such as a debugger or copy(), does not use it
            raise AttributeError(name)
        if self._socket is None:
            self._entrance.take(self)
            try:
                self._socket = self._entrance.bridge.call(self._extension.hand_over)
            except (Closed, OSError) as exc:
                raise ClientLeft from exc
            del self._entrance, self._extension  # libraries keep what they have been given in cycles of their own
        return getattr(self._socket, name)

    def close(self) -> None:
        """What was sent before still goes out. The socket itself is closed when it has."""
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_WR)


class Refusal:
    """The answer of an application that has not taken the connection: its own status, headers and body. An Outlet.

    Args:
        entrance: The handshake.
        send: The server's.
        limit: Bytes of a body, past which the rest is not asked for: somebody may ask an endless page for a socket.
    """

    def __init__(self, entrance: Entrance, send: Send, limit: int) -> None:
        self._entrance = entrance
        self._send = send
        self._limit = limit
        self._size = 0

    def __repr__(self) -> str:
        return "an HTTP answer"

    @property
    def open(self) -> bool:
        """Whether nobody has taken the connection."""
        return self._entrance.holder in (None, self)

    def start(self, head: Head, body: bytes, *, more: bool) -> None:
        """See Outlet."""
        self._entrance.take(self)
        if _RESPONSE in self._entrance.request.scope.get("extensions", {}):
            self._pass_on({"type": f"{_RESPONSE}.start", "status": head.status, "headers": head.headers})
            self.send(body, more=more)
        else:  # a server that can only say no
            self._pass_on({"type": "websocket.close", "code": int(CloseCode.POLICY_VIOLATION), "reason": ""})
            raise ClientLeft

    def send(self, body: bytes, *, more: bool) -> None:
        """See Outlet."""
        self._size += len(body)
        enough = self._size > self._limit
        self._pass_on({"type": f"{_RESPONSE}.body", "body": body, "more_body": more and not enough})
        if more and enough:
            raise ClientLeft

    def _pass_on(self, event: MutableMapping[str, Any]) -> None:
        try:
            self._entrance.bridge.call(self._emit, event)
        except (Closed, OSError) as exc:
            raise ClientLeft from exc

    async def _emit(self, event: MutableMapping[str, Any]) -> None:
        await self._send(event)


async def serve_socket(
    app: WSGIApp,
    request: Request,
    receive: Receive,
    send: Send,
    *,
    threads: Threads,
    limits: Limits,
    rooms: Rooms,
    extra: Environ,
) -> None:
    """Have an application decide about a handshake, in a thread of its own, and talk to the client.

    Args:
        app: The application.
        request: The upgrade request; its ``websocket.connect`` event has been received, its Origin has been found good.
        receive: The server's.
        send: The server's.
        threads: Where to run it; past their limit the handshake is refused with 503.
        limits: ``outbox_limit`` is the most that a refusal's body has; the others hold under a foreign server.
        rooms: Where names of rooms are looked up.
        extra: More for the environ.
    """

    def talk(ws: BlockingWebSocket) -> None:
        entrance = ws.entrance
        environ = make_environ(request.scope) | extra
        environ[SOCKET_KEY] = ws
        environ["wsgi.websocket"] = GeventWebSocket(entrance, environ)
        environ["wsgi.websocket_version"] = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "13")
        extension: RawExtension | None = request.scope.get("extensions", {}).get(RAW)
        if extension is not None:
            environ["werkzeug.socket"] = RawSocket(entrance, extension)
        try:
            Answer(Refusal(entrance, send, limits.outbox_limit), "GET").run(app, environ)
        except Exception as exc:
            if entrance.holder is None or not _is_end(exc):
                raise
        finally:
            for key in _SOCKETS:  # they know the environ, too: nothing of it shall wait for the garbage collector
                environ.pop(key, None)

    try:
        await converse(talk, request, receive, send, threads=threads, limits=limits, rooms=rooms)
    except NoThread as exc:
        logger.warning("%r refused, HTTP 503: %s", request.path, exc)
        await refuse(request.scope, send, 503, b"too many connections\n", headers=[(b"retry-after", b"5")])


def _is_end(exc: Exception) -> bool:
    """Whether it says only that the conversation is over: so engineio and simple-websocket leave a server's loop."""
    return isinstance(exc, StopIteration | ConnectionError) or type(exc).__module__.startswith("simple_websocket.")
