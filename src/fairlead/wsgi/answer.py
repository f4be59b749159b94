"""An application's answer (PEP 3333): its status, headers and body, on their way to whoever sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPMethod, HTTPStatus
from types import TracebackType
from typing import Any, Protocol

from fairlead.wsgi.environ import Environ

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Write = Callable[[bytes], object]
WSGIApp = Callable[[Environ, Any], Iterable[bytes]]
"""A WSGI application; its second argument is ``start_response(status, headers, exc_info=None)``."""

_EMPTY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})  # RFC 9110, 6.4.1
_LENGTH = b"content-length"
_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"})
"""Is between the server and its client (PEP 3333: applications must not say it)."""
_ASK_ANEW = ((b"connection", b"close"), (b"connection", b"upgrade"))
"""Goes with a 426 that names what to upgrade to (RFC 9110, 7.8). Whoever does begins with a connection of his own."""


class Head:
    """Status and headers.

    Args:
        status: Such as ``"200 OK"``.
        headers: Pairs of text.

    Attributes:
        status: The number.
        headers: As ASGI has them.
        length: How long the body will be; None: it is not said.

    Raises:
        ValueError: These are no status and headers.
    """

    def __init__(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        self.status = int(status[:3])
        if not 200 <= self.status <= 599:
            raise ValueError(f"{status!r} is not a final status")
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.headers = [field for field in fields if field[0] not in _CONNECTION]
        if self.status == HTTPStatus.UPGRADE_REQUIRED and any(name == b"upgrade" for name, _ in self.headers):
            self.headers += _ASK_ANEW
        if self.status in _EMPTY:
            self.headers = [field for field in self.headers if field[0] != _LENGTH]
        lengths = [value for name, value in self.headers if name == _LENGTH]
        if len(lengths) > 1 or not all(each.isdigit() for each in lengths):
            # RFC 9112, 6.3: of two lengths whoever is in between may believe the other one.
            raise ValueError(f"Content-Length must be one number, not {lengths}")
        self.length = int(lengths[0]) if lengths else None


class Outlet(Protocol):
    """Where an answer goes. From the thread."""

    @property
    def open(self) -> bool:
        """Whether there is anything to answer. If not, what the application answers is thrown away."""
        ...

    def start(self, head: Head, body: bytes, *, more: bool) -> None:
        """Send the head and the beginning of the body.

        Raises:
            ClientLeft: There is nobody to send it to.
        """
        ...

    def send(self, body: bytes, *, more: bool) -> None:
        """Send more of the body; as ``start``."""
        ...


class Answer:
    """One application's answer to one request. Nothing is held back: what the application gives is sent before the
    next is asked for.

    Args:
        outlet: Where it goes.
        method: Of the request: to HEAD there is no body.
    """

    def __init__(self, outlet: Outlet, method: str) -> None:
        self._outlet = outlet
        self._head: Head | None = None
        self._bodiless = method == HTTPMethod.HEAD
        self._started = False
        self._complete = False
        self._sent = 0  # bytes of the body

    def run(self, app: WSGIApp, environ: Environ) -> None:
        """Call the application and send what it answers; its iterable is closed, whatever happens.

        Raises:
            ClientLeft: The client is gone, so the rest was not asked for.
            Exception: What the application raised, or did wrong.
        """
        result = app(environ, self.start_response)
        try:
            if isinstance(result, list | tuple):
                self._finish(b"".join(result))
            else:
                self._iterate(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    # -- what the application calls ----------------------------------------------------------------------------------

    def start_response(self, status: str, headers: Sequence[tuple[str, str]], exc_info: ExcInfo | None = None) -> Write:
        """PEP 3333. Nothing is sent before there is some of the body.

        Raises:
            RuntimeError: It was called before, and nothing is wrong.
            ValueError: These are no status and headers.
        """
        if exc_info is not None:
            try:
                if self._started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # or the traceback would hold itself
        elif self._head is not None:
            raise RuntimeError("start_response() was called twice, and the second time without exc_info")
        self._head = Head(status, headers)
        return self._write

    def _write(self, data: bytes) -> None:
        """PEP 3333's ``write``, for applications that push.

        Raises:
            ClientLeft: The client is gone.
            RuntimeError: That is more than Content-Length says.
        """
        if self._complete and data and not self._bodiless and self._outlet.open:
            raise RuntimeError("the body is longer than its Content-Length")
        self._give(data)

    # -- what becomes of it ------------------------------------------------------------------------------------------

    def _iterate(self, result: Iterable[bytes]) -> None:
        for data in result:
            if self._give(data):
                return
        self._finish(b"")

    def _give(self, data: bytes) -> bool:
        """Send a part of the body; True: there is no need for more."""
        if not self._outlet.open or not data:
            return self._complete
        if not isinstance(data, bytes):
            raise TypeError(f"a body is made of bytes, not {type(data).__name__}")
        head = self._demand_head()
        if head.length is not None:
            data = data[: head.length - self._sent]
        self._send(head, data, more=head.length is None or self._sent + len(data) < head.length)
        return self._complete

    def _finish(self, data: bytes) -> None:
        """Send the last part of the body."""
        if not self._outlet.open or self._complete:
            return
        head = self._demand_head()
        size = self._sent + len(data)
        if head.length is None and not self._started and head.status not in _EMPTY and (data or not self._bodiless):
            head.headers.append((_LENGTH, str(size).encode()))
        elif head.length is not None and not self._bodiless:
            if size < head.length:
                raise RuntimeError(f"the body has {size} bytes, and its Content-Length is {head.length}")
            data = data[: head.length - self._sent]
        self._send(head, data, more=False)

    def _demand_head(self) -> Head:
        if self._head is None:
            raise RuntimeError("the application has not called start_response()")
        return self._head

    def _send(self, head: Head, data: bytes, *, more: bool) -> None:
        if self._complete:
            return
        if self._bodiless or head.status in _EMPTY:
            data, more = b"", False
        started, self._started = self._started, True
        self._complete = not more
        self._sent += len(data)
        if started:
            self._outlet.send(data, more=more)
        else:
            self._outlet.start(head, data, more=more)
