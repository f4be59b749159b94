"""How a test, which may be in another process, learns what a handler saw, and tells it to go on."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from fairlead import Request, WebSocket

PATIENCE = 5.0
"""Seconds after which what should have happened will not happen any more."""


class Witness:
    """Facts by key. Asking for one waits until it is there; it is given to one who asks."""

    def __init__(self) -> None:
        self._facts: defaultdict[str, asyncio.Queue[object]] = defaultdict(asyncio.Queue)

    def note(self, of: WebSocket | Request | str, fact: object) -> None:
        """Keep a fact, under the key of a connection or any other."""
        self._facts[_key(of)].put_nowait(fact)

    async def fact(self, of: WebSocket | Request | str) -> object:
        """The next fact under that key.

        Raises:
            TimeoutError: There is none.
        """
        async with asyncio.timeout(PATIENCE):
            return await self._facts[_key(of)].get()

    async def told(self, of: WebSocket | Request) -> None:
        """Wait until the test says so."""
        await self.fact(f"tell {_key(of)}")

    def tell(self, key: str) -> None:
        """Let whoever waits, or will wait, go on."""
        self.note(f"tell {key}", None)


def _key(of: WebSocket | Request | str) -> str:
    return of if isinstance(of, str) else of.query["key"]
