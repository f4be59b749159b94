"""The same socket for code that runs in a thread: it blocks where a coroutine would wait.

A call that blocks ends when the client is gone. The handshake is undecided until the thread uses the connection.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty
from typing import TypeVar

import msgspec

from fairlead.connection import Connection
from fairlead.errors import CloseCode, Closed, UsageError
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.link import Link
from fairlead.message import Message
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.threads import Bridge, Threads
from fairlead.transports import Receiver, Transport
from fairlead.transports.asgi import AsgiTransport, Receive, Send, accept
from fairlead.wire.messages import close_payload

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Entrance:
    """The undecided handshake of a connection that a thread will hold. For adapters; to be made in the event loop.

    Attributes:
        request: The upgrade request.
        limits: The server's.
        bridge: For whoever answers it from the thread.
        holder: Who has taken it.
        carrying: What carries the connection under a foreign server.
    """

    def __init__(self, request: Request, receive: Receive, send: Send, limits: Limits) -> None:
        self.request = request
        self.bridge = Bridge()
        self.holder: object | None = None
        self.carrying: asyncio.Task[None] | None = None
        self._receive = receive
        self._send = send
        self.limits = limits
        self._lock = threading.Lock()

    def take(self, holder: object) -> None:
        """From here on the handshake is this one's to answer, and its own again whenever it asks.

        Raises:
            UsageError: Somebody else has it.
        """
        with self._lock:
            if self.holder is None:
                self.holder = holder
            elif self.holder is not holder:
                raise UsageError(f"the connection is taken already, by {self.holder!r}: only one may have it")

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
                limits=self.limits,
            )
        except OSError as exc:
            raise Closed(CloseCode.ABNORMAL) from exc
        if foreign is not None:
            self.carrying = asyncio.create_task(foreign.run())


class BlockingWebSocket(Connection):
    """A connection for one thread. It is accepted when it is first used, so that until then the thread may refuse it.

    Attributes:
        entrance: The handshake.
        accepted: Whether the client is in, or had left when it was to be let in.
        on_wait: Called whenever the thread is about to wait for a message; to give back what others could use
            meanwhile, such as a database connection.
    """

    __slots__ = ("_accepting", "_link", "accepted", "entrance", "on_wait")

    def __init__(self, entrance: Entrance, *, rooms: Rooms | None = None) -> None:
        super().__init__(entrance.request, rooms=rooms)
        self.entrance = entrance
        self.accepted = False
        self.on_wait: Callable[[], None] | None = None
        self._link = Link(entrance.bridge)
        self._accepting = threading.Lock()

    # -- the handshake -----------------------------------------------------------------------------------------------

    def accept(self, *, subprotocol: str | None = None) -> None:
        """Let the client in, unless that has happened; every other method does it, too.

        Args:
            subprotocol: The one to agree on, of those that the client offers.

        Raises:
            Closed: The client has left meanwhile.
            UsageError: Somebody else has taken the handshake.
            ValueError: The client does not offer that subprotocol.
        """
        with self._accepting:  # others of its threads wait until it is decided
            if self.accepted:
                return
            self.entrance.take(self)
            if subprotocol is not None:
                self.request.subprotocol = subprotocol
            self._link.connection = self
            try:
                self.entrance.bridge.call(self.entrance.open, self._link)
            except Closed as closed:
                self._link.closed(closed.code, closed.reason)
                self.accepted = True
                raise
            except BaseException:
                self.entrance.holder = None  # it is still undecided
                raise
            self.accepted = True

    def _enter(self) -> None:
        """Accept, where the client is still there to be let in."""
        if not self.accepted:
            with suppress(Closed):
                self.accept()

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
        if self.on_wait is not None and not link.waiting and link.outcome is None:
            self.on_wait()
        try:
            return link.take(timeout)
        except Empty:
            raise TimeoutError(f"no message within {timeout} s") from None

    def read(self, fallback: T | None = None) -> str | bytes | T | None:
        """A message that has arrived, or the fallback. Never blocks."""
        self._enter()
        try:
            message = self._link.take(0)
        except Empty:
            return fallback
        return fallback if message is None else message

    def has_messages(self) -> bool:
        """Whether a message has arrived."""
        self._enter()
        return self._link.waiting > 0

    def count_messages(self) -> int:
        """How many messages have arrived."""
        self._enter()
        return self._link.waiting

    def __iter__(self) -> Iterator[str | bytes]:
        """Every message until the client leaves."""
        while (message := self.wait()) is not None:
            yield message

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
            raise Closed(*(self._link.outcome or (CloseCode.ABNORMAL, "")))
        return self._link.transport

    def join(self, room: Room | RoomName) -> Room:
        """Enter a room; it is left at the connection's end. Who is in already stays in.

        Args:
            room: A Room, or its name among the application's rooms.

        Returns:
            The room, to publish to.

        Raises:
            BrokerUnavailable: Try again later.
            Closed: The connection is over.
            InvalidRoom: It cannot be a room's name.
            UsageError: It is in as many rooms as it may be, or the application has no rooms to find a name in.
        """
        self.accept()
        found = self.find(room)
        self.entrance.bridge.call(self._join, found)
        return found

    async def _join(self, room: Room) -> None:
        await room.add(self)

    def leave(self, room: Room | RoomName) -> None:
        """Leave a room, after what was published there before. Who is not in is left alone."""
        with suppress(Closed):
            self.entrance.bridge.call(self._leave, self.find(room))

    async def _leave(self, room: Room) -> None:
        await room.discard(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Begin the close handshake; what was sent before goes first. The first call counts.

        Args:
            code: 1000, or 3000 to 4999 for an application's own meaning (RFC 6455, 7.4.2).
            reason: At most 123 bytes of UTF-8; longer ones are cut.

        Raises:
            ValueError: A code that must not be sent.
        """
        close_payload(code, reason)  # here, not in the event loop: a mistake belongs to whoever made it
        self._enter()
        self._link.end(code, reason)

    def finish(self, code: int, reason: str = "") -> None:
        """The thread is done with it, or has to be: close, and leave all rooms. From the event loop."""
        self._link.finish(code, reason)
        self.leave_rooms(self.close_code or code)

    def abandon(self, code: int, reason: str) -> None:
        """``finish``, and the thread learns at once that it is over, also where the event loop ends before the client
        could answer. From the event loop."""
        self.finish(code, reason)
        self._link.closed(code, reason)

    @property
    def closed(self) -> bool:
        """Whether either side began to close; what has arrived may still be received."""
        return self._link.over

    @property
    def outcome(self) -> tuple[int, str] | None:
        return self._link.outcome


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
        Exception: What ``talk`` raised before anybody took the handshake.
    """
    loop = asyncio.get_running_loop()
    entrance = Entrance(request, receive, send, limits)
    ws = BlockingWebSocket(entrance, rooms=rooms)
    result: T | None = None
    started, code = loop.time(), CloseCode.NORMAL
    try:
        result = await threads.run(lambda: talk(ws))
    except asyncio.CancelledError:
        if isinstance(entrance.holder, BlockingWebSocket):
            entrance.holder.abandon(CloseCode.SERVICE_RESTART, "service restart")
        raise
    except Exception as exc:
        holder = entrance.holder
        # While the thread was sending to it; sending to another connection raises the same, and that is a failure.
        client_left = isinstance(exc, Closed) and (not isinstance(holder, BlockingWebSocket) or holder.closed)
        if not client_left:
            if holder is None:
                raise
            logger.exception("connection %s: the code behind %r failed", ws.id, ws.path)
            code = CloseCode.INTERNAL_ERROR
    finally:
        entrance.bridge.end()
        if isinstance(entrance.holder, BlockingWebSocket):
            entrance.holder.finish(code)
            logger.info("%s %r ended after %.1f s", ws.id, ws.path, loop.time() - started)
        entrance.holder = None  # the two know each other: nothing of them shall wait for the garbage collector
        if entrance.carrying is not None:
            await entrance.carrying
    return ws, result
