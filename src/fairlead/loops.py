"""What an event loop and its coroutines owe each other, and calls that work in a thread without one, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Final, TypeVar

T = TypeVar("T")

BREATH: Final = 100
"""What is sent or published one after the other before everybody else gets a turn, where nothing has to be waited for:
a client that reads as fast as it is sent to would stop the others, and one that is gone, of which the event loop has to
tell, would do so for ever."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread; None: none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Done(Awaitable[T]):
    """Has happened; awaiting it is allowed."""

    def __init__(self, result: T) -> None:
        self._result = result

    def __await__(self) -> Generator[Any, None, T]:
        return self._result
        yield
