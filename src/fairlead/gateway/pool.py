"""The HTTP client with which the API is asked: aiohttp's, held to the gateway's rules.

Nothing of one answer may reach the next ask, nothing is repeated behind our back, whatever the API sends is bounded,
and what went wrong is told in words of our own.
"""

from __future__ import annotations

import os
import re
import ssl
from functools import partial
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace

from fairlead.gateway.settings import UpstreamSettings

INTERIM: Final = 16
"""Interim answers (1xx; RFC 9110, 15.2) before an answer; one or two are usual, and each means only: wait."""

_NOT_ADDED: Final = ("Accept", "Content-Type", "User-Agent")  # by the HTTP library: only what is chosen here is sent


class NoAnswer(aiohttp.ClientError):
    """There is no usable answer; the text says why, in our own words."""


class Lost(NoAnswer):
    """The connection went away before the answer's end. ``answered``: a part of the answer was there."""

    def __init__(self, cause: Exception) -> None:
        error = _system(cause) if isinstance(cause, OSError) else ""
        super().__init__(f"the connection was lost before the answer's end{': ' if error else ''}{error}")
        self.answered = isinstance(cause, aiohttp.ServerDisconnectedError) and not isinstance(cause.message, str)


def session(settings: UpstreamSettings, *, keep: bool) -> aiohttp.ClientSession:
    """A session; with ``keep`` its connections are kept for further asks.

    A request's ``trace_request_ctx`` has its ``reused`` set to True if it goes over a kept connection.
    """
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    tracing.on_connection_create_start.append(_note_new)
    # No limit of its own: the places are counted elsewhere. No cookies, or one user's next ask would carry another's
    # session; and nothing of the environment's (proxies, .netrc).
    return aiohttp.ClientSession(
        connector=(
            _UnixConnector(settings.uds, limit=0, force_close=not keep)
            if settings.uds
            else _TCPConnector(limit=0, force_close=not keep)
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=_NOT_ADDED,
        timeout=aiohttp.ClientTimeout(total=None, connect=settings.connect_timeout),
        trace_configs=[tracing],
        middlewares=[_once],
    )


def cause(exc: Exception, settings: UpstreamSettings) -> str:
    """Why there is no answer, in one short line. Nothing is quoted of what the API sent: a cookie may be in it."""
    match exc:
        case NoAnswer():
            return str(exc)
        case aiohttp.ClientPayloadError():
            return "the answer was cut short, or is malformed"
        case aiohttp.ClientResponseError():
            fault = re.split("[\n'\"]", exc.message, maxsplit=1)[0]  # what is quoted comes after it
            return f"the answer is malformed: {fault.rstrip(': ')}"
        case UnixClientConnectorError():
            return f"cannot connect to {exc.path}: {_system(exc.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            error = exc.certificate_error
            why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "not valid"
            return f"the certificate of {exc.host}:{exc.port} is not accepted: {why}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {exc.host}:{exc.port}: {_system(exc.os_error)}"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {settings.connect_timeout:g} s"
        case TimeoutError():
            return f"no whole answer within {settings.timeout:g} s"
    return f"the HTTP client failed ({type(exc).__name__})"


def _system(error: OSError) -> str:
    """What the system says, without what a library wrote around it."""
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
    if error.errno is None:
        return "no connection"
    text = os.strerror(error.errno) if error.errno > 0 else error.strerror or ""  # below 0: of the host's name
    return text.lower()


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep the HTTP library from repeating a request by itself: it would, over connections just as dead."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, TimeoutError):
        raise
    except aiohttp.ClientConnectionError as exc:
        raise Lost(exc) from exc


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reused = True


async def _note_new(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reused = False  # a kept one was taken first, and not clean


class _Answers(ResponseHandler):
    """A connection to the API, on which interim answers are dropped, and only so many taken.

    The library would keep each of them until it is read, without end, and read them without letting the loop go on.
    """

    _interim = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        code = data[0].code
        if not 100 <= code < 200 or code == 101:
            self._interim = 0
            super().feed_data(data, size)
            return
        self._interim += 1
        if self._interim == INTERIM + 1:
            self.set_exception(HttpProcessingError(message="too many interim answers"))
            if self.transport is not None:
                self.transport.abort()


class _CleanConnector(aiohttp.BaseConnector):
    """Never hands out a kept connection on which something arrived unasked.

    That would be read as the answer to the next request, so that one user got another's, or a server's farewell
    ("408 Request Timeout") was taken for a verdict.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        # aiohttp has no argument for it.
        self._factory = partial(_Answers, loop=self._loop)  # type: ignore[assignment]  # a narrower class
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class _TCPConnector(_CleanConnector, aiohttp.TCPConnector):
    pass


class _UnixConnector(_CleanConnector, aiohttp.UnixConnector):
    pass
