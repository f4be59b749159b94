"""The connection as a handler holds it, on a connection in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import msgspec
import pytest
from tests.connections import Connection, over, turns

from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import Closed, InvalidMessage, UsageError
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.rooms.hub import Member
from fairlead.rooms.names import RoomKey
from fairlead.rooms.room import Room, Rooms
from fairlead.transports.memory import MemoryTransport
from fairlead.websocket import INBOX, INBOX_SIZE


@pytest.fixture
async def connection() -> Connection:
    return Connection()


class Point(msgspec.Struct):
    x: int
    y: int


# -- what it says about itself -----------------------------------------------------------------------------------------


async def test_it_shows_the_request(connection: Connection) -> None:
    ws = connection.ws
    assert (ws.path, ws.params, ws.query, ws.cookies) == ("/thing/7", {"id": 7}, {"a": "1"}, {"sid": "s"})
    assert (ws.headers["X-Name"], ws.state, ws.subprotocol) == ("v", {"who": "ann"}, None)
    assert repr(ws) == f"<WebSocket {ws.id} '/thing/7'>"
    assert Connection().ws.id != ws.id


async def test_how_it_ended_is_known_when_it_is_over(connection: Connection) -> None:
    ws = connection.ws
    assert (ws.closed, ws.close_code, ws.close_reason) == (False, None, "")
    ends: list[int | None] = []
    connection.inbox.on_closed = lambda: ends.append(ws.close_code)
    await connection.leave(3001, "bye")
    assert (ws.closed, ws.close_code, ws.close_reason) == (True, 3001, "bye")
    assert ends == [3001]


# -- receiving ---------------------------------------------------------------------------------------------------------


async def test_messages_are_received_in_order_as_text_and_bytes(connection: Connection) -> None:
    await connection.arrive("one", b"two", "")
    assert connection.ws.queued == 3
    assert [await connection.ws.receive() for _ in range(3)] == ["one", b"two", ""]
    assert connection.ws.queued == 0


async def test_receive_waits_for_a_message(connection: Connection) -> None:
    receiving = asyncio.create_task(connection.ws.receive())
    await turns()
    assert not receiving.done()
    await connection.arrive("late")
    assert await receiving == "late"


@pytest.mark.parametrize("timeout", [None, 60])
async def test_what_came_before_the_close_is_received_first(connection: Connection, timeout: float | None) -> None:
    await connection.arrive("last words")
    await connection.leave(3001, "bye")
    assert await connection.ws.receive(timeout=timeout) == "last words"
    assert await over(connection.ws.receive(timeout=timeout)) == (3001, "bye")


async def test_a_client_that_vanishes_ends_a_waiting_receive_with_1006(connection: Connection) -> None:
    receiving = asyncio.create_task(connection.ws.receive())
    await turns()
    connection.transport.client_leaves()
    assert await over(receiving) == (1006, "")


async def test_a_timeout_loses_nothing(connection: Connection) -> None:
    with pytest.raises(TimeoutError):
        await connection.ws.receive(timeout=0)
    await connection.arrive("one")
    assert await connection.ws.receive(timeout=60) == "one"


async def test_a_message_that_arrives_as_its_receiver_gives_up_is_there_for_the_next(connection: Connection) -> None:
    receiving = asyncio.create_task(connection.ws.receive(timeout=60))
    await turns()
    connection.inbox.received("one")
    connection.inbox.received("two")
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    connection.inbox.received("three")
    assert [await connection.ws.receive() for _ in range(3)] == ["one", "two", "three"]


async def test_what_arrives_after_its_receiver_gave_up_is_kept(connection: Connection) -> None:
    receiving = asyncio.create_task(connection.ws.receive())
    await turns()
    receiving.cancel()
    await asyncio.wait((receiving,))
    await connection.arrive("one", "two")
    assert [await connection.ws.receive(), await connection.ws.receive()] == ["one", "two"]


async def test_what_a_cancelled_receiver_was_handed_goes_to_the_one_that_waits_by_now(connection: Connection) -> None:
    cancelled = asyncio.create_task(connection.ws.receive())
    await turns()
    connection.inbox.received("one")
    cancelled.cancel()
    async with asyncio.timeout(1):
        assert await connection.ws.receive() == "one"  # asked for before the other one has noticed anything


async def test_what_a_cancelled_receiver_was_handed_comes_before_the_end(connection: Connection) -> None:
    cancelled = asyncio.create_task(connection.ws.receive())
    await turns()
    connection.inbox.received("one")
    asyncio.get_running_loop().call_soon(connection.inbox.closed, 1000, "")
    cancelled.cancel()
    assert await connection.ws.receive() == "one"
    assert await over(connection.ws.receive()) == (1000, "")


async def test_nothing_is_lost_or_stuck_however_receivers_come_and_go(connection: Connection) -> None:
    random, count = Random(7), 300
    seen: list[int] = []
    receiving: asyncio.Task[None] | None = None

    async def receive() -> None:
        seen.append(int(await connection.ws.receive()))

    for number in range(count):
        connection.inbox.received(str(number))
        while random.random() < 0.6:
            if receiving is not None and random.random() < 0.5:
                receiving.cancel()
                receiving = None
            if receiving is None or receiving.done():
                receiving = asyncio.create_task(receive())
            await turns(random.randrange(3))
    assert receiving is not None
    receiving.cancel()
    await turns()
    while (left := connection.ws.receive_nowait()) is not None:
        seen.append(int(left))
    assert sorted(seen) == list(range(count))


async def test_receive_nowait_takes_what_is_there(connection: Connection) -> None:
    assert connection.ws.receive_nowait() is None
    await connection.arrive("one")
    await connection.leave(3001)
    assert connection.ws.receive_nowait() == "one"
    with pytest.raises(Closed) as caught:
        connection.ws.receive_nowait()
    assert caught.value.code == 3001


async def test_a_message_is_for_whoever_waited_for_it(connection: Connection) -> None:
    receiving = asyncio.create_task(connection.ws.receive())
    await turns()
    connection.inbox.received("one")
    assert connection.ws.receive_nowait() is None
    connection.inbox.received("two")
    assert connection.ws.receive_nowait() == "two"
    assert await receiving == "one"


async def test_iteration_gives_every_message_and_ends_with_the_connection(connection: Connection) -> None:
    async def collect() -> list[str | bytes]:
        return [message async for message in connection.ws]

    collecting = asyncio.create_task(collect())
    await turns()
    await connection.arrive("one", b"two")
    await connection.arrive("three")
    await connection.leave()
    assert await collecting == ["one", b"two", "three"]


async def test_two_tasks_that_receive_at_once_are_an_error(connection: Connection) -> None:
    receiving = asyncio.create_task(connection.ws.receive())
    await turns()
    with pytest.raises(UsageError, match="another task is receiving"):
        await connection.ws.receive()
    with pytest.raises(UsageError, match="another task is receiving"):
        await anext(connection.ws)
    await connection.arrive("for the first one")
    assert await receiving == "for the first one"


# -- a handler that does not read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "waiting"), [("x", INBOX), ("x" * (INBOX_SIZE // 8), 8), (b"x" * (INBOX_SIZE + 1), 1)]
)
async def test_what_is_not_received_stays_with_the_client(
    connection: Connection, message: str | bytes, waiting: int
) -> None:
    sent = [message[: len(message) - number % 2] for number in range(3 * INBOX)]
    await connection.arrive(*sent)
    assert connection.ws.queued <= waiting + 1
    received: list[str | bytes] = []
    while len(received) < len(sent):
        received.append(await connection.ws.receive())
        assert connection.ws.queued <= waiting + 1
    assert received == sent


async def test_a_reader_that_keeps_up_is_never_paused(connection: Connection) -> None:
    pauses: list[int] = []
    connection.inbox.transport = Counting(pauses)
    for _ in range(3 * INBOX):
        receiving = asyncio.ensure_future(connection.ws.receive())
        await asyncio.sleep(0)
        connection.inbox.received("x" * INBOX_SIZE)
        await receiving
    assert pauses == []


class Counting(MemoryTransport):
    """Counts how often it is told to stop reading."""

    def __init__(self, pauses: list[int]) -> None:
        self.pauses = pauses

    def pause_reading(self) -> None:
        self.pauses.append(1)

    def resume_reading(self) -> None:
        self.pauses.append(-1)


async def test_reading_is_paused_and_resumed_once_each(connection: Connection) -> None:
    pauses: list[int] = []
    connection.inbox.transport = Counting(pauses)
    for _ in range(INBOX + 5):
        connection.inbox.received("x")
    assert pauses == [1]
    while connection.ws.receive_nowait():
        assert pauses == ([1] if connection.ws.queued else [1, -1])


async def test_a_close_of_ours_goes_out_though_nothing_is_read(connection: Connection) -> None:
    await connection.arrive(*["x"] * 2 * INBOX)
    await connection.ws.close(4000)
    await turns()
    assert connection.client.closure == (4000, "")
    assert connection.ws.close_code == 4000


# -- JSON --------------------------------------------------------------------------------------------------------------


async def test_json_is_decoded_and_checked(connection: Connection) -> None:
    await connection.arrive('{"x": 1, "y": 2}', b"[1]", '{"x": 3, "y": 4}')
    assert await connection.ws.receive_json(type=Point) == Point(1, 2)
    assert await connection.ws.receive_json() == [1]
    assert await connection.ws.receive_json(type=Point, timeout=60) == Point(3, 4)


@pytest.mark.parametrize("bad", ["{", "", "nonsense", '{"x": 1}', b"\xff", "[" * 100_000, "1" + "0" * 400])
async def test_a_bad_message_is_answered_and_the_next_one_awaited(connection: Connection, bad: str | bytes) -> None:
    await connection.arrive(bad, '{"x": 1, "y": 2}')
    assert await connection.ws.receive_json(type=Point) == Point(1, 2)
    (text,) = connection.client.messages
    answer = json.loads(text)
    assert answer.keys() == {"code", "message"} and answer["code"] == "error" and answer["message"]


async def test_a_bad_message_raises_where_that_is_asked_for_and_the_next_one_can_be_received(
    connection: Connection,
) -> None:
    await connection.arrive("{", "1")
    with pytest.raises(InvalidMessage, match="truncated"):
        await connection.ws.receive_json(invalid="raise")
    assert await connection.ws.receive_json(invalid="raise") == 1
    assert connection.client.messages == [] and not connection.ws.closed


async def test_bad_messages_do_not_prolong_the_timeout(connection: Connection) -> None:
    await connection.arrive("{")
    with pytest.raises(TimeoutError):
        await connection.ws.receive_json(timeout=0.001)
    assert len(connection.client.messages) == 1


async def test_a_good_message_behind_a_bad_one_is_received_though_its_client_left(connection: Connection) -> None:
    await connection.arrive("{", "1")
    await connection.leave(3001)
    assert await connection.ws.receive_json() == 1
    assert await over(connection.ws.receive_json()) == (3001, "")


async def test_json_iteration_gives_what_is_right_and_ends_with_the_connection(connection: Connection) -> None:
    await connection.arrive('{"x": 1, "y": 2}', "{", '{"x": 3, "y": 4}')
    await connection.leave()
    assert [point async for point in connection.ws.iter_json(type=Point)] == [Point(1, 2), Point(3, 4)]
    assert [anything async for anything in connection.ws.iter_json()] == []


async def test_json_iteration_raises_where_that_is_asked_for(connection: Connection) -> None:
    await connection.arrive("1", "{")
    received = []
    with pytest.raises(InvalidMessage):
        async for number in connection.ws.iter_json(type=int, invalid="raise"):
            received.append(number)
    assert received == [1]


# -- sending -----------------------------------------------------------------------------------------------------------


async def test_text_and_bytes_are_sent_as_what_they_are(connection: Connection) -> None:
    for message in ("text", "", b"bytes", bytearray(b"array"), memoryview(b"view")):
        await connection.ws.send(message)  # type: ignore[arg-type]  # the last two are taken, too
    await connection.ws.send_json({"ä": [1, None]})
    assert connection.client.messages == ["text", "", b"bytes", b"array", b"view", '{"ä":[1,null]}']


@pytest.mark.parametrize("message", [None, 1, ["text"], {"a": 1}])
async def test_anything_else_is_a_type_error_that_names_the_way(connection: Connection, message: Any) -> None:
    with pytest.raises(TypeError, match=rf"not {type(message).__name__}; send_json\(\)"):
        await connection.ws.send(message)
    with pytest.raises(TypeError):
        await connection.ws.send_json(object())
    assert connection.client.messages == [] and not connection.ws.closed


async def test_sending_to_a_client_that_left_says_how_it_left(connection: Connection) -> None:
    await connection.leave(3001, "bye")
    assert await over(connection.ws.send("too late")) == (3001, "bye")
    assert await over(connection.ws.send_json({})) == (3001, "bye")
    assert connection.client.messages == []


async def test_sending_after_a_close_of_ours_names_its_code(connection: Connection) -> None:
    await connection.ws.close(4001, "enough")
    assert await over(connection.ws.send("too late")) == (4001, "enough")
    assert connection.client.messages == []


async def test_a_send_waits_for_a_slow_client(connection: Connection) -> None:
    connection.transport.client_pauses()
    await connection.ws.send("x" * 10_000)  # not much waits yet
    sending = asyncio.create_task(connection.ws.send("x" * 100_000))
    await turns()
    assert not sending.done()
    connection.transport.client_resumes()
    await sending
    assert [len(message) for message in connection.client.messages] == [10_000, 100_000]


async def test_a_send_that_waits_ends_with_the_connection(connection: Connection) -> None:
    connection.transport.client_pauses()
    sending = asyncio.create_task(connection.ws.send("x" * 100_000))
    await turns()
    connection.transport.client_leaves()
    assert await over(sending) == (1006, "")
    assert connection.inbox.noticed


async def test_who_does_nothing_but_send_lets_others_have_their_turn(connection: Connection) -> None:
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(len(connection.client.messages))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for _ in range(3 * BREATH):
        await connection.ws.send("")
    looking.cancel()
    assert seen == [BREATH, 2 * BREATH, 3 * BREATH]


async def test_a_client_whose_outbox_is_full_is_closed_with_1013() -> None:
    connection = Connection(limits=Limits(outbox_limit=300_000))
    connection.transport.client_pauses()
    sending = [asyncio.create_task(connection.ws.send("x" * 200_000)) for _ in range(2)]
    await turns()
    assert await over(sending[0]) == (1013, "outbox full")
    assert await over(connection.ws.send("x")) == (1013, "outbox full")
    await asyncio.wait(sending)
    connection.transport.abort()


# -- closing -----------------------------------------------------------------------------------------------------------


async def test_the_first_close_counts_and_goes_behind_what_was_sent(connection: Connection) -> None:
    await connection.ws.send("last")
    await connection.ws.close(4001, "enough")
    await connection.ws.close(4002)
    await turns()
    assert (connection.client.messages, connection.client.closure) == (["last"], (4001, "enough"))


async def test_a_code_that_must_not_be_sent_is_an_error_and_a_long_reason_is_cut(connection: Connection) -> None:
    with pytest.raises(ValueError, match="1006"):
        await connection.ws.close(1006)
    assert not connection.ws.closed
    await connection.ws.close(4001, "ä" * 100)
    assert connection.client.closure == (4001, "ä" * 61)


# -- rooms -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def rooms() -> AsyncIterator[Rooms]:
    rooms = Rooms(MemoryBroker(), limits=Limits(subscriptions=3))
    await rooms.start()
    yield rooms
    await rooms.close()


async def test_a_room_is_joined_and_left_by_name_or_as_it_is(rooms: Rooms) -> None:
    connection = Connection(rooms=rooms)
    ws, car = connection.ws, rooms[{"car": 1}]
    assert await ws.join("lobby") == rooms["lobby"]
    await ws.join({"car": 1})
    await ws.join(car)  # is in
    assert ws.rooms == [rooms["lobby"], car]
    await car.publish({"speed": 3})
    await ws.leave(car)
    await ws.leave("lobby")
    await ws.leave("lobby")
    await car.publish("nobody is there")
    await turns()
    assert ws.rooms == [] and len(car) == 0
    assert connection.client.messages == ['{"speed":3}']


async def test_without_rooms_of_the_application_only_room_objects_can_be_joined(rooms: Rooms) -> None:
    ws = Connection().ws
    with pytest.raises(UsageError, match="no rooms"):
        await ws.join("lobby")
    await ws.join(rooms["lobby"])
    assert ws.rooms == [rooms["lobby"]]
    await ws.finish()


async def test_a_connection_is_in_no_more_rooms_than_it_may(rooms: Rooms) -> None:
    ws = Connection(rooms=rooms).ws
    for name in "abc":
        await ws.join(name)
    with pytest.raises(UsageError, match="is in 3 rooms"):
        await ws.join("d")
    await ws.join("a")
    await ws.leave("a")
    await ws.join("d")
    assert [room.key for room in ws.rooms] == ["b", "c", "d"]
    await ws.finish()


async def test_who_has_left_joins_nothing_and_has_been_told(rooms: Rooms) -> None:
    connection = Connection(rooms=rooms)
    await connection.leave(3001, "bye")
    assert await over(connection.ws.join("lobby")) == (3001, "bye")
    assert connection.inbox.noticed and connection.ws.rooms == [] and len(rooms["lobby"]) == 0
    assert connection.ws._seat is None, "a circle that nobody breaks any more"


async def test_rooms_of_one_name_but_not_of_one_owner_are_two(rooms: Rooms) -> None:
    connection = Connection(rooms=rooms)
    others = Rooms(MemoryBroker())
    mine, theirs = rooms["lobby"], others["lobby"]
    await connection.ws.join(mine)
    await connection.ws.join(theirs)
    await mine.publish("mine")
    await theirs.publish("theirs")
    await turns()
    assert connection.client.messages == ["mine", "theirs"]
    await connection.ws.leave(theirs)
    assert (connection.ws.rooms, len(mine), len(theirs)) == ([mine], 1, 0)
    await connection.ws.finish()
    assert len(mine) == 0
    await others.close()


async def test_what_was_published_goes_before_what_is_sent_and_before_the_close(rooms: Rooms) -> None:
    connection = Connection(rooms=rooms)
    await connection.ws.join("a")
    await connection.ws.join("b")
    await connection.ws.send("0")
    await rooms["b"].publish("1")
    await connection.ws.send("2")
    await rooms["a"].publish(b"3")
    await connection.ws.close()
    assert connection.client.messages == ["0", "1", "2", b"3"]
    await connection.ws.finish()


async def test_all_rooms_are_left_at_the_end_and_observers_learn_the_code(rooms: Rooms) -> None:
    class Observer:
        def __init__(self) -> None:
            self.log: list[object] = []

        def joined(self, member: Member, room: RoomKey) -> None:
            self.log.append(room)

        def left(self, member: Member, room: RoomKey, code: int | None) -> None:
            self.log.append((room, code))

    rooms.node.observers.append(observer := Observer())
    connection = Connection(rooms=rooms)
    await connection.ws.join("a")
    await connection.ws.join("b")
    assert list(rooms["a"]) == [connection.ws] and connection.ws in rooms["a"]
    await connection.leave(3001)
    await connection.ws.finish()
    assert observer.log == ["a", "b", ("a", 3001), ("b", 3001)]
    still_there = Connection(rooms=rooms).ws
    await still_there.join("a")
    await still_there.finish()
    assert observer.log[-1] == ("a", 1000)


async def test_a_room_is_not_flushed_for_those_in_whose_rooms_nothing_waits(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Room] = []
    monkeypatch.setattr(Room, "flush", lambda room: flushed.append(room))
    ws = Connection(rooms=rooms).ws
    await ws.join("a")
    await ws.send("x")
    assert flushed == []  # a send costs the same in a thousand rooms
    await rooms["a"].publish("y")
    await ws.send("z")
    assert flushed == [rooms["a"]]
    await ws.finish()


# -- tasks beside the handler ------------------------------------------------------------------------------------------


async def test_a_spawned_task_is_cancelled_at_the_end(connection: Connection) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    task = connection.ws.spawn(work())
    await turns()
    assert not task.done()
    await connection.ws.finish()
    assert ended == ["work"] and task.cancelled() and not connection.ws.closed


async def test_what_a_task_begins_while_it_ends_is_cancelled_too(connection: Connection) -> None:
    begun: list[asyncio.Task[Any]] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            begun.append(connection.ws.spawn(asyncio.Event().wait()))

    connection.ws.spawn(work())
    await turns()
    await connection.ws.finish()
    assert begun[0].cancelled()


async def test_a_task_that_begins_itself_anew_ends_with_the_handler(connection: Connection) -> None:
    begun: list[asyncio.Task[Any]] = []

    async def work() -> None:
        assert len(begun) < 100, "it never ends"
        try:
            await asyncio.Event().wait()
        finally:
            begun.append(connection.ws.spawn(work()))

    connection.ws.spawn(work())
    await turns()
    await connection.ws.finish()
    late = connection.ws.spawn(work())
    await turns()
    assert late.cancelled() and [task.cancelled() for task in begun] == [True]


async def test_a_spawned_task_gives_its_result_and_a_handler_may_cancel_it(connection: Connection) -> None:
    assert await connection.ws.spawn(asyncio.sleep(0, "done")) == "done"
    task = connection.ws.spawn(asyncio.Event().wait())
    await turns()
    task.cancel()
    await turns()
    assert not connection.ws.closed
    await connection.ws.finish()


def group(*faults: Exception) -> Exception:
    return ExceptionGroup("several", [ExceptionGroup("inner", list(faults))])


FAILURES: list[Callable[[], Exception]] = [
    lambda: ValueError("secret"),
    lambda: group(Closed(1000), ValueError("secret")),
]
NO_FAILURES: list[Callable[[], Exception]] = [lambda: Closed(1000), lambda: group(Closed(1000), Closed(1001))]


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_task_that_fails_closes_the_connection_with_1011(
    connection: Connection, fault: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    connection.ws.spawn(failing(fault()))
    await turns()
    assert connection.client.closure == (1011, "")
    assert connection.ws.id in caplog.text and "secret" in caplog.text


@pytest.mark.parametrize("fault", NO_FAILURES)
async def test_a_task_that_learns_that_the_client_left_has_not_failed(
    connection: Connection, fault: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    connection.ws.spawn(failing(fault()))
    await turns()
    assert not connection.ws.closed and caplog.text == ""


async def failing(fault: Exception) -> None:
    raise fault


async def test_what_a_task_beside_the_handler_is_told_the_handler_does_not_know(connection: Connection) -> None:
    task = connection.ws.spawn(connection.ws.receive())
    await turns()
    await connection.leave()
    assert isinstance(task.exception(), Closed) and not connection.inbox.noticed
    await over(connection.ws.receive())
    assert connection.inbox.noticed
