"""One connection to the API: what is an answer, what is none, and when the connection may be used again."""

from __future__ import annotations

import asyncio
import ssl
import tracemalloc

import pytest

from fairlead.gateway.exchange import HEAD_COUNT, HEAD_SIZE, INTERIM, Exchange, Lost, NoAnswer, Response

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + b"Content-Length: 2\r\n\r\n{}"


class Socket(asyncio.Transport):
    """As much of a socket as an exchange touches."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


class Line:
    """An exchange on such a socket, with one request under way."""

    def __init__(self, *, answer_size: int = 1000) -> None:
        self.socket = Socket()
        self.exchange = Exchange(answer_size)
        self.exchange.connection_made(self.socket)
        self.ask()

    def ask(self) -> None:
        self.answer = self.exchange.ask(b"GET\r\n\r\n")

    def feed(self, *pieces: bytes) -> Line:
        for piece in pieces:
            self.exchange.data_received(piece)
        return self

    def end(self, exc: Exception | None = None) -> Line:
        self.exchange.eof_received()
        self.exchange.connection_lost(exc)
        return self

    @property
    def response(self) -> Response:
        return self.answer.result()

    @property
    def fault(self) -> str:
        error = self.answer.exception()
        assert isinstance(error, NoAnswer)
        assert not self.exchange.usable
        return str(error)


def tls_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL] quoted")
    error.reason = reason  # type: ignore[assignment]  # OpenSSL may have none
    return error


async def test_a_request_goes_out_in_one_write_and_its_answer_comes_back() -> None:
    line = Line().feed(OK + b"Content-Length: 2\r\nRetry-After:  7 \r\nretry-after: 8\r\n\r\n{}")
    assert line.socket.written == [b"GET\r\n\r\n"]
    assert (line.response.status, line.response.body) == (200, b"{}")
    assert line.response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"])
async def test_these_have_no_body_and_the_connection_goes_on(head: bytes) -> None:
    line = Line().feed(head)
    assert line.response.body == b""
    line.ask()
    assert line.feed(WHOLE).response.body == b"{}"


@pytest.mark.parametrize(
    ("answer", "usable"),
    [
        (WHOLE, True),
        (CHUNKED + b"2;x=y\r\n{}\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", False),
        (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", False),
        (WHOLE + WHOLE, False),
        (WHOLE + b"H", False),
        (WHOLE + b"\x00", False),
    ],
)
async def test_a_connection_is_used_again_only_after_a_clean_end(answer: bytes, usable: bool) -> None:
    line = Line().feed(answer)
    assert line.response.body == b"{}"
    assert line.exchange.usable is usable


async def test_a_byte_nobody_asked_for_ends_a_connection_at_rest() -> None:
    line = Line().feed(WHOLE, b"\r")
    assert line.socket.aborted
    assert not line.exchange.usable


async def test_a_connection_whose_other_end_closed_is_not_used_again() -> None:
    line = Line().feed(WHOLE)
    line.exchange.eof_received()
    assert not line.exchange.usable


async def test_an_upgrade_is_an_answer_and_the_connections_last() -> None:
    line = Line().feed(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nabc")
    assert line.response.status == 101
    assert not line.exchange.usable


async def test_what_stands_behind_the_body_is_no_header() -> None:
    line = Line().feed(CHUNKED + b"0\r\nRetry-After: 7\r\n\r\n")
    assert list(line.response.headers) == ["transfer-encoding"]


async def test_a_body_without_a_length_ends_with_its_connection_in_good_order() -> None:
    assert Line().feed(OK + b"\r\n{", b"}").end().response.body == b"{}"
    assert "lost" in Line().feed(OK + b"\r\n{}").end(ConnectionResetError(104, "x")).fault
    assert "lost" in Line().feed(OK + b"Transfer-Encoding: gzip\r\n\r\n{}").end().fault


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([b"HTTP/1.1 000 None\r\n\r\n"], "its status is none"),
        ([OK + b"X: " + b"x" * HEAD_SIZE + b"\r\n\r\n"], "its head is too large"),
        ([OK + b"X: " + b"x" * 20_000 + b"\r\nY: " + b"y" * 50_000 + b"\r\n\r\n"], "its head is too large"),
        ([OK + b"X: y\r\n" * (HEAD_COUNT + 1) + b"\r\n"], "too many header lines"),
        ([OK + b"X: ", *[b"x" * 1000] * 70], "a line is too long"),
        ([b"HTTP/1.1 200 ", *[b"x" * 1000] * 70], "a line is too long"),
        ([CHUNKED, b"1;", *[b"x" * 1000] * 70], "a line is too long"),
        ([CHUNKED, b"0\r\nX: ", *[b"x" * 1000] * 70], "a line is too long"),
        ([CHUNKED, b"0\r\n", *[b"X: " + b"x" * 1000 + b"\r\n"] * 70], "its head is too large"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM + 1)], "too many interim answers"),
        (
            [b"HTTP/1.1 103 Hints\r\n" + b"X: y\r\n" * HEAD_COUNT + b"\r\n", OK + b"X: y\r\n" * 129 + b"\r\n"],
            "many header",
        ),
        ([OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"], "Transfer-Encoding"),
        ([OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"], "Content-Length"),
        ([OK + b"X: y\r\n folded\r\n\r\n"], "whitespace"),
        ([OK + b"Content-Length : 2\r\n\r\n{}"], "header"),
        ([b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"], "CR"),
        ([b"GET / HTTP/1.1\r\n\r\n"], "HTTP/"),
    ],
)
async def test_a_malformed_or_endless_answer_ends_the_ask_by_its_rule(pieces: list[bytes], fault: str) -> None:
    text = Line().feed(*pieces).fault
    assert text.startswith("the answer is malformed: ")
    assert fault in text


async def test_the_body_is_bounded_to_the_byte_however_it_is_cut() -> None:
    assert len(Line(answer_size=4).feed(CHUNKED, *[b"1\r\n \r\n"] * 4, b"0\r\n\r\n").response.body) == 4
    assert Line(answer_size=4).feed(CHUNKED, b"5\r\n     ").fault == "the answer is larger than 4 bytes"
    assert Line(answer_size=4).feed(OK + b"\r\n", b"     ").fault == "the answer is larger than 4 bytes"


async def test_a_body_in_single_bytes_takes_no_more_memory_than_the_body() -> None:
    line = Line(answer_size=100_000)
    piece = b"1\r\n \r\n" * 1000
    tracemalloc.start()
    line.feed(CHUNKED, *[piece] * 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000


@pytest.mark.parametrize(
    ("before", "said", "stale"), [(b"", b"", False), (WHOLE, b"", True), (WHOLE, b"H", False), (WHOLE, OK, False)]
)
async def test_only_a_kept_connection_that_said_nothing_at_all_was_perhaps_dead(
    before: bytes, said: bytes, stale: bool
) -> None:
    line = Line()
    if before:
        line.feed(before)
        line.ask()
    if said:
        line.feed(said)
    error = line.end().answer.exception()
    assert isinstance(error, Lost)
    assert error.stale is stale


async def test_asked_over_a_connection_already_gone_it_was_perhaps_dead() -> None:
    line = Line().feed(WHOLE).end()
    line.ask()
    error = line.answer.exception()
    assert isinstance(error, Lost)
    assert error.stale


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (ConnectionResetError(104, "whatever a library wrote"), ": connection reset by peer"),
        (OSError("no number"), ": no connection"),
        (tls_error("WRONG_VERSION_NUMBER"), ": TLS failed: wrong version number"),
        (tls_error(None), ": TLS failed: no reason given"),
        (ValueError("x"), ""),
        (None, ""),
    ],
)
async def test_a_lost_connection_says_what_the_system_said(exc: Exception | None, text: str) -> None:
    assert Line().end(exc).fault == f"the connection was lost before the answer's end{text}"


async def test_an_answer_nobody_waits_for_any_more_is_dropped() -> None:
    line = Line()
    line.answer.cancel()
    line.feed(WHOLE)
    other = Line()
    other.answer.cancel()
    other.end()
