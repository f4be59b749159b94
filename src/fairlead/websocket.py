"""The connection as a handler holds it: receive, send, iterate, join, close.

What comes in waits in an Inbox of bounded size, and past the bound the transport stops reading. So a client that leaves
is noticed whatever the handler does, and one that sends faster than the handler reads is slowed down, not lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeVar, overload

import msgspec

from fairlead.connection import Connection
from fairlead.errors import CloseCode, Closed, InvalidMessage, UsageError
from fairlead.handshake import Request
from fairlead.loops import BREATH
from fairlead.message import Message
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.transports import Transport

T = TypeVar("T")

logger = logging.getLogger(__name__)

INBOX = 128
INBOX_SIZE = 64 * 1024
"""Messages, and their bytes, that wait for a handler that does not receive them; past it the socket is not read. One
message is taken whatever its size, and as many as one read held besides."""

Invalid = Literal["reply", "raise"]
"""What becomes of a message that is not what was asked for: it is answered with an error and the next one is waited
for, or InvalidMessage is raised."""


class Inbox:
    """The Receiver that keeps messages until they are taken.

    Attributes:
        messages: What has arrived and was not taken. A list: an empty deque takes 760 bytes of every connection.
        outcome: Close code and reason, once the connection is over.
        noticed: Whether the handler has been told that it is over.
        beside: Tasks that run beside the handler: what they are told the handler does not know.
        on_closed: Called when it is over.
    """

    __slots__ = (
        "_arrival",
        "_loop",
        "_paused",
        "_size",
        "beside",
        "messages",
        "noticed",
        "on_closed",
        "outcome",
        "transport",
    )

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.outcome: tuple[int, str] | None = None
        self.noticed = False
        self.beside: Collection[asyncio.Task[Any]] = ()
        self.on_closed: Callable[[], None] | None = None
        self.transport: Transport | None = None
        self._size = 0  # of the messages since they were none
        self._paused = False
        self._arrival: asyncio.Future[str | bytes | None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def connected(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, payload: str | bytes) -> None:
        arrival = self._arrival
        if arrival is not None:
            self._arrival = None
            if not arrival.done():  # the usual case: the handler waits for it
                arrival.set_result(payload)
                return
        self.messages.append(payload)
        self._size += len(payload)
        if (self._size >= INBOX_SIZE or len(self.messages) >= INBOX) and not self._paused:
            assert self.transport is not None
            self._paused = True
            self.transport.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        self.outcome = self.outcome or (code, reason)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        if self.on_closed is not None:
            self.on_closed()

    def over(self) -> Closed:
        """What to raise where somebody receives or sends and the connection is over."""
        self.told()
        return Closed(*(self.outcome or (CloseCode.ABNORMAL, "")))

    def told(self) -> None:
        """The running task has been told that the connection is over."""
        self.noticed = self.noticed or asyncio.current_task() not in self.beside

    async def next(self, *, iterating: bool = False) -> str | bytes:
        """The oldest message, as soon as there is one. Nothing is lost if this is cancelled.

        Args:
            iterating: Raise StopAsyncIteration instead of Closed.

        Raises:
            Closed: There will be none any more.
            UsageError: Another task waits already.
        """
        if not self.messages and self.outcome is None:
            arrival = self.arrival()
            try:
                payload = await arrival
            except asyncio.CancelledError:
                self._give_up(arrival)
                del arrival  # it keeps this exception, and that this frame: a circle of 4 KiB that only gc breaks
                raise
            if payload is not None:
                return payload
        if self.messages:
            return self.take()
        if iterating:
            self.told()
            raise StopAsyncIteration
        raise self.over()

    def arrival(self) -> asyncio.Future[str | bytes | None]:
        """Something to await: the next message; None: there will be none.

        Raises:
            UsageError: Somebody awaits it already.
        """
        if self._arrival is not None and not self._arrival.done():
            raise UsageError("another task is receiving from this connection")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # before Python 3.12 a system call (getpid), 0.3 µs
        self._arrival = self._loop.create_future()
        return self._arrival

    def _give_up(self, arrival: asyncio.Future[str | bytes | None]) -> None:
        """Whoever waited was cancelled: a message that was there, but not taken yet, is for the next one."""
        if self._arrival is arrival:
            self._arrival = None
        if arrival.cancelled() or (payload := arrival.result()) is None:
            return
        waiting = self._arrival
        if waiting is not None and not waiting.done():  # somebody else waits already
            waiting.set_result(payload)
        else:
            self.messages.insert(0, payload)
            self._size += len(payload)

    def take(self) -> str | bytes:
        """The oldest message; there must be one."""
        payload = self.messages.pop(0)
        if not self.messages:
            self._size = 0
            if self._paused:
                assert self.transport is not None
                self._paused = False
                self.transport.resume_reading()
        return payload


class WebSocket(Connection):
    """A connection for a coroutine.

    Args:
        request: The upgrade request.
        inbox: What comes in; its transport is connected.
        rooms: Where names of rooms are looked up; None: only Room objects can be joined.
    """

    __slots__ = ("_ended", "_inbox", "_sent", "_tasks", "_transport")

    inbox: ClassVar[type[Inbox]] = Inbox
    """What keeps its messages."""

    def __init__(self, request: Request, inbox: Inbox, *, rooms: Rooms | None = None) -> None:
        assert inbox.transport is not None, "the client is not in yet"
        super().__init__(request, rooms=rooms)
        self._inbox = inbox
        self._transport = inbox.transport
        self._tasks: set[asyncio.Task[Any]] | None = None
        self._ended = False  # the handler
        self._sent = 0

    @property
    def transport(self) -> Transport:
        return self._transport

    # -- receiving ---------------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Messages that have arrived and wait to be received."""
        return len(self._inbox.messages)

    async def receive(self, *, timeout: float | None = None) -> str | bytes:
        """The next message: ``str`` for text, ``bytes`` for binary.

        What arrived before the client left is received first.

        Args:
            timeout: Seconds to wait; None: as long as the client stays.

        Raises:
            Closed: The connection is over.
            TimeoutError: Nothing came in time. Nothing is lost; call it again.
            UsageError: Another task is receiving.
        """
        if not self._inbox.messages:
            self._sent = 0  # whoever waits gives others their turn
        if timeout is None:
            return await self._inbox.next()
        async with asyncio.timeout(timeout):
            return await self._inbox.next()

    def receive_nowait(self) -> str | bytes | None:
        """A message that has arrived, or None.

        Raises:
            Closed: The connection is over and everything was received.
        """
        if self._inbox.messages:
            return self._inbox.take()
        if self._inbox.outcome is not None:
            raise self._inbox.over()
        return None

    def __aiter__(self) -> WebSocket:
        """``async for message in ws``: every message until the connection is over."""
        return self

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        if not self._inbox.messages:
            self._sent = 0
        return self._inbox.next(iterating=True)

    @overload
    async def receive_json(self, *, timeout: float | None = None, invalid: Invalid = "reply") -> Any: ...

    @overload
    async def receive_json(self, *, type: type[T], timeout: float | None = None, invalid: Invalid = "reply") -> T: ...

    @overload  # a union is no type[T]
    async def receive_json(self, *, type: object, timeout: float | None = None, invalid: Invalid = "reply") -> Any: ...

    async def receive_json(self, *, type: Any = Any, timeout: float | None = None, invalid: Invalid = "reply") -> Any:
        """The next message, decoded from JSON and checked.

        Args:
            type: What it has to be: any type that msgspec takes, such as a Struct, a dataclass or a tagged union.
            timeout: Seconds to wait; None: as long as the client stays.
            invalid: "reply": a message that is not JSON or not of that type is answered with
                ``{"code": "error", "message": WHY}`` and the next one is waited for. "raise": InvalidMessage.

        Raises:
            Closed: The connection is over.
            InvalidMessage: With ``invalid="raise"``: the message cannot be used. The connection goes on.
            TimeoutError: Nothing that can be used came in time.
            UsageError: Another task is receiving.
        """
        async with asyncio.timeout(timeout):
            while True:
                payload = await self.receive()
                try:
                    return msgspec.json.decode(payload, type=type)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                    if invalid == "raise":
                        raise InvalidMessage(str(exc)) from exc
                    with suppress(Closed):  # whoever left may have sent something better before
                        await self.send_json({"code": "error", "message": str(exc)})

    @overload
    def iter_json(self, *, invalid: Invalid = "reply") -> AsyncIterator[Any]: ...

    @overload
    def iter_json(self, *, type: type[T], invalid: Invalid = "reply") -> AsyncIterator[T]: ...

    @overload
    def iter_json(self, *, type: object, invalid: Invalid = "reply") -> AsyncIterator[Any]: ...

    async def iter_json(self, *, type: Any = Any, invalid: Invalid = "reply") -> AsyncIterator[Any]:
        """Every message, as ``receive_json`` gives it, until the client leaves.

        Raises:
            InvalidMessage: With ``invalid="raise"``: a message cannot be used. The connection goes on.
            UsageError: Another task is receiving.
        """
        try:
            while True:
                yield await self.receive_json(type=type, invalid=invalid)
        except Closed:
            return

    # -- sending -----------------------------------------------------------------------------------------------------

    async def send(self, message: str | bytes) -> None:
        """Send text or bytes. Waits only while the client's outbox is above its low-water mark.

        Now and then it lets others go on, so that a loop that does nothing else stops nobody.

        Raises:
            Closed: The connection was over, and nothing was sent; or it ended while this waited, and nobody knows how
                much of what was sent has arrived.
            TypeError: It is neither.
        """
        transport = self._transport
        if isinstance(message, str):
            outgoing = Message(message.encode())
        elif isinstance(message, bytes | bytearray | memoryview):
            outgoing = Message(bytes(message), binary=True)
        else:
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}; send_json() takes the rest")
        if self.memberships and transport.open:
            self.flush_rooms()
        if transport.send(outgoing):
            self._sent += 1
            if self._sent % BREATH:
                return
        await self.drained()

    async def send_json(self, data: object) -> None:
        """Send anything that has a form in JSON, as a text message.

        Raises:
            Closed: As ``send``.
            TypeError: It has no form in JSON.
        """
        await self.send(msgspec.json.encode(data).decode())

    async def drained(self) -> None:
        """Wait, as ``send`` does, until the client has room for more; what its rooms sent it counts, too.

        Raises:
            Closed: The connection is over.
        """
        if not self._transport.congested:
            await asyncio.sleep(0)
        try:
            await self._transport.drained()
        except Closed:
            self._inbox.told()
            raise

    # -- rooms -------------------------------------------------------------------------------------------------------

    async def join(self, room: Room | RoomName) -> Room:
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
        found = self.find(room)
        try:
            await found.add(self)
        except Closed:
            raise self._inbox.over() from None
        return found

    async def leave(self, room: Room | RoomName) -> None:
        """Leave a room, after what was published there before. Who is not in is left alone.

        Raises:
            InvalidRoom: It cannot be a room's name.
            UsageError: The application has no rooms to find a name in.
        """
        self.find(room).discard(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Begin the close handshake; what was sent and published before goes first. The first call counts.

        Args:
            code: 1000, or 3000 to 4999 for an application's own meaning (RFC 6455, 7.4.2).
            reason: At most 123 bytes of UTF-8; longer ones are cut.

        Raises:
            ValueError: A code that must not be sent.
        """
        self.end(code, reason)

    def end(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """What ``close`` does, from code that cannot await. From the event loop."""
        if self._transport.open:
            self.flush_rooms()
            self._transport.close(code, reason)

    @property
    def closed(self) -> bool:
        """Whether either side began to close; what has arrived may still be received."""
        return not self._transport.open

    @property
    def outcome(self) -> tuple[int, str] | None:
        return self._inbox.outcome

    # -- tasks -------------------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something beside the handler. It is cancelled when the handler ends; after that nothing begins any more.

        If it fails, the connection is closed with 1011 as if the handler had failed; Closed is no failure.
        """
        task = asyncio.get_running_loop().create_task(coroutine)
        if self._ended:
            task.cancel()  # it has not begun: one that begins itself anew when it is cancelled would never end
        if self._tasks is None:
            self._inbox.beside = self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None and not is_closed(fault):
            logger.error("connection %s: a task of %r failed", self.id, self.path, exc_info=fault)
            self.end(CloseCode.INTERNAL_ERROR)

    async def finish(self) -> None:
        """The handler is done: leave all rooms, end all tasks. For whoever runs the handler."""
        self._ended = True
        self.leave_rooms(self.close_code)
        while self._tasks:  # one that ends may begin another
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def is_closed(fault: BaseException) -> bool:
    """Whether it says nothing but that a connection is over, be it out of a task group."""
    if isinstance(fault, BaseExceptionGroup):
        return fault.split(Closed)[1] is None
    return isinstance(fault, Closed)
