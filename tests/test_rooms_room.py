"""Rooms of the application's own process: from its event loop, from threads, and from one event loop after another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.connections import Connection, turns

from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import BrokerUnavailable, Closed, InvalidRoom, UsageError
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.rooms.room import Room, Rooms
from fairlead.testing import ScriptedBroker


@pytest.fixture
async def rooms() -> AsyncIterator[Rooms]:
    rooms = Rooms(MemoryBroker())
    yield rooms
    await rooms.close()


async def member(room: Room) -> Connection:
    connection = Connection()
    await room.add(connection.ws)
    return connection


# -- in the event loop -------------------------------------------------------------------------------------------------


async def test_everybody_in_a_room_gets_what_is_published_as_what_it_is(rooms: Rooms) -> None:
    room = rooms["lobby"]
    ann, bob = await member(room), await member(room)
    await member(rooms["elsewhere"])
    for data in ("text", b"bytes", bytearray(b"array"), {"a": [1, None]}, 7, None, "{}"):
        await room.publish(data)
    await turns()
    assert ann.client.messages == ["text", b"bytes", b"array", '{"a":[1,null]}', "7", "null", "{}"]
    assert bob.client.messages == ann.client.messages


async def test_who_does_nothing_but_publish_floods_nobody(rooms: Rooms) -> None:
    ann = await member(rooms["lobby"])
    for number in range(3 * BREATH):
        await rooms["lobby"].publish("x" * 10_000)
        assert number - len(ann.client.messages) <= BREATH
    await turns()
    assert (len(ann.client.messages), ann.client.closure) == (3 * BREATH, None)


async def test_one_connection_can_be_left_out_by_itself_or_by_its_id(rooms: Rooms) -> None:
    room = rooms["lobby"]
    ann, bob = await member(room), await member(room)
    await room.publish("1", exclude=ann.ws)
    await room.publish("2", exclude=bob.ws.id)
    await room.publish("3", exclude="nobody")
    await turns()
    assert (ann.client.messages, bob.client.messages) == (["2", "3"], ["1", "3"])


async def test_what_has_no_form_in_json_is_an_error_at_once(rooms: Rooms) -> None:
    with pytest.raises(TypeError):
        rooms["lobby"].publish(object())


async def test_a_room_knows_who_is_in_it(rooms: Rooms) -> None:
    room = rooms["lobby"]
    assert len(room) == 0 and bool(room) and list(room) == []
    ann, bob = await member(room), await member(room)
    assert len(room) == 2 and set(room) == {ann.ws, bob.ws}
    assert ann.ws in room and ann.ws not in rooms["elsewhere"] and Connection().ws not in room and 7 not in room
    for connection in room:
        await room.discard(connection)  # type: ignore[arg-type]  # those here can be in rooms
    assert len(room) == 0 and ann.ws.rooms == []


async def test_adding_twice_and_discarding_a_stranger_change_nothing(rooms: Rooms) -> None:
    room = rooms["lobby"]
    ann = await member(room)
    await room.add(ann.ws)
    await room.discard(Connection().ws)
    await room.publish("once")
    await turns()
    assert len(room) == 1 and ann.client.messages == ["once"]


async def test_who_is_discarded_gets_what_was_published_before_and_it_needs_no_await(rooms: Rooms) -> None:
    room = rooms["lobby"]
    ann = await member(room)
    await room.publish("before")
    room.discard(ann.ws)
    assert ann.client.messages == ["before"] and len(room) == 0


async def test_names_of_one_room_are_one_room(rooms: Rooms) -> None:
    room = rooms[{"a": 1, "b": 2}]
    assert room == rooms[{"b": 2, "a": 1}] == rooms['{"b":2, "a":1}'] and room.rooms is rooms
    assert len({room, rooms[{"b": 2, "a": 1}], rooms["lobby"]}) == 2
    assert room != rooms["lobby"] and room != Rooms(MemoryBroker())[{"a": 1, "b": 2}] and room != "lobby"
    assert repr(rooms["lobby"]) == "<Room lobby>"
    for name in ("", "a\n", "x" * 513):
        with pytest.raises(InvalidRoom):
            rooms[name]


async def test_a_room_may_have_longer_names_and_a_connection_fewer_rooms_where_limits_say_so() -> None:
    rooms = Rooms(MemoryBroker(), limits=Limits(room_size=1000, subscriptions=1))
    ann = await member(rooms["x" * 1000])
    with pytest.raises(UsageError, match="in 1 rooms"):
        await rooms["lobby"].add(ann.ws)
    assert len(rooms["lobby"]) == 0
    await rooms.close()


async def test_who_is_gone_is_not_added(rooms: Rooms) -> None:
    ann = Connection()
    await ann.leave()
    with pytest.raises(Closed):
        await rooms["lobby"].add(ann.ws)
    assert len(rooms["lobby"]) == 0 and ann.ws.rooms == []


# -- start and end -----------------------------------------------------------------------------------------------------


async def test_rooms_start_with_their_first_use(rooms: Rooms) -> None:
    assert not rooms.started and len(rooms["lobby"]) == 0
    await rooms["lobby"].publish("nobody is there")
    assert rooms.started
    node = rooms.node
    await rooms.start()
    assert rooms.node is node


async def test_all_who_use_them_first_wait_for_one_start() -> None:
    broker = Slow()
    rooms = Rooms(broker)
    using = [asyncio.create_task(member(rooms["lobby"])) for _ in range(3)]
    await turns()
    using.pop().cancel()
    broker.going.set()
    await asyncio.gather(*using)
    assert broker.starts == 1 and len(rooms["lobby"]) == 2
    await rooms.close()


async def test_a_start_that_nobody_waits_for_any_more_counts() -> None:
    broker = Slow()
    rooms = Rooms(broker)
    starting = asyncio.create_task(rooms.start())
    await turns()
    broker.going.set()
    starting.cancel()
    await asyncio.wait((starting,))
    await member(rooms["lobby"])
    assert broker.starts == 1 and len(rooms["lobby"]) == 1
    await rooms.close()


async def test_a_start_that_fails_is_tried_again_by_the_next_one() -> None:
    broker = Slow(failing=True)
    broker.going.set()
    rooms = Rooms(broker)
    for _ in range(2):
        using = await asyncio.gather(rooms.start(), rooms["lobby"].publish("x"), return_exceptions=True)
        assert [type(fault) for fault in using] == [BrokerUnavailable, BrokerUnavailable]
        assert not rooms.started
        await rooms.close()
    assert broker.starts == 2
    broker.failing = False
    await rooms.start()
    assert rooms.started
    await rooms.close()


async def test_closing_while_they_start_leaves_nothing_running() -> None:
    broker = Slow()
    rooms = Rooms(broker)
    starting = asyncio.create_task(rooms.start())
    await turns()
    closing = asyncio.create_task(rooms.close())
    await turns()
    broker.going.set()
    await asyncio.gather(starting, closing)
    assert not rooms.started and broker.sink is None


async def test_closing_while_they_fail_to_start_is_fine() -> None:
    broker = Slow(failing=True)
    rooms = Rooms(broker)
    starting = asyncio.create_task(rooms.start())
    await turns()
    closing = asyncio.create_task(rooms.close())
    await turns()
    broker.going.set()
    await asyncio.gather(starting, closing, return_exceptions=True)
    assert isinstance(starting.exception(), BrokerUnavailable) and not rooms.started
    broker.failing = False
    await rooms.start()
    await rooms.close()


async def test_closed_rooms_start_again_empty(rooms: Rooms) -> None:
    ann = await member(rooms["lobby"])
    await rooms["lobby"].publish("last")
    await rooms.close()
    await rooms.close()
    assert ann.client.messages == ["last"] and not rooms.started
    bob = await member(rooms["lobby"])
    await rooms["lobby"].publish("again")
    await turns()
    assert (ann.client.messages, bob.client.messages) == (["last"], ["again"])
    await ann.ws.finish()
    assert list(rooms["lobby"]) == [bob.ws]


async def test_what_waits_can_be_written_at_once(rooms: Rooms) -> None:
    ann = await member(rooms["lobby"])
    assert not rooms.waiting
    for flush in (rooms.flush, rooms["lobby"].flush):
        await rooms["lobby"].publish("x")
        assert rooms.waiting
        flush()
        assert not rooms.waiting
    assert ann.client.messages == ["x", "x"]


class Slow(ScriptedBroker):
    """Starts when the test says so."""

    def __init__(self, *, failing: bool = False) -> None:
        super().__init__()
        self.going = asyncio.Event()
        self.starts = 0
        self.failing = failing

    async def start(self, sink: Any) -> None:
        self.starts += 1
        await self.going.wait()
        if self.failing:
            raise BrokerUnavailable("not now")
        await super().start(sink)


def test_one_event_loop_may_follow_another() -> None:
    rooms = Rooms(MemoryBroker())

    async def use(close: bool) -> None:
        assert len(rooms["lobby"]) == 0  # also before they are started here
        ann = await member(rooms["lobby"])
        await rooms["lobby"].publish("x")
        await turns()
        assert ann.client.messages == ["x"] and len(rooms["lobby"]) == 1
        if close:
            await rooms.close()

    for close in (False, True, False, False):
        asyncio.run(use(close))
    assert len(rooms["lobby"]) == 0


# -- from threads ------------------------------------------------------------------------------------------------------


async def in_thread(function: Callable[[], object]) -> object:
    """Call it in a thread without an event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


