"""Joins, leaves, publications, failures and closings in random order, against a model that knows none of the how.

Each interleaving is a seed; a failure names it. Time passes only where the driver lets the event loop turn.
"""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from fairlead.errors import BrokerUnavailable, Closed
from fairlead.message import Publication
from fairlead.rooms.names import RoomKey, room_key
from fairlead.rooms.node import Node
from fairlead.testing import FakeConnection, FakeMember, RecordingTransport, ScriptedBroker

ROOMS = [room_key("lobby"), room_key({"car": 1})]


class Client:
    """A connection: told of its end later than it ends, as receivers are."""

    def __init__(self, name: str, capacity: int | None) -> None:
        self.transport = RecordingTransport(capacity=capacity)
        self.info = FakeConnection(name)
        self.members: list[tuple[FakeMember, RoomKey]] = []
        self.told = False


class Model:
    """Who is in which room, and what each member shall have received."""

    def __init__(self) -> None:
        self.members: dict[RoomKey, list[FakeMember]] = {room: [] for room in ROOMS}
        self.expected: dict[FakeMember, list[bytes]] = {}
        self.delivered: list[bytes] = []

    def join(self, member: FakeMember, room: RoomKey) -> None:
        assert member.transport.open
        self.members[room].append(member)
        self.expected[member] = []

    def leave(self, member: FakeMember, room: RoomKey) -> None:
        if member in self.members[room]:
            self.members[room].remove(member)

    def deliver(self, room: RoomKey, publication: Publication) -> None:
        self.delivered.append(publication.data)
        for member in self.members[room]:
            if member.connection.id != publication.exclude:
                self.expected[member].append(publication.data + member.tail)


class WatchedBroker(ScriptedBroker):
    """Tells the model what it delivers, and that nobody is in a room which the broker does not carry."""

    def __init__(self, model: Model, *, held: bool) -> None:
        super().__init__(held=held)
        self._model = model

    def deliver(self, room: RoomKey, publication: Publication) -> None:
        assert room in self.rooms or not self._model.members[room], "members of a room the broker does not carry"
        self._model.deliver(room, publication)
        super().deliver(room, publication)


class Log:
    """The observer: what it is told must be what the model knows."""

    def __init__(self) -> None:
        self.inside: list[tuple[object, RoomKey]] = []

    def joined(self, member: object, room: RoomKey) -> None:
        self.inside.append((member, room))

    def left(self, member: object, room: RoomKey, code: int | None) -> None:
        if (member, room) in self.inside:
            self.inside.remove((member, room))
        else:
            self.inside.append((member, room))


