"""Any ASGI server, and the one place where a verdict is sent.

Acceptance and refusal always travel through the application's ``send``, so middleware sees them under every server.
Only afterwards the ways part: under a server that offers the ``fairlead`` extension the connection is native, elsewhere
an AsgiTransport runs on ``receive`` and ``send``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import cache
from typing import Any, Protocol

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import PAYLOAD, Burst, Form, Message
from fairlead.transports import Receiver
from fairlead.wire.messages import close_payload, read_close

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

logger = logging.getLogger(__name__)

EXTENSION = "fairlead"
RAW = "fairlead.raw"

OVERHEAD = 64
"""Bytes that a message counts besides its own while it waits, for what holds it: or as many empty ones could wait as
memory holds, and 60 MiB of those with one letter."""


class Extension(Protocol):
    """What ``scope["extensions"]["fairlead"]`` offers: the native data path."""

    def attach(self, receiver: Receiver) -> None:
        """From the accept that follows on, the connection's messages go to the receiver and not to ``receive``."""
        ...


class HttpExtension(Protocol):
    """What the same place of a plain request's scope offers."""

    @property
    def left(self) -> bool:
        """Whether the client is gone, also while nobody reads its body: ``http.disconnect`` stands behind that."""
        ...


class RawExtension(Protocol):
    """What ``scope["extensions"]["fairlead.raw"]`` offers: the connection itself, in the place of a verdict."""

    async def hand_over(self) -> socket.socket:
        """From here on it is the caller's, who answers the handshake on the socket."""
        ...


async def accept(
    scope: Scope,
    receive: Receive,
    send: Send,
    receiver: Receiver,
    *,
    subprotocol: str | None = None,
    headers: Headers = (),
    limits: Limits | None = None,
) -> AsgiTransport | None:
    """Let the client in and give its messages to the receiver. The ``websocket.connect`` event must have been received.

    Args:
        limits: Under a foreign server, which knows nothing of ours: ``message_size``, ``outbox_limit``, ``outbox_low``
            and ``close_timeout``.

    Returns:
        None under the native server: the connection lives on by itself. Elsewhere the transport, whose ``run()`` has to
        be awaited until the connection is over.
    """
    verdict = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)}
    extension: Extension | None = scope.get("extensions", {}).get(EXTENSION)
    if extension is not None:
        extension.attach(receiver)
        await send(verdict)
        return None
    if "spec_version" not in scope.get("asgi", {"spec_version": "2.0"}):
        _warn_of_daphne()
    await send(verdict)
    transport = AsgiTransport(receive, send, receiver, limits or Limits())
    transport.start()
    return transport


@cache
def _warn_of_daphne() -> None:
    """Once per process. Of the servers that are known it is the one that does not say which ASGI it speaks."""
    logger.warning(
        "this server does not name its version of ASGI; if it is Daphne, it never waits for clients that do not read: "
        "what is sent to them fills its memory"
    )


async def carry(
    scope: Scope, receive: Receive, send: Send, receiver: Receiver, *, limits: Limits | None = None
) -> None:
    """``accept``, and whatever the server leaves to us until the connection is over."""
    transport = await accept(scope, receive, send, receiver, limits=limits)
    if transport is not None:
        await transport.run()


