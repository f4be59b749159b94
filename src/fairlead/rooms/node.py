"""One process's place in the system: its hub, its broker, and the rules that keep the two in step.

The broker carries a room to this node exactly as long as somebody here is in it: the first one in subscribes, the last
one out unsubscribes. What the broker does takes time, so it is done under a lock per room, and between looking at
shared state and changing it nothing waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, Protocol

from fairlead.brokers import Broker, Command, Position, PromptBroker
from fairlead.errors import BrokerUnavailable, CloseCode, Closed
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.message import Publication
from fairlead.rooms.hub import Hub, Member
from fairlead.rooms.names import RoomKey

logger = logging.getLogger(__name__)

_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Joined:
    """A member is in a room.

    Attributes:
        position: Where in the room's history the member came in; None: the broker keeps none.
        recovered: Whether ``missed`` is all that was published since the position asked for.
        missed: Publications since that position.
    """

    position: Position | None = None
    recovered: bool = False
    missed: Sequence[Publication] = ()


_JOINED = Joined()


class Observer(Protocol):
    """Is told who came and went, at once and in order. It may neither wait nor join or leave from inside."""

    def joined(self, member: Member, room: RoomKey) -> None: ...

    def left(self, member: Member, room: RoomKey, code: int | None) -> None:
        """``code``: the close code, where the connection is over; None: it goes on."""
        ...


class Node:
    """Join, leave, publish, deliver. Use it from the event loop it was started in.

    Args:
        broker: Started and closed by the node.
        limits: For ``burst_size``.

    Attributes:
        hub: Who is in which room here. Read it; only the node changes it.
        observers: Told of every join and leave.
        commands: Called with each command that any node sent, this one included.
        gaps: Called when publications may be missing in a room; None: in every room.
    """

    def __init__(self, broker: Broker, *, limits: Limits = _LIMITS) -> None:
        self.hub = Hub(burst_size=limits.burst_size, write=os.write)
        self.observers: list[Observer] = []
        self.commands: list[Callable[[Command], None]] = []
        self.gaps: list[Callable[[RoomKey | None], None]] = []
        self._broker = broker
        self._prompt = broker if isinstance(broker, PromptBroker) else None
        self._running = False
        self._locks: dict[RoomKey, _Lock] = {}
        # Rooms without members that the broker has to be told to drop; True: it carries them for certain. A room that
        # is in neither this nor the hub is not carried.
        self._idle: dict[RoomKey, bool] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._published = 0

    async def start(self) -> None:
        """Connect to the broker.

        Raises:
            BrokerUnavailable: It cannot be reached.
        """
        await self._broker.start(_Inbox(self))
        self._running = True

    async def close(self) -> None:
        """Write what waits and leave the broker. Nothing of the node runs afterwards."""
        self._running = False
        self.flush()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait((self._sweeper,))
        self._idle.clear()
        await self._broker.close()

    def join_now(self, member: Member, room: RoomKey) -> Joined | None:
        """Put a member into a room without waiting; None: the broker has to be waited for, so await ``join``.

        10,000 first members that come at once and wait, each in a task, leave 1.2 KiB of heap each behind.

        Raises:
            Closed: The member's transport is closing. It was not added.
        """
        if not self._is_carried(room) and not self._subscribe_now(room):
            return None
        try:
            return self._commit(member, room)
        finally:
            if room in self._idle:
                self._sweep()

    async def join(self, member: Member, room: RoomKey, *, since: Position | None = None) -> Joined:
        """Put a member into a room. Who is in already stays in.

        Await it directly: the member is in when it returns, and nothing may come between that and the caller's own
        books. Cancelled, it leaves nothing behind.

        Args:
            member: The subscription.
            room: Which room.
            since: The position the client has seen; what was published since is in the answer, where the broker
                keeps a history.

        Raises:
            BrokerUnavailable: The broker did not take the subscription. Nobody was added; try again later.
            Closed: The member's transport is closing. It was not added.
        """
        async with self._alone(room):
            if not self._is_carried(room):
                await self._subscribe(room)
            return self._commit(member, room)

    def leave(self, member: Member, room: RoomKey, code: int | None = None) -> None:
        """Take a member out of a room, after writing what waits there. Who is not in is left alone.

        The broker is told in the background.

        Args:
            member: The subscription.
            room: Which room.
            code: The close code if the connection is over; for the observers.
        """
        if not self.hub.has(member, room):
            return
        if self.hub.remove(member, room):
            self._idle[room] = True
            self._sweep()
        _tell([observer.left for observer in self.observers], member, room, code)

    async def publish(self, room: RoomKey, publication: Publication) -> Position | None:
        """Publish to a room on every node; members here get it when the broker brings it back.

        Now and then it lets what waits go out, so that a loop that does nothing else fills neither memory nor the
        outboxes of clients that keep up.

        Returns:
            Its position in the room's history, where the broker keeps one.

        Raises:
            BrokerUnavailable: Nothing was published; try again later.
        """
        position = await self._broker.publish(room, publication)
        self._published += 1
        if not self._published % BREATH:
            await asyncio.sleep(0)
        return position

    def publish_now(self, rooms: Iterable[RoomKey], publication: Publication) -> bool:
        """Publish to rooms without waiting; False: the broker has to be waited for, so await ``publish`` for each.

        For callers that are back in the event loop soon: what waits for members goes out from there.

        Raises:
            BrokerUnavailable: Nothing was published; try again later.
        """
        if self._prompt is None:
            return False
        self._prompt.publish_now(rooms, publication)
        return True

    async def command(self, command: Command) -> None:
        """Have every node, this one included, carry out a command.

        Raises:
            BrokerUnavailable: No node was told; try again later.
        """
        await self._broker.command(command)

    def deliver(self, room: RoomKey, publication: Publication) -> None:
        """Write a publication to the room's members here, at the end of this turn of the event loop.

        All that arrive for a room in one turn are written to each member at once.
        """
        if self.hub.publish(room, publication):
            asyncio.get_running_loop().call_soon(self.hub.flush)

    def gap(self, room: RoomKey | None) -> None:
        """Publications may be missing in a room; None: in every room. The broker is reachable again."""
        self._sweep()
        _tell(self.gaps, room)

    def flush(self, room: RoomKey | None = None) -> None:
        """Write what waits in a room now; None: in every room. To be called before a member's connection is closed."""
        self.hub.flush(room)

    def _commit(self, member: Member, room: RoomKey) -> Joined:
        self.hub.flush(room)  # first, since it may close this very connection as slow
        if not member.transport.open:
            raise Closed(CloseCode.ABNORMAL)
        if not self.hub.has(member, room):
            self._idle.pop(room, None)
            self.hub.add(member, room)
            _tell([observer.joined for observer in self.observers], member, room)
        return _JOINED

    def _is_carried(self, room: RoomKey) -> bool:
        """Whether the broker brings what is published to it, for certain."""
        return room in self.hub or self._idle.get(room, False)

    def _subscribe_now(self, room: RoomKey) -> bool:
        if self._prompt is None or room in self._locks:  # or the broker is just being told something of it
            return False
        try:
            self._prompt.subscribe_now(room)
        except BrokerUnavailable:
            return False
        self._idle[room] = True  # until somebody is in
        return True

    async def _subscribe(self, room: RoomKey) -> None:
        try:
            await self._broker.subscribe(room)
        except BrokerUnavailable:
            raise
        except BaseException:  # cancelled: nobody knows whether the broker took it
            self._idle[room] = False
            raise
        self._idle[room] = True  # until somebody is in

    @asynccontextmanager
    async def _alone(self, room: RoomKey) -> AsyncIterator[None]:
        """Hold the room's lock, so that the broker is told one thing at a time and the first thing first."""
        lock = self._locks.get(room)
        if lock is None:
            lock = self._locks[room] = _Lock()
        lock.users += 1
        try:
            async with lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[room]
                if room in self._idle:
                    self._sweep()

    def _sweep(self) -> None:
        if self._idle and self._running and self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._unsubscribe())

    async def _unsubscribe(self) -> None:
        """Tell the broker of idle rooms until none is left, or until it does not answer: the next leave, failed join
        or end of a gap tries again."""
        try:
            while self._idle:
                room = next(iter(self._idle))
                async with self._alone(room):
                    if self._idle.pop(room, None) is None:
                        continue  # somebody joined meanwhile
                    try:
                        await self._broker.unsubscribe(room)
                    except BaseException:
                        self._idle[room] = False
                        raise
        except BrokerUnavailable:
            logger.debug("%d rooms wait for the broker to drop them", len(self._idle))
        except Exception:
            logger.exception("unsubscribing failed")
        finally:
            self._sweeper = None


class _Lock(asyncio.Lock):
    """A lock that knows how many hold it or wait for it, so that it can be dropped after the last one."""

    users = 0


class _Inbox:
    """What the broker calls."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.deliver = node.deliver
        self.gap = node.gap

    def command(self, command: Command) -> None:
        _tell(self._node.commands, command)


_Args = ParamSpec("_Args")


def _tell(listeners: Iterable[Callable[_Args, None]], *args: _Args.args, **kwargs: _Args.kwargs) -> None:
    """Call each; one that fails keeps nothing from the others and undoes no join."""
    for listener in listeners:
        try:
            listener(*args, **kwargs)
        except Exception:
            logger.exception("a listener failed: %r", listener)
