"""The connection of a client that calls by name, and can be called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from fairlead.dialects import Dialect
from fairlead.dialects.codec import Answer, Call, CallError, Codec, ErrorCode, params
from fairlead.dialects.jsonrpc import JSONRPC
from fairlead.dialects.textcalls import TEXT
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.message import Message
from fairlead.rooms.room import Rooms
from fairlead.websocket import Inbox, WebSocket

TIMEOUT = 10.0
"""Seconds for the client's answer: a program that is there answers much sooner, and a lost one shows within them."""


class Diversion(Inbox):
    """Gives messages to a function as they arrive, instead of keeping them for another turn of the event loop.

    So the answers to calls that came together go out together, and a call costs a fifth less.
    """

    __slots__ = ("taker",)

    def __init__(self) -> None:
        super().__init__()
        self.taker: Callable[[str | bytes], None] | None = None

    def received(self, payload: str | bytes) -> None:
        if self.taker is None:
            super().received(payload)
        else:
            self.taker(payload)


class CallSocket(WebSocket):
    """A WebSocket whose messages are calls. A function that is called gets it by annotating a parameter with it.

    What is published to its rooms reaches the client as the notification ``publish``. Do not receive from it.

    Attributes:
        limits: For ``calls``: so many of the server's may wait for the client's answer.
    """

    __slots__ = ("_diversion", "_last_id", "_pending", "limits")

    inbox = Diversion

    codec: ClassVar[Codec] = JSONRPC
    """How calls look on the wire."""

    dialect: ClassVar[Dialect] = JSONRPC.dialect

    def __init__(self, request: Request, inbox: Diversion, *, rooms: Rooms | None = None) -> None:
        super().__init__(request, inbox, rooms=rooms)
        self._diversion = inbox
        self.limits = Limits()
        self._last_id = 0
        self._pending: dict[object, asyncio.Future[object]] = {}

    async def call(self, method: str, /, *args: object, timeout: float | None = TIMEOUT, **kwargs: object) -> Any:
        """Call a function of the client's and wait for the answer.

        Args:
            method: The function's name.
            args: Its arguments, if they go by position.
            timeout: Seconds to wait; None: as long as the client stays.
            kwargs: Its arguments, if they go by name.

        Raises:
            CallError: The client's answer is an error; or TOO_MANY_CALLS: as many as may be wait for it already.
            Closed: The connection is over, or was before the answer.
            TimeoutError: There was no answer in time. The client may have done it all the same.
            TypeError: An argument has no form in JSON.
            UsageError: The arguments have names in part; or clients that speak plain text cannot answer.
        """
        if len(self._pending) >= self.limits.calls:
            raise CallError(ErrorCode.TOO_MANY_CALLS, "too many calls wait for the client's answer")
        self._last_id = id = self._last_id + 1
        payload = self.codec.call(Call(method=method, params=params(args, kwargs), id=id))
        self._pending[id] = answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self.post(payload)
                return await answer
        finally:
            del self._pending[id]

    async def notify(self, method: str, /, *args: object, **kwargs: object) -> None:
        """Call a function of the client's that is not to answer.

        Raises:
            Closed: As ``send``.
            TypeError: An argument has no form in JSON.
            UsageError: The arguments have names in part; or have names, which plain text cannot tell.
        """
        await self.post(self.codec.call(Call(method=method, params=params(args, kwargs))))

    # -- for whoever runs the client's calls -------------------------------------------------------------------------

    async def give_to(self, taker: Callable[[str | bytes], None]) -> None:
        """Give away every message, as soon as it arrives, until the client leaves."""
        while (message := self.receive_nowait()) is not None:
            taker(message)
        self._diversion.taker = taker
        try:
            async for _ in self:  # none: this waits for the end
                pass
        finally:
            self._diversion.taker = None  # it knows this connection, which has it: a circle

    def put(self, payload: bytes) -> bool:
        """Send a text message that is encoded already; on a closed connection nothing happens.

        Returns:
            Whether a polite sender awaits ``drained()``: much waits for the client, or everybody else for a turn.
        """
        if self.memberships:
            self.flush_rooms()
        self._transport.send(Message(payload))
        self._sent += 1
        return self._transport.congested or not self._sent % BREATH

    async def post(self, payload: bytes) -> None:
        """Send a text message that is encoded already. Waits, and raises Closed, as ``send`` does."""
        if self.closed:
            raise self._inbox.over()
        if self.put(payload):
            await self.drained()

    def answered(self, answer: Answer) -> None:
        """The client answers; nobody may be waiting for it any more."""
        waiting = self._pending.get(answer.id)
        if waiting is None or waiting.done():
            return
        if answer.error is None:
            waiting.set_result(answer.result)
        else:
            waiting.set_exception(answer.error)

    def abandon(self) -> None:
        """The client has left and answers no more."""
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(self._inbox.over())


class TextCallSocket(CallSocket):
    """The same for clients that speak plain text. They can be notified, but not called: answers have no ids."""

    __slots__ = ()

    codec: ClassVar[Codec] = TEXT
    dialect: ClassVar[Dialect] = TEXT.dialect


SOCKETS: dict[Codec, type[CallSocket]] = {JSONRPC: CallSocket, TEXT: TextCallSocket}
"""What a connection is, by how it speaks."""
