"""The same socket for code that runs in a thread: it blocks where a coroutine would wait.

What comes in is put into the thread's hands by the event loop, and what goes out is taken from them; either side is
bounded, and neither ever polls. A call that blocks ends when the client is gone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import msgspec

from fairlead.connection import Connection
from fairlead.errors import CloseCode, Closed, UsageError
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.threads import Threads
from fairlead.transports import Receiver, Transport
from fairlead.transports.asgi import AsgiTransport, Receive, Send, accept
from fairlead.websocket import INBOX, INBOX_SIZE

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNSENT = 64 * 1024
"""Bytes that a thread may be ahead of the event loop; past it ``send`` blocks. A message alone may be larger."""


class Link:
    """Between the event loop and one thread: the Receiver on one side, calls that block on the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self.transport: Transport | None = None
        self.outcome: tuple[int, str] | None = None
        self.messages: list[str | bytes] = []
        self.changed = threading.Condition()
        self._loop = loop
        self._connection = connection
        self._size = 0  # of what came in since it was empty
        self._paused = False
        self._outgoing: list[Message] = []
        self._unsent = 0  # bytes of them
        self._flushing = False
        self._closing = False
        self._draining: asyncio.Task[None] | None = None

    # -- the Receiver, in the event loop -----------------------------------------------------------------------------

    def connected(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, payload: str | bytes) -> None:
        with self.changed:
            self.messages.append(payload)
            self._size += len(payload)
            full = not self._paused and (self._size >= INBOX_SIZE or len(self.messages) >= INBOX)
            self._paused = self._paused or full
            self.changed.notify_all()
        if full and self.transport is not None:
            self.transport.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        with self.changed:
            self.outcome = self.outcome or (code, reason)
            self.changed.notify_all()

    # -- from the thread ---------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closing or self.outcome is not None or (self.transport is not None and not self.transport.open)

    def take(self) -> str | bytes:
        """The oldest message; there must be one, and ``changed`` be held."""
        payload = self.messages.pop(0)
        if not self.messages:
            self._size = 0
            if self._paused and self.transport is not None:
                self._paused = False
                self.in_loop(self.transport.resume_reading)
        return payload

    def put(self, message: Message) -> None:
        """Send a message, blocking while the client is behind.

        Raises:
            Closed: The connection is over; this message was not sent.
        """
        size = len(message.payload)
        with self.changed:
            self.changed.wait_for(lambda: self.over or not self._unsent or self._unsent + size <= UNSENT)
            if self.over:
                raise Closed(*(self.outcome or (CloseCode.ABNORMAL, "")))
            self._outgoing.append(message)
            self._unsent += size
            flushing, self._flushing = self._flushing, True
        if not flushing:
            self.in_loop(self._flush)

    def end(self, code: int, reason: str) -> None:
        """Begin the close handshake, behind what was sent."""
        with self.changed:
            closing, self._closing = self._closing, True
            self.changed.notify_all()
        if not closing and self.transport is not None:
            self.in_loop(self._end, code, reason)

    def in_loop(self, call: Callable[..., object], *args: object) -> None:
        """Have the event loop do something soon.

        Raises:
            Closed: The server has ended.
        """
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            raise Closed(CloseCode.ABNORMAL) from None

    # -- in the event loop -------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        transport = self._hand_over()
        if transport.congested:
            self._draining = self._loop.create_task(self._drain(transport))
        else:
            self._go_on()

    def _hand_over(self) -> Transport:
        assert self.transport is not None, "nothing is sent before the accept"
        with self.changed:
            outgoing, self._outgoing = self._outgoing, []
        self._connection.flush_rooms()
        for message in outgoing:
            self.transport.send(message)
        return self.transport

    async def _drain(self, transport: Transport) -> None:
        with suppress(Closed):
            await transport.drained()
        self._go_on()

    def _go_on(self) -> None:
        with self.changed:
            self._unsent = sum(len(message.payload) for message in self._outgoing)
            self._flushing = bool(self._outgoing)
            self.changed.notify_all()
        if self._flushing:
            self._loop.call_soon(self._flush)

    def _end(self, code: int, reason: str) -> None:
        self._hand_over().close(code, reason)


class Entrance:
    """The undecided handshake of a connection that a thread will hold. For adapters, in the event loop."""

    def __init__(self, request: Request, receive: Receive, send: Send, limits: Limits) -> None:
        self.request = request
        self.carrying: asyncio.Task[None] | None = None
        self._receive = receive
        self._send = send
        self._limits = limits

    async def open(self, receiver: Receiver) -> None:
        """Send the 101.

        Raises:
            Closed: The client has left meanwhile.
        """
        request = self.request
        try:
            foreign: AsgiTransport | None = await accept(
                request.scope,
                self._receive,
                self._send,
                receiver,
                subprotocol=request.subprotocol,
                headers=request.accept_headers,
                limits=self._limits,
            )
        except OSError as exc:
            raise Closed(CloseCode.ABNORMAL) from exc
        if foreign is not None:
            self.carrying = asyncio.create_task(foreign.run())


