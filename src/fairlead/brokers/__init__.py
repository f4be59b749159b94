"""The seam to what carries publications between nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import msgspec

from fairlead.message import Publication
from fairlead.rooms.names import RoomKey


class Position(msgspec.Struct, frozen=True):
    """A place in a room's history."""

    offset: int
    epoch: str


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect", kw_only=True):
    """Close the connections of a user, or one connection, on every node. Users are compared as text."""

    user: str | None = None
    connection: str | None = None
    code: int = 4401
    reason: str = ""


class Refresh(msgspec.Struct, frozen=True, tag="refresh", kw_only=True):
    """Ask the API again about a user's connections, on every node.

    With ``allowed`` (the JSON text of ``allowed_rooms`` and ``allowed_prefixes`` as one object) the API is not asked.
    """

    user: str
    allowed: bytes | None = None


Command = Disconnect | Refresh


class Sink(Protocol):
    """What a broker calls, always from the event loop."""

    def deliver(self, room: RoomKey, publication: Publication) -> None: ...

    def gap(self, room: RoomKey | None) -> None:
        """Publications may be missing in a room; None: in every room."""
        ...

    def command(self, command: Command) -> None: ...


class Broker(Protocol):
    """Carry publications between nodes.

    What one node publishes to a room reaches every node that subscribed to it, the publishing one included, in that
    order and at most once; two nodes' publications may interleave differently. ``subscribe`` and ``unsubscribe`` are
    idempotent. After a lost link the broker reconnects and subscribes again by itself, then calls ``gap()``.

    All methods but ``close`` raise BrokerUnavailable.
    """

    async def start(self, sink: Sink) -> None: ...

    async def subscribe(self, room: RoomKey) -> None: ...

    async def unsubscribe(self, room: RoomKey) -> None: ...

    async def publish(self, room: RoomKey, publication: Publication) -> Position | None: ...

    async def command(self, command: Command) -> None: ...

    async def close(self) -> None: ...


@runtime_checkable
class PromptBroker(Protocol):
    """What a broker can do besides, if it need not wait for anything."""

    def subscribe_now(self, room: RoomKey) -> None:
        """What ``subscribe`` does.

        Raises:
            BrokerUnavailable: It is not subscribed.
        """
        ...

    def publish_now(self, rooms: Iterable[RoomKey], publication: Publication) -> None:
        """Publish to each of these rooms, as ``publish`` does to one.

        Raises:
            BrokerUnavailable: Nothing was published to any.
        """
        ...
