"""Work goes on as long as the client is there, and whatever ends it, ends it once."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from fairlead.gateway.attended import Attended

Event = MutableMapping[str, Any]


class Client:
    """Events as a server tells them; an exception is raised."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()

    async def receive(self) -> Event:
        event = await self.events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def leave(self) -> None:
        self.events.put_nowait({"type": "websocket.receive", "text": "early words"})
        self.events.put_nowait({"type": "websocket.disconnect"})


async def waiting(client: Client, started: asyncio.Event, ended: list[str]) -> str:
    async with Attended(client.receive):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cut")
    return "went on"


async def test_the_block_runs_to_its_end_and_nobody_receives_any_more() -> None:
    client = Client()
    before = asyncio.all_tasks()
    async with Attended(client.receive):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    client.leave()
    assert client.events.qsize() == 2


async def test_what_the_block_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="own"):
        async with Attended(Client().receive):
            raise ValueError("own")


async def test_a_client_that_leaves_cuts_the_block_and_the_task_goes_on() -> None:
    client, started, ended = Client(), asyncio.Event(), list[str]()
    task = asyncio.create_task(waiting(client, started, ended))
    await started.wait()
    client.leave()
    assert await task == "went on"
    assert ended == ["cut"]
    assert task.cancelling() == 0


async def test_a_server_that_cannot_receive_is_heard() -> None:
    client, started, ended = Client(), asyncio.Event(), list[str]()
    task = asyncio.create_task(waiting(client, started, ended))
    await started.wait()
    client.events.put_nowait(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await task
    assert ended == ["cut"]


async def test_one_that_is_cancelled_is_cancelled_also_if_the_client_leaves_in_the_same_moment() -> None:
    for leaves in (False, True):
        client, started = Client(), asyncio.Event()
        task = asyncio.create_task(waiting(client, started, []))
        await started.wait()
        if leaves:
            client.leave()
            await asyncio.sleep(0)  # the watching task is told, and has not run
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_client_that_leaves_while_the_block_fails_changes_nothing() -> None:
    client = Client()
    with pytest.raises(ValueError, match="own"):
        async with Attended(client.receive):
            await asyncio.sleep(0)
            client.leave()
            raise ValueError("own")
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    await asyncio.sleep(0)  # no cancelling comes late
