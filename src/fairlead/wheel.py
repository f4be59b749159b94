"""The timer wheel: thousands of coarse deadlines for the price of one timer.

It knows no clock and no event loop: whoever owns it says what time it is, in whole seconds, and gets what is due.
A deadline costs one set entry, an item carries its own place, and moving or cancelling one is O(1).
"""

from __future__ import annotations

import math
from typing import Protocol


class Timed(Protocol):
    """Something with at most one deadline. ``due`` is the wheel's: 0 when there is none, else the second it is due."""

    due: int

    def expired(self) -> None:
        """The deadline has passed; it is no longer in the wheel."""
        ...


class Wheel:
    """Deadlines by the second.

    Args:
        now: The current second of the owner's clock; any origin, at least 1.
    """

    __slots__ = ("_slots", "now")

    def __init__(self, now: int = 1) -> None:
        self.now = now
        self._slots: dict[int, set[Timed]] = {}

    def __bool__(self) -> bool:
        """Whether any deadline waits."""
        return bool(self._slots)

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def schedule(self, item: Timed, delay: float) -> None:
        """Set or move the item's deadline.

        It is never early: ``now`` may be almost a second old, so the item is due between ``delay`` and ``delay`` + 1
        seconds from this moment, rounded up to a whole second.
        """
        self.cancel(item)
        item.due = self.now + max(math.ceil(delay), 0) + 1
        slot = self._slots.get(item.due)
        if slot is None:
            self._slots[item.due] = {item}
        else:
            slot.add(item)

    def cancel(self, item: Timed) -> None:
        """Forget the item's deadline, if it has one."""
        if not item.due:
            return
        slot = self._slots[item.due]
        slot.discard(item)
        if not slot:
            del self._slots[item.due]
        item.due = 0

    def advance(self, now: int) -> list[Timed]:
        """Move to the second ``now`` and take out what is due, the earliest first. Time never goes back."""
        if now <= self.now:
            return []
        passed = range(self.now + 1, now + 1)
        # After a long sleep of the machine the seconds gone by are more than the slots in use.
        seconds = passed if len(passed) <= len(self._slots) else sorted(s for s in self._slots if s <= now)
        self.now = now
        due: list[Timed] = []
        for second in seconds:
            due.extend(self._slots.pop(second, ()))
        for item in due:
            item.due = 0
        return due
