"""A connection in memory, both ends held by the test, for what is above the transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairlead.errors import Closed
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.rooms.room import Rooms
from fairlead.transports.memory import MemoryTransport
from fairlead.transports.ticker import Ticker
from fairlead.websocket import Inbox, WebSocket

SCOPE: dict[str, Any] = {
    "type": "websocket",
    "path": "/thing/7",
    "query_string": b"a=1&a=2",
    "headers": [(b"cookie", b"sid=s"), (b"x-name", b"v")],
    "path_params": {"id": 7},
    "state": {"who": "ann"},
}


class Client:
    """The far end: reads, unless its transport was told otherwise, and keeps what it read."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.closure: tuple[int, str] | None = None

    def received(self, payload: str | bytes) -> None:
        self.messages.append(payload)

    def closed(self, code: int, reason: str) -> None:
        self.closure = self.closure or (code, reason)


class Connection:
    """Both ends."""

    def __init__(self, *, rooms: Rooms | None = None, limits: Limits | None = None) -> None:
        self.inbox = Inbox()
        self.client = Client()
        self.transport = MemoryTransport(self.inbox, self.client, limits or Limits(), Ticker())
        self.transport.start()
        self.ws = WebSocket(Request(SCOPE), self.inbox, rooms=rooms)

    async def arrive(self, *messages: str | bytes) -> None:
        """The client sends; all of it arrives that is let in."""
        for message in messages:
            self.transport.client_sends(message)
        await turns()

    async def leave(self, code: int = 1000, reason: str = "") -> None:
        """The client closes."""
        self.transport.client_closes(code, reason)
        await turns()


async def turns(number: int = 10) -> None:
    """Let everybody else go on as far as they can by themselves."""
    for _ in range(number):
        await asyncio.sleep(0)


async def over(awaitable: Any) -> tuple[int, str]:
    """What is awaited says that the connection is over; the code and the reason."""
    with pytest.raises(Closed) as caught:
        await awaitable
    return caught.value.code, caught.value.reason
