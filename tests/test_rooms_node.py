"""The node: hub and broker in step, whatever happens while the broker takes its time."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from fairlead.brokers import Command, Disconnect
from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import BrokerUnavailable, Closed
from fairlead.limits import Limits
from fairlead.message import Publication
from fairlead.rooms.hub import Member
from fairlead.rooms.names import RoomKey, room_key
from fairlead.rooms.node import Joined, Node
from fairlead.testing import FakeConnection, FakeMember, RecordingTransport, ScriptedBroker

LOBBY, CAR = room_key("lobby"), room_key({"car": 1})


@pytest.fixture
def broker() -> ScriptedBroker:
    return ScriptedBroker()


@pytest.fixture
async def node(broker: ScriptedBroker) -> AsyncIterator[Node]:
    node = Node(broker)
    await node.start()
    yield node
    await node.close()


async def turn() -> None:
    """Let everything happen that does not wait for the broker."""
    for _ in range(6):
        await asyncio.sleep(0)


def payloads(member: FakeMember) -> list[bytes]:
    assert isinstance(member.transport, RecordingTransport)
    return member.transport.payloads


def sends(member: FakeMember) -> int:
    assert isinstance(member.transport, RecordingTransport)
    return len(member.transport.sent)


def nothing_left(node: Node, broker: ScriptedBroker) -> bool:
    """Nothing of any room, and no task but the test's own."""
    state = (node._locks, node._idle, node._sweeper, broker.rooms, broker.calls, node.hub._waiting)
    return not any(state) and len(node.hub) == 0 and len(asyncio.all_tasks()) == 1


class Prompt(ScriptedBroker):
    """A broker that need not be waited for, where it is not told to wait."""

    def subscribe_now(self, room: RoomKey) -> None:
        if self.failing:
            raise BrokerUnavailable("it is away")
        self.log.append(("subscribe_now", room))
        self.rooms.add(room)

    def publish_now(self, rooms: Iterable[RoomKey], publication: Publication) -> None:
        raise NotImplementedError


class TestJoinNow:
    @pytest.fixture
    def broker(self) -> Prompt:
        return Prompt()

    async def test_the_first_one_need_not_wait_where_the_broker_need_not(self, node: Node, broker: Prompt) -> None:
        member = FakeMember()
        assert node.join_now(member, LOBBY) == node.join_now(FakeMember(), LOBBY) == Joined()
        assert broker.log == [("subscribe_now", LOBBY)] and node.hub.has(member, LOBBY)
        assert not node._idle

    async def test_who_is_not_added_leaves_nothing_behind(self, node: Node, broker: Prompt) -> None:
        member = FakeMember()
        member.transport.close()
        with pytest.raises(Closed):
            node.join_now(member, LOBBY)
        await turn()
        assert broker.log == [("subscribe_now", LOBBY), ("unsubscribe", LOBBY)]
        assert nothing_left(node, broker)

    async def test_a_broker_that_is_away_is_waited_for(self, node: Node, broker: Prompt) -> None:
        broker.failing = True
        assert node.join_now(FakeMember(), LOBBY) is None
        assert nothing_left(node, broker)

    async def test_a_memory_broker_that_was_changed_is_awaited(self) -> None:
        class Slow(MemoryBroker):
            async def subscribe(self, room: RoomKey) -> None:
                await asyncio.sleep(0)
                await super().subscribe(room)

        class Counting(MemoryBroker):
            async def publish(self, room: RoomKey, publication: Publication) -> None:
                await super().publish(room, publication)

        for changed in (Slow(), Counting()):
            node, member = Node(changed), FakeMember()
            await node.start()
            assert node.join_now(member, LOBBY) is None
            assert not node.publish_now([LOBBY], Publication(data=b"x"))
            await node.join(member, LOBBY)
            await node.publish(LOBBY, Publication(data=b"x"))
            node.flush()
            assert payloads(member) == [b"x"]
            await node.close()

    async def test_what_the_broker_is_being_told_of_the_room_comes_first(self, node: Node, broker: Prompt) -> None:
        first, second = FakeMember(), FakeMember()
        node.join_now(first, LOBBY)
        broker.held = True
        node.leave(first, LOBBY)
        await turn()
        assert broker.log[-1] == ("unsubscribe", LOBBY)
        assert node.join_now(second, LOBBY) is None
        joining = asyncio.create_task(node.join(second, LOBBY))
        await turn()
        broker.calls[0].finish()
        await turn()
        broker.calls[-1].finish()
        await joining
        assert broker.rooms == {LOBBY} and node.hub.has(second, LOBBY)