class BlockingWebSocket(Connection):
    """A connection for one thread. It is accepted when it is first used, so that until then the thread may refuse it.

    Attributes:
        on_wait: Called whenever the thread is about to wait for the client; to give back what others could use
            meanwhile, such as a database connection.
    """

    __slots__ = ("_entrance", "_link", "_loop", "accepted", "on_wait")

    def __init__(self, entrance: Entrance, *, rooms: Rooms | None = None) -> None:
        super().__init__(entrance.request, rooms=rooms)
        self._loop = asyncio.get_running_loop()
        self._entrance = entrance
        self._link = Link(self._loop, self)
        self.accepted = False
        self.on_wait: Callable[[], None] | None = None

    # -- the handshake -----------------------------------------------------------------------------------------------

    def accept(self, *, subprotocol: str | None = None) -> None:
        """Let the client in, unless that has happened; every other method does it, too.

        Args:
            subprotocol: The one to agree on, of those that the client offers.

        Raises:
            Closed: The client has left meanwhile.
        """
        if self.accepted:
            return
        if subprotocol is not None:
            self.request.subprotocol = subprotocol
        opening = asyncio.run_coroutine_threadsafe(self._entrance.open(self._link), self._loop)
        opening.result()
        self.accepted = True

    # -- receiving ---------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> str | bytes | None:
        """The next message: ``str`` for text, ``bytes`` for binary; None when the client has left.

        Args:
            timeout: Seconds to wait; None: as long as the client stays.

        Raises:
            TimeoutError: Nothing came in time. Nothing is lost; call it again.
        """
        self._enter()
        link = self._link
        if self.on_wait is not None and not link.messages:
            self.on_wait()
        with link.changed:
            if not link.changed.wait_for(lambda: link.messages or link.outcome, timeout):
                raise TimeoutError(f"no message within {timeout} s")
            return link.take() if link.messages else None

    def read(self, fallback: T | None = None) -> str | bytes | T | None:
        """A message that has arrived, or the fallback. Never blocks."""
        self._enter()
        with self._link.changed:
            return self._link.take() if self._link.messages else fallback

    def has_messages(self) -> bool:
        """Whether a message has arrived."""
        self._enter()
        return bool(self._link.messages)

    def count_messages(self) -> int:
        """How many messages have arrived."""
        self._enter()
        return len(self._link.messages)

    def __iter__(self) -> Iterator[str | bytes]:
        """Every message until the client leaves."""
        while (message := self.wait()) is not None:
            yield message

    def _enter(self) -> None:
        """Accept, where the client is still there to be let in."""
        if not self.accepted:
            try:
                self.accept()
            except Closed as closed:
                self._link.closed(closed.code, closed.reason)
                self.accepted = True

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, message: str | bytes) -> None:
        """Send text or bytes. Blocks only while the client is behind, and no longer than it stays.

        Raises:
            Closed: The connection is over; this was not sent.
        """
        if isinstance(message, str):
            outgoing = Message(message.encode())
        elif isinstance(message, bytes | bytearray | memoryview):
            outgoing = Message(bytes(message), binary=True)
        else:
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}; send_json() takes the rest")
        self._enter()
        self._link.put(outgoing)

    def send_json(self, data: object) -> None:
        """Send anything that has a form in JSON, as a text message.

        Raises:
            Closed: The connection is over; nothing was sent.
            TypeError: It has no form in JSON.
        """
        self.send(msgspec.json.encode(data).decode())

    # -- rooms -------------------------------------------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        if self._link.transport is None:
            raise UsageError("accept the connection before it joins a room")
        return self._link.transport

    def join(self, room: Room | RoomName) -> Room:
        """Enter a room; it is left at the connection's end.

        Returns:
            The room, to publish to.

        Raises:
            BrokerUnavailable: Try again later.
            Closed: The connection is over.
            InvalidRoom: It cannot be a room's name.
            UsageError: It is in as many rooms as it may be, or there are no rooms to find a name in.
        """
        self.accept()
        found = self.find(room)
        found.add(self)
        return found

    def leave(self, room: Room | RoomName) -> None:
        """Leave a room. Who is not in is left alone."""
        self.find(room).discard(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Begin the close handshake; what was sent before goes first. The first call counts."""
        self._enter()
        self._link.end(code, reason)

    @property
    def closed(self) -> bool:
        """Whether either side began to close; what has arrived may still be received."""
        return self._link.over

    @property
    def close_code(self) -> int | None:
        """The close code once the connection is over. 1005: without one; 1006: lost (RFC 6455, 7.1.5)."""
        return None if self._link.outcome is None else self._link.outcome[0]

    @property
    def close_reason(self) -> str:
        """The reason given with the close code; ""."""
        return "" if self._link.outcome is None else self._link.outcome[1]


async def converse(
    talk: Callable[[BlockingWebSocket], T],
    request: Request,
    receive: Receive,
    send: Send,
    *,
    threads: Threads,
    limits: Limits,
    rooms: Rooms | None = None,
) -> tuple[BlockingWebSocket, T | None]:
    """Have blocking code talk to a client, in a thread; its end is the connection's end.

    Args:
        talk: What to run. Where it raises after the accept, the connection is closed with 1011 and the log has it.
        request: The upgrade request; its ``websocket.connect`` event has been received.
        receive: The server's.
        send: The server's.
        threads: Where to run it.
        limits: For what waits for the client under a foreign server.
        rooms: Where names of rooms are looked up.

    Returns:
        The connection, and what ``talk`` returned. If it was never ``accepted``, the caller still has to refuse it.

    Raises:
        NoThread: There is no thread; the handshake is undecided.
        Exception: What ``talk`` raised before it accepted.
    """
    entrance = Entrance(request, receive, send, limits)
    ws = BlockingWebSocket(entrance, rooms=rooms)
    result: T | None = None
    code = CloseCode.NORMAL
    try:
        result = await threads.run(lambda: talk(ws))
    except Closed:
        pass  # the client left while the thread was sending
    except Exception:
        if not ws.accepted:
            raise
        logger.exception("connection %s: the code behind %r failed", ws.id, ws.path)
        code = CloseCode.INTERNAL_ERROR
    finally:
        if ws.accepted:
            ws.leave_rooms(ws.close_code or code)
            ws.close(code)
        if entrance.carrying is not None:
            await entrance.carrying
    return ws, result
