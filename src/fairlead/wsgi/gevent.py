"""The connection as gevent-websocket has it, for applications and plugins that were written for that server."""

from __future__ import annotations

import sys
from functools import cache

from fairlead.errors import Closed
from fairlead.sync import BlockingWebSocket, Entrance
from fairlead.wsgi.environ import Environ


class _Connection(BlockingWebSocket):
    __slots__ = ()

    def __repr__(self) -> str:
        return 'environ["wsgi.websocket"]'


class GeventWebSocket:
    """``environ["wsgi.websocket"]``. The client is let in by the first use of a method.

    Attributes:
        environ: The request's.
    """

    def __init__(self, entrance: Entrance, environ: Environ) -> None:
        self.environ = environ
        self._ws = _Connection(entrance)

    # -- the request -------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """PATH_INFO."""
        return self.environ.get("PATH_INFO")

    @property
    def origin(self) -> str | None:
        """The Origin; None without one."""
        return self.environ.get("HTTP_ORIGIN")

    @property
    def protocol(self) -> str | None:
        """The subprotocols that the client offers, as it wrote them. None is agreed on."""
        return self.environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")

    @property
    def version(self) -> str | None:
        """Sec-WebSocket-Version."""
        return self.environ.get("HTTP_SEC_WEBSOCKET_VERSION")

    # -- messages ----------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether either side has closed. Not before all that came earlier is received: loops end when this is True."""
        return self._ws.closed and not self._ws.has_messages()

    def receive(self) -> str | bytes | None:
        """The next message; blocks. None: the client has left."""
        return self._ws.wait()

    def send(self, message: object, binary: bool | None = None) -> None:
        """Send bytes, or the text of anything else.

        Args:
            message: What to send.
            binary: Whether as a binary message; None: if it is no text.

        Raises:
            Closed: The connection is over. Where gevent-websocket is loaded, it is its WebSocketError, too.
        """
        data = message if isinstance(message, bytes | bytearray | memoryview) else str(message).encode()
        if binary is None:
            binary = not isinstance(message, str)
        try:
            self._ws.send(bytes(data) if binary else bytes(data).decode())
        except Closed as closed:
            raise _error(closed) from None

    def close(self, code: int = 1000, message: str | bytes = b"") -> None:
        """Begin the close handshake."""
        self._ws.close(code, message.decode() if isinstance(message, bytes) else message)


def _error(closed: Closed) -> Closed:
    module = sys.modules.get("geventwebsocket.exceptions")
    if module is None:
        return closed
    return _both(vars(module)["WebSocketError"])(closed.code, closed.reason)


@cache
def _both(kind: type[Exception]) -> type[Closed]:
    """What applications catch, and what ends a thread in good order where they do not."""
    return type(kind.__name__, (Closed, kind), {"__module__": kind.__module__})
