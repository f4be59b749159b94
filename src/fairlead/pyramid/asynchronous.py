"""From the thread that answers a handshake to a coroutine that talks to the client, so that the thread is free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairlead.handling import handle
from fairlead.rooms.room import Rooms
from fairlead.sync import BlockingWebSocket
from fairlead.websocket import Inbox, WebSocket

Handler = Callable[[WebSocket], Awaitable[None]]


class Successor:
    """Takes an undecided handshake over.

    Args:
        websocket: The connection as the thread has it; not accepted.
        handler: Takes a WebSocket; its end is the connection's end.
        rooms: Where it finds rooms by their names.
    """

    def __init__(self, websocket: BlockingWebSocket, handler: Handler, rooms: Rooms) -> None:
        self._websocket = websocket
        self._entrance = websocket.entrance
        self._handler = handler
        self._rooms = rooms

    def begin(self) -> None:
        """Let the client in and have the coroutine begin. From the thread, as the last thing it does.

        Raises:
            Closed: The client has left meanwhile.
            UsageError: The thread has let it in already.
        """
        self._entrance.take(self)
        self._entrance.bridge.call(self._open)
        self._websocket.accepted = True

    async def _open(self) -> None:
        entrance, inbox = self._entrance, Inbox()
        await entrance.open(inbox)
        # Whoever ran the thread waits for this one, which waits for what there was to wait for before.
        entrance.carrying = asyncio.create_task(self._carry(inbox, entrance.carrying))

    async def _carry(self, inbox: Inbox, carrying: Awaitable[None] | None) -> None:
        ws = WebSocket(self._entrance.request, inbox, rooms=self._rooms)
        try:
            await handle(ws, inbox, self._handler(ws), grace=self._entrance.limits.handler_grace)
        finally:
            if carrying is not None:
                await carrying