async def refuse(
    scope: Scope, send: Send, status: int, body: bytes = b"", *, headers: Headers = (), content_type: str = "text/plain"
) -> None:
    """Refuse the handshake with an HTTP answer; a server without the extension for that sends 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": int(CloseCode.POLICY_VIOLATION), "reason": ""})
        return
    fields = [(b"content-length", str(len(body)).encode()), *headers]
    if all(name != b"content-type" for name, _ in headers):
        fields.insert(0, (b"content-type", content_type.encode("latin-1")))
    await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
    await send({"type": "websocket.http.response.body", "body": body})


class AsgiTransport:
    """A connection under any ASGI server.

    The server's pings hold, and its own limit of a message where that is lower. To be made and used inside one running
    event loop.
    """

    def __init__(self, receive: Receive, send: Send, receiver: Receiver, limits: Limits) -> None:
        self._receive = receive
        self._send = send
        self._receiver = receiver
        self._limits = limits
        self._outbox: deque[Message] = deque()
        self._queued = 0
        self.outbox_full = False
        self._left = False  # the client, so that there is nobody to send a close to
        self._outcome: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._reading = asyncio.Event()
        self._reading.set()

    @property
    def form(self) -> Form:
        return PAYLOAD

    @property
    def outlet(self) -> None:
        return None

    @property
    def open(self) -> bool:
        return not self._outcome.done()

    @property
    def buffered(self) -> int:
        return self._queued

    @property
    def congested(self) -> bool:
        return not self._drained.is_set()

    def send(self, outgoing: Message | Burst) -> bool:
        if not self.open:
            return False
        for message in outgoing.messages:
            self._outbox.append(message)
            self._queued += len(message.payload) + OVERHEAD
        self._filled.set()
        if self._queued > self._limits.outbox_limit and len(self._outbox) > 1:
            self._drop()
            self.outbox_full = True
            self.close(CloseCode.TRY_AGAIN_LATER, "outbox full")
        elif self._queued > self._limits.outbox_low:
            self._drained.clear()
        return self.open and self._drained.is_set()

    async def drained(self) -> None:
        if self.open:
            await self._drained.wait()
        if not self.open:
            raise Closed(*self._outcome.result())

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.open:
            legal = read_close(close_payload(code, reason))  # foreign servers fail with a reason that is too long
            self._end(legal.code, legal.reason)

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def start(self) -> None:
        """Tell the receiver that the client is in; what it sends waits for ``run()``."""
        try:
            self._receiver.connected(self)
        except Exception:
            self._broken()

    async def run(self) -> None:
        """Carry the connection until it is over; the receiver is told so exactly once, whatever happens.

        Raises:
            Exception: The server does not send what it is given. Let it have its exception: servers that refuse a
                close end the connection for a failure, and never for an application that returns.
        """
        reader, writer = asyncio.create_task(self._read()), asyncio.create_task(self._write())
        try:
            await asyncio.wait((reader, self._outcome), return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()  # Granian sends no close while somebody receives
            # What was sent before a close of ours goes out first; a slow client has so long to take it.
            await asyncio.wait((writer,), timeout=self._limits.close_timeout)
        finally:
            self._end(CloseCode.ABNORMAL)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._receiver.closed(*self._outcome.result())
        if not writer.cancelled():
            writer.result()

    def _end(self, code: int, reason: str = "") -> None:
        if self.open:
            self._outcome.set_result((int(code), reason))
            self._filled.set()
            self._drained.set()
            self._reading.set()

    def _broken(self) -> None:
        logger.exception("a receiver failed")
        self.close(CloseCode.INTERNAL_ERROR)

    async def _read(self) -> None:
        try:
            while self.open:
                event = await self._receive()
                if event["type"] == "websocket.receive":
                    await self._reading.wait()
                    self._message(event)
                elif event["type"] == "websocket.disconnect":
                    self._drop()
                    self._left = True
                    self._end(event.get("code") or CloseCode.NO_STATUS, event.get("reason") or "")
        except Exception:
            self._broken()

    def _message(self, event: MutableMapping[str, Any]) -> None:
        text = event.get("text")
        payload: str | bytes = event["bytes"] if text is None else text
        limit = self._limits.message_size
        if _exceeds(payload, limit):
            self.close(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {limit} bytes")
        elif self.open:
            self._receiver.received(payload)

    def _drop(self) -> None:
        self._outbox.clear()
        self._queued = 0

    async def _write(self) -> None:
        try:
            while self.open or self._outbox:
                await self._filled.wait()
                self._filled.clear()
                await self._flush()
            if not self._left:
                code, reason = self._outcome.result()
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            pass  # the client is gone, or was gone before our close: foreign servers say so with either of these
        finally:
            self._end(CloseCode.ABNORMAL)

    async def _flush(self) -> None:
        while self._outbox:
            message = self._outbox.popleft()
            payload = message.payload
            content = {"bytes": payload} if message.binary else {"text": payload.decode()}
            await self._send({"type": "websocket.send", **content})
            self._queued = self._queued - len(payload) - OVERHEAD if self._outbox else 0
            if self._queued < self._limits.outbox_low:
                self._drained.set()


def _exceeds(payload: str | bytes, limit: int) -> bool:
    """Whether it takes more bytes than that. A character of a text takes up to four."""
    size = len(payload)
    if isinstance(payload, str) and size <= limit < 4 * size:
        size = len(payload.encode())
    return size > limit
