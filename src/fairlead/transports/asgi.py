"""Any ASGI server, and the one place where a verdict is sent.

Acceptance and refusal always travel through the application's ``send``, so middleware sees them under every server.
Only afterwards the ways part: under a server that offers the ``fairlead`` extension the connection is native, elsewhere
an AsgiTransport runs on ``receive`` and ``send``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from fairlead.errors import CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import Burst, Form, Message
from fairlead.transports import Receiver

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

logger = logging.getLogger(__name__)

EXTENSION = "fairlead"


class Extension(Protocol):
    """What ``scope["extensions"]["fairlead"]`` offers: the native data path."""

    def attach(self, receiver: Receiver) -> None:
        """From the accept that follows on, the connection's messages go to the receiver and not to ``receive``."""
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
) -> None:
    """Let the client in and give its messages to the receiver.

    Under the native server this returns after the accept and the connection lives on; elsewhere it returns when the
    connection is over. The ``websocket.connect`` event must have been received.

    Args:
        limits: Bounds for what waits for the client under a foreign server, which knows nothing of ours.
    """
    verdict = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)}
    extension: Extension | None = scope.get("extensions", {}).get(EXTENSION)
    if extension is not None:
        extension.attach(receiver)
        await send(verdict)
        return
    await send(verdict)
    await AsgiTransport(receive, send, limits or Limits()).run(receiver)


async def refuse(
    scope: Scope, send: Send, status: int, body: bytes = b"", *, headers: Headers = (), content_type: str = "text/plain"
) -> None:
    """Refuse the handshake with an HTTP answer; a server without the extension for that sends 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": CloseCode.POLICY_VIOLATION, "reason": ""})
        return
    fields = [
        (b"content-type", content_type.encode("latin-1")),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
    await send({"type": "websocket.http.response.body", "body": body})


class _AsgiForm:
    """Whole messages: the foreign server makes the frames."""

    shared = True

    def encode(self, payload: bytes, *, binary: bool) -> bytes:
        return payload


ASGI: Form = _AsgiForm()


class AsgiTransport:
    """A connection under any ASGI server.

    The server's own limits hold for what comes in, and its pings. What waits for the client is bounded here. To be
    made and used inside one running event loop.
    """

    def __init__(self, receive: Receive, send: Send, limits: Limits) -> None:
        self._receive = receive
        self._send = send
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
        return ASGI

    @property
    def open(self) -> bool:
        return not self._outcome.done()

    @property
    def buffered(self) -> int:
        return self._queued

    def send(self, outgoing: Message | Burst) -> None:
        if not self.open:
            return
        for message in outgoing.messages:
            self._outbox.append(message)
            self._queued += len(message.payload)
        self._filled.set()
        if self._queued > self._limits.outbox_limit and len(self._outbox) > 1:
            self._drop()
            self.outbox_full = True
            self.close(CloseCode.TRY_AGAIN_LATER, "outbox full")
        elif self._queued > self._limits.outbox_low:
            self._drained.clear()

    async def drained(self) -> None:
        if self.open:
            await self._drained.wait()
        if not self.open:
            raise Closed(*self._outcome.result())

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.open:
            self._outcome.set_result((code, reason))
            self._filled.set()
            self._drained.set()
            self._reading.set()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    async def run(self, receiver: Receiver) -> None:
        """Carry the connection until it is over; the receiver is told so exactly once, whatever happens."""
        writer = asyncio.create_task(self._write())
        try:
            await self._carry(receiver)
            # What was sent before a close of ours goes out first; a slow client has so long to take it.
            await asyncio.wait((writer,), timeout=self._limits.close_timeout)
        finally:
            self.close(CloseCode.ABNORMAL)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            receiver.closed(*self._outcome.result())

    async def _carry(self, receiver: Receiver) -> None:
        try:
            receiver.connected(self)
            while (event := await self._next()) is not None:
                self._event(event, receiver)
        except Exception:
            logger.exception("a receiver failed")
            self.close(CloseCode.INTERNAL_ERROR)

    async def _next(self) -> MutableMapping[str, Any] | None:
        """The next event that may be handed on; None if the connection is closing."""
        await self._reading.wait()
        event = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((event, self._outcome), return_when=asyncio.FIRST_COMPLETED)
            if self.open:
                await self._reading.wait()  # reading may have been paused while it came
            return event.result() if self.open else None
        finally:
            if not event.done():
                event.cancel()
                await asyncio.gather(event, return_exceptions=True)

    def _event(self, event: MutableMapping[str, Any], receiver: Receiver) -> None:
        if event["type"] == "websocket.receive":
            text = event.get("text")
            receiver.received(text if text is not None else event["bytes"])
        elif event["type"] == "websocket.disconnect":
            self._drop()
            self._left = True
            self.close(event.get("code") or CloseCode.NO_STATUS, event.get("reason") or "")

    def _drop(self) -> None:
        self._outbox.clear()
        self._queued = 0

    async def _write(self) -> None:
        try:
            while self.open or self._outbox:
                await self._filled.wait()
                self._filled.clear()
                await self._flush()
            if self._left:
                return
            code, reason = self._outcome.result()
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            # The client is gone, or was gone before our close: foreign servers say so with either of these.
            self.close(CloseCode.ABNORMAL)
        except Exception:
            logger.exception("the server failed to send")
            self.close(CloseCode.ABNORMAL)

    async def _flush(self) -> None:
        while self._outbox:
            message = self._outbox.popleft()
            payload = message.payload
            content = {"bytes": payload} if message.binary else {"text": payload.decode()}
            await self._send({"type": "websocket.send", **content})
            self._queued = self._queued - len(payload) if self._outbox else 0
            if self._queued < self._limits.outbox_low:
                self._drained.set()
