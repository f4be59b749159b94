"""Pressure: who does not read is waited for or given up, and many do not disturb each other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.behaviours.application import FLOOD, PIECE, STALLED
from tests.behaviours.behaviour import expect
from tests.behaviours.hosts import Site, new_key, seen, tell
from tests.behaviours.in_rooms import enter

from fairlead.errors import Closed
from fairlead.testing import Client


@expect("waits")
async def sending_waits_for_a_client_that_does_not_read(site: Site) -> object:
    key = new_key()
    async with site.connect("/gushes", query={"key": key}) as client:
        client.pause_reading()
        await tell(site, key)
        noted = await seen(site, key)
        client.abort()
        return noted


class Sender:
    """A client that sends all pieces, as fast as it may.

    Attributes:
        sent: How many so far.
    """

    def __init__(self, client: Client) -> None:
        self.sent = 0
        self._client = client
        self.done = asyncio.create_task(self._send())

    async def _send(self) -> None:
        for _ in range(FLOOD):
            await self._client.send(PIECE)
            self.sent += 1

    async def stalled(self) -> bool:
        """Whether it has to wait before it is done."""
        while not self.done.done():
            before = self.sent
            await asyncio.wait((self.done,), timeout=STALLED)
            if self.sent == before:
                return True
        return False


@expect("waits")
async def a_client_waits_for_a_handler_that_does_not_read(site: Site) -> object:
    key = new_key()
    async with site.connect("/reads-late", query={"key": key}) as client:
        sender = Sender(client)
        waits = await sender.stalled()
        await tell(site, key)
        await sender.done
        assert await client.receive() == str(FLOOD * len(PIECE))
        return "waits" if waits else "never waits"


@expect("closed with 1013")
async def a_member_that_does_not_read_is_closed_and_may_come_back(site: Site) -> object:
    async with AsyncExitStack() as stack:
        slow, quick = await enter(stack, site, new_key(), 2)
        slow.pause_reading()
        for _ in range(FLOOD):
            await quick.send("more")
            assert await quick.receive() == PIECE
        slow.resume_reading()
        for _ in range(FLOOD):
            try:
                await slow.receive()
            except Closed as closed:
                return f"closed with {closed.code}"
        return "gets everything"


@expect([[str(number), str(number)] for number in range(50)])
async def fifty_clients_are_served_at_once(site: Site) -> object:
    async def talk(number: int) -> list[str | bytes]:
        async with site.connect("/echo") as client:
            await client.send(str(number))
            first = await client.receive()
            await client.send(first)
            return [first, await client.receive()]

    return await asyncio.gather(*map(talk, range(50)))
