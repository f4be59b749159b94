"""Connections to the API, made when they are needed and kept for further requests.

A client of our own, for GET requests to one address and nothing else, because a general one took half of a handshake:
no redirects, no cookies, no proxies, nothing decompressed, nothing repeated behind our back. The decision and its
figures: docs/decisions/upstream-client.md.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from yarl import URL

from fairlead.gateway.exchange import Exchange, NoAnswer, Response, system_fault
from fairlead.gateway.settings import UpstreamSettings

IDLE: Final = 15.0
"""Seconds for which a connection is kept that nobody needs: APIs have few places for such, and devices between us and
them forget them without a word."""

RESOLVED: Final = 10.0
"""Seconds for which the addresses of a name hold, so that an API that keeps no connections costs no look-up each."""


class Pool:
    """Connections to the address in the settings. To be made inside a running event loop.

    Args:
        settings: ``[upstream]``.
        tls: To speak TLS with; None: plain HTTP.
    """

    def __init__(self, settings: UpstreamSettings, tls: ssl.SSLContext | None) -> None:
        url = URL(settings.url, encoded=True)
        self._settings = settings
        self._tls = tls
        self._host, self._port = url.raw_host or "", url.port or 0  # the settings have seen to it that there are both
        self._name = self._host.rstrip(".") if tls is not None else None  # that the certificate must be for
        self._where = settings.uds or f"{url.host_subcomponent}:{url.port}"
        self._loop = asyncio.get_running_loop()
        self._addresses: list[str] = []
        self._resolved_until = 0.0
        self._busy: set[Exchange] = set()
        self._idle: list[Exchange] = []  # the one used last stands last
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def get(self, request: bytes, *, fresh: bool = False) -> Response:
        """Send a request, as it is, and wait for the answer. Cancelled, it drops its connection.

        Args:
            request: A whole head.
            fresh: Over a new connection.

        Raises:
            NoAnswer: There is none, or it cannot be used.
        """
        exchange = (None if fresh else self._take()) or await self._connect()
        if self._closed:
            exchange.abort()
            raise NoAnswer("not asked: closed")
        self._busy.add(exchange)
        try:
            return await exchange.ask(request)
        finally:
            self._busy.discard(exchange)
            if exchange.usable:
                self._keep(exchange)
            else:
                exchange.abort()

    def close(self) -> None:
        """Drop all connections; requests under way end with NoAnswer."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for exchange in [*self._busy, *self._idle]:
            exchange.abort()
        self._idle.clear()

    # -- kept connections --------------------------------------------------------------------------------------------

    def _take(self) -> Exchange | None:
        while self._idle:
            exchange = self._idle.pop()
            if exchange.usable:
                return exchange
        return None

    def _keep(self, exchange: Exchange) -> None:
        exchange.since = self._loop.time()
        self._idle.append(exchange)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        end = self._loop.time() - IDLE
        while self._idle and (self._idle[0].since <= end or not self._idle[0].usable):
            self._idle.pop(0).abort()
        if self._idle:
            self._sweeper = self._loop.call_at(self._idle[0].since + IDLE, self._sweep)

    # -- new connections ---------------------------------------------------------------------------------------------

    async def _connect(self) -> Exchange:
        limit = self._settings.connect_timeout
        try:
            async with asyncio.timeout(limit):
                if self._settings.uds:
                    return await self._open(self._settings.uds)
                return await self._open_any(await self._resolve(), limit)
        except TimeoutError:
            raise NoAnswer(f"no connection within {limit:g} s") from None
        except ssl.SSLCertVerificationError as exc:
            why = exc.verify_message or "not valid"
            raise NoAnswer(f"the certificate of {self._where} is not accepted: {why}") from exc
        except (OSError, ValueError) as exc:  # a host that cannot be encoded is a ValueError
            why = system_fault(exc) if isinstance(exc, OSError) else "no such host"
            raise NoAnswer(f"cannot connect to {self._where}: {why}") from exc

    async def _resolve(self) -> list[str]:
        now = self._loop.time()
        if now >= self._resolved_until:
            found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
            self._resolved_until = now + RESOLVED
        return self._addresses

    async def _open_any(self, addresses: list[str], seconds: float) -> Exchange:
        """A connection to one of them, to each of which belongs its part of the time: one may swallow every packet."""
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(seconds / len(addresses)):
                    return await self._open(address)
            except OSError:  # TimeoutError is one, too
                # The next ones first try where there may be somebody.
                self._addresses = [*(each for each in self._addresses if each != address), address]
        return await self._open(addresses[-1])

    async def _open(self, address: str) -> Exchange:
        exchange = Exchange(self._settings.answer_size)
        tls, name = self._tls, self._name
        try:
            if self._settings.uds:
                await self._loop.create_unix_connection(lambda: exchange, address, ssl=tls, server_hostname=name)
            else:
                await self._loop.create_connection(lambda: exchange, address, self._port, ssl=tls, server_hostname=name)
        except BaseException:
            exchange.abort()  # it may have come about in the moment in which nobody waited for it any more
            raise
        return exchange