async def test_a_thread_publishes_and_it_is_done_when_that_returns(rooms: Rooms) -> None:
    ann = await member(rooms["lobby"])
    result = await in_thread(lambda: rooms["lobby"].publish("from a thread"))
    await turns()
    assert ann.client.messages == ["from a thread"]
    assert await result is None  # type: ignore[misc]  # awaiting it is allowed


async def test_a_thread_sees_adds_and_discards(rooms: Rooms) -> None:
    await rooms.start()
    room, ann = rooms["lobby"], Connection()

    def work() -> None:
        room.add(ann.ws)
        assert len(room) == 1 and list(room) == [ann.ws] and ann.ws in room
        room.publish("1")
        room.discard(ann.ws)
        room.publish("2")
        assert len(room) == 0

    await in_thread(work)
    assert ann.client.messages == ["1"]


async def test_errors_reach_the_thread(rooms: Rooms) -> None:
    await rooms.start()
    ann = Connection()
    await ann.leave()
    with pytest.raises(Closed):
        await in_thread(lambda: rooms["lobby"].add(ann.ws))
    with pytest.raises(TypeError):
        await in_thread(lambda: rooms["lobby"].publish(object()))


def test_a_thread_without_any_server_is_told_so() -> None:
    room = Rooms(MemoryBroker())["lobby"]
    with pytest.raises(UsageError, match="no server of this process.*fairlead.publish"):
        room.publish("x")
    assert len(room) == 0


