"""An application's answer on its way out: what is sent, when, and what is an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from fairlead.wsgi.answer import Answer, Head
from fairlead.wsgi.body import ClientLeft

OK = "200 OK"


class Sent:
    """An outlet that keeps what goes out; it fails from the ``fails``-th call on."""

    def __init__(self, fails: int = 1_000) -> None:
        self.open = True
        self.head: Head | None = None
        self.parts: list[tuple[bytes, bool]] = []
        self._left = fails

    def start(self, head: Head, body: bytes, *, more: bool) -> None:
        assert self.head is None
        self.head = head
        self.send(body, more=more)

    def send(self, body: bytes, *, more: bool) -> None:
        assert not self.parts or self.parts[-1][1], "it was complete"
        self._left -= 1
        if self._left < 0:
            raise ClientLeft
        self.parts.append((body, more))

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        assert self.head is not None
        return self.head.headers


class Closing:
    """An iterable whose close() counts."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def close(self) -> None:
        self.closed += 1


def run(app: Callable[..., Any], method: str = "GET", sent: Sent | None = None) -> Sent:
    sent = sent or Sent()
    Answer(sent, method).run(app, {"REQUEST_METHOD": method})
    return sent


def giving(
    result: Any, headers: Iterable[tuple[str, str]] = (), status: str = OK
) -> Callable[[Any, Callable[..., Any]], Any]:
    def app(environ: Any, start_response: Callable[..., Any]) -> Any:
        start_response(status, list(headers))
        return result

    return app


# -- what is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_is_all_there_goes_out_at_once_with_its_length(kind: type) -> None:
    sent = run(giving(kind([b"one", b"", b"two"]), [("X-A", "ü")]))
    assert sent.headers == [(b"x-a", b"\xfc"), (b"content-length", b"6")]
    assert sent.parts == [(b"onetwo", False)]


def test_what_comes_in_parts_goes_out_as_it_comes() -> None:
    seen: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(3):
            seen.append(len(sent.parts))
            yield b"x%d" % number
            yield b""

    sent = Sent()
    run(giving(parts()), sent=sent)
    assert seen == [0, 1, 2]
    assert sent.headers == [] and sent.parts == [(b"x0", True), (b"x1", True), (b"x2", True), (b"", False)]


def test_nothing_is_sent_before_there_is_some_of_the_body() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> Iterator[bytes]:
        yield b""
        start_response(OK, [("X-A", "1")])
        yield b""
        yield b"x"

    sent = run(app)
    assert sent.headers == [(b"x-a", b"1")] and sent.parts == [(b"x", True), (b"", False)]


def test_the_part_that_completes_the_length_is_the_last() -> None:
    body = Closing([b"one", b"two", b"never asked for"])
    sent = run(giving(body, [("Content-Length", "6")]))
    assert sent.parts == [(b"one", True), (b"two", False)] and body.closed == 1


@pytest.mark.parametrize("body", [[b"onetwo"], Closing([b"one", b"two"]), Closing([b"onetwo"])])
def test_what_is_longer_than_its_length_is_cut(body: Any) -> None:
    sent = run(giving(body, [("Content-Length", "4")]))
    assert b"".join(part for part, _ in sent.parts) == b"onet" and not sent.parts[-1][1]


@pytest.mark.parametrize("result", [[], Closing([]), Closing([b""])])
def test_an_empty_body_has_the_length_0(result: Any) -> None:
    sent = run(giving(result))
    assert sent.headers == [(b"content-length", b"0")] and sent.parts == [(b"", False)]


@pytest.mark.parametrize(
    ("result", "given", "headers"),
    [
        ([b"page"], [], [(b"content-length", b"4")]),
        ([], [], []),
        ([], [("Content-Length", "4")], [(b"content-length", b"4")]),
        (Closing([b"page", b"never asked for"]), [], []),
        (Closing([b"page"]), [("Content-Length", "4")], [(b"content-length", b"4")]),
    ],
)
def test_the_answer_to_head_has_no_body(result: Any, given: Any, headers: Any) -> None:
    sent = run(giving(result, given), "HEAD")
    assert sent.headers == headers and sent.parts == [(b"", False)]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [[b"x"], [], Closing([b"x", b"y"])])
def test_answers_without_a_body_have_neither_body_nor_length(status: str, result: Any) -> None:
    sent = run(giving(result, [("Content-Length", "1")], status))
    assert sent.headers == [] and sent.parts == [(b"", False)]


def test_what_is_between_the_server_and_its_client_is_not_the_applications_to_say() -> None:
    given = [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("Upgrade", "websocket")]
    assert run(giving([b"x"], given)).headers == [(b"upgrade", b"websocket"), (b"content-length", b"1")]


