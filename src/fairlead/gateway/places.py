"""A bounded number of places, and bounded, patient queues for them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from fairlead.errors import NetworkError


class NoPlace(NetworkError):
    """Everything is taken and so is the queue, or waiting took too long. Try again later."""


class Places:
    """At most ``count`` holders at once; whoever comes later waits in line, those with ``first`` before all others.

    A place that is given back goes straight to the next in line, so that nobody can slip in between. Whoever is
    cancelled while waiting leaves the line, and a place that was just given to him goes to the next.

    Args:
        count: Places.
        waiting: How many may stand in line; for those with ``first`` another line of the same length.
        wait: Seconds in line, then NoPlace.
    """

    def __init__(self, count: int, *, waiting: int, wait: float) -> None:
        self._count = count
        self._free = count
        self._waiting = waiting
        self._wait = wait
        # Ordered dictionaries: who leaves from the middle of 20,000 must not cost a search through them.
        self._first: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self._others: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def taken(self) -> int:
        """Places in use."""
        return self._count - self._free

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._first) + len(self._others)

    async def take(self, *, first: bool = False) -> None:
        """Take a place; each one taken is given back exactly once, with ``give_back()``.

        Raises:
            NoPlace: The line is full, or ``wait`` seconds are over, or ``clear()`` was called. No place was taken.
        """
        if self._free:
            self._free -= 1
            return
        line = self._first if first else self._others
        if len(line) >= self._waiting:
            raise NoPlace(f"{self._count} places are taken and {self._waiting} wait for one")
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        line[turn] = None
        try:
            async with asyncio.timeout(self._wait):
                granted = await turn
        except BaseException as exc:
            line.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.result():
                self.give_back()
            if isinstance(exc, TimeoutError):
                raise NoPlace(f"no place became free within {self._wait:g} s") from None
            raise
        if not granted:
            raise NoPlace("no more places are given")

    def give_back(self) -> None:
        """Hand the place to the next in line."""
        for line in (self._first, self._others):
            while line:
                turn, _ = line.popitem(last=False)
                if not turn.done():  # done: cancelled a moment ago
                    turn.set_result(True)
                    return
        self._free += 1

    def clear(self) -> None:
        """Send everybody in line away with NoPlace."""
        for line in (self._first, self._others):
            while line:
                turn, _ = line.popitem(last=False)
                if not turn.done():
                    turn.set_result(False)
