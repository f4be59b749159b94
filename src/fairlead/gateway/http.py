"""As much of HTTP as the admin listener needs, on plain ASGI: a whole body within bounds, and one kind of answer.

Plain, because a trigger is the gateway's busiest call and a web framework would cost more than the trigger itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from fairlead.errors import NetworkError, PeerError

Headers = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"

_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Problem(PeerError):
    """Ends a call with an error answer, ``{"error": text}``; one of 500 or more is not the caller's fault.

    Args:
        status: 400 to 599.
        text: Clear, and safe to show to the caller.
        headers: Further response headers.
        more: Further members of the answer.
    """

    def __init__(self, status: int, text: str, *, headers: Headers = (), more: dict[str, object] | None = None) -> None:
        super().__init__(text)
        self.reply = Reply(msgspec.json.encode({"error": text, **(more or {})}), status=status, headers=headers)


class ClientGone(NetworkError):
    """The caller closed the connection before its request was complete; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer; nothing of it may be cached or be taken for another type."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Headers = ()

    async def send(self, send: Send, *, head_only: bool = False) -> None:
        """Send it; with ``head_only``, as HEAD wants it, without the body (RFC 9110, 9.3.2)."""
        length = str(len(self.body)).encode()
        headers = [(b"content-type", self.content_type), (b"content-length", length), *_ALWAYS, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head_only else self.body})


_PREPARED: Final = b"".join(b"%b: %b\r\n" % line for line in ((b"content-type", JSON), *_ALWAYS))


def prepared(body: bytes) -> bytes:
    """The same as ``Reply(body)`` in bytes, from behind the status line."""
    return b"%bcontent-length: %d\r\n\r\n%b" % (_PREPARED, len(body), body)


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All values of a request header; ``name`` in lower case."""
    return [value for key, value in headers if key == name]


async def read_body(scope: Scope, receive: Receive, *, size: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        Problem: 413, it is larger than ``size`` bytes or says so; 408, it was not there after ``seconds``.
        ClientGone: It will never be complete.
    """
    for value in values(scope["headers"], b"content-length"):
        if value.isdigit() and (len(value) > 18 or int(value) > size):
            raise _too_large(size)
    try:
        async with asyncio.timeout(seconds):
            return await _receive_all(receive, size)
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"no whole body within {seconds:g} s") from None


async def _receive_all(receive: Receive, size: int) -> bytes:
    parts: list[bytes] = []
    left, more = size, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone("the caller left")
        parts.append(event.get("body", b""))
        more = event.get("more_body", False)
        left -= len(parts[-1])
        if left < 0:
            raise _too_large(size)
    return b"".join(parts)


def _too_large(size: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {size} bytes")