class TestJoin:
    async def test_first_one_subscribes_and_is_in(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        assert await node.join(member, LOBBY) == Joined(position=None, recovered=False, missed=())
        assert broker.rooms == {LOBBY} and node.hub.has(member, LOBBY)
        assert not node._locks and not node._idle

    async def test_the_next_ones_do_not_ask_the_broker(self, node: Node, broker: ScriptedBroker) -> None:
        await node.join(FakeMember(), LOBBY)
        await node.join(FakeMember(), LOBBY)
        assert node.join_now(FakeMember(), LOBBY) == Joined()
        assert broker.log == [("subscribe", LOBBY)]
        assert node.hub.count(LOBBY) == 3

    async def test_join_now_says_none_where_the_broker_must_be_asked(self, node: Node) -> None:
        assert node.join_now(FakeMember(), LOBBY) is None
        assert len(node.hub) == 0

    async def test_joining_again_changes_nothing(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        for _ in range(2):
            await node.join(member, LOBBY)
        assert node.join_now(member, LOBBY) == Joined()
        assert node.hub.count(LOBBY) == 1 and len(broker.log) == 1

    async def test_those_who_come_while_the_first_waits_share_one_subscribe(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        broker.held = True
        members = [FakeMember() for _ in range(5)]
        joins = [asyncio.create_task(node.join(member, LOBBY)) for member in members]
        await turn()
        assert node.join_now(FakeMember(), LOBBY) is None
        broker.calls[0].finish()
        await asyncio.gather(*joins)
        assert broker.log == [("subscribe", LOBBY)]
        assert node.hub.count(LOBBY) == 5

    async def test_rooms_do_not_wait_for_each_other(self, node: Node, broker: ScriptedBroker) -> None:
        broker.held = True
        slow = asyncio.create_task(node.join(FakeMember(), LOBBY))
        fast = asyncio.create_task(node.join(FakeMember(), CAR))
        await turn()
        broker.calls[1].finish()
        await fast
        assert not slow.done()
        broker.calls[0].finish()
        await slow

    async def test_closed_transport_is_never_added(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        member.transport.close()
        with pytest.raises(Closed):
            await node.join(member, LOBBY)
        await turn()
        assert broker.log == [("subscribe", LOBBY), ("unsubscribe", LOBBY)]
        assert nothing_left(node, broker)

    async def test_transport_lost_while_the_broker_is_asked_is_never_added(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        broker.held = True
        member = FakeMember()
        join = asyncio.create_task(node.join(member, LOBBY))
        await turn()
        member.transport.close(1006)
        broker.calls[0].finish()
        with pytest.raises(Closed):
            await join
        await turn()
        broker.calls[0].finish()
        await turn()
        assert nothing_left(node, broker)

    async def test_join_now_refuses_a_closed_transport(self, node: Node) -> None:
        await node.join(FakeMember(), LOBBY)
        member = FakeMember()
        member.transport.close()
        with pytest.raises(Closed):
            node.join_now(member, LOBBY)
        assert node.hub.count(LOBBY) == 1

    async def test_transport_that_closes_itself_while_the_room_is_flushed_is_not_added(self, node: Node) -> None:
        transport = RecordingTransport(capacity=0)
        await node.join(FakeMember(transport), LOBBY)
        node.deliver(LOBBY, Publication(data=b"too much"))
        with pytest.raises(Closed):
            node.join_now(FakeMember(transport, tail=b"2"), LOBBY)
        assert node.hub.count(LOBBY) == 1

    async def test_failing_subscribe_leaves_nothing_behind(self, node: Node, broker: ScriptedBroker) -> None:
        broker.failing = True
        with pytest.raises(BrokerUnavailable):
            await node.join(FakeMember(), LOBBY)
        assert broker.log == [("subscribe", LOBBY)]
        assert nothing_left(node, broker)

    async def test_each_waiting_join_tries_for_itself_after_a_failure(self, node: Node, broker: ScriptedBroker) -> None:
        broker.held = True
        first, second = (asyncio.create_task(node.join(FakeMember(), LOBBY)) for _ in range(2))
        await turn()
        broker.calls[0].fail()
        with pytest.raises(BrokerUnavailable):
            await first
        await turn()
        broker.calls[0].finish()
        await second
        assert node.hub.count(LOBBY) == 1 and broker.rooms == {LOBBY}

    @pytest.mark.parametrize("taken", [True, False])
    async def test_cancelled_while_the_broker_is_asked_leaves_nothing_behind(
        self, node: Node, broker: ScriptedBroker, taken: bool
    ) -> None:
        broker.held = True
        join = asyncio.create_task(node.join(FakeMember(), LOBBY))
        await turn()
        if taken:
            broker.calls[0].carry_out()
        broker.held = False
        join.cancel()
        await asyncio.wait((join,))
        assert join.cancelled()
        await turn()
        assert broker.log == [("subscribe", LOBBY), ("unsubscribe", LOBBY)]
        assert nothing_left(node, broker)

    async def test_cancelled_while_another_join_is_served_leaves_nothing_behind(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        broker.held = True
        first, second = (asyncio.create_task(node.join(FakeMember(), LOBBY)) for _ in range(2))
        await turn()
        second.cancel()
        await asyncio.wait((second,))
        broker.calls[0].finish()
        await first
        assert node.hub.count(LOBBY) == 1 and not node._locks

    async def test_after_a_cancelled_subscribe_the_next_join_subscribes_again(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        broker.held = True
        first, second = (asyncio.create_task(node.join(FakeMember(), LOBBY)) for _ in range(2))
        await turn()
        first.cancel()
        await turn()
        broker.calls[0].finish()
        await second
        assert broker.log == [("subscribe", LOBBY)] * 2
        assert broker.rooms == {LOBBY} and not node._idle


class TestLeave:
    async def test_last_one_out_unsubscribes(self, node: Node, broker: ScriptedBroker) -> None:
        one, two = FakeMember(), FakeMember()
        await node.join(one, LOBBY)
        await node.join(two, LOBBY)
        node.leave(one, LOBBY)
        await turn()
        assert broker.rooms == {LOBBY}
        node.leave(two, LOBBY)
        await turn()
        assert broker.log == [("subscribe", LOBBY), ("unsubscribe", LOBBY)]
        assert nothing_left(node, broker)

    async def test_leaving_twice_or_without_having_joined_does_nothing(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        member = FakeMember()
        node.leave(member, LOBBY)
        await node.join(member, LOBBY)
        node.leave(member, LOBBY)
        node.leave(member, LOBBY)
        await turn()
        assert broker.log == [("subscribe", LOBBY), ("unsubscribe", LOBBY)]

    async def test_rejoining_at_once_asks_the_broker_nothing(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        await node.join(member, LOBBY)
        node.leave(member, LOBBY)
        assert node.join_now(member, LOBBY) == Joined()
        await turn()
        assert broker.log == [("subscribe", LOBBY)] and broker.rooms == {LOBBY}
        assert not node._idle and node._sweeper is None

    async def test_leave_racing_join_keeps_subscription(self, node: Node, broker: ScriptedBroker) -> None:
        """The unsubscribe is under way when the next one comes: he waits for its end and subscribes again."""
        first, second = FakeMember(), FakeMember()
        await node.join(first, LOBBY)
        broker.held = True
        node.leave(first, LOBBY)
        await turn()
        assert node.join_now(second, LOBBY) is None
        join = asyncio.create_task(node.join(second, LOBBY))
        await turn()
        assert [call.name for call in broker.calls] == ["unsubscribe"]
        broker.calls[0].finish()
        await turn()
        broker.calls[0].finish()
        await join
        assert broker.rooms == {LOBBY} and node.hub.has(second, LOBBY)

    async def test_leaving_many_rooms_takes_one_task(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        rooms = [room_key(f"room {i}") for i in range(20)]
        for room in rooms:
            await node.join(member, room)
        broker.held = True
        for room in rooms:
            node.leave(member, room)
            await turn()
            assert len(asyncio.all_tasks()) == 2
        while broker.calls:
            broker.calls[0].finish()
            await turn()
        assert nothing_left(node, broker)

    async def test_what_the_broker_does_not_take_is_tried_again_when_it_is_back(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        member = FakeMember()
        for room in (LOBBY, CAR):
            await node.join(member, room)
        broker.failing = True
        for room in (LOBBY, CAR):
            node.leave(member, room)
        await turn()
        assert node._sweeper is None, "no task waits for a broker that is away"
        broker.failing = False
        node.gap(None)
        await turn()
        assert nothing_left(node, broker)

    async def test_a_room_the_broker_did_not_drop_for_certain_is_subscribed_again(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        member = FakeMember()
        await node.join(member, LOBBY)
        broker.failing = True
        node.leave(member, LOBBY)
        await turn()
        broker.failing = False
        assert node.join_now(member, LOBBY) is None
        await node.join(member, LOBBY)
        await turn()
        assert broker.log[-1] == ("subscribe", LOBBY) and broker.rooms == {LOBBY}

    async def test_who_joins_before_the_broker_is_told_again_keeps_the_room(
        self, node: Node, broker: ScriptedBroker
    ) -> None:
        member = FakeMember()
        await node.join(member, LOBBY)
        broker.failing = True
        node.leave(member, LOBBY)
        await turn()
        broker.held, broker.failing = True, False
        join = asyncio.create_task(node.join(member, LOBBY))
        await turn()
        node.gap(None)
        await turn()
        broker.calls[0].finish()
        await join
        await turn()
        assert broker.log[-1] == ("subscribe", LOBBY) and broker.rooms == {LOBBY}
        assert not node._locks and not node._idle and node._sweeper is None
        broker.held = False

    async def test_a_broker_with_a_bug_does_not_stop_the_node(self, caplog: pytest.LogCaptureFixture) -> None:
        class Buggy(ScriptedBroker):
            async def unsubscribe(self, room: RoomKey) -> None:
                raise ValueError("bug")

        node, member = Node(Buggy()), FakeMember()
        await node.start()
        await node.join(member, LOBBY)
        node.leave(member, LOBBY)
        await turn()
        assert "unsubscribing failed" in caplog.text
        await node.join(member, LOBBY)
        await node.close()


class TestDeliver:
    async def test_publications_of_one_turn_are_written_at_once(self, node: Node) -> None:
        members = [FakeMember() for _ in range(3)]
        for member in members:
            await node.join(member, LOBBY)
        for i in range(32):
            await node.publish(LOBBY, Publication(data=b"%d" % i))
        assert [sends(member) for member in members] == [0, 0, 0]
        await turn()
        assert [sends(member) for member in members] == [1, 1, 1]
        assert payloads(members[0]) == [b"%d" % i for i in range(32)]

    async def test_later_turns_are_written_later(self, node: Node) -> None:
        member = FakeMember()
        await node.join(member, LOBBY)
        for i in range(3):
            await node.publish(LOBBY, Publication(data=b"%d" % i))
            await turn()
        assert (sends(member), payloads(member)) == (3, [b"0", b"1", b"2"])

    async def test_flush_writes_now(self, node: Node) -> None:
        member = FakeMember()
        for room in (LOBBY, CAR):
            await node.join(member, room)
            await node.publish(room, Publication(data=room.encode()))
        node.flush(CAR)
        assert payloads(member) == [CAR.encode()]
        node.flush()
        assert payloads(member) == [CAR.encode(), LOBBY.encode()]

    async def test_who_joins_late_gets_what_comes_late(self, node: Node) -> None:
        one, two = FakeMember(), FakeMember()
        await node.join(one, LOBBY)
        node.deliver(LOBBY, Publication(data=b"before"))
        node.join_now(two, LOBBY)
        node.deliver(LOBBY, Publication(data=b"after"))
        await turn()
        assert (payloads(one), payloads(two)) == ([b"before", b"after"], [b"after"])

    async def test_who_leaves_has_what_came_before(self, node: Node) -> None:
        one, two = FakeMember(), FakeMember()
        for member in (one, two):
            await node.join(member, LOBBY)
        node.deliver(LOBBY, Publication(data=b"before"))
        node.leave(one, LOBBY)
        assert payloads(one) == [b"before"]
        node.deliver(LOBBY, Publication(data=b"after"))
        await turn()
        assert (payloads(one), payloads(two)) == ([b"before"], [b"before", b"after"])

    async def test_a_room_without_members_is_dropped(self, node: Node) -> None:
        node.deliver(LOBBY, Publication(data=b"late"))
        assert not node.hub._waiting

    async def test_limits_bound_the_burst(self) -> None:
        node, member = Node(MemoryBroker(), limits=Limits(burst_size=1000)), FakeMember()
        await node.start()
        await node.join(member, LOBBY)
        for _ in range(10):
            node.deliver(LOBBY, Publication(data=b"x" * 400))
        await node.close()
        assert (sends(member), len(payloads(member))) == (10, 10)


class TestPublish:
    async def test_goes_through_the_broker_alone(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        await node.join(member, LOBBY)
        broker.held = True
        publishing = asyncio.create_task(node.publish(LOBBY, Publication(data=b"x")))
        await turn()
        assert payloads(member) == []
        broker.calls[0].finish()
        assert await publishing is None
        await turn()
        assert payloads(member) == [b"x"]

    async def test_raises_what_the_broker_raises(self, node: Node, broker: ScriptedBroker) -> None:
        member = FakeMember()
        await node.join(member, LOBBY)
        broker.failing = True
        with pytest.raises(BrokerUnavailable):
            await node.publish(LOBBY, Publication(data=b"x"))
        with pytest.raises(BrokerUnavailable):
            await node.command(Disconnect(user="u"))
        await turn()
        assert payloads(member) == []


class Log:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def joined(self, member: Member, room: RoomKey) -> None:
        self.events.append((member, "joined", room))

    def left(self, member: Member, room: RoomKey, code: int | None) -> None:
        self.events.append((member, "left", room, code))


class TestListeners:
    async def test_observers_are_told_of_each_change_once(self, node: Node) -> None:
        log, member = Log(), FakeMember(connection=FakeConnection("c", "u"))
        node.observers.append(log)
        await node.join(member, LOBBY)
        node.join_now(member, LOBBY)
        node.leave(member, LOBBY)
        node.leave(member, LOBBY)
        node.join_now(member, LOBBY)
        node.leave(member, LOBBY, 1006)
        events = [("joined", LOBBY), ("left", LOBBY, None), ("joined", LOBBY), ("left", LOBBY, 1006)]
        assert log.events == [(member, *event) for event in events]

    async def test_observers_hear_nothing_of_failed_joins(self, node: Node, broker: ScriptedBroker) -> None:
        log, member = Log(), FakeMember()
        node.observers.append(log)
        broker.failing = True
        with pytest.raises(BrokerUnavailable):
            await node.join(member, LOBBY)
        assert log.events == []

    async def test_a_failing_observer_undoes_nothing(self, node: Node, caplog: pytest.LogCaptureFixture) -> None:
        class Failing(Log):
            def joined(self, member: Member, room: RoomKey) -> None:
                raise ValueError("bug")

        log, member = Log(), FakeMember()
        node.observers += [Failing(), log]
        await node.join(member, LOBBY)
        assert node.hub.has(member, LOBBY) and len(log.events) == 1
        assert "a listener failed" in caplog.text

    async def test_commands_and_gaps_reach_every_listener(self, node: Node, broker: ScriptedBroker) -> None:
        commands: list[Command] = []
        gaps: list[RoomKey | None] = []
        node.commands += [commands.append, commands.append]
        node.gaps.append(gaps.append)
        command = Disconnect(connection="c1")
        await node.command(command)
        assert broker.sink is not None
        broker.sink.gap(LOBBY)
        broker.sink.gap(None)
        assert (commands, gaps) == ([command, command], [LOBBY, None])


class TestClose:
    async def test_writes_what_waits(self, broker: ScriptedBroker) -> None:
        node, member = Node(broker), FakeMember()
        await node.start()
        await node.join(member, LOBBY)
        await node.publish(LOBBY, Publication(data=b"x"))
        await node.close()
        assert payloads(member) == [b"x"] and broker.sink is None

    async def test_leaves_no_task_whatever_the_broker_does(self, broker: ScriptedBroker) -> None:
        node, member = Node(broker), FakeMember()
        await node.start()
        await node.join(member, LOBBY)
        await node.join(member, CAR)
        broker.held = True
        node.leave(member, LOBBY)
        await turn()
        await node.close()
        node.leave(member, CAR)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_start_says_when_the_broker_is_away(self) -> None:
        class Away(ScriptedBroker):
            async def start(self, sink: object) -> None:
                raise BrokerUnavailable("away")

        node = Node(Away())
        with pytest.raises(BrokerUnavailable):
            await node.start()
        await node.close()
