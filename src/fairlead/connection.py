"""What every accepted connection is, whether a coroutine or a thread holds it: its request, its name, its rooms."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from fairlead.dialects import Dialect
from fairlead.dialects.plain import PLAIN
from fairlead.errors import CloseCode, UsageError
from fairlead.handshake import Headers, Request
from fairlead.rooms.names import RoomKey
from fairlead.rooms.room import Room, RoomName, Rooms
from fairlead.transports import Transport


class Seat:
    """A connection's place in all of its rooms: the Member of the hub."""

    __slots__ = ("connection", "dialect", "transport")

    tail = b""

    def __init__(self, connection: Connection, transport: Transport, dialect: Dialect) -> None:
        self.connection = connection
        self.transport = transport
        self.dialect = dialect


class Connection:
    """An accepted connection.

    Attributes:
        id: Names it in logs and in ``exclude``.
        user: Who it is, where the application says so; for observers of rooms.
        request: The upgrade request.
        memberships: The rooms it is in, by whose they are.

    Args:
        request: The upgrade request.
        rooms: Where names of rooms are looked up; None: only Room objects can be joined.
    """

    __slots__ = ("_rooms", "_seat", "id", "memberships", "request", "user")

    dialect: ClassVar[Dialect] = PLAIN
    """How publications look to this client."""

    def __init__(self, request: Request, *, rooms: Rooms | None = None) -> None:
        self.id = secrets.token_hex(8)
        self.user: str | None = None
        self.request = request
        self.memberships: dict[Rooms, dict[RoomKey, Room]] = {}
        self._rooms = rooms
        self._seat: Seat | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.request.path!r}>"

    # -- the request -------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The request's path, percent-decoded, without the query."""
        return self.request.path

    @property
    def params(self) -> dict[str, Any]:
        """The path's parameters, converted."""
        return self.request.params

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters; of a repeated name the first."""
        return self.request.query

    @property
    def headers(self) -> Headers:
        """The request's headers, by name in any case."""
        return self.request.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        """The request's cookies."""
        return self.request.cookies

    @property
    def state(self) -> dict[str, Any]:
        """What guards left for the handler; anything else may be put there, too."""
        return self.request.state

    @property
    def subprotocol(self) -> str | None:
        """The one agreed on, or None."""
        return self.request.subprotocol

    # -- rooms -------------------------------------------------------------------------------------------------------

    @property
    def rooms(self) -> list[Room]:
        """The rooms it is in, in the order of joining."""
        # Copies: threads may ask while the event loop has it join or leave another one.
        return [room for inside in tuple(self.memberships.values()) for room in tuple(inside.values())]

    @property
    def transport(self) -> Transport:
        """What carries it; for its rooms."""
        raise NotImplementedError

    @property
    def member(self) -> Seat:
        """Its place in rooms; for Room."""
        seat = self._seat
        if seat is None:
            seat = Seat(self, self.transport, self.dialect)
            if seat.transport.open:  # else all rooms are left already, and nobody would break the circle
                self._seat = seat
        return seat

    def find(self, room: Room | RoomName) -> Room:
        """A room, itself or by its name among the application's rooms.

        Raises:
            InvalidRoom: It cannot be a room's name.
            UsageError: The application has no rooms to find a name in.
        """
        if isinstance(room, Room):
            return room
        if self._rooms is None:
            raise UsageError("this application has no rooms: join a Room object, such as Rooms(broker)['name']")
        return self._rooms[room]

    def flush_rooms(self) -> None:
        """Write what was published to its rooms before, ahead of anything sent from now on. From the event loop."""
        for rooms, inside in self.memberships.items():
            if rooms.waiting:
                for room in inside.values():
                    room.flush()

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def outcome(self) -> tuple[int, str] | None:
        """Close code and reason, once the connection is over."""
        raise NotImplementedError

    @property
    def close_code(self) -> int | None:
        """The close code once the connection is over. 1005: without one; 1006: lost (RFC 6455, 7.1.5)."""
        return None if self.outcome is None else self.outcome[0]

    @property
    def close_reason(self) -> str:
        """The reason given with the close code; ""."""
        return "" if self.outcome is None else self.outcome[1]

    def leave_rooms(self, code: int | None) -> None:
        """The connection is over. From the event loop.

        Args:
            code: Its close code; None: it is just about to be closed.
        """
        for room in self.rooms:
            room.left(self, CloseCode.NORMAL if code is None else code)
        self.memberships.clear()
        self._seat = None  # it has this connection, which has it: a circle
