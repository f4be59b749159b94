"""Endings: whoever begins them, the other side learns how, and nothing that was sent before is lost."""

from __future__ import annotations

from tests.behaviours.behaviour import expect
from tests.behaviours.hosts import Site, new_key, seen

from fairlead.errors import Closed
from fairlead.testing import Client


async def closure(site: Site, path: str) -> tuple[int, str]:
    """How a handler's connection ends by itself."""
    async with site.connect(path) as client:
        code, reason = await client.closed()
        return code, reason


async def everything(client: Client) -> list[str | bytes]:
    """All that comes until the end."""
    return [message async for message in client]


# -- the server's ------------------------------------------------------------------------------------------------------


@expect((1000, ""))
async def a_handler_that_returns_closes_with_1000(site: Site) -> object:
    return await closure(site, "/returns")


@expect((1011, ""))
async def a_handler_that_fails_closes_with_1011_and_says_nothing(site: Site) -> object:
    return await closure(site, "/fails")


@expect((1011, ""))
async def a_task_that_fails_closes_with_1011(site: Site) -> object:
    return await closure(site, "/elsewhere/task/fails")


@expect(4001)
async def the_first_close_code_reaches_the_client(site: Site) -> object:
    return (await closure(site, "/closes"))[0]


@expect("enough")
async def the_reason_reaches_the_client(site: Site) -> object:
    return (await closure(site, "/closes"))[1]


@expect([str(number) for number in range(100)])
async def what_was_sent_before_a_close_arrives(site: Site) -> object:
    async with site.connect("/closes") as client:
        return await everything(client)


# -- the client's ------------------------------------------------------------------------------------------------------


async def left(site: Site, path: str, code: int = 4005, reason: str = "bye") -> list[object]:
    """What a handler notes whose client closes."""
    key = new_key()
    async with site.connect(path, query={"key": key}) as client:
        assert await client.receive() == "in"
        await client.close(code, reason)
    noted: list[object] = await seen(site, key)
    return noted


async def vanished(site: Site, path: str) -> object:
    """What a handler notes whose client vanishes."""
    key = new_key()
    async with site.connect(path, query={"key": key}) as client:
        await client.receive()
        client.abort()
        return await seen(site, key)


@expect(4005)
async def the_clients_close_code_reaches_the_handler(site: Site) -> object:
    return (await left(site, "/waits"))[0]


@expect("bye")
async def the_clients_reason_reaches_the_handler(site: Site) -> object:
    return (await left(site, "/waits"))[1]


@expect("raised")
async def sending_to_a_client_that_closed_raises(site: Site) -> object:
    return await left(site, "/sends-late")


@expect(["0", "1", "2"])
async def messages_before_the_clients_close_are_received(site: Site) -> object:
    key = new_key()
    async with site.connect("/ends", query={"key": key}) as client:
        assert await client.receive() == "in"
        for number in range(3):
            await client.send(str(number))
        await client.close()
        return await seen(site, key)


@expect(1006)
async def a_client_that_vanishes_ends_a_receive(site: Site) -> object:
    noted = await vanished(site, "/waits")
    assert isinstance(noted, list)
    return noted[0]


@expect("ended")
async def a_client_that_vanishes_ends_a_push(site: Site) -> object:
    return await vanished(site, "/pushes")


@expect("cancelled")
async def a_handler_that_cannot_see_it_is_cancelled(site: Site) -> object:
    return await vanished(site, "/elsewhere/deaf")


@expect("cancelled")
async def a_task_ends_with_its_connection(site: Site) -> object:
    key = new_key()
    async with site.connect("/task", query={"key": key}) as client:
        await client.send("return")
        return await seen(site, key)


@expect("over")
async def nothing_comes_after_the_close(site: Site) -> object:
    async with site.connect("/returns") as client:
        try:
            return await client.receive()
        except Closed:
            return "over"
