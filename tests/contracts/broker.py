"""What every broker must do, as tests. Inherit ``BrokerContract`` and make the broker; pytest finds the rest."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fairlead.brokers import Broker, Command, Disconnect, Refresh
from fairlead.errors import BrokerUnavailable
from fairlead.message import Publication
from fairlead.rooms.names import RoomKey, room_key

ROOM, OTHER, MARK = room_key("room"), room_key({"car": 1, "name": 'é "quoted" *?[a]'}), room_key("mark")


class RecordingSink:
    """Keeps what the broker brings."""

    def __init__(self) -> None:
        self.delivered: list[tuple[RoomKey, Publication]] = []
        self.commands: list[Command] = []

    def deliver(self, room: RoomKey, publication: Publication) -> None:
        self.delivered.append((room, publication))

    def gap(self, room: RoomKey | None) -> None:
        raise AssertionError("no link was lost")

    def command(self, command: Command) -> None:
        self.commands.append(command)

    def data(self, room: RoomKey) -> list[bytes]:
        return [publication.data for where, publication in self.delivered if where == room]


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for what the broker does in its own time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


class BrokerContract:
    """The promises of ``fairlead.brokers.Broker`` to one node."""

    def make(self) -> Broker:
        """A broker that is not started; nobody else publishes to what it is connected to."""
        raise NotImplementedError

    @pytest.fixture
    async def sink(self) -> RecordingSink:
        return RecordingSink()

    @pytest.fixture
    async def broker(self, sink: RecordingSink) -> AsyncIterator[Broker]:
        broker = self.make()
        await broker.start(sink)
        await broker.subscribe(MARK)
        yield broker
        await broker.close()

    async def all_arrived(self, broker: Broker, sink: RecordingSink) -> None:
        """Wait until everything published so far has come, or never will."""
        marks = len(sink.data(MARK))
        await broker.publish(MARK, Publication(data=b"mark"))
        await until(lambda: len(sink.data(MARK)) > marks)

    async def test_brings_a_room_that_was_subscribed(self, broker: Broker, sink: RecordingSink) -> None:
        await broker.subscribe(ROOM)
        await broker.publish(ROOM, Publication(data=b"1"))
        await self.all_arrived(broker, sink)
        assert sink.data(ROOM) == [b"1"]

    async def test_brings_nothing_of_other_rooms(self, broker: Broker, sink: RecordingSink) -> None:
        await broker.subscribe(OTHER)
        await broker.publish(ROOM, Publication(data=b"1"))
        await self.all_arrived(broker, sink)
        assert sink.data(ROOM) == sink.data(OTHER) == []

    async def test_names_are_taken_literally(self, broker: Broker, sink: RecordingSink) -> None:
        rooms = [room_key(name) for name in ("*", "room*", "room.*", ">", "room ", "rooms", "é", {"a": "*"})]
        for room in rooms:
            await broker.subscribe(room)
        for room in (ROOM, room_key("room.x"), room_key({"a": 1})):
            await broker.publish(room, Publication(data=b"elsewhere"))
        for room in rooms:
            await broker.publish(room, Publication(data=room.encode()))
        await self.all_arrived(broker, sink)
        assert [sink.data(room) for room in rooms] == [[room.encode()] for room in rooms]

    async def test_keeps_the_order_of_a_room(self, broker: Broker, sink: RecordingSink) -> None:
        await broker.subscribe(ROOM)
        for i in range(100):
            await broker.publish(ROOM, Publication(data=b"%d" % i))
        await self.all_arrived(broker, sink)
        assert sink.data(ROOM) == [b"%d" % i for i in range(100)]

    async def test_carries_every_field_unchanged(self, broker: Broker, sink: RecordingSink) -> None:
        sent = [
            Publication(data='{"é": "x"}'.encode()),
            Publication(data="text\n é".encode(), kind="text", exclude="c1", tags={"a": "b"}, time=1.5),
            Publication(data=bytes(range(256)), kind="binary"),
            Publication(data=b"", kind="text"),
        ]
        await broker.subscribe(OTHER)
        for publication in sent:
            await broker.publish(OTHER, publication)
        await self.all_arrived(broker, sink)
        came = [publication for room, publication in sink.delivered if room == OTHER]
        fields = ("data", "kind", "exclude", "tags", "time")
        assert [[getattr(each, name) for name in fields] for each in came] == [
            [getattr(each, name) for name in fields] for each in sent
        ]

    async def test_subscribing_twice_brings_once(self, broker: Broker, sink: RecordingSink) -> None:
        for _ in range(2):
            await broker.subscribe(ROOM)
        await broker.publish(ROOM, Publication(data=b"1"))
        await self.all_arrived(broker, sink)
        assert sink.data(ROOM) == [b"1"]

    async def test_one_unsubscribe_is_enough_and_more_do_no_harm(self, broker: Broker, sink: RecordingSink) -> None:
        for _ in range(2):
            await broker.subscribe(ROOM)
        for _ in range(2):
            await broker.unsubscribe(ROOM)
        await broker.publish(ROOM, Publication(data=b"1"))
        await self.all_arrived(broker, sink)
        assert sink.data(ROOM) == []
        await broker.subscribe(ROOM)
        await broker.publish(ROOM, Publication(data=b"2"))
        await self.all_arrived(broker, sink)
        assert sink.data(ROOM) == [b"2"]

    async def test_commands_come_back_to_their_sender(self, broker: Broker, sink: RecordingSink) -> None:
        commands: list[Command] = [
            Disconnect(user="u1", code=4401, reason="gone"),
            Disconnect(connection="c1"),
            Refresh(user="é", allowed=b'{"allowed_rooms": []}'),
        ]
        for command in commands:
            await broker.command(command)
        await until(lambda: len(sink.commands) == len(commands))
        assert sink.commands == commands

    async def test_calls_after_the_end_say_that_it_is_gone(self, broker: Broker, sink: RecordingSink) -> None:
        await broker.subscribe(ROOM)
        await broker.close()
        for call in (
            broker.subscribe(ROOM),
            broker.unsubscribe(ROOM),
            broker.publish(ROOM, Publication(data=b"1")),
            broker.command(Disconnect(user="u")),
        ):
            with pytest.raises(BrokerUnavailable):
                await call
        assert sink.data(ROOM) == [] and sink.commands == []

    async def test_closing_twice_does_no_harm_and_leaves_no_task(self, broker: Broker) -> None:
        await broker.close()
        await broker.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
