"""An ask of the API, and whatever comes on its connection.

The first two bytes say where the rest is cut into pieces, and the first of them also whether the connection is lost or
ends in good order.

Documented are a ``Response`` with a final status, in pieces the same one as in one, and ``NoAnswer`` with a text of one
line in ASCII.
"""

from __future__ import annotations

import asyncio
from random import Random

from fuzzing.harness import Mutation, cut, require

from fairlead.gateway.exchange import Exchange, NoAnswer, Response

LENGTH = 600
ANSWER_SIZE = 100
LOST = 1  # bit of the first byte

_LOOP = asyncio.new_event_loop()


class _Socket:
    """A transport that is only closed."""

    closing = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.closing = True


def check(data: bytes) -> None:
    """One connection."""
    if len(data) < 2:
        return
    lost = bool(data[0] & LOST)
    one = _LOOP.run_until_complete(_outcome([data[2:]], lost=lost))
    other = _LOOP.run_until_complete(_outcome(cut(data[2:], *data[:2]), lost=lost))
    if isinstance(one, Response) and isinstance(other, Response):
        require(one.status == other.status and one.body == other.body, "another answer in pieces")
        require(dict(one.headers) == dict(other.headers), "other headers in pieces")
        require(200 <= one.status <= 999 or one.status == 101, "an interim answer for the answer")
        require(len(one.body) <= ANSWER_SIZE, "a body past the limit")
    else:
        require(type(one) is type(other), "no answer in pieces, or only there")
        text = str(one)
        require(text.isprintable() and text.isascii(), f"a fault that cannot be shown: {text!r}")


async def _outcome(pieces: list[bytes], *, lost: bool) -> Response | NoAnswer:
    exchange, socket = Exchange(ANSWER_SIZE), _Socket()
    exchange.connection_made(socket)  # type: ignore[arg-type]  # as much of one as it needs
    ask = exchange.ask(b"GET / HTTP/1.1\r\n\r\n")
    for piece in pieces:
        if not socket.closing:
            exchange.data_received(piece)
    exchange.eof_received()
    require(not exchange.usable, "usable after its end")
    exchange.connection_lost(ConnectionResetError() if lost else None)
    require(ask.done(), "an ask without an end")
    fault = ask.exception()
    if fault is None:
        return ask.result()
    if isinstance(fault, NoAnswer):
        return fault
    raise fault


_LINES = (
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 403 Forbidden",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.0 200 OK",
    b"HTTP/2 200",
    b"Content-Length: 2",
    b"Content-Length: 101",
    b"Content-Length: +2",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Set-Cookie: a=\xe2\x82\xac; b=\xff",
    b" folded: a",
    b"name : a",
    b"X: a\rb",
    b"X: a\nb",
    b"",
    b"2",
    b"{}",
    b"0",
    b"ffffffffffffffff",
    b"2;a=b",
)


def seeds() -> list[bytes]:
    """Answers of each framing, alone, behind an interim one and before another one."""
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: a\r\n\r\n"
    ended = b"HTTP/1.0 200 OK\r\n\r\n{}"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    answers = [plain, chunked, ended, interim + plain, interim * 20 + plain, plain + plain, chunked + b"x"]
    answers += [b"HTTP/1.1 %d x\r\n\r\n" % status for status in (101, 204, 304, 408, 500, 999)]
    answers += [
        plain[:40],
        chunked[:-9],
        b"",
        b"\r\n\r\n" + plain,
        plain.replace(b"2", b"200", 1),
        b"HTTP/1.1 200\r\n\r\n",
    ]
    return [bytes((first, second)) + answer for answer in answers for first, second in ((0, 0), (40, 60), (LOST, 9))]


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes, or in one case of two a whole line."""
    if random.random() < 0.5:
        return mutation(data)
    lines = data[2:].split(b"\r\n")
    at = int(random.random() * len(lines))
    if random.random() < 0.6:
        lines.insert(at, random.choice(_LINES))
    elif random.random() < 0.5:
        lines[at] = mutation(lines[at])
    else:
        del lines[at]
    return data[:2] + b"\r\n".join(lines)
