"""Rights live on: the API is asked again before they expire, when it says so, and for a while when it is gone.

A refresh replaces what a connection may do. Only the API takes rights away: while it cannot be asked they stay, for the
time of grace and no longer.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Coroutine

from fairlead.errors import CloseCode
from fairlead.gateway.answer import Answer, Refused, Verdict
from fairlead.gateway.connection import Connection
from fairlead.rooms.names import Grants
from fairlead.transports.ticker import Ticker

logger = logging.getLogger(__name__)

EARLIEST = 0.9
"""The API is asked again at a random moment between this part of ``expires_in`` and its end, so that ten thousand
connections made in one second do not come back in one second."""

LONGEST = 366 * 86_400.0
"""Seconds; rights that hold longer are asked for again once a year."""

RETRY_FIRST = 1
RETRY_LONGEST = 60
"""Seconds between attempts while the API cannot be asked, doubling from the first to the longest."""


class Rights:
    """Keeps the rights of all connections current.

    Args:
        ask: Asks the API with a connection's headers, ahead of new handshakes. Raises Refused.
        ticker: For the deadlines.
        spawn: Runs a coroutine as a task that is ended with the gateway.
        grace: Seconds that rights outlive an API that cannot be asked.
    """

    def __init__(
        self,
        ask: Callable[[bytes], Awaitable[Answer]],
        ticker: Ticker,
        spawn: Callable[[Coroutine[object, object, None]], object],
        *,
        grace: float,
    ) -> None:
        self._ask = ask
        self._ticker = ticker
        self._spawn = spawn
        self._grace = grace
        self._asking: dict[Connection, bool] = {}

    def watch(self, connection: Connection, expires_in: float | None) -> None:
        """Ask again before the rights expire; None: they do not."""
        connection.failing_since = connection.retry_delay = 0
        if expires_in is None:
            self._ticker.cancel(connection)
        else:
            # The wheel adds up to a second.
            self._ticker.schedule(connection, min(expires_in, LONGEST) * random.uniform(EARLIEST, 1.0) - 1.0)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._ticker.cancel(connection)

    def refresh(self, connection: Connection) -> None:
        """Ask the API now. An ask under way may have been answered before what changed: then once more after it."""
        if connection in self._asking:
            self._asking[connection] = True
        else:
            self._asking[connection] = False
            self._spawn(self._refresh(connection))

    def replace(self, connection: Connection, grants: Grants) -> None:
        """The API told the new rights itself. An answer under way may be older: then the API is asked after all."""
        if connection in self._asking:
            self._asking[connection] = True
        if _is_open(connection):
            connection.set_grants(grants)

    async def _refresh(self, connection: Connection) -> None:
        try:
            again = True
            while again and _is_open(connection):
                self._asking[connection] = False
                await self._ask_once(connection)
                again = self._asking[connection]
        finally:
            del self._asking[connection]

    async def _ask_once(self, connection: Connection) -> None:
        try:
            answer = await self._ask(connection.forwarded)
        except Refused as refusal:
            if _is_open(connection):
                self._refused(connection, refusal)
            return
        if _is_open(connection):
            self._renewed(connection, answer)

    def _renewed(self, connection: Connection, answer: Answer) -> None:
        if answer.user_name != connection.user:
            connection.close(CloseCode.UNAUTHORIZED, "another user")
            return
        connection.set_grants(answer.grants)
        connection.set_joined(answer.rooms)
        self.watch(connection, answer.expires_in)

    def _refused(self, connection: Connection, refusal: Refused) -> None:
        match refusal.verdict:
            case Verdict.UNAUTHORIZED:
                connection.close(CloseCode.UNAUTHORIZED, "unauthorized")
            case Verdict.FORBIDDEN:
                connection.close(CloseCode.FORBIDDEN, "forbidden")
            case Verdict.UNAVAILABLE:
                self._unavailable(connection, refusal)

    def _unavailable(self, connection: Connection, refusal: Refused) -> None:
        now = self._ticker.now
        if not connection.failing_since:
            connection.failing_since, connection.retry_delay = now, RETRY_FIRST
        left = connection.failing_since + self._grace - now
        if left <= 0:
            logger.warning("%s: its rights could not be renewed in %g s: %s", connection.id, self._grace, refusal)
            connection.close(CloseCode.TRY_AGAIN_LATER, "rights not renewed")
            return
        self._ticker.schedule(connection, min(connection.retry_delay, left) - 1.0)
        connection.retry_delay = min(2 * connection.retry_delay, RETRY_LONGEST)


def _is_open(connection: Connection) -> bool:
    return connection.transport is not None and connection.transport.open
