from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from fairlead.brokers.memory import MemoryBroker
from fairlead.gateway.answer import Answer, Refused, Verdict
from fairlead.gateway.connection import Connection, Subscription, Welcome
from fairlead.gateway.rights import Rights
from fairlead.limits import Limits
from fairlead.rooms.names import Grants, RoomKey
from fairlead.rooms.node import Node
from fairlead.testing import RecordingTransport
from fairlead.transports.ticker import Ticker


def answer(*rooms: str, user: str | int | None = 7, expires_in: float | None = None) -> Answer:
    return Answer(user, Grants(rooms), b"[]", b"[]", (), expires_in, None)


class World:
    """One connection, an API that answers when the test says so, and a clock turned by hand."""

    def __init__(self, *, grace: float = 300.0) -> None:
        self.asks: list[asyncio.Future[Answer]] = []
        self.headers: list[bytes] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ticker = Ticker()
        self.rights = Rights(self._ask, self.ticker, self._spawn, grace=grace)
        self.limits = Limits()
        self.node = Node(MemoryBroker())
        self.connection = Connection(
            self, "c1", Welcome(b"{}"), user="7", grants=Grants(["a", "b"]), forwarded=b"Cookie: s"
        )
        self.transport = RecordingTransport()
        self.connection.connected(self.transport)

    def opened(self, connection: Connection, expires_in: float | None) -> None: ...

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        self.rights.forget(connection)

    def expired(self, connection: Connection) -> None:
        self.rights.refresh(connection)

    def join_later(self, connection: Connection, subscription: Subscription) -> None:
        self._spawn(connection.join(subscription))

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))

    def _ask(self, headers: bytes) -> asyncio.Future[Answer]:
        self.headers.append(headers)
        self.asks.append(asyncio.get_running_loop().create_future())
        return self.asks[-1]

    async def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            for item in self.ticker.wheel.advance(self.ticker.wheel.now + 1):
                item.expired()
        await turns()

    async def reply(self, outcome: Answer | Refused) -> None:
        pending = self.asks[-1]
        if isinstance(outcome, Answer):
            pending.set_result(outcome)
        else:
            pending.set_exception(outcome)
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def unavailable() -> Refused:
    return Refused(Verdict.UNAVAILABLE, "down")


@pytest.mark.parametrize("expires_in", [5.0, 60.0, 3600.0])
async def test_the_api_is_asked_again_in_the_last_tenth(expires_in: float) -> None:
    world = World()
    world.rights.watch(world.connection, expires_in)
    early = int(expires_in * 0.9) - 2
    await world.wait(early)
    assert world.asks == []
    await world.wait(int(expires_in) - early + 1)
    assert world.headers == [b"Cookie: s"]


async def test_rights_that_never_expire_are_not_asked_for() -> None:
    world = World()
    world.rights.watch(world.connection, 60.0)
    world.rights.watch(world.connection, None)
    await world.wait(1000)
    assert world.asks == []


async def test_a_good_answer_replaces_the_rights_and_starts_the_next_term() -> None:
    world = World()
    world.rights.refresh(world.connection)
    await turns()
    await world.reply(answer("b", expires_in=60.0))
    assert not world.connection.grants.allows(RoomKey("a"))
    assert world.connection.grants.allows(RoomKey("b"))
    await world.wait(62)
    assert len(world.asks) == 2


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Refused(Verdict.UNAUTHORIZED, ""), 4401),
        (Refused(Verdict.FORBIDDEN, ""), 4403),
        (answer("a", user=8), 4401),
        (answer("a", user=None), 4401),
    ],
)
async def test_an_answer_that_ends_the_connection(outcome: Answer | Refused, code: int) -> None:
    world = World()
    world.rights.refresh(world.connection)
    await turns()
    await world.reply(outcome)
    assert world.transport.code == code


async def test_while_the_api_cannot_be_asked_rights_stay_for_the_time_of_grace() -> None:
    world = World(grace=300.0)
    world.rights.refresh(world.connection)
    await turns()
    started = world.ticker.wheel.now
    delays, last = [], started
    while world.transport.open:
        assert world.ticker.wheel.now - started <= 303
        await world.reply(unavailable())
        count = len(world.asks)
        while len(world.asks) == count and world.transport.open:
            await world.wait(1)
        delays.append(world.ticker.wheel.now - last)
        last = world.ticker.wheel.now
        assert world.connection.grants.allows(RoomKey("a"))
    assert world.transport.code == 1013
    assert world.ticker.wheel.now - started >= 300
    assert delays[:6] == [1, 2, 4, 8, 16, 32]
    assert max(delays) <= 60


async def test_after_a_good_answer_the_grace_begins_anew() -> None:
    world = World(grace=10.0)
    for _ in range(5):
        world.rights.refresh(world.connection)
        await turns()
        await world.reply(unavailable())
        await world.wait(3)
        await world.reply(answer("a", expires_in=1000.0))
    assert world.transport.open
    assert world.connection.failing_since == 0


async def test_a_refresh_during_an_ask_asks_once_more() -> None:
    world = World()
    world.rights.refresh(world.connection)
    await turns()
    for _ in range(3):
        world.rights.refresh(world.connection)
    await world.reply(answer("a"))
    assert len(world.asks) == 2
    await world.reply(answer("b"))
    assert len(world.asks) == 2
    assert world.connection.grants.allows(RoomKey("b"))


async def test_rights_told_by_the_api_itself_are_not_lost_to_an_older_answer() -> None:
    world = World()
    world.rights.replace(world.connection, Grants(["c"]))
    assert world.connection.grants.allows(RoomKey("c"))
    assert world.asks == []
    world.rights.refresh(world.connection)
    await turns()
    world.rights.replace(world.connection, Grants(["d"]))
    await world.reply(answer("a"))
    assert len(world.asks) == 2, "the answer under way may be older than what was told"


async def test_nothing_happens_to_a_connection_that_closed_meanwhile() -> None:
    world = World()
    world.rights.refresh(world.connection)
    await turns()
    world.transport.close(1000)
    world.connection.closed(1000, "")
    await world.reply(answer("a", expires_in=60.0))
    assert not world.ticker.wheel
    assert all(task.done() for task in world.tasks)
    world.rights.refresh(world.connection)
    await turns()
    assert len(world.asks) == 1