@contextmanager
def other_loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Another event loop in a thread; runs what it is given."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_another_event_loop_publishes_but_has_rooms_of_its_own(rooms: Rooms) -> None:
    ann = await member(rooms["lobby"])

    async def elsewhere() -> None:
        await rooms["lobby"].publish("from elsewhere")
        with pytest.raises(UsageError, match="from their own event loop"):
            len(rooms["lobby"])
        with pytest.raises(UsageError, match="belong to another event loop"):
            await rooms.start()
        await rooms.close()  # not theirs: nothing happens

    with other_loop() as run:
        await in_thread(lambda: run(elsewhere()))
    await turns()
    assert ann.client.messages == ["from elsewhere"] and rooms.started and len(rooms["lobby"]) == 1


async def test_many_threads_publish_at_once_and_nothing_is_lost(rooms: Rooms) -> None:
    ann = await member(rooms["lobby"])
    with ThreadPoolExecutor(8) as pool:
        loop = asyncio.get_running_loop()
        publish = rooms["lobby"].publish
        await asyncio.gather(*(loop.run_in_executor(pool, publish, f"{number}") for number in range(200)))
    await turns()
    assert sorted(ann.client.messages) == sorted(f"{number}" for number in range(200))


# -- from views of a web application -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_view_publishes(rooms: Rooms, kind: str) -> None:
    ann = await member(rooms["lobby"])

    def plain_view(request: Request) -> Response:
        rooms["lobby"].publish({"by": "plain"})
        return PlainTextResponse(f"{len(rooms['lobby'])} here")

    async def async_view(request: Request) -> Response:
        await rooms["lobby"].publish({"by": "async"})
        return PlainTextResponse(f"{len(rooms['lobby'])} here")

    app = Starlette(routes=[Route("/publish", {"plain": plain_view, "async": async_view}[kind], methods=["POST"])])
    assert await post(app, "/publish") == b"1 here"
    await turns()
    assert ann.client.messages == [f'{{"by":"{kind}"}}']


async def post(app: Callable[[Any, Any, Any], Awaitable[None]], path: str) -> bytes:
    body: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(event: MutableMapping[str, Any]) -> None:
        body.append(event.get("body", b""))

    await app({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}, receive, send)
    return b"".join(body)
