"""A call sent twice is made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fairlead.gateway import idempotency
from fairlead.gateway.idempotency import Idempotency, KeyReused


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Calls that are counted, and that wait where the test holds them."""

    def __init__(self) -> None:
        self.made = 0
        self.go = asyncio.Event()
        self.go.set()
        self.failure: Exception | None = None

    async def __call__(self) -> bytes:
        self.made += 1
        answer = b"answer %d" % self.made
        await self.go.wait()
        failure, self.failure = self.failure, None  # the first call alone
        if failure is not None:
            raise failure
        return answer


def memory(*, seconds: float = 300.0, keys: int = 10, clock: Callable[[], float] = lambda: 0.0) -> Idempotency:
    return Idempotency(seconds=seconds, keys=keys, clock=clock)


async def settle(*tasks: asyncio.Task[tuple[bytes, bool]]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def start(call: Awaitable[tuple[bytes, bool]]) -> asyncio.Task[tuple[bytes, bool]]:
    async def run() -> tuple[bytes, bool]:
        return await call

    return asyncio.create_task(run())


async def test_the_same_call_gets_the_first_answer_again() -> None:
    known, work = memory(), Work()
    assert await known.once("k", b"body", work) == (b"answer 1", False)
    assert await known.once("k", b"body", work) == (b"answer 1", True)
    assert await known.once("other", b"body", work) == (b"answer 2", False)
    assert work.made == 2


async def test_a_key_stands_for_one_body() -> None:
    known, work = memory(), Work()
    await known.once("k", b"body", work)
    with pytest.raises(KeyReused):
        await known.once("k", b"another", work)
    assert work.made == 1


async def test_a_call_under_way_is_waited_for() -> None:
    known, work = memory(), Work()
    work.go.clear()
    calls = [start(known.once("k", b"body", work)) for _ in range(3)]
    await settle()
    with pytest.raises(KeyReused):
        await known.once("k", b"another", work)
    work.go.set()
    assert list(await asyncio.gather(*calls)) == [(b"answer 1", False), (b"answer 1", True), (b"answer 1", True)]


async def test_an_error_is_not_kept_and_one_that_waits_makes_the_call() -> None:
    known, work = memory(), Work()
    work.go.clear()
    work.failure = ValueError("no")
    first = start(known.once("k", b"body", work))
    second, third = start(known.once("k", b"body", work)), start(known.once("k", b"body", work))
    await settle()
    work.go.set()
    with pytest.raises(ValueError, match="no"):
        await first
    assert list(await asyncio.gather(second, third)) == [(b"answer 2", False), (b"answer 2", True)]


async def test_a_cancelled_call_was_not_made() -> None:
    known, work = memory(), Work()
    work.go.clear()
    first, second = start(known.once("k", b"body", work)), start(known.once("k", b"body", work))
    await settle()
    first.cancel()
    await settle()
    work.go.set()
    assert await second == (b"answer 2", False)


async def test_who_stops_waiting_does_not_stop_the_call() -> None:
    known, work = memory(), Work()
    work.go.clear()
    first, second = start(known.once("k", b"body", work)), start(known.once("k", b"body", work))
    await settle()
    second.cancel()
    await settle()
    work.go.set()
    assert await first == (b"answer 1", False)


async def test_answers_are_forgotten_after_their_time() -> None:
    clock = Clock()
    known, work = memory(seconds=10.0, clock=clock), Work()
    await known.once("k", b"body", work)
    clock.now = 9.9
    assert await known.once("k", b"body", work) == (b"answer 1", True)
    clock.now = 10.0
    assert await known.once("k", b"another", work) == (b"answer 2", False)


async def test_the_oldest_answer_makes_room() -> None:
    known, work = memory(keys=2), Work()
    for key in ("a", "b", "c"):
        await known.once(key, b"body", work)
    assert len(known) == 2
    assert await known.once("b", b"body", work) == (b"answer 2", True)
    assert await known.once("a", b"body", work) == (b"answer 4", False)


async def test_large_answers_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "ANSWERS_SIZE", 20)
    known, work = memory(), Work()
    for key in ("a", "b", "c"):
        await known.once(key, b"body", work)  # 8 bytes each
    assert len(known) == 2
