"""Resources that have listeners: the object behind a page is the one that tells its sockets what becomes of it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, overload

from pyramid.traversal import resource_path

from fairlead.loops import Done
from fairlead.rooms.hub import ConnectionInfo
from fairlead.rooms.room import Room, Rooms
from fairlead.sync import BlockingWebSocket
from fairlead.websocket import WebSocket

_OWN = "_v_fairlead_rooms"  # ZODB neither stores nor compares what begins with _v_


class WebSocketAwareResource:
    """A mixin for resources. Its listeners are the connections that were added and are still open.

    All methods may be called from any thread; from an event loop what they return has to be awaited. A listener that
    does not read what it is sent is closed with 1013 and keeps nobody waiting.

    Listeners belong to this object. Where resources are made anew for each request, or more than one process serves
    them, they need a room that is found by its name:

        class Job(WebSocketAwareResource):
            @property
            def room(self):
                return self.request.room(f"job:{self.id}")
    """

    __name__: str | None = ""
    __parent__: Any = None

    @property
    def room(self) -> Room:
        """Where the listeners are: one room of its own, unless a subclass says otherwise."""
        return _own_rooms(self)["listeners"]

    @property
    def listeners(self) -> frozenset[ConnectionInfo]:
        """Those of this process, as they are now; who comes and goes does not change it."""
        return frozenset(self.room)

    @overload
    def add_listener(self, listener: BlockingWebSocket) -> object: ...

    @overload
    def add_listener(self, listener: WebSocket) -> Awaitable[object]: ...

    def add_listener(self, listener: BlockingWebSocket | WebSocket) -> object:
        """Let a connection have everything that is sent from now on, until it ends. Twice is once.

        Raises:
            BrokerUnavailable: Try again later.
            Closed: It is over already.
        """
        return listener.join(self.room)

    def remove_listener(self, listener: BlockingWebSocket | WebSocket) -> None:
        """Let it have nothing more. One that is no listener is left alone."""
        self.room.discard(listener)

    def send(self, message: object) -> Awaitable[object]:
        """Send to all listeners. In a thread it has happened when this returns.

        Args:
            message: ``str`` goes out as text, ``bytes`` as a binary message, anything else as JSON.

        Raises:
            BrokerUnavailable: Nobody got it; try again later.
            TypeError: It has no form in JSON.
        """
        room = self.room
        if room.rooms is vars(self).get(_OWN) and not self.listeners:
            return Done(None)  # which is all there is to do, also before the first listener brings an event loop
        return room.publish(message)

    @property
    def path(self) -> str:
        """Where it stands in the tree of resources."""
        path: str = resource_path(self)
        return path

    def __str__(self) -> str:
        return f"Node: {self.__name__ or 'ROOT'} ({self.path})"


def _own_rooms(resource: WebSocketAwareResource) -> Rooms:
    own = vars(resource)
    if _OWN not in own:
        own.setdefault(_OWN, Rooms())  # of two threads the first one's
    rooms: Rooms = own[_OWN]
    return rooms
