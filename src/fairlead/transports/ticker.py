"""A timer wheel turned by the event loop, once a second and only while a deadline waits."""

from __future__ import annotations

import asyncio
import logging
import time

from fairlead.wheel import Timed, Wheel

logger = logging.getLogger(__name__)


class Ticker:
    """Coarse deadlines on an event loop, within a second.

    It needs no start and no stop: the first deadline starts its timer on the running loop, and the last one ends it.
    """

    __slots__ = ("_timer", "wheel")

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self.wheel = Wheel(_second())

    @property
    def now(self) -> int:
        """The current second, also while no deadline keeps the wheel turning."""
        if self._timer is None:
            self.wheel.advance(_second())
        return self.wheel.now

    def schedule(self, item: Timed, delay: float) -> None:
        """Set or move the item's deadline, seconds from now; see ``Wheel.schedule``."""
        if self._timer is None:
            self.wheel.advance(_second())
            self._start()
        self.wheel.schedule(item, delay)

    def cancel(self, item: Timed) -> None:
        """Forget the item's deadline, if it has one."""
        self.wheel.cancel(item)
        if self._timer is not None and not self.wheel:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)

    def _tick(self) -> None:
        self._start()
        for item in self.wheel.advance(_second()):
            try:
                item.expired()
            except Exception:
                # One item's fault must not cost the others their deadline.
                logger.exception("a deadline failed")
        if not self.wheel and self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _second() -> int:
    return int(time.monotonic()) + 1