class Interleaving:
    """One run: random steps, then rest, then everybody leaves."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.model = Model()
        self.broker = WatchedBroker(self.model, held=self.random.random() < 0.9)
        self.node = Node(self.broker)
        self.log = Log()
        self.node.observers.append(self.log)
        self.clients = [Client(f"c{i}", self.random.choice((None, None, 1, 3))) for i in range(3)]
        self.tasks: set[asyncio.Task[None]] = set()
        self.outcomes: dict[bytes, list[str]] = {}
        self.unstarted = 0
        self.failures = self.random.choice((0.0, 0.3))
        self.steps = (
            [self.join] * 5
            + [self.publish] * 4
            + [self.end_call] * 6
            + [self.leave] * 3
            + [self.cancel, self.lose, self.close, self.tell, self.gap]
        )

    async def run(self) -> None:
        await self.node.start()
        try:
            await self.live()
        finally:
            await self.node.close()

    async def live(self) -> None:
        for _ in range(self.random.randrange(8, 24)):
            self.random.choice(self.steps)()
            if self.random.random() < 0.4:
                await asyncio.sleep(0)
        await self.settle()
        if self.failures:
            self.failures = 0.0
            self.node.gap(None)  # the broker is back: what it did not take is tried again
            await self.settle()
        self.check()
        for client in self.clients:
            self.part(client)
        await self.settle()
        self.check_empty()

    # -- steps -------------------------------------------------------------------------------------------------------

    def join(self) -> None:
        client, room = self.random.choice(self.clients), self.random.choice(ROOMS)
        if client.told:
            return
        name = b"<%d>" % len(self.outcomes)
        self.outcomes[name] = []
        member = FakeMember(client.transport, tail=name, connection=client.info)
        try:
            if self.node.join_now(member, room) is None:
                self.start(self.join_later(client, member, room))
            else:
                self.joined(client, member, room)
        except Closed:
            assert not client.transport.open
            self.outcomes[name].append("closed")

    async def join_later(self, client: Client, member: FakeMember, room: RoomKey) -> None:
        outcomes = self.outcomes[member.tail]
        try:
            await self.node.join(member, room)
        except BrokerUnavailable:
            outcomes.append("unavailable")
        except Closed:
            assert not client.transport.open
            outcomes.append("closed")
        except asyncio.CancelledError:
            outcomes.append("cancelled")
        else:
            self.joined(client, member, room)

    def joined(self, client: Client, member: FakeMember, room: RoomKey) -> None:
        self.model.join(member, room)
        client.members.append((member, room))
        self.outcomes[member.tail].append("joined")

    def leave(self) -> None:
        everybody = [pair for client in self.clients for pair in client.members]  # some have left before
        if everybody:
            member, room = self.random.choice(everybody)
            self.node.leave(member, room)
            self.model.leave(member, room)
            self.check_received(member)

    def publish(self) -> None:
        name = b"[%d]" % len(self.outcomes)
        self.outcomes[name] = []
        exclude = self.random.choice((None, None, "c0"))
        self.start(self.publish_later(self.random.choice(ROOMS), Publication(data=name, exclude=exclude)))

    async def publish_later(self, room: RoomKey, publication: Publication) -> None:
        outcomes = self.outcomes[publication.data]
        try:
            await self.node.publish(room, publication)
        except BrokerUnavailable:
            outcomes.append("unavailable")
            assert publication.data not in self.model.delivered
        except asyncio.CancelledError:
            outcomes.append("cancelled")
        else:
            outcomes.append("published")
            assert self.model.delivered.count(publication.data) == 1

    def end_call(self) -> None:
        if self.broker.calls:
            call = self.random.choice(self.broker.calls)
            if self.random.random() < self.failures and not call.carried_out:
                call.fail()
            else:
                call.finish()

    def cancel(self) -> None:
        """Give up a request; the broker may have carried it out already, so that only the answer is lost."""
        waiting = sorted(self.tasks, key=asyncio.Task.get_name)
        if waiting:
            if self.broker.calls and self.random.random() < 0.5:
                self.random.choice(self.broker.calls).carry_out()
            self.random.choice(waiting).cancel()

    def lose(self) -> None:
        self.random.choice(self.clients).transport.close(1006)

    def close(self) -> None:
        """As the server closes: what waits goes out first."""
        client = self.random.choice(self.clients)
        if client.transport.open:
            self.node.flush()
            for member, _ in client.members:
                self.check_received(member)
            client.transport.close()

    def tell(self) -> None:
        for client in self.clients:
            if not client.transport.open:
                self.part(client)

    def gap(self) -> None:
        self.node.gap(None)

    def part(self, client: Client) -> None:
        client.told = True
        client.transport.close()
        for member, room in client.members:
            self.node.leave(member, room, client.transport.code)
            self.model.leave(member, room)

    # -- rest --------------------------------------------------------------------------------------------------------

    def start(self, request: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(request, name=f"{len(self.outcomes):03}")
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled():  # before its first step
            self.unstarted += 1
        else:
            task.result()

    async def settle(self) -> None:
        for _ in range(300):
            for _ in range(4):
                await asyncio.sleep(0)
            if self.broker.calls:
                self.end_call()
            elif not self.tasks:
                return
        raise AssertionError(f"no rest: {self.tasks}, {self.broker.calls}")

    def check(self) -> None:
        hub, members = self.node.hub, self.model.members
        carried = {room for room in ROOMS if members[room]}
        assert dict(hub.rooms()) == {room: len(members[room]) for room in carried}
        assert all(hub.has(member, room) for room in ROOMS for member in members[room])
        assert len(self.log.inside) == sum(map(len, members.values()))
        assert set(self.log.inside) == {(member, room) for room in ROOMS for member in members[room]}
        assert self.broker.rooms == carried
        for member in self.model.expected:
            self.check_received(member)

    def check_received(self, member: FakeMember) -> None:
        transport, expected = member.transport, self.model.expected[member]
        assert isinstance(transport, RecordingTransport)
        received = [payload for payload in transport.payloads if payload.endswith(member.tail)]
        if transport.open:
            assert received == expected
        else:  # the end may be missing, nothing before it
            assert received == expected[: len(received)]

    def check_empty(self) -> None:
        outcomes = list(self.outcomes.values())
        assert sum(map(len, outcomes)) + self.unstarted == len(outcomes), "not one outcome for each request"
        assert all(len(each) <= 1 for each in outcomes)
        node = self.node
        assert not self.broker.rooms
        assert not len(node.hub) and not self.log.inside
        assert not node._locks and not node._idle and node._sweeper is None and not node.hub._waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def interleave(seeds: range) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    for seed in seeds:
        try:
            await Interleaving(seed).run()
            assert not unhandled
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise


def test_interleavings_keep_the_promises() -> None:
    asyncio.run(interleave(range(500)))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_100_000_interleavings_keep_the_promises(block: int) -> None:
    asyncio.run(interleave(range(1000 + block * 5000, 1000 + (block + 1) * 5000)))
