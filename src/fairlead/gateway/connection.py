"""One client of the gateway: its requests, its subscriptions, its rights.

There are ten thousand of these, so nothing is kept that is not needed: no task, no timer, and the request itself only
as the one bytes object with which the API is asked again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fairlead.dialects import Dialect
from fairlead.dialects.fairlead import (
    FAIRLEAD,
    NO_REQUEST_ID,
    PONG,
    Bad,
    ErrorWord,
    Ping,
    Subscribe,
    Unsubscribe,
    decode,
    error,
    success,
    unsubscribed,
)
from fairlead.errors import BrokerUnavailable, CloseCode, Closed
from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.rooms.names import Grants, RoomKey
from fairlead.rooms.node import Node
from fairlead.transports import Transport

logger = logging.getLogger(__name__)

_PONG = Message(PONG)


class Subscription:
    """One room of one connection, under the request id the client chose; a Member of the hub.

    Attributes:
        tail: The request id as JSON text; ``null`` in a room that the API joined the client to.
    """

    __slots__ = ("connection", "room", "tail", "transport")

    dialect: Dialect = FAIRLEAD

    def __init__(self, connection: Connection, transport: Transport, room: RoomKey, tail: bytes) -> None:
        self.connection = connection
        self.transport = transport
        self.room = room
        self.tail = tail

    def __repr__(self) -> str:
        return f"<Subscription {self.tail!r} of {self.connection.id}>"


class Owner(Protocol):
    """The gateway, as its connections see it."""

    node: Node
    limits: Limits

    def opened(self, connection: Connection, expires_in: float | None) -> None: ...

    def closed(self, connection: Connection, code: int, reason: str) -> None: ...

    def expired(self, connection: Connection) -> None: ...

    def join_later(self, connection: Connection, subscription: Subscription) -> None: ...


class Welcome(NamedTuple):
    """What happens first, and is then forgotten: the message, the rooms that the API joins the client to, and the
    seconds until its rights expire."""

    hello: bytes
    rooms: Sequence[RoomKey] = ()
    expires_in: float | None = None


_WELCOMED = Welcome(b"")


class Connection:
    """A client that the API let in; the Receiver of its messages.

    Attributes:
        id: Names the connection in logs, ``/connections`` and ``/disconnect``.
        user: The API's name for the user, as text; None for an anonymous one.
        grants: What it may join now.
        forwarded: The headers with which the API is asked again; a secret. b"" once the connection is closed.
        failing_since: The second since which the API cannot be asked about it; 0: it can.
        retry_delay: Seconds until the next attempt, while it is failing.
        opened_at: The second when it was let in.
        due: The wheel's.
    """

    __slots__ = (
        "_joined",
        "_owner",
        "_subscriptions",
        "_welcome",
        "due",
        "failing_since",
        "forwarded",
        "grants",
        "id",
        "opened_at",
        "retry_delay",
        "transport",
        "user",
    )

    def __init__(
        self, owner: Owner, id: str, welcome: Welcome, *, user: str | None, grants: Grants, forwarded: bytes
    ) -> None:
        self._owner = owner
        self._welcome = welcome
        self._joined: dict[RoomKey, Subscription] | None = None
        self._subscriptions: dict[bytes, Subscription] | None = None
        self.id = id
        self.user = user
        self.grants = grants
        self.forwarded = forwarded
        self.transport: Transport | None = None
        self.failing_since = 0
        self.retry_delay = 0
        self.opened_at = 0
        self.due = 0

    # -- the Receiver seam -------------------------------------------------------------------------------------------

    def connected(self, transport: Transport) -> None:
        self.transport = transport
        hello, rooms, expires_in = self._welcome
        self._welcome = _WELCOMED
        self._owner.opened(self, expires_in)
        transport.send(Message(hello))
        self.set_joined(rooms)

    def received(self, payload: str | bytes) -> None:
        match decode(payload, limits=self._owner.limits):
            case Ping():
                self._send(_PONG)
            case Subscribe(room, request_id):
                self._subscribe(room, request_id)
            case Unsubscribe(request_id):
                self._unsubscribe(request_id)
            case Bad(bad_id, word):
                self._refuse(bad_id, word)

    def closed(self, code: int, reason: str) -> None:
        self._leave_all(code)
        self.forwarded = b""
        self._owner.closed(self, code, reason)

    def expired(self) -> None:
        """The wheel's call: the rights are about to end, or the API shall be tried again."""
        self._owner.expired(self)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _subscribe(self, room: RoomKey, request_id: bytes) -> None:
        subscriptions = self._subscriptions if self._subscriptions is not None else {}
        if request_id in subscriptions:
            self._refuse(request_id, "request-id-in-use")
        elif len(subscriptions) >= self._owner.limits.subscriptions:
            self._refuse(request_id, "too-many-subscriptions")
        elif not self.grants.allows(room):
            self._refuse(request_id, "room-not-found")
        elif self.transport is not None:
            # Interned: the members of a room share one string, for as long as there are any.
            room = RoomKey(sys.intern(room))
            subscription = Subscription(self, self.transport, room, request_id)
            self._subscriptions = subscriptions
            subscriptions[request_id] = subscription
            if self._join_now(subscription):
                self._send(Message(success(request_id)))
            else:
                self.transport.pause_reading()  # requests are answered in the order sent
                self._owner.join_later(self, subscription)

    def _join_now(self, subscription: Subscription) -> bool:
        """Join if the broker need not be asked. What waits in the room is written first, which can close a slow
        client: then there is nothing left to do."""
        try:
            return self._owner.node.join_now(subscription, subscription.room) is not None
        except Closed:
            return True

    async def join(self, subscription: Subscription) -> None:
        """Finish a subscription that has to wait for the broker, and answer the client if it was the client's."""
        try:
            self._answer_join(subscription, await self._join(subscription))
        except Closed:
            pass
        finally:
            if subscription.tail != NO_REQUEST_ID and self.transport is not None:
                self.transport.resume_reading()

    async def _join(self, subscription: Subscription) -> ErrorWord | None:
        word: ErrorWord | None = None
        try:
            await self._owner.node.join(subscription, subscription.room)
        except Closed:
            raise
        except Exception as exc:
            if not isinstance(exc, BrokerUnavailable):
                logger.exception("%s: joining a room failed", self.id)
            word = "unavailable"
        # The rights may have changed while the broker was asked.
        return word if self._granted(subscription) else "room-not-found"

    def _answer_join(self, subscription: Subscription, word: ErrorWord | None) -> None:
        if word is not None:
            self._owner.node.leave(subscription, subscription.room)
            self._forget(subscription)
        if subscription.tail != NO_REQUEST_ID:
            self._send(Message(success(subscription.tail) if word is None else error(subscription.tail, word)))
        elif word == "unavailable":
            # The client was told that it is in this room; better it comes back than that it waits in vain.
            self.close(CloseCode.TRY_AGAIN_LATER, "unavailable")

    def _granted(self, subscription: Subscription) -> bool:
        if subscription.tail == NO_REQUEST_ID:
            return self._joined is not None and self._joined.get(subscription.room) is subscription
        return self.grants.allows(subscription.room)

    def _unsubscribe(self, request_id: bytes) -> None:
        subscription = self._subscriptions.pop(request_id, None) if self._subscriptions else None
        if subscription is None:
            self._refuse(request_id, "not-subscribed")
        else:
            self._owner.node.leave(subscription, subscription.room)
            self._send(Message(success(request_id)))

    def _refuse(self, request_id: bytes | None, word: ErrorWord) -> None:
        self._send(Message(error(request_id, word)))

    def _send(self, message: Message) -> None:
        if self.transport is not None:
            self.transport.send(message)

    # -- rights ------------------------------------------------------------------------------------------------------

    def set_grants(self, grants: Grants) -> None:
        """Replace the rights; subscriptions without one end with a notice."""
        self.grants = grants
        for subscription in list((self._subscriptions or {}).values()):
            if not grants.allows(subscription.room):
                self._end(subscription)

    def set_joined(self, rooms: Sequence[RoomKey]) -> None:
        """Join the rooms that the API says and leave those it no longer says; the client is not asked."""
        current = self._joined or {}
        for room in current.keys() - set(rooms):
            self._end(current[room])
        self._joined = current
        for room in rooms:
            if room not in current and self.transport is not None and self.transport.open:
                room = RoomKey(sys.intern(room))
                subscription = current[room] = Subscription(self, self.transport, room, NO_REQUEST_ID)
                if not self._join_now(subscription):
                    self._owner.join_later(self, subscription)
        if not current:
            self._joined = None

    def _end(self, subscription: Subscription) -> None:
        """Withdraw a subscription. One that still waits for the broker finds out when it is done."""
        node = self._owner.node
        if node.hub.has(subscription, subscription.room):
            node.leave(subscription, subscription.room)
            self._send(Message(unsubscribed(subscription.tail, subscription.room, "revoked")))
            self._forget(subscription)
        elif subscription.tail == NO_REQUEST_ID:
            self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        if subscription.tail != NO_REQUEST_ID:
            if self._subscriptions is not None:
                self._subscriptions.pop(subscription.tail, None)
        elif self._joined is not None and self._joined.get(subscription.room) is subscription:
            del self._joined[subscription.room]

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def subscriptions(self) -> int:
        """How many it has, those made by the API included."""
        return len(self._joined or ()) + len(self._subscriptions or ())

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Send what waits for it, end its subscriptions, close."""
        self._leave_all(code)
        if self.transport is not None:
            self.transport.close(code, reason)

    def _leave_all(self, code: int) -> None:
        for subscription in [*(self._joined or {}).values(), *(self._subscriptions or {}).values()]:
            self._owner.node.leave(subscription, subscription.room, code)
        self._joined = self._subscriptions = None
