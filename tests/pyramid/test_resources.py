"""Resources and their listeners, over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pyramid.authorization import ALL_PERMISSIONS, Allow, Everyone
from pyramid.request import Request
from tests.pyramid.site import Node, application, served, tree

from fairlead.errors import UsageError
from fairlead.limits import Limits
from fairlead.pyramid.configuration import room
from fairlead.rooms.room import Room
from fairlead.testing import Client, RunningServer


@pytest.fixture
def root() -> Node:
    return tree()


@pytest.fixture
async def server(root: Node) -> AsyncIterator[RunningServer]:
    async with served(application(root)) as server:
        yield server


async def count(server: RunningServer, path: str = "/open", body: bytes = b"") -> int:
    """Push something; how many listeners there were."""
    return int((await server.http("POST", path, body=body)).text)


async def until(server: RunningServer, expected: int, path: str = "/open") -> None:
    """Ask until there are so many listeners: the server learns of an end when it learns of it."""
    async with asyncio.timeout(5):
        while await count(server, path) != expected:
            pass


async def ask(client: Client, what: str) -> str:
    await client.send(what)
    return await client.receive_text()


async def test_a_listener_is_in_once_and_removing_a_stranger_is_harmless(server: RunningServer) -> None:
    async with server.connect("/open") as first:
        assert await first.receive_text() == "1 listening"
        assert await ask(first, "again") == "1 listening"
        async with server.connect("/open") as second:
            assert await second.receive_text() == "2 listening"
            assert await ask(second, "leave") == "1 listening"
            assert await ask(second, "leave") == "1 listening"
        assert await ask(first, "leave") == "0 listening"


async def test_a_post_reaches_every_listener_before_it_is_answered(server: RunningServer) -> None:
    async with server.connect("/open") as first, server.connect("/open") as second:
        await second.receive()
        await first.receive()
        assert await count(server, body=b"start") == 2
        assert [await first.receive(), await second.receive()] == ["start", "start"]


async def test_a_resource_that_nobody_listens_to_can_be_told_things(server: RunningServer) -> None:
    assert await count(server, body=b"start") == 0


async def test_listeners_are_those_of_one_resource(server: RunningServer) -> None:
    async with server.connect("/open") as here, server.connect("/open/inner") as there:
        await here.receive()
        await there.receive()
        assert await count(server, "/open/inner", b"inside") == 1
        assert await there.receive() == "inside"
        await here.assert_nothing()


async def test_a_listener_leaves_with_its_connection(server: RunningServer) -> None:
    async with server.connect("/open") as stays, server.connect("/open") as goes, server.connect("/open") as vanishes:
        assert await vanishes.receive_text()
        await goes.close()
        vanishes.abort()
        await until(server, 1)
        assert await stays.receive_text()


@pytest.mark.slow
async def test_a_listener_that_does_not_read_keeps_nobody_waiting() -> None:
    async with (
        served(application(), limits=Limits(close_timeout=0.1)) as server,
        server.connect("/open") as slow,
        server.connect("/open") as quick,
    ):
        await slow.receive()
        await quick.receive()
        slow.pause_reading()
        async with asyncio.timeout(5):
            while await count(server, "/open?times=500000", b"x") == 2:
                assert await quick.receive() == "x" * 500_000
        assert await quick.receive() == "x" * 500_000
        slow.abort()


async def test_coming_and_going_while_a_message_goes_out_disturbs_nobody(server: RunningServer) -> None:
    async with server.connect("/open") as stays:
        await stays.receive()

        async def visit() -> None:
            async with server.connect("/open") as visitor:
                await visitor.receive()

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(visit())
                group.create_task(count(server, body=b"%d" % number))
        assert {await stays.receive_text() for _ in range(20)} == {str(number) for number in range(20)}
        await until(server, 1)


async def test_an_async_handler_listens_and_sends_alike(server: RunningServer) -> None:
    async with server.connect("/open") as blocking, server.connect("/open/async") as other:
        await blocking.receive()
        await other.send("hello")
        assert [await blocking.receive(), await other.receive()] == ["hello", "hello"]
        assert await count(server) == 2


async def test_a_falsy_resource_has_listeners(root: Node) -> None:
    assert not root["closed"]
    assert root["closed"].listeners == frozenset()


async def test_what_was_looked_at_stays_as_it_was(server: RunningServer, root: Node) -> None:
    async with server.connect("/open") as client:
        await client.receive()
        before = root["open"].listeners
        await ask(client, "leave")
        assert len(before) == 1 and not root["open"].listeners


def test_a_resource_knows_its_place(root: Node) -> None:
    assert root["open"]["inner"].path == "/open/inner"
    assert str(root["open"]["inner"]) == "Node: inner (/open/inner)"
    assert str(root) == "Node: ROOT (/)"


async def test_other_threads_may_send(server: RunningServer, root: Node) -> None:
    async with server.connect("/open") as client:
        await client.receive()
        await asyncio.to_thread(root["open"].send, {"from": "a thread"})
        assert await client.receive() == '{"from":"a thread"}'


class Order(Node):
    """Made anew for each request: a room's name tells which ones are the same."""

    def __init__(self, name: str, parent: Node, request: Request) -> None:
        super().__init__(name, parent)
        self._request = request

    @property
    def room(self) -> Room:
        room: Room = self._request.room(f"order:{self.__name__}")
        return room


async def test_resources_of_one_room_share_their_listeners() -> None:
    def factory(request: Request) -> Node:
        root = Node(acl=[(Allow, Everyone, ALL_PERMISSIONS)])
        root["order"], root["other"] = (Order(name, root, request) for name in ("order", "other"))
        return root

    async with served(application(factory)) as server:
        assert await count(server, "/order", b"nobody is there yet") == 0
        async with server.connect("/order") as first, server.connect("/other") as second:
            assert [await first.receive(), await second.receive()] == ["1 listening"] * 2
            assert await count(server, "/order", b"go") == 1
            assert await first.receive() == "go"
            await second.assert_nothing()


async def test_rooms_of_the_server_have_names(server: RunningServer) -> None:
    async with server.connect("/news") as client:
        assert await client.receive() == "in"
        assert (await server.http("GET", "/news")).text == "published"
        assert await client.receive() == "ahoy"


def test_another_server_has_no_rooms() -> None:
    request = Request.blank("/")
    with pytest.raises(UsageError, match="this server has no rooms"):
        room(request, "news")
