"""The client that a test holds: the same methods in memory and on a socket, awaited or not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, overload

import msgspec

from fairlead.errors import CloseCode, Closed
from fairlead.handshake import Headers
from fairlead.testing.errors import TimedOut, Unexpected, shortened
from fairlead.testing.portal import Entry, Portal

T = TypeVar("T")

TIMEOUT = 5.0
"""Seconds after which what should have happened will not happen any more."""


class Closure(NamedTuple):
    """How a connection ended, as its client saw it: 1005 without a code, 1006 without a Close frame."""

    code: int
    reason: str


class Mailbox:
    """What has come to a client: the far end that a peer fills and a Client empties.

    Attributes:
        closure: How the connection ended, once it has.
        fault: What the application failed with, where it runs here: the cause of a Closed.
        last: The message that came last; None before the first.
        count: How many came in all.
    """

    def __init__(self) -> None:
        self.closure: Closure | None = None
        self.fault: BaseException | None = None
        self.last: str | bytes | None = None
        self.count = 0
        self._messages: deque[str | bytes] = deque()
        self._changed = asyncio.Event()

    def received(self, payload: str | bytes) -> None:
        self._messages.append(payload)
        self.last = payload
        self.count += 1
        self._changed.set()

    def closed(self, code: int, reason: str) -> None:
        if self.closure is None:
            self.closure = Closure(int(code), reason)
            self._changed.set()

    def take(self) -> str | bytes | None:
        """The next message; None if none is there. Raises Closed when none is there and none can come."""
        if self._messages:
            return self._messages.popleft()
        self._changed.clear()
        self.check_open()
        return None

    def check_open(self) -> None:
        """Raise Closed if the connection is over."""
        if self.closure is not None:
            raise Closed(*self.closure) from self.fault

    async def receive(self) -> str | bytes:
        while (message := self.take()) is None:
            await self._changed.wait()
        return message

    async def over(self) -> Closure:
        while self.closure is None:
            self._changed.clear()
            await self._changed.wait()
        return self.closure

    def history(self) -> str:
        """What came, for an error's text."""
        if self.last is None:
            return "nothing came before"
        return f"the last message of {self.count} was {shortened(self.last)}"


