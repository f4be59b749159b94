"""Turns: work that thousands may bring in one moment is done a little at a time, so that all else goes on between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """So many in one turn of the event loop; whoever comes later has to wait for one of the next, in order.

    Args:
        loop: The event loop.
        count: How many.
    """

    __slots__ = ("_count", "_left", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self._loop = loop
        self._count = count
        self._left = count
        self._waiting: deque[Callable[[], object]] = deque()

    def take(self, later: Callable[[], object]) -> bool:
        """Whether it may be done now; if not, ``later`` is called when it may."""
        if not self._left:
            self._waiting.append(later)
            return False
        if self._left == self._count:
            self._loop.call_soon(self._next)
        self._left -= 1
        return True

    def _next(self) -> None:
        """A new turn, in which those that wait come first."""
        self._left = self._count
        if self._waiting:
            self._loop.call_soon(self._next)
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
