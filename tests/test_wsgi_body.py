"""wsgi.input of a body that comes in pieces."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from fairlead.wsgi.body import ClientLeft, body_stream


def stream(*pieces: bytes) -> io.BufferedReader:
    left = list(pieces)
    return body_stream(lambda: left.pop(0) if left else b"", 16)


PIECES = (b"one\ntw", b"o\n", b"three", b"\n" * 3, b"x" * 100)
WHOLE = b"".join(PIECES)


@pytest.mark.parametrize(
    "read",
    [
        lambda body: body.read(),
        lambda body: body.read(-1),
        lambda body: body.read(1_000),
        lambda body: b"".join(iter(lambda: body.read(7), b"")),
        lambda body: b"".join(iter(lambda: body.read1(7), b"")),
        lambda body: b"".join(body),
        lambda body: b"".join(body.readlines()),
        lambda body: b"".join(iter(lambda: body.readline(3), b"")),
    ],
)
def test_every_way_to_read_gives_all_of_it(read: Callable[[io.BufferedReader], bytes]) -> None:
    body = stream(*PIECES)
    assert read(body) == WHOLE
    assert body.read(1) == b"" and body.readline() == b""


def test_a_read_takes_no_more_than_it_needs() -> None:
    asked: list[int] = []

    def fetch() -> bytes:
        asked.append(1)
        return b"12345"

    body = body_stream(fetch, 16)
    assert body.read(5) == b"12345" and len(asked) == 1
    assert body.read1(100) == b"12345" and len(asked) == 2


def test_what_goes_wrong_is_raised_by_the_read() -> None:
    def fetch() -> bytes:
        raise ClientLeft

    with pytest.raises(ConnectionResetError):
        body_stream(fetch, 16).read()
