"""One connection to the API: a request goes out, its whole answer comes in, and then perhaps another.

Whatever comes is bounded, in bytes and in lines, and what went wrong is told in words of our own: nothing is quoted of
what the API sent, a cookie may be in it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final, NamedTuple

import httptools

from fairlead.errors import NetworkError
from fairlead.handshake import Headers
from fairlead.limits import KIB

HEAD_SIZE: Final = 64 * KIB
"""Bytes of an answer's header lines, those behind a chunked body included, and of any one line: four times what common
servers let pass."""

HEAD_COUNT: Final = 128
"""Header lines of an answer."""

INTERIM: Final = 16
"""Interim answers (1xx; RFC 9110, 15.2) before an answer; one or two are usual, and each means only: wait."""


class NoAnswer(NetworkError):
    """There is no usable answer; the text says why, on one line."""


class Lost(NoAnswer):
    """The connection went away before the answer's end.

    Args:
        cause: What the system said, if anything.
        stale: It was a kept connection and nothing of the answer came, or a server's farewell, so perhaps it was dead
            before the request.
    """

    def __init__(self, cause: Exception | None, *, stale: bool) -> None:
        text = f": {system_fault(cause)}" if isinstance(cause, OSError) else ""
        super().__init__(f"the connection was lost before the answer's end{text}")
        self.stale = stale


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


class Exchange(asyncio.Protocol):
    """A connection; to be used for one request after the other. It is also what httptools calls back.

    Args:
        answer_size: Bytes of a body.

    Attributes:
        usable: Whether another request may be sent. Not so once anything came unasked, or one user might get another's
            answer. What an API sends unasked when the next request has left cannot be told from its answer (HTTP/1.1
            has no numbers): such an API must answer with ``Connection: close``.
        since: For its pool: when it was last used.
    """

    __slots__ = (
        "_answer",
        "_answer_size",
        "_answered",
        "_asked",
        "_body",
        "_head_size",
        "_headers",
        "_interim",
        "_parser",
        "_status",
        "_transport",
        "_unfinished",
        "since",
        "usable",
    )

    def __init__(self, answer_size: int) -> None:
        self.usable = True
        self.since = 0.0
        self._answer_size = answer_size
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._asked = 0
        self._answer: asyncio.Future[Response] | None = None
        self._expect()

    def _expect(self) -> None:
        self._answered = False  # a first byte has come
        self._status = 0  # until its head is whole
        self._interim = self._head_size = 0
        self._unfinished = 0  # bytes fed since the parser last had something whole: it keeps them
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    def ask(self, request: bytes) -> asyncio.Future[Response]:
        """Send a whole request, as it is. The answer, or NoAnswer; whoever does not wait for it calls ``abort()``.

        It must be ``usable``.
        """
        self.usable = False
        self._asked += 1
        self._expect()
        answer = self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._lose(None)
        else:
            self._transport.write(request)
        return answer

    def abort(self) -> None:
        """Drop the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport by class
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._parser is None:
            self.abort()
            return
        self._answered = True
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.usable = False  # what follows a 101 is not HTTP; as an answer it lets nobody in
        except httptools.HttpParserError as exc:
            ours = exc.__context__  # raised below, in what the parser calls
            # The parser's own words are fixed, and no more than the name of a rule.
            self._fail(ours if isinstance(ours, NoAnswer) else NoAnswer(f"the answer is malformed: {exc}"))
        else:
            if self._unfinished > HEAD_SIZE:
                self._fail(_malformed("a line is too long"))

    def eof_received(self) -> None:
        self.usable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._transport = None
        self._parser = None  # it holds us, and we it
        if self._answer is None:
            return
        if self._status and exc is None and not self._is_framed():
            # RFC 9112, 6.3: such a body ends with its connection. Cut short it is no JSON object.
            self._finish()
        else:
            self._lose(exc)

    def _is_framed(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _lose(self, exc: Exception | None) -> None:
        self._fail(Lost(exc, stale=self._asked > 1 and not self._answered))

    def _fail(self, exc: NoAnswer) -> None:
        self.usable = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(exc)

    def _finish(self) -> None:
        if self._status == 408 and self._asked > 1:
            # RFC 9110, 15.5.9: perhaps the farewell to a connection kept too long, which crossed the request.
            self._fail(Lost(None, stale=True))
            return
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():  # done: cancelled a moment ago
            answer.set_result(Response(self._status, Headers(self._headers), bytes(self._body)))

    # -- httptools' side: what is raised here comes out of feed_data() -------------------------------------------------

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise NoAnswer("there is a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unfinished = 0
        self._head_size += len(name) + len(value) + 4
        if self._head_size > HEAD_SIZE:
            raise _malformed("its head is too large")
        if not self._status:  # RFC 9110, 6.5.1: what stands behind the body is not merged into the head
            self._headers.append((name.lower(), value.strip(b" \t")))
            if len(self._headers) > HEAD_COUNT:
                raise _malformed("too many header lines")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status: int = self._parser.get_status_code()
        if status < 100:
            raise _malformed("its status is none")
        if not 100 <= status < 200 or status == 101:
            self._status = status

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        self._body += body
        if len(self._body) > self._answer_size:
            raise NoAnswer(f"the answer is larger than {self._answer_size} bytes")

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._status:
            self.usable = self._parser.should_keep_alive()
            self._finish()
            return
        self._headers.clear()
        self._interim += 1
        if self._interim > INTERIM:
            raise _malformed("too many interim answers")


def _malformed(rule: str) -> NoAnswer:
    return NoAnswer(f"the answer is malformed: {rule}")


def system_fault(error: OSError) -> str:
    """What the system says, without what a library wrote around it."""
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
    if error.errno is None:
        return "no connection"
    text = os.strerror(error.errno) if error.errno > 0 else error.strerror or "unknown host"  # below 0: of its name
    return text.lower()