def test_write_sends_at_once_ahead_of_what_is_returned() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response(OK, [])
        write(b"")
        assert sent.parts == []
        write(b"one")
        assert sent.parts == [(b"one", True)]
        return [b"two"]

    sent = Sent()
    run(app, sent=sent)
    assert sent.headers == [] and sent.parts == [(b"one", True), (b"two", False)]


def test_write_may_not_pass_the_length() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response(OK, [("Content-Length", "3")])
        write(b"one")
        with pytest.raises(RuntimeError, match="longer than its Content-Length"):
            write(b"two")
        return []

    assert run(app).parts == [(b"one", False)]


def test_write_to_head_goes_nowhere() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response(OK, [])
        write(b"one")
        write(b"two")
        return []

    assert run(app, "HEAD").parts == [(b"", False)]


def test_what_nobody_wants_any_more_is_thrown_away_to_its_end() -> None:
    seen: list[str] = []

    def parts() -> Iterator[bytes]:
        yield b"x"
        seen.append("ran on")

    sent = Sent()
    sent.open = False
    run(giving(parts()), sent=sent)
    run(lambda environ, start_response: [b"no head"], sent=sent)
    assert seen == ["ran on"] and sent.parts == []


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_error_before_the_body_replaces_the_head() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        start_response(OK, [("X-A", "1")])
        try:
            raise ValueError
        except ValueError:
            start_response("500 Sorry", [("X-B", "2")], sys.exc_info())
        return [b"sorry"]

    sent = run(app)
    assert sent.head is not None and sent.head.status == 500
    assert sent.headers == [(b"x-b", b"2"), (b"content-length", b"5")]


def test_an_error_behind_some_of_the_body_comes_out() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response(OK, [])
        yield b"x"
        try:
            raise ValueError("in the middle")
        except ValueError:
            start_response("500 Sorry", [], sys.exc_info())
        yield b"never"

    sent = Sent()
    with pytest.raises(ValueError, match="in the middle"):
        run(app, sent=sent)
    assert sent.parts == [(b"x", True)]


def test_only_an_error_may_start_the_response_again() -> None:
    def app(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        start_response(OK, [])
        start_response(OK, [])
        return []

    with pytest.raises(RuntimeError, match="twice"):
        run(app)


@pytest.mark.parametrize("result", [[], [b"x"], Closing([]), Closing([b"x"])])
def test_an_answer_without_a_head_is_none(result: Any) -> None:
    sent = Sent()
    with pytest.raises(RuntimeError, match="start_response"):
        run(lambda environ, start_response: result, sent=sent)
    assert sent.parts == []


@pytest.mark.parametrize("result", [["text"], Closing(["text"]), Closing([b"x", "text"])])
def test_a_body_is_made_of_bytes(result: Any) -> None:
    with pytest.raises(TypeError):
        run(giving(result))


@pytest.mark.parametrize("body", [[b"one"], Closing([b"one"]), Closing([])])
def test_a_body_that_is_shorter_than_its_length_is_an_error(body: Any) -> None:
    sent = Sent()
    with pytest.raises(RuntimeError, match="Content-Length is 4"):
        run(giving(body, [("Content-Length", "4")]), sent=sent)
    assert not sent.parts or sent.parts[-1][1]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("OK", []),
        ("101 Switching Protocols", []),
        ("99 No", []),
        ("600 No", []),
        (OK, [("X", "☃")]),
        (OK, [("Content-Length", "x")]),
        (OK, [("Content-Length", "-1")]),
        (OK, [("Content-Length", "1"), ("Content-Length", "2")]),
    ],
)
def test_a_head_that_cannot_be_sent_is_the_applications_mistake(status: str, headers: Any) -> None:
    with pytest.raises(ValueError):
        run(giving([], headers, status))


# -- close -------------------------------------------------------------------------------------------------------------


def failing() -> Iterator[bytes]:
    yield b"x"
    raise LookupError


@pytest.mark.parametrize(
    ("parts", "fails", "error"),
    [
        ([b"x"], 1_000, None),
        (failing(), 1_000, LookupError),
        ([b"x", b"y"], 1, ClientLeft),
        (["text"], 1_000, TypeError),
    ],
)
def test_what_the_application_returned_is_closed_once_whatever_happens(
    parts: Any, fails: int, error: type[Exception] | None
) -> None:
    body = Closing(parts)
    if error is None:
        run(giving(body), sent=Sent(fails))
    else:
        with pytest.raises(error):
            run(giving(body), sent=Sent(fails))
    assert body.closed == 1


def test_nobody_asks_for_more_when_the_client_has_left() -> None:
    asked: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            asked.append(1)
            yield b"x"

    with pytest.raises(ClientLeft):
        run(giving(endless()), sent=Sent(3))
    assert len(asked) == 4
