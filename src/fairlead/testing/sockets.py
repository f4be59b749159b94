"""Connecting to a server over a socket, with a client library that is not ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_to
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from fairlead.errors import CloseCode
from fairlead.handshake import Headers
from fairlead.testing.client import Client, Mailbox
from fairlead.testing.clock import come_to_rest
from fairlead.testing.errors import Rejected, TimedOut
from fairlead.testing.request import Asking

# The library logs every header and frame; a test looks at what the application logs.
_silent = logging.getLogger("fairlead.testing.sockets")
_silent.propagate = False
_silent.disabled = True


class _Connect(connect_to):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc  # a redirect is a refusal like any other


class SocketPeer:
    """A client's end on a socket. It reads all the time, whether or not the test receives."""

    def __init__(self, connection: ClientConnection) -> None:
        assert connection.response is not None
        self.mailbox = Mailbox()
        self.subprotocol: str | None = connection.subprotocol
        self.headers = raw_headers(connection.response.headers.raw_items())
        self._connection = connection
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        connection = self._connection
        with suppress(ConnectionClosed):
            while True:
                self.mailbox.received(await connection.recv())
        self.mailbox.closed(connection.close_code or CloseCode.ABNORMAL, connection.close_reason or "")

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            await self.mailbox.over()
            self.mailbox.check_open()

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    def abort(self) -> None:
        self._connection.transport.abort()

    def pause_reading(self) -> None:
        self._connection.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._connection.transport.is_closing():
            self._connection.transport.resume_reading()

    async def settle(self) -> None:
        """After a pong the server has handled all that was sent before, and all that it had sent is here. So there are
        two: in between the application goes on."""
        with suppress(ConnectionClosed):
            for _ in range(2):
                await (await self._connection.ping())
                await come_to_rest()

    async def end(self) -> None:
        """Drop the connection, if it is still there."""
        self.abort()
        await self._reading


@asynccontextmanager
async def connected(url: str, asking: Asking, *, timeout: float, compression: bool) -> AsyncIterator[Client]:
    """A client of the server at ``url`` (``ws://host:port``), until the block ends."""
    try:
        connection = await _Connect(
            url + asking.target,
            additional_headers=asking.headers,
            subprotocols=[Subprotocol(each) for each in asking.subprotocols] or None,
            user_agent_header=None,
            compression="deflate" if compression else None,
            proxy=None,
            open_timeout=timeout,
            ping_interval=None,
            close_timeout=None,
            max_size=None,
            max_queue=None,
            logger=_silent,
        )
    except InvalidStatus as exc:
        answer = exc.response
        raise Rejected(answer.status_code, raw_headers(answer.headers.raw_items()), bytes(answer.body or b"")) from None
    except TimeoutError:
        raise TimedOut(f"waited {timeout:g} s for the server to let the client in, or to refuse it") from None
    peer = SocketPeer(connection)
    client = Client(peer, timeout=timeout)
    try:
        yield client
        await client.close()
    finally:
        await peer.end()


def raw_headers(items: Iterable[tuple[str, str]]) -> Headers:
    """Headers by name, from what a client library has."""
    return Headers([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in items])
