"""A timer wheel turned by the event loop, once a second and only while a deadline waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from fairlead.wheel import Timed, Wheel

logger = logging.getLogger(__name__)


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where time comes from; an event loop is one."""

    def time(self) -> float:
        """Seconds, from any origin; they never go back."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back, from the event loop, in so many seconds."""
        ...


class _LoopClock:
    """The time of whichever event loop is running."""

    def time(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


_LOOP = _LoopClock()


class Ticker:
    """Coarse deadlines on an event loop, within a second.

    It needs no start and no stop: the first deadline starts its timer on the running loop, and the last one ends it.

    Args:
        clock: Where time comes from; tests give one that they turn by hand.
    """

    __slots__ = ("_clock", "_timer", "wheel")

    def __init__(self, clock: Clock = _LOOP) -> None:
        self._clock = clock
        self._timer: Timer | None = None
        self.wheel = Wheel(self._second())

    @property
    def now(self) -> int:
        """The current second, also while no deadline keeps the wheel turning."""
        if self._timer is None:
            self.wheel.advance(self._second())
        return self.wheel.now

    def schedule(self, item: Timed, delay: float) -> None:
        """Set or move the item's deadline, seconds from now; see ``Wheel.schedule``."""
        if self._timer is None:
            self.wheel.advance(self._second())
            self._start()
        self.wheel.schedule(item, delay)

    def cancel(self, item: Timed) -> None:
        """Forget the item's deadline, if it has one."""
        self.wheel.cancel(item)
        if self._timer is not None and not self.wheel:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._timer = self._clock.call_later(1.0, self._tick)

    def _tick(self) -> None:
        self._start()
        for item in self.wheel.advance(self._second()):
            try:
                item.expired()
            except Exception:
                # One item's fault must not cost the others their deadline.
                logger.exception("a deadline failed")
        if not self.wheel and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _second(self) -> int:
        return int(self._clock.time()) + 1
