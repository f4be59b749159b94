"""Rooms: everybody in one gets what is published there, in order, and nobody else does."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.behaviours.behaviour import expect
from tests.behaviours.hosts import Site, new_key

from fairlead.errors import Closed
from fairlead.testing import Client


async def enter(stack: AsyncExitStack, site: Site, room: str, count: int) -> list[Client]:
    """Clients in a room."""
    clients = [await stack.enter_async_context(site.connect(f"/chat/{room}")) for _ in range(count)]
    for client in clients:
        assert await client.receive() == "in"
    return clients


async def publish(site: Site, room: str, data: object) -> int:
    """Publish from HTTP; how many are in the room."""
    answer = await site.http.post(f"rooms/{room}", json=data)
    assert answer.status_code == 200, answer.text
    return int(answer.text)


@expect(["news"] * 3)
async def a_publication_reaches_everybody_in_the_room(site: Site) -> object:
    room = new_key()
    async with AsyncExitStack() as stack:
        clients = await enter(stack, site, room, 3)
        await clients[0].send("news")
        return [await client.receive() for client in clients]


@expect([b"\x00\xff", b"\x00\xff"])
async def a_publication_may_be_binary(site: Site) -> object:
    async with AsyncExitStack() as stack:
        clients = await enter(stack, site, new_key(), 2)
        await clients[0].send(b"\x00\xff")
        return [await client.receive() for client in clients]


@expect([["end"], ["others", "end"]])
async def a_publisher_may_exclude_itself(site: Site) -> object:
    async with AsyncExitStack() as stack:
        one, other = await enter(stack, site, new_key(), 2)
        await one.send("others")
        await one.send("end")
        return [[await one.receive()], [await other.receive(), await other.receive()]]


@expect([["left", "third"], ["second", "third"]])
async def who_left_a_room_gets_nothing_until_he_is_back(site: Site) -> object:
    room = new_key()
    async with AsyncExitStack() as stack:
        one, other = await enter(stack, site, room, 2)
        await one.send("leave")
        got = [await one.receive()]
        await other.send("second")
        others = [await other.receive()]
        await one.send("back")
        await one.send("third")
        return [[*got, await one.receive()], [*others, await other.receive()]]


@expect([str(number) for number in range(20)])
async def what_is_sent_and_what_is_published_keep_one_order(site: Site) -> object:
    async with site.connect(f"/order/{new_key()}") as client:
        return [message async for message in client]


@expect([["first", "second"], ["two"]])
async def a_connection_is_in_several_rooms(site: Site) -> object:
    one, two = new_key(), new_key()
    async with site.connect(f"/two/{one}/{two}") as client:
        assert await client.receive() == "in"
        await publish(site, one, "first")
        await publish(site, two, "second")
        got = [await client.receive(), await client.receive()]
        await client.send("leave the one")
        still = await client.receive_json()
        return [got, ["two" if still == [two] else still]]


@expect([2, {"id": 7, "text": "ü"}])
async def an_http_request_publishes_into_a_room(site: Site) -> object:
    room = new_key()
    async with AsyncExitStack() as stack:
        clients = await enter(stack, site, room, 2)
        inside = await publish(site, room, {"id": 7, "text": "ü"})
        await clients[0].receive_json()
        return [inside, await clients[1].receive_json()]


@expect([2, 1])
async def who_is_gone_is_in_no_room(site: Site) -> object:
    room = new_key()
    async with AsyncExitStack() as stack:
        await enter(stack, site, room, 1)
        async with site.connect(f"/chat/{room}") as client:
            assert await client.receive() == "in"
            before = await publish(site, room, "two")
        while (inside := await publish(site, room, "one")) == before:
            pass  # each is a turn for the server, which learns of it sooner or later
        return [before, inside]


@expect("joined")
async def a_room_is_found_by_its_name(site: Site) -> object:
    async with site.connect(f"/named/{new_key()}") as client:
        try:
            return await client.receive()
        except Closed as closed:
            return f"closed with {closed.code}"
