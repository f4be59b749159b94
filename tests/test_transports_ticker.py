from __future__ import annotations

import asyncio
import time

import pytest

from fairlead.transports.ticker import Ticker


class Item:
    due = 0

    def __init__(self) -> None:
        self.fired: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def expired(self) -> None:
        self.fired.set_result(time.monotonic())


@pytest.mark.slow
async def test_a_deadline_comes_at_its_time_and_the_timer_ends_with_the_last_one() -> None:
    ticker, item = Ticker(), Item()
    started = time.monotonic()
    ticker.schedule(item, 0.5)
    fired = await asyncio.wait_for(item.fired, 10)
    assert fired - started >= 0.5
    assert not ticker.wheel
    assert ticker._timer is None


@pytest.mark.slow
async def test_a_failing_item_does_not_cost_the_others_their_deadline(caplog: pytest.LogCaptureFixture) -> None:
    ticker, good, bad = Ticker(), Item(), Item()
    bad.fired.set_result(0.0)  # so that expired() raises
    ticker.schedule(bad, 0)
    ticker.schedule(good, 0)
    await asyncio.wait_for(good.fired, 10)
    assert "a deadline failed" in caplog.text


async def test_cancelling_the_last_deadline_ends_the_timer() -> None:
    ticker, item = Ticker(), Item()
    ticker.schedule(item, 100)
    timer = ticker._timer
    assert isinstance(timer, asyncio.TimerHandle)
    ticker.cancel(item)
    assert timer.cancelled()
    ticker.cancel(item)


async def test_the_second_is_right_also_when_no_deadline_turned_the_wheel() -> None:
    ticker = Ticker()
    ticker.wheel.now -= 1000
    assert abs(ticker.now - time.monotonic()) <= 2
