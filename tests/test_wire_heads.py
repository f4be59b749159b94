"""Heads of messages: which bytes are one, and what is kept of its lines."""

from __future__ import annotations

import pytest

from fairlead.wire.heads import Head, read_head

HEAD = b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nX-Any: \t a b \t\r\nX-Any:\r\n\r\n"


def test_a_head_is_read() -> None:
    headers = [(b"host", b"example.com"), (b"x-any", b"a b"), (b"x-any", b"")]
    assert read_head(HEAD) == Head(b"GET", b"/a?b", "1.1", headers)
    assert read_head(b"OPTIONS * HTTP/2.0\r\n\r\n") == Head(b"OPTIONS", b"*", "2.0", [])


def test_lines_that_many_clients_send_are_kept_once_and_nobodys_own() -> None:
    def read(lines: bytes) -> list[tuple[bytes, bytes]]:
        return read_head(b"GET / HTTP/1.1\r\n" + lines + b"\r\n").headers

    alike = b"User-Agent: Any/1.0 \r\nAccept: */*\r\n"
    own = b"Cookie: a=b\r\nUser-Agent: " + b"x" * 300 + b"\r\nX-Any: c\r\n"
    first, second = read(alike + own), read(alike + own)
    assert first == second
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, True, False, False, False]
    assert first[0] == (b"user-agent", b"Any/1.0")
    for number in range(2000):  # more than are kept
        assert read(b"User-Agent: %d\r\n" % number) == [(b"user-agent", b"%d" % number)]
    assert read(alike) == first[:2] and read(alike)[0] is not first[0]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n",
        b"\r\n" + HEAD,
        HEAD[:-2],
        HEAD[:-4],
        HEAD + b"x",
        HEAD + b"\r\n",
        HEAD.replace(b"\r\n", b"\n"),
        HEAD.replace(b"\r\n", b"\r"),
        HEAD.replace(b"Host", b"\r\nHost"),
        HEAD.replace(b"com\r\n", b"com\n"),
        HEAD.replace(b"com\r\n", b"com\r"),
        HEAD.replace(b"com\r\n", b"com\r\r\n"),
        HEAD.replace(b"X-Any", b" X-Any", 1),
        HEAD.replace(b"X-Any", b"\tfolded", 1),
        HEAD.replace(b"X-Any:", b"folded", 1),
        HEAD.replace(b"X-Any:", b" folded", 1),
        HEAD.replace(b"Host:", b"Host :"),
        HEAD.replace(b"Host:", b"Host"),
        HEAD.replace(b"Host:", b":"),
        HEAD.replace(b"Host", b"H\xf6st"),
        HEAD.replace(b"a b", b"a\x00b"),
        HEAD.replace(b"a b", b"a\x0bb"),
        HEAD.replace(b"a b", b"a\x85b"),
        HEAD.replace(b"GET /", b"GET  /"),
        HEAD.replace(b"GET /", b"GET\t/"),
        HEAD.replace(b"GET /", b" GET /"),
        HEAD.replace(b"GET", b"G(T"),
        HEAD.replace(b"/a", b"/\n"),
        HEAD.replace(b"/a", b"/\xe9"),
        HEAD.replace(b" HTTP", b"\x0cHTTP"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.1 "),
        HEAD.replace(b"HTTP/1.1", b"http/1.1"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/11"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.11"),
        HEAD.replace(b" HTTP/1.1", b""),
    ],
)
def test_a_malformed_head_is_none(head: bytes) -> None:
    with pytest.raises(ValueError, match="malformed|empty line"):
        read_head(head)
