"""What ``request.websocket`` is in an async view: the asynchronous WebSocket, accepted when it is first used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from fairlead.errors import Closed, UsageError
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.sync import Entrance
from fairlead.transports import Transport
from fairlead.websocket import Inbox, WebSocket


class ViewWebSocket(WebSocket):
    """A connection for an async view.

    Attributes:
        accepted: Whether the client is in, or had left when it was to be let in.

    Args:
        entrance: The handshake.
        rooms: Where names of rooms are looked up.
        on_wait: Called when the client is in, and whenever the view is about to wait for a message.
    """

    __slots__ = ("_entrance", "_on_wait", "_opening", "accepted")

    def __init__(self, entrance: Entrance, *, rooms: Rooms, on_wait: Callable[[], None]) -> None:
        super().__init__(entrance.request, _ViewInbox(on_wait), rooms=rooms)
        self._on_wait = on_wait
        self.accepted = False
        self._entrance = entrance
        self._opening: asyncio.Task[None] | None = None

    @property
    def arrivals(self) -> Inbox:
        """What has arrived."""
        return self._inbox

    # -- the handshake -----------------------------------------------------------------------------------------------

    async def accept(self, *, subprotocol: str | None = None) -> None:
        """Let the client in, unless that has happened; whatever receives or sends does it, too.

        Args:
            subprotocol: The one to agree on, of those that the client offers.

        Raises:
            Closed: The client has left meanwhile.
            ValueError: The client does not offer that subprotocol.
        """
        if self.accepted:
            return
        if self._opening is None:  # of tasks that come at once, the first one opens for all
            self._opening = asyncio.ensure_future(self._open(subprotocol))
        await asyncio.shield(self._opening)

    async def _open(self, subprotocol: str | None) -> None:
        if subprotocol is not None:
            self.request.subprotocol = subprotocol
        try:
            await self._entrance.open(self._inbox)
        except Closed as closed:
            self._inbox.closed(closed.code, closed.reason)
            self.accepted = True
            raise
        except BaseException:
            self._opening = None  # it is still undecided
            raise
        assert self._inbox.transport is not None
        self._transport = self._inbox.transport
        self.accepted = True
        self._on_wait()  # there may be nothing to do until something happens

    @property
    def transport(self) -> Transport:
        if not self.accepted:
            raise UsageError("accept the connection before it joins a room")
        return self._transport

    @property
    def closed(self) -> bool:
        """Whether either side began to close; what has arrived may still be received."""
        return self.accepted and super().closed

    # -- what accepts ------------------------------------------------------------------------------------------------

    async def receive(self, *, timeout: float | None = None) -> str | bytes:
        await self.accept()
        return await super().receive(timeout=timeout)

    async def __anext__(self) -> str | bytes:
        try:
            await self.accept()
        except Closed:
            raise StopAsyncIteration from None
        return await super().__anext__()

    async def send(self, message: str | bytes) -> None:
        await self.accept()
        await super().send(message)

    async def join(self, room: Room | RoomName) -> Room:
        await self.accept()
        return await super().join(room)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.accept()
        await super().close(code, reason)


class _ViewInbox(Inbox):
    """Tells when somebody is about to wait."""

    __slots__ = ("_on_wait",)

    def __init__(self, on_wait: Callable[[], None]) -> None:
        super().__init__()
        self.transport = cast(Transport, _Undecided())
        self._on_wait = on_wait

    def arrival(self) -> asyncio.Future[str | bytes | None]:
        self._on_wait()
        return super().arrival()


class _Undecided:
    """In the place of a transport while the client is not in: nothing can be sent, and nothing has to be closed."""

    open = False
    congested = False
