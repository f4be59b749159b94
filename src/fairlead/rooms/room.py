"""Rooms in the application's own process: publish to them, put connections into them, look who is there.

Everything here works from the event loop, where calls are awaited, and from any other thread, where they are done when
they return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from fairlead.brokers import Broker
from fairlead.brokers.urls import from_url
from fairlead.errors import UsageError
from fairlead.limits import Limits
from fairlead.loops import Done, running_loop
from fairlead.message import Kind, Publication
from fairlead.rooms.hub import ConnectionInfo, Member
from fairlead.rooms.names import RoomKey, room_key
from fairlead.rooms.node import Node

T = TypeVar("T")

RoomName = str | Mapping[str, str | int | bool | None]
"""What a room may be called: a string, or a flat object."""


class Occupant(ConnectionInfo, Protocol):
    """A connection that can be in rooms."""

    @property
    def member(self) -> Member:
        """Its place in every room it is in."""
        ...

    @property
    def memberships(self) -> dict[Rooms, dict[RoomKey, Room]]:
        """The rooms it is in, by whose they are; changed here only."""
        ...


class Rooms:
    """All rooms of an application, on one node.

    They start by themselves in the event loop that first uses them, and belong to it until they are closed or it is;
    ``App`` starts and closes its own with the server. Who is in them is asked in that loop or in a thread without one.

    Args:
        broker: Carries publications between nodes: a Broker or its URL.
        limits: For ``burst_size`` and ``room_size``, and ``subscriptions``: so many rooms one connection may be in.

    Raises:
        SettingsError: There is no broker for the URL.
    """

    def __init__(self, broker: Broker | str = "memory://", *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._broker = from_url(broker) if isinstance(broker, str) else broker
        self._node = Node(self._broker, limits=self.limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._started = False

    def __getitem__(self, name: RoomName) -> Room:
        """The room of that name; it need not have been used before.

        Raises:
            InvalidRoom: It cannot be a room's name.
        """
        return Room(self, room_key(name, size=self.limits.room_size))

    async def start(self) -> None:
        """Connect to the broker; nothing to do if that has happened in this event loop.

        Raises:
            BrokerUnavailable: It cannot be reached. The next use tries again.
            UsageError: Another event loop that still runs has these rooms.
        """
        loop = asyncio.get_running_loop()
        if self._owner() not in (loop, None):
            raise UsageError("these rooms belong to another event loop: make Rooms of their own for each")
        if self._starting is None:
            self._loop = loop
            self._starting = loop.create_task(self._start())
        await asyncio.shield(self._starting)  # for all who wait, whoever of them gives up

    async def _start(self) -> None:
        try:
            await self._node.start()
            self._started = True
        finally:
            if not self._started:
                self._starting = None

    async def close(self) -> None:
        """Write what waits and leave the broker. Using the rooms again starts them again.

        To be called in their event loop; in any other one nothing happens.
        """
        if self._owner() is not asyncio.get_running_loop():
            return
        if self._starting is not None:
            await asyncio.wait((self._starting,))
        started, node = self._started, self._node
        self._let_go()
        if started:
            await node.close()

    def _owner(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that has these rooms; None: none has, and nobody is in them."""
        if self._loop is not None and self._loop.is_closed():
            self._let_go()
        return self._loop

    def _let_go(self) -> None:
        """From here on nobody is in these rooms."""
        self._loop, self._starting, self._started = None, None, False
        self._node = Node(self._broker, limits=self.limits)

    @property
    def node(self) -> Node:
        """Its node, for observers; another one after each close."""
        return self._node

    @property
    def started(self) -> bool:
        """Whether the node is at work in the running event loop."""
        return self._started and self._loop is asyncio.get_running_loop()

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be written to a member."""
        return self._node.hub.waiting

    def flush(self) -> None:
        """Write to every member what waits; for the server, before it closes connections."""
        self._node.flush()

    def do(self, call: Callable[[Node], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """Run one operation of the node, from wherever this is called.

        Returns:
            In the rooms' event loop a coroutine, which has to be awaited. In another event loop a future. In a thread
            without one the operation is done, and awaiting the answer gives its result.

        Raises:
            UsageError: In a thread: no event loop has these rooms, so nobody can be in them.
        """
        running, owner = running_loop(), self._owner()
        if running is None:
            if owner is None:
                raise UsageError(
                    "no server of this process has these rooms; to publish from another process use fairlead.publish()"
                )
            return Done(asyncio.run_coroutine_threadsafe(self._do(call), owner).result())
        if owner is None or owner is running:
            return self._do(call)
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._do(call), owner))

    async def _do(self, call: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        if not self.started:
            await self.start()
        return await call(self._node)

    def look(self, at: Callable[[Node], T]) -> T:
        """Look at the node, in its own event loop.

        Raises:
            UsageError: This is another event loop.
        """
        running, owner = running_loop(), self._owner()
        if owner is None or owner is running:
            return at(self._node)
        if running is not None:
            raise UsageError("look at rooms from their own event loop, or from a thread without one")

        async def looking() -> T:
            return at(self._node)

        return asyncio.run_coroutine_threadsafe(looking(), owner).result()


class Room:
    """One room. Two of the same name are equal, and the same room."""

    __slots__ = ("_rooms", "key")

    def __init__(self, rooms: Rooms, key: RoomKey) -> None:
        self._rooms = rooms
        self.key = key

    def __repr__(self) -> str:
        return f"<Room {self.key}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Room) and self.key == other.key and self._rooms is other._rooms

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def rooms(self) -> Rooms:
        """The rooms it is one of."""
        return self._rooms

    def publish(self, data: object, *, exclude: ConnectionInfo | str | None = None) -> Awaitable[object]:
        """Publish to everybody in the room, on every node.

        In an event loop it has to be awaited. In a thread without one it has happened when this returns.

        Args:
            data: ``str`` goes out as text, ``bytes`` as a binary message, anything else as JSON.
            exclude: The connection, or its id, that shall not receive it.

        Raises:
            BrokerUnavailable: Nothing was published; try again later.
            TypeError: ``data`` has no form in JSON.
            UsageError: In a thread: no event loop of this process has these rooms; use ``fairlead.publish``.
        """
        kind, payload = _encode(data)
        but = exclude if exclude is None or isinstance(exclude, str) else exclude.id
        publication = Publication(data=payload, kind=kind, exclude=but)
        return self._rooms.do(lambda node: node.publish(self.key, publication))

    def add(self, connection: Occupant) -> Awaitable[None]:
        """Put a connection into the room; it leaves by itself at its end. Who is in already stays in.

        Raises:
            BrokerUnavailable: Nobody was added; try again later.
            Closed: The connection is over.
            UsageError: It is in as many rooms as it may be (``Limits.subscriptions``).
        """
        return self._rooms.do(lambda node: self._add(node, connection))

    async def _add(self, node: Node, connection: Occupant) -> None:
        inside = connection.memberships.get(self._rooms, {})
        if self.key in inside:
            return
        if len(inside) >= self._rooms.limits.subscriptions:
            raise UsageError(f"connection {connection.id} is in {len(inside)} rooms, as many as it may be in")
        if node.join_now(connection.member, self.key) is None:
            await node.join(connection.member, self.key)
        connection.memberships.setdefault(self._rooms, {})[self.key] = self

    def discard(self, connection: Occupant) -> Awaitable[None]:
        """Take a connection out of the room, after writing to it what was published before.

        Who is not in is left alone. It has happened when this returns; awaiting it is allowed.

        Raises:
            UsageError: This is another event loop than the rooms'.
        """

        def leave(node: Node) -> None:
            if connection.memberships.get(self._rooms, {}).pop(self.key, None) is not None:
                node.leave(connection.member, self.key)

        return Done(self._rooms.look(leave))

    def left(self, connection: Occupant, code: int) -> None:
        """The connection is over; for the connection itself to call."""
        self._rooms.node.leave(connection.member, self.key, code)

    def flush(self) -> None:
        """Write what waits for the members here, ahead of anything sent from now on. From the event loop."""
        self._rooms.node.flush(self.key)

    def __len__(self) -> int:
        """How many connections of this node are in it."""
        return self._rooms.look(lambda node: node.hub.count(self.key))

    def __bool__(self) -> bool:
        """True, also of an empty room."""
        return True

    def __iter__(self) -> Iterator[ConnectionInfo]:
        """The connections of this node that are in it now; those who come and go meanwhile do not disturb."""
        return iter(self._rooms.look(lambda node: [member.connection for member in node.hub.members(self.key)]))

    def __contains__(self, connection: object) -> bool:
        memberships: Mapping[Rooms, Mapping[RoomKey, Room]] = getattr(connection, "memberships", {})
        return self.key in memberships.get(self._rooms, {})


def _encode(data: object) -> tuple[Kind, bytes]:
    if isinstance(data, str):
        return "text", data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return "binary", bytes(data)
    return "json", msgspec.json.encode(data)
