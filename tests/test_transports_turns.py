"""Turns: never more at once than so many, nobody overtaken, nobody forgotten."""

from __future__ import annotations

import asyncio
from functools import partial

from fairlead.transports.turns import Turns


async def test_so_many_go_at_once_and_the_rest_in_order_in_the_turns_that_follow() -> None:
    turns, done = Turns(asyncio.get_running_loop(), 2), list[int]()
    now = [turns.take(partial(done.append, each)) for each in range(7)]
    assert now == [True, True, False, False, False, False, False]
    for expected in ([2, 3], [2, 3, 4, 5], [2, 3, 4, 5, 6]):
        await asyncio.sleep(0)
        assert done == expected


async def test_who_waits_goes_before_who_comes() -> None:
    turns, done = Turns(asyncio.get_running_loop(), 1), list[str]()
    assert turns.take(lambda: done.append("first"))
    assert not turns.take(lambda: done.append("second"))
    await asyncio.sleep(0)
    assert not turns.take(lambda: done.append("third"))
    assert done == ["second"]
    await asyncio.sleep(0)
    assert done == ["second", "third"]


async def test_one_that_fails_costs_no_other_his_turn() -> None:
    loop, failed, done = asyncio.get_running_loop(), list[object](), list[int]()
    loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))
    turns = Turns(loop, 2)

    def fail() -> None:
        raise ValueError("own")

    for each in (lambda: None, lambda: None, fail, lambda: done.append(1), lambda: done.append(2)):
        turns.take(each)
    for _ in range(3):
        await asyncio.sleep(0)
    assert [type(each) for each in failed] == [ValueError]
    assert done == [1, 2]
