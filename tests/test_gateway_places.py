"""Places: who gets one, in which order, and that none is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from fairlead.gateway.places import NoPlace, Places


def places(count: int = 1, *, waiting: int = 100, wait: float = 10.0) -> Places:
    return Places(count, waiting=waiting, wait=wait)


async def settle() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_line_is_served_in_order_and_first_goes_ahead_of_all() -> None:
    held = places()
    served = []

    async def come(name: str, *, first: bool = False) -> None:
        await held.take(first=first)
        served.append(name)
        held.give_back()

    await held.take()
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(come(name))
        for name in ("A", "B"):
            group.create_task(come(name, first=True))
        await settle()
        assert (held.waiting, served) == (4, [])
        held.give_back()
    assert served == ["A", "B", "a", "b"]
    assert (held.taken, held.waiting) == (0, 0)


async def test_a_place_given_back_goes_to_the_line_and_not_to_who_comes_then() -> None:
    held = places()
    await held.take()
    waiting = asyncio.create_task(held.take())
    await settle()
    held.give_back()
    late = asyncio.create_task(held.take())
    await settle()
    assert waiting.done()
    assert not late.done()
    held.give_back()
    await late


async def test_a_full_line_takes_nobody_and_each_line_has_its_own_bound() -> None:
    held = places(waiting=1)
    await held.take()
    waiting = [asyncio.create_task(held.take()), asyncio.create_task(held.take(first=True))]
    await settle()
    for first in (False, True):
        with pytest.raises(NoPlace):
            await held.take(first=first)
    held.give_back()
    held.give_back()
    await asyncio.gather(*waiting)


async def test_waiting_ends_after_its_time_and_leaves_the_line() -> None:
    held = places(wait=0.01)
    await held.take()
    with pytest.raises(NoPlace, match=r"0\.01 s"):
        await held.take()
    assert held.waiting == 0
    held.give_back()
    assert held.taken == 0


async def test_cancelled_while_waiting_leaves_the_line_at_once() -> None:
    held = places(waiting=1)
    await held.take()
    waiting = asyncio.create_task(held.take())
    await settle()
    waiting.cancel()
    await settle()
    assert held.waiting == 0
    held.give_back()
    assert held.taken == 0


async def test_cancelled_in_the_moment_of_being_served_passes_the_place_on() -> None:
    held = places()
    await held.take()
    unlucky = asyncio.create_task(held.take())
    following = asyncio.create_task(held.take())
    await settle()
    held.give_back()
    unlucky.cancel()
    await settle()
    assert unlucky.cancelled()
    assert following.done()
    assert held.taken == 1


async def test_a_place_is_not_given_to_who_was_cancelled_a_moment_ago() -> None:
    held = places()
    await held.take()
    gone = asyncio.create_task(held.take())
    following = asyncio.create_task(held.take())
    await settle()
    gone.cancel()
    held.give_back()
    await settle()
    assert following.done()


async def test_clear_sends_everybody_away_but_not_who_was_served() -> None:
    held = places()
    await held.take()
    waiting = [asyncio.create_task(held.take(first=first)) for first in (False, True, False)]
    gone = asyncio.create_task(held.take())
    await settle()
    gone.cancel()
    held.clear()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [NoPlace] * 3
    assert (held.taken, held.waiting) == (1, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_place_is_lost_or_given_twice_whoever_is_cancelled(seed: int) -> None:
    chance = random.Random(seed)
    held = places(3, waiting=10, wait=0.002)
    inside = most = 0

    async def come() -> None:
        nonlocal inside, most
        await held.take(first=chance.random() < 0.3)
        inside += 1
        most = max(most, inside)
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            held.give_back()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(150):
        tasks.append(asyncio.create_task(come()))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        if chance.random() < 0.6:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert (inside, held.taken, held.waiting) == (0, 0, 0)
