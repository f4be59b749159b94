"""Time that passes when the test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from itertools import count

from fairlead.errors import UsageError
from fairlead.loops import Done, running_loop
from fairlead.testing.portal import wherever

TURNS = 100
"""Turns of the event loop after which whoever waits for nothing but itself and for others here has come to rest. What
follows from one event takes a handful."""

BRIEFLY = 10
"""Turns after each deadline on the way: enough for a ping and its answer over a socket, and an hour takes 0.2 s."""


async def come_to_rest(turns: int = TURNS) -> None:
    """Let everything that can go on by itself do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


class _Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """A clock that stands still until it is advanced: for pings, silent clients, deadlines, rates, the ends of rights.

    It is given to ``connect`` or ``running``, and as ``Ticker(clock)`` to a Gateway. While it stands still, no budget
    for messages comes back, so after 200 of them (``Limits.message_burst``) a real server reads no more. It is not the
    time of the event loop: ``asyncio.sleep`` and ``asyncio.timeout`` in an application still take as long as they say.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._calls: list[tuple[float, int, _Timer, Callable[[], object]]] = []
        self._order = count()
        self._loop: asyncio.AbstractEventLoop | None = None

    def time(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Timer:
        """Call back when the clock has been advanced so far. From the event loop."""
        self._loop = asyncio.get_running_loop()
        timer = _Timer()
        heapq.heappush(self._calls, (self._now + delay, next(self._order), timer, callback))
        return timer

    def advance(self, seconds: float) -> Awaitable[None]:
        """Let time pass; to be awaited, or in a test without ``async`` done when this returns.

        Every deadline on the way is kept in its turn, and what follows from one happens before the next. Deadlines are
        coarse: what is due in 45 seconds has happened after 46.

        Raises:
            UsageError: Another event loop than the running one has deadlines on it.
        """
        running = running_loop()
        if running is not None:
            if self._loop not in (None, running):
                raise UsageError("the clock is another event loop's")
        elif self._loop is None:
            self._now += seconds  # nobody waits for it
            return Done(None)
        return wherever(self._loop, self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        end = self._now + seconds
        await come_to_rest()
        while self._calls and self._calls[0][0] <= end:
            self._now, _, timer, callback = heapq.heappop(self._calls)
            if not timer.cancelled:
                callback()
                await come_to_rest(BRIEFLY)
        self._now = end
        await come_to_rest()