class Peer(Protocol):
    """The client's end of an open connection, whatever carries it."""

    subprotocol: str | None
    headers: Headers
    mailbox: Mailbox

    async def send(self, message: str | bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None:
        """Begin the close handshake. The mailbox tells when it is over."""
        ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def settle(self) -> None:
        """Let the application go on as far as it can by itself, and what it sent arrive."""
        ...


class Client:
    """An open connection, from the client's side.

    Every wait ends after ``timeout`` seconds with TimedOut. Once the connection is over, sending raises
    ``fairlead.Closed``, and so does receiving when all that came before is received.

    Args:
        peer: What carries it.
        timeout: Seconds, for each wait that is not given its own.
    """

    def __init__(self, peer: Peer, *, timeout: float = TIMEOUT) -> None:
        self._peer = peer
        self._mailbox = peer.mailbox
        self._timeout = timeout

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on; None: nothing."""
        return self._peer.subprotocol

    @property
    def headers(self) -> Headers:
        """Those of the 101, by name in any case."""
        return self._peer.headers

    # -- sending -----------------------------------------------------------------------------------------------------

    async def send(self, message: str | bytes, *, timeout: float | None = None) -> None:
        """Send ``str`` as a text message, ``bytes`` as a binary one."""
        self._mailbox.check_open()
        await self._within(self._peer.send(message), "the server to take a message", timeout)

    async def send_json(self, data: object, *, timeout: float | None = None) -> None:
        """Send anything that has a form in JSON, as a text message."""
        await self.send(msgspec.json.encode(data).decode(), timeout=timeout)

    # -- receiving ---------------------------------------------------------------------------------------------------

    async def receive(self, *, timeout: float | None = None) -> str | bytes:
        """The next message.

        Raises:
            Closed: All is received and the connection is over; its cause is what the application failed with, where
                that is known.
            TimedOut: None came in time. Nothing is lost: the next call goes on waiting.
        """
        return await self._within(self._mailbox.receive(), "a message", timeout)

    async def receive_text(self, *, timeout: float | None = None) -> str:
        """The next message, which must be a text message; else Unexpected."""
        message = await self._within(self._mailbox.receive(), "a text message", timeout)
        if not isinstance(message, str):
            raise Unexpected(f"a binary message came, not a text message: {shortened(message)}")
        return message

    async def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """The next message, which must be a binary message; else Unexpected."""
        message = await self._within(self._mailbox.receive(), "a binary message", timeout)
        if not isinstance(message, bytes):
            raise Unexpected(f"a text message came, not a binary message: {shortened(message)}")
        return message

    @overload
    async def receive_json(self, *, timeout: float | None = None) -> Any: ...

    @overload
    async def receive_json(self, *, type: type[T], timeout: float | None = None) -> T: ...

    async def receive_json(self, *, type: Any = Any, timeout: float | None = None) -> Any:
        """The next message's JSON, decoded.

        Args:
            type: What it must be, such as a msgspec.Struct or ``dict[str, int]``; else Unexpected.
            timeout: Seconds; None: as for the whole client.
        """
        message = await self._within(self._mailbox.receive(), "JSON", timeout)
        try:
            return msgspec.json.decode(message, type=type)
        except msgspec.DecodeError as exc:
            raise Unexpected(f"{exc}: {shortened(message)}") from exc

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """All messages until the connection is over."""
        try:
            while True:
                yield await self.receive()
        except Closed:
            return

    async def assert_nothing(self) -> None:
        """Nothing more has come, and the connection is open: without waiting for time to pass.

        The application first goes on as far as it can by itself, and what it sent meanwhile is let arrive. So it holds
        for all that it does in answer to what this test did before, unless it waits for time, for threads or for
        others on the network. If it does, ask it something instead, and the next message must be the answer.

        Raises:
            Unexpected: A message came, or a close. The message is taken.
        """
        await self._within(self._peer.settle(), "the server to answer a ping", None)
        try:
            message = self._mailbox.take()
        except Closed as closed:
            raise Unexpected(f"nothing was to come: {closed}") from closed
        if message is not None:
            raise Unexpected(f"nothing was to come, but {shortened(message)} did")

    # -- the end -----------------------------------------------------------------------------------------------------

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "", *, timeout: float | None = None) -> None:
        """Close the connection and wait until the server has answered. If it is over, nothing happens.

        Args:
            code: 1000, or 3000 to 4999.
            reason: At most 123 bytes of UTF-8.
            timeout: Seconds; None: as for the whole client.
        """
        if self._mailbox.closure is None:
            self._peer.resume_reading()
            await self._within(self._closing(code, reason), "the server to answer a close", timeout)

    async def _closing(self, code: int, reason: str) -> None:
        await self._peer.close(code, reason)
        await self._mailbox.over()

    async def closed(self, *, timeout: float | None = None) -> Closure:
        """Wait until the connection is over; its code and reason. What came before can still be received."""
        return await self._within(self._mailbox.over(), "the connection to be closed", timeout)

    def abort(self) -> None:
        """Vanish without a Close frame; the server sees 1006."""
        self._peer.abort()

    def pause_reading(self) -> None:
        """Read nothing from now on, not even pings: a slow client, or one that is gone without having left."""
        self._peer.pause_reading()

    def resume_reading(self) -> None:
        """Read again, first what waits."""
        self._peer.resume_reading()

    async def _within(self, awaited: Coroutine[Any, Any, T], what: str, timeout: float | None) -> T:
        seconds = self._timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                return await awaited
        except TimeoutError:
            raise TimedOut(f"waited {seconds:g} s for {what}; {self._mailbox.history()}") from None


class SyncClient:
    """A Client for tests without ``async``: the same methods, done when they return."""

    def __init__(self, client: Client, portal: Portal) -> None:
        self._client = client
        self._portal = portal

    @property
    def subprotocol(self) -> str | None:
        """As ``Client.subprotocol``."""
        return self._client.subprotocol

    @property
    def headers(self) -> Headers:
        """As ``Client.headers``."""
        return self._client.headers

    def send(self, message: str | bytes, *, timeout: float | None = None) -> None:
        """As ``Client.send``."""
        self._portal.call(self._client.send(message, timeout=timeout))

    def send_json(self, data: object, *, timeout: float | None = None) -> None:
        """As ``Client.send_json``."""
        self._portal.call(self._client.send_json(data, timeout=timeout))

    def receive(self, *, timeout: float | None = None) -> str | bytes:
        """As ``Client.receive``."""
        return self._portal.call(self._client.receive(timeout=timeout))

    def receive_text(self, *, timeout: float | None = None) -> str:
        """As ``Client.receive_text``."""
        return self._portal.call(self._client.receive_text(timeout=timeout))

    def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """As ``Client.receive_bytes``."""
        return self._portal.call(self._client.receive_bytes(timeout=timeout))

    @overload
    def receive_json(self, *, timeout: float | None = None) -> Any: ...

    @overload
    def receive_json(self, *, type: type[T], timeout: float | None = None) -> T: ...

    def receive_json(self, *, type: Any = Any, timeout: float | None = None) -> Any:
        """As ``Client.receive_json``."""
        return self._portal.call(self._client.receive_json(type=type, timeout=timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """All messages until the connection is over."""
        try:
            while True:
                yield self.receive()
        except Closed:
            return

    def assert_nothing(self) -> None:
        """As ``Client.assert_nothing``."""
        self._portal.call(self._client.assert_nothing())

    def close(self, code: int = CloseCode.NORMAL, reason: str = "", *, timeout: float | None = None) -> None:
        """As ``Client.close``."""
        self._portal.call(self._client.close(code, reason, timeout=timeout))

    def closed(self, *, timeout: float | None = None) -> Closure:
        """As ``Client.closed``."""
        return self._portal.call(self._client.closed(timeout=timeout))

    def abort(self) -> None:
        """As ``Client.abort``."""
        self._portal.run(self._client.abort)

    def pause_reading(self) -> None:
        """As ``Client.pause_reading``."""
        self._portal.run(self._client.pause_reading)

    def resume_reading(self) -> None:
        """As ``Client.resume_reading``."""
        self._portal.run(self._client.resume_reading)


Connecting = Entry[Client, SyncClient]
"""A connection to be made: ``async with`` gives a Client, ``with`` a SyncClient."""
