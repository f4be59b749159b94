"""Ask the API who a client is and which rooms it may join.

One GET for each ask, to one fixed address, over a pool of kept connections; what a client sent decides nothing but
header values. Whatever the API does, an ask ends within ``wait`` plus ``timeout`` seconds with an Answer or with
Refused, and never with another exception, its own cancellation apart.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable

from yarl import URL

from fairlead.gateway.answer import Answer, Refused, Verdict, judge
from fairlead.gateway.exchange import Lost, NoAnswer, Response
from fairlead.gateway.places import NoPlace, Places
from fairlead.gateway.pool import Pool
from fairlead.gateway.settings import UpstreamSettings
from fairlead.gateway.tls import client_context
from fairlead.limits import Limits

__all__ = ["Answer", "Refused", "Upstream", "Verdict"]

Observer = Callable[[str, float], None]
"""Is told how each ask ended ("in", a verdict's word or "cancelled") and how many seconds it took, waiting included."""


class Upstream:
    """The API, asked within bounds.

    Args:
        settings: ``[upstream]``.
        room_size: ``Limits.room_size``; an answer with a longer room is none.
        clock: Unix seconds, for signatures.
        observe: For metrics.

    Raises:
        SettingsError: A certificate or key cannot be used.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        room_size: int = Limits().room_size,
        clock: Callable[[], float] = time.time,
        observe: Observer = lambda outcome, seconds: None,
    ) -> None:
        self._settings = settings
        self._room_size = room_size
        self._clock = clock
        self._observe = observe
        self._url = URL(settings.url, encoded=True)
        self._tls = client_context(settings) if self._url.scheme == "https" else None
        self._head = f"GET {self._url.raw_path_qs} HTTP/1.1\r\nHost: {self._url.host_port_subcomponent}\r\n".encode()
        self._places = Places(settings.in_flight, waiting=settings.waiting, wait=settings.wait)
        self._pool: Pool | None = None

    @property
    def in_flight(self) -> int:
        """Asks that the API has now."""
        return self._places.taken

    @property
    def waiting(self) -> int:
        """Asks that wait for a place."""
        return self._places.waiting

    async def start(self) -> None:
        """Make ready; no connection is opened yet."""
        self._pool = Pool(self._settings, self._tls)

    async def close(self) -> None:
        """Drop all connections; asks that wait or are under way end with Refused."""
        pool, self._pool = self._pool, None
        self._places.clear()
        if pool is not None:
            pool.close()

    async def ask(self, headers: bytes, *, first: bool = False) -> Answer:
        """Ask about one client. Cancel it when the client leaves: its place, or its spot in line, is free at once.

        Args:
            headers: The header block: ``Name: value`` lines joined by CRLF, UTF-8, nothing else checked here.
            first: Go ahead of all that wait without it: the rights of a living connection come before new ones.

        Raises:
            Refused: The client is not in, or it is not known whether it is.
        """
        started = time.monotonic()
        outcome = "cancelled"
        try:
            answer = await self._ask(headers, first=first)
            outcome = "in"
            return answer
        except Refused as refused:
            outcome = refused.verdict.value
            raise
        finally:
            self._observe(outcome, time.monotonic() - started)

    async def _ask(self, headers: bytes, *, first: bool) -> Answer:
        try:
            await self._places.take(first=first)
        except NoPlace as exc:
            raise Refused(Verdict.UNAVAILABLE, f"not asked: {exc}") from None
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._exchange(self._request(headers))
        except NoAnswer as exc:
            raise Refused(Verdict.UNAVAILABLE, str(exc)) from exc
        except TimeoutError:
            cause = f"no whole answer within {self._settings.timeout:g} s"
            raise Refused(Verdict.UNAVAILABLE, cause) from None
        finally:
            self._places.give_back()
        return judge(response.status, response.headers, response.body, room_size=self._room_size)

    async def _exchange(self, request: bytes) -> Response:
        """One request and its whole answer; if a kept connection turns out to be dead, once more over a new one."""
        pool = self._pool
        if pool is None:
            raise NoAnswer("not asked: not started, or closed")
        try:
            return await pool.get(request + b"\r\n")
        except Lost as exc:
            if not exc.stale:
                raise
        return await pool.get(request + b"Connection: close\r\n\r\n", fresh=True)

    def _request(self, block: bytes) -> bytes:
        """The head of one request, but for the empty line at its end."""
        lines = [self._head]
        if block:
            lines += block, b"\r\n"
        if b"\r\naccept:" not in (b"\r\n" + block).lower():
            lines.append(b"Accept: application/json\r\n")
        lines.append(b"Accept-Encoding: identity\r\n")
        if self._settings.secret:
            signed = signature(self._settings.secret, int(self._clock()), "GET", self._url)
            lines.append(f"X-Fairlead-Signature: {signed}\r\n".encode())
        return b"".join(lines)


def signature(secret: str, now: int, method: str, url: URL) -> str:
    """The value of X-Fairlead-Signature: ``t=<unix>,v1=<hex HMAC-SHA256>`` of ``"t.method.path"``.

    Args:
        secret: The key, UTF-8.
        now: Unix seconds.
        method: As on the wire.
        url: Its path counts as on the wire, percent-encoded and without the query.
    """
    signed = f"{now}.{method}.{url.raw_path}".encode()
    return f"t={now},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
