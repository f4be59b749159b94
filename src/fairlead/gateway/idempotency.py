"""Do once what a caller may send twice.

A caller that got no answer cannot know whether its call was carried out. It sends the call again under the same key
and gets the first answer, without a second effect.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from fairlead.errors import PeerError

ANSWERS_SIZE: Final = 64 * 1024 * 1024
"""Bytes of answers remembered at most; past it the oldest are forgotten. One trigger's answer has about 30 bytes, so
100,000 keys take 3 MB of it, but that of a full batch has 40 KB."""


class KeyReused(PeerError):
    """The key was used with another body; most likely two calls were given one key by mistake. Answer 409."""


@dataclass(frozen=True, slots=True)
class _Done:
    digest: bytes
    answer: bytes
    forget_at: float


@dataclass(frozen=True, slots=True)
class _Running:
    digest: bytes
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Idempotency:
    """The answers given lately, by key.

    Args:
        seconds: How long an answer is remembered.
        keys: How many are remembered; past it the oldest is forgotten.
        clock: Seconds, monotonic.
    """

    def __init__(self, *, seconds: float, keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._keys = keys
        self._clock = clock
        self._size = 0
        self._done: OrderedDict[Hashable, _Done] = OrderedDict()  # in the order in which they are forgotten
        self._running: dict[Hashable, _Running] = {}

    def __len__(self) -> int:
        return len(self._done)

    async def once(self, key: Hashable, digest: bytes, call: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """Make the call, or give the answer that it got when it was made under this key.

        If the same call is under way, its end is waited for. A call that raises, or is cancelled, was not made: the
        next with this key makes it, one that waits included.

        Args:
            key: Whose key, and which.
            digest: What tells the body from others.
            call: Carries it out and returns the answer to remember; what it raises is passed on.

        Returns:
            The answer, and whether it is an earlier one.

        Raises:
            KeyReused: The key stands for another body.
        """
        while (running := self._running.get(key)) is not None:
            _compare(running.digest, digest)
            await running.ended.wait()
        self._forget()
        done = self._done.get(key)
        if done is not None:
            _compare(done.digest, digest)
            return done.answer, True
        self._running[key] = running = _Running(digest)
        try:
            answer = await call()
        finally:
            del self._running[key]
            running.ended.set()
        # Whoever waited runs after this, not in between: nothing waits here.
        self._done[key] = _Done(digest, answer, self._clock() + self._seconds)
        self._size += len(answer)
        self._forget()
        return answer, False

    def _forget(self) -> None:
        now = self._clock()
        while self._done:
            oldest = next(iter(self._done.values()))
            if len(self._done) <= self._keys and self._size <= ANSWERS_SIZE and oldest.forget_at > now:
                return
            self._done.popitem(last=False)
            self._size -= len(oldest.answer)


def _compare(known: bytes, digest: bytes) -> None:
    if known != digest:
        raise KeyReused("this Idempotency-Key was used with another body")
