"""Fakes for tests: a connection that keeps what it is sent, a broker that ends its calls when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fairlead.brokers import Command, Position, Sink
from fairlead.dialects import Dialect
from fairlead.dialects.plain import PLAIN
from fairlead.errors import BrokerUnavailable, CloseCode, Closed
from fairlead.message import PAYLOAD, Burst, Form, Message, Publication
from fairlead.rooms.names import RoomKey
from fairlead.transports import Transport


class RecordingTransport:
    """A Transport that keeps what it is sent.

    Args:
        form: Its wire form.
        capacity: So many messages fit; with one more it closes itself as slow (1013), keeping nothing of that send.
            None: no bound.

    Attributes:
        sent: Each ``send()``, in order.
        code: The close code, once it is closed.
        reason: The close reason.
        outbox_full: Whether it closed itself as slow.
        reading: False between ``pause_reading()`` and ``resume_reading()``.
        failure: Set it to have every ``send()`` raise it, as a broken transport would.
    """

    def __init__(self, *, form: Form = PAYLOAD, capacity: int | None = None) -> None:
        self.form = form
        self.outlet: int | None = None
        self.sent: list[Message | Burst] = []
        self.code: int | None = None
        self.reason = ""
        self.reading = True
        self.outbox_full = False
        self.failure: Exception | None = None
        self._capacity = capacity

    @property
    def open(self) -> bool:
        return self.code is None

    @property
    def buffered(self) -> int:
        return 0

    @property
    def congested(self) -> bool:
        return False

    @property
    def payloads(self) -> list[bytes]:
        """Every message's payload, in order."""
        return [message.payload for outgoing in self.sent for message in outgoing.messages]

    def send(self, outgoing: Message | Burst) -> bool:
        if self.failure is not None:
            raise self.failure
        if not self.open:
            return False
        if self._capacity is not None and len(self.payloads) + len(outgoing.messages) > self._capacity:
            self.outbox_full = True
            self.close(CloseCode.TRY_AGAIN_LATER, "outbox full")
        else:
            self.sent.append(outgoing)
        return self.open

    async def drained(self) -> None:
        if self.code is not None:
            raise Closed(self.code, self.reason)

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.open:
            self.code, self.reason = code, reason

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass(frozen=True, slots=True)
class FakeConnection:
    """Whose subscription it is."""

    id: str = "c1"
    user: str | None = None


class FakeMember:
    """A Member: one subscription of a connection."""

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        tail: bytes = b"",
        dialect: Dialect = PLAIN,
        connection: FakeConnection | None = None,
    ) -> None:
        self.transport = transport if transport is not None else RecordingTransport()
        self.tail = tail
        self.dialect = dialect
        self.connection = connection or FakeConnection()


class BrokerCall:
    """One call to a ScriptedBroker that waits for its end.

    Attributes:
        name: The method.
        room: Its room; None: it has none.
        carried_out: Whether the broker has done it; such a call does not fail any more.
    """

    def __init__(self, name: str, room: RoomKey | None, effect: Callable[[], None]) -> None:
        self.name = name
        self.room = room
        self.carried_out = False
        self._effect = effect
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<{self.name} {self.room}>"

    def carry_out(self) -> None:
        """Let the broker do it, without an answer yet."""
        if not self.carried_out:
            self.carried_out = True
            self._effect()

    def finish(self) -> None:
        """Let the broker do it, unless it has, and answer."""
        self.carry_out()
        if not self.ended.done():
            self.ended.set_result(None)

    def fail(self) -> None:
        """Let the broker answer with BrokerUnavailable, having done nothing."""
        if not self.ended.done():
            self.ended.set_exception(BrokerUnavailable("scripted"))


class ScriptedBroker:
    """A Broker in which the test decides when, in which order and how each call ends.

    Attributes:
        rooms: What it carries to the node.
        held: True: calls wait in ``calls`` until the test ends them. False: they end at once.
        failing: Calls that are not held fail.
        log: Every call ever made, as (method, room).
    """

    def __init__(self, *, held: bool = False) -> None:
        self.rooms: set[RoomKey] = set()
        self.held = held
        self.failing = False
        self._calls: list[BrokerCall] = []
        self.log: list[tuple[str, RoomKey | None]] = []
        self.sink: Sink | None = None

    @property
    def calls(self) -> list[BrokerCall]:
        """The calls that wait for the test, oldest first."""
        return [call for call in self._calls if not call.ended.done()]

    async def start(self, sink: Sink) -> None:
        self.sink = sink

    async def subscribe(self, room: RoomKey) -> None:
        await self._call("subscribe", room, lambda: self.rooms.add(room))

    async def unsubscribe(self, room: RoomKey) -> None:
        await self._call("unsubscribe", room, lambda: self.rooms.discard(room))

    async def publish(self, room: RoomKey, publication: Publication) -> Position | None:
        await self._call("publish", room, lambda: self.deliver(room, publication))
        return None

    async def command(self, command: Command) -> None:
        await self._call("command", None, lambda: self._command(command))

    async def close(self) -> None:
        self.sink = None

    def deliver(self, room: RoomKey, publication: Publication) -> None:
        """Bring a publication to the node, if it subscribed to the room."""
        if self.sink is not None and room in self.rooms:
            self.sink.deliver(room, publication)

    def _command(self, command: Command) -> None:
        if self.sink is not None:
            self.sink.command(command)

    async def _call(self, name: str, room: RoomKey | None, effect: Callable[[], None]) -> None:
        if self.sink is None:
            raise BrokerUnavailable("the scripted broker is not started, or closed")
        self.log.append((name, room))
        call = BrokerCall(name, room, effect)
        if self.held:
            self._calls.append(call)
            try:
                await call.ended
            finally:
                self._calls.remove(call)
        elif self.failing:
            raise BrokerUnavailable("scripted")
        else:
            call.finish()
