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
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from fairlead.gateway.answer import Answer, Refused, Verdict, judge
from fairlead.gateway.places import NoPlace, Places
from fairlead.gateway.pool import Lost, NoAnswer, cause, session
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
        self._tls = client_context(settings) if self._url.scheme == "https" else True
        self._places = Places(settings.in_flight, waiting=settings.waiting, wait=settings.wait)
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

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
        self._kept = session(self._settings, keep=True)
        self._fresh = session(self._settings, keep=False)

    async def close(self) -> None:
        """Drop all connections; asks that wait or are under way end with Refused."""
        sessions = (self._kept, self._fresh)
        self._kept = self._fresh = None
        self._places.clear()
        for each in sessions:
            if each is not None:
                await each.close()

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
                status, answered, body = await self._exchange(headers)
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as exc:  # TimeoutError is an OSError
            raise Refused(Verdict.UNAVAILABLE, cause(exc, self._settings)) from exc
        finally:
            self._places.give_back()
        return judge(status, answered, body, room_size=self._room_size)

    async def _exchange(self, block: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """One request and its whole answer; if a kept connection turns out to be dead, once more over a new one."""
        headers = self._headers(block)
        trail = SimpleNamespace(reused=False)
        try:
            return await self._get(self._kept, headers, trail)
        except Lost as exc:
            if not trail.reused or exc.answered:
                raise
        return await self._get(self._fresh, headers, trail)

    async def _get(
        self, session: aiohttp.ClientSession | None, headers: CIMultiDict[str], trail: SimpleNamespace
    ) -> tuple[int, Mapping[str, str], bytes]:
        if session is None:
            raise NoAnswer("not asked: not started, or closed")
        async with session.get(
            self._url, headers=headers, allow_redirects=False, ssl=self._tls, trace_request_ctx=trail
        ) as response:
            return response.status, response.headers, await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self._settings.answer_size:
                raise NoAnswer(f"the answer is larger than {self._settings.answer_size} bytes")
        return bytes(body)

    def _headers(self, block: bytes) -> CIMultiDict[str]:
        lines = block.decode().split("\r\n") if block else ()
        headers = CIMultiDict((name, value) for name, _, value in (line.partition(": ") for line in lines))
        headers.setdefault("Accept", "application/json")
        headers["Accept-Encoding"] = "identity"
        if self._settings.secret:
            headers["X-Fairlead-Signature"] = signature(self._settings.secret, int(self._clock()), "GET", self._url)
        return headers


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
