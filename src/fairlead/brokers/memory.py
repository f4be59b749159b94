"""The broker of a single process."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.brokers import Command, Position, Sink
from fairlead.errors import BrokerUnavailable
from fairlead.message import Publication
from fairlead.rooms.names import RoomKey


class MemoryBroker:
    """Carry publications within this process, at once: ``publish`` has delivered when it returns.

    Keeps no history. For one node; several processes need a broker they share.
    """

    def __init_subclass__(cls) -> None:
        """One that subscribes or publishes otherwise is awaited, unless it says how it does so at once."""
        for name in ("subscribe", "publish"):
            if name in vars(cls) and f"{name}_now" not in vars(cls):
                setattr(cls, f"{name}_now", None)

    def __init__(self) -> None:
        self._sink: Sink | None = None
        self._rooms: set[RoomKey] = set()

    async def start(self, sink: Sink) -> None:
        self._sink = sink

    async def subscribe(self, room: RoomKey) -> None:
        MemoryBroker.subscribe_now(self, room)

    def subscribe_now(self, room: RoomKey) -> None:
        self._open()
        self._rooms.add(room)

    async def unsubscribe(self, room: RoomKey) -> None:
        self._open()
        self._rooms.discard(room)

    async def publish(self, room: RoomKey, publication: Publication) -> Position | None:
        MemoryBroker.publish_now(self, (room,), publication)
        return None

    def publish_now(self, rooms: Iterable[RoomKey], publication: Publication) -> None:
        sink = self._open()
        for room in rooms:
            if room in self._rooms:
                sink.deliver(room, publication)

    async def command(self, command: Command) -> None:
        self._open().command(command)

    async def close(self) -> None:
        self._sink = None
        self._rooms.clear()

    def _open(self) -> Sink:
        if self._sink is None:
            raise BrokerUnavailable("the memory broker is not started, or closed")
        return self._sink
