from __future__ import annotations

import asyncio

import pytest

from fairlead.errors import UsageError
from fairlead.testing import FakeClock
from fairlead.testing.portal import Portal
from fairlead.transports.ticker import Ticker


class Item:
    due = 0

    def __init__(self, log: list[float], clock: FakeClock) -> None:
        self.log = log
        self.clock = clock

    def expired(self) -> None:
        self.log.append(self.clock.time())


async def test_calls_come_in_the_order_of_their_times_and_see_them() -> None:
    clock, log = FakeClock(), []
    for delay in (2.0, 1.0, 3.0, 1.0):
        clock.call_later(delay, lambda delay=delay: log.append((delay, clock.time())))  # type: ignore[misc]
    await clock.advance(2.5)
    assert log == [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]
    assert clock.time() == 2.5
    await clock.advance(0.5)
    assert log[3:] == [(3.0, 3.0)]


async def test_a_cancelled_call_does_not_come() -> None:
    clock, log = FakeClock(), []
    clock.call_later(1, lambda: log.append("cancelled")).cancel()
    clock.call_later(1, lambda: log.append("kept"))
    await clock.advance(1)
    assert log == ["kept"]


async def test_what_follows_from_a_deadline_happens_before_the_next_one() -> None:
    clock, log = FakeClock(), []
    reached = asyncio.Event()

    async def follow() -> None:
        await reached.wait()
        log.append("followed")

    following = asyncio.ensure_future(follow())
    clock.call_later(1, reached.set)
    clock.call_later(2, lambda: log.append("next"))
    await clock.advance(2)
    assert log == ["followed", "next"]
    await following


async def test_calls_that_are_made_on_the_way_are_kept_too() -> None:
    clock, log = FakeClock(), []

    def again() -> None:
        log.append(clock.time())
        clock.call_later(10, again)

    clock.call_later(10, again)
    await clock.advance(35)
    assert log == [10, 20, 30]


async def test_a_ticker_on_it_keeps_its_deadlines_within_a_second() -> None:
    clock = FakeClock()
    log: list[float] = []
    ticker = Ticker(clock)
    assert ticker.now == 1
    ticker.schedule(Item(log, clock), 45)
    await clock.advance(45)
    assert log == []
    await clock.advance(1)
    assert log == [46]
    assert not ticker.wheel
    await clock.advance(100)
    assert ticker.now == 147


def test_without_anybody_waiting_it_can_be_advanced_anywhere() -> None:
    clock = FakeClock()
    clock.advance(7)
    assert clock.time() == 7


async def test_it_belongs_to_the_event_loop_that_waits_for_it() -> None:
    clock = FakeClock()

    async def wait() -> None:
        clock.call_later(1, lambda: None)

    await asyncio.to_thread(asyncio.run, wait())
    with pytest.raises(UsageError, match="another event loop"):
        await clock.advance(1)


def test_a_test_without_async_advances_it_where_its_deadlines_are() -> None:
    clock = FakeClock()
    log: list[float] = []
    portal = Portal.enter()
    try:
        portal.run(lambda: clock.call_later(5, lambda: log.append(clock.time())))
        clock.advance(6)
    finally:
        Portal.leave()
    assert log == [5]
