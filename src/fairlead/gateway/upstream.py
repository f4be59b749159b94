"""Ask the API who a client is and which rooms it may join.

One GET for each ask, to one fixed address, over a pool of kept connections; what a client sent decides nothing but
header values. Whatever the API does, an ask ends within ``wait`` plus ``timeout`` seconds with an Answer or with
Refused, and never with another exception, its own cancellation apart.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from fairlead.errors import SettingsError
from fairlead.gateway.answer import Answer, Refused, Verdict, judge
from fairlead.gateway.places import NoPlace, Places
from fairlead.gateway.settings import UpstreamSettings

__all__ = ["Answer", "Refused", "Upstream", "Verdict"]

Observer = Callable[[str, float], None]
"""Is told how each ask ended ("in", a verdict's word or "cancelled") and how many seconds it took, waiting included."""

_NOT_ADDED: Final = ("Accept", "Content-Type", "User-Agent")  # by the HTTP library: only what is chosen here is sent


class Upstream:
    """The API, asked within bounds.

    Args:
        settings: ``[upstream]``.
        clock: Unix seconds, for signatures.
        observe: For metrics.

    Raises:
        SettingsError: A certificate or key cannot be read.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        clock: Callable[[], float] = time.time,
        observe: Observer = lambda outcome, seconds: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._observe = observe
        self._url = URL(settings.url, encoded=True)
        self._tls = _tls(settings) if self._url.scheme == "https" else True
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
        self._kept = self._session(keep=True)
        self._fresh = self._session(keep=False)

    async def close(self) -> None:
        """Drop all connections; asks that wait or are under way end with Refused."""
        sessions = (self._kept, self._fresh)
        self._kept = self._fresh = None
        self._places.clear()
        for session in sessions:
            if session is not None:
                await session.close()

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
            raise Refused(Verdict.UNAVAILABLE, self._cause(exc)) from exc
        finally:
            self._places.give_back()
        return judge(status, answered, body)

    async def _exchange(self, block: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """One request and its whole answer; if a kept connection turns out to be dead, once more over a new one."""
        headers = self._headers(block)
        trail = SimpleNamespace(reused=False)
        try:
            return await self._get(self._kept, headers, trail)
        except _Lost as exc:
            if not trail.reused or exc.answered:
                raise
        return await self._get(self._fresh, headers, trail)

    async def _get(
        self, session: aiohttp.ClientSession | None, headers: CIMultiDict[str], trail: SimpleNamespace
    ) -> tuple[int, Mapping[str, str], bytes]:
        if session is None:
            raise RuntimeError("not started, or closed")
        async with session.get(
            self._url, headers=headers, allow_redirects=False, ssl=self._tls, trace_request_ctx=trail
        ) as response:
            return response.status, response.headers, await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self._settings.answer_size:
                raise ValueError(f"the answer is larger than {self._settings.answer_size} bytes")
        return bytes(body)

    def _headers(self, block: bytes) -> CIMultiDict[str]:
        lines = block.decode().split("\r\n") if block else ()
        headers = CIMultiDict((name, value) for name, _, value in (line.partition(": ") for line in lines))
        headers.setdefault("Accept", "application/json")
        headers["Accept-Encoding"] = "identity"
        if self._settings.secret:
            headers["X-Fairlead-Signature"] = signature(self._settings.secret, int(self._clock()), "GET", self._url)
        return headers

    def _cause(self, exc: Exception) -> str:
        """One short line: texts of the HTTP library may quote what the API sent, line ends included."""
        text = " ".join(str(exc).split())
        if isinstance(exc, TimeoutError):
            text = text or f"no whole answer within {self._settings.timeout:g} s"
        return "".join(char if char.isprintable() else "?" for char in text or type(exc).__name__)[:200]

    def _session(self, *, keep: bool) -> aiohttp.ClientSession:
        # No limit of its own: Places keeps it. Nothing of one user's answer may reach the next ask, so no cookies; and
        # nothing of the environment's (proxies, .netrc) either.
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        uds = self._settings.uds
        return aiohttp.ClientSession(
            connector=(
                _UnixConnector(uds, limit=0, force_close=not keep)
                if uds
                else _TCPConnector(limit=0, force_close=not keep)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout),
            trace_configs=[tracing],
            middlewares=[_once],
        )


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


class _Lost(aiohttp.ClientError):
    """The connection went away before the answer's end. ``answered``: a part of the answer was there."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.answered = isinstance(cause, aiohttp.ServerDisconnectedError) and not isinstance(cause.message, str)


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep the HTTP library from repeating a request by itself: it would, over connections just as dead."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, TimeoutError):
        raise
    except aiohttp.ClientConnectionError as exc:
        raise _Lost(exc) from exc


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reused = True


class _CleanConnector(aiohttp.BaseConnector):
    """Never hands out a kept connection on which something arrived unasked.

    That would be read as the answer to the next request, so that one user got another's, or a server's farewell
    ("408 Request Timeout") was taken for a verdict.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class _TCPConnector(_CleanConnector, aiohttp.TCPConnector):
    pass


class _UnixConnector(_CleanConnector, aiohttp.UnixConnector):
    pass


def _tls(settings: UpstreamSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as exc:
        raise SettingsError(f"upstream.ca_file: cannot use {settings.ca_file}: {exc}") from None
    if settings.cert_file:
        try:
            # A key with a pass phrase fails; without the argument OpenSSL would ask for it on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file or None, password="")
        except (OSError, ValueError) as exc:
            raise SettingsError(f"upstream.cert_file: cannot use {settings.cert_file}: {exc}") from None
    return context
