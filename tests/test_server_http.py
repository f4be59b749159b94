from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.serving import exchange, port, serving

from fairlead.limits import Limits

HANDSHAKE = (
    b"Host: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Application:
    """Answers HTTP with the request's path, lets every socket in, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.asked.append(f"{scope['type']} {scope['path']}")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def ends_connection(answer: bytes) -> bool:
    lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return any(line.startswith(b"connection:") and b"close" in line for line in lines)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /a HTTP/1.0\r\n\r\n", 200),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /s HTTP/1.1\r\n" + HANDSHAKE.replace(b"Version: 13", b"Version: 8") + b"\r\n", 426),
        (b"POST /s HTTP/1.1\r\n" + HANDSHAKE + b"Content-Length: 0\r\n\r\n", 405),
        (b"GET /s HTTP/1.1\r\n" + HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", 400),
        (b"GET /s HTTP/1.1\r\n" + HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short") + b"\r\n", 400),
        (b"GET /s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 426),
    ],
)
async def test_each_request_gets_its_status_and_a_refusal_ends_the_connection(request_: bytes, expected: int) -> None:
    async with serving(Application()) as server:
        answer = await exchange(server, request_)
    assert status(answer) == expected
    if expected != 200:
        assert ends_connection(answer)


@pytest.mark.parametrize("change", [(b"Version: 13", b"Version: 99"), (b"Connection: Upgrade\r\n", b"")])
async def test_nothing_behind_a_refused_upgrade_is_executed(change: tuple[bytes, bytes]) -> None:
    application = Application()
    async with serving(application) as server:
        attempt = b"GET /s HTTP/1.1\r\n" + HANDSHAKE.replace(*change) + b"\r\n"
        answer = await exchange(server, attempt + b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert status(answer) in (400, 426)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert application.asked == []


async def test_an_upgrade_pipelined_behind_a_request_under_way_is_not_taken() -> None:
    release = asyncio.Event()
    asked = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        asked.append(scope["type"])
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serving(slow) as server:
        both = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /s HTTP/1.1\r\n" + HANDSHAKE + b"\r\n"
        answering = asyncio.create_task(exchange(server, both))
        while not asked:
            await asyncio.sleep(0)
        release.set()
        answer = await answering
    assert answer.endswith(b"ok")
    assert asked == ["http"]


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_the_head_is_bounded_in_bytes(over: int) -> None:
    async with serving(Application(), limits=Limits(head_size=1000)) as server:
        # As counted: the target, and each header line with its ": " and line end.
        used = len(b"/a") + len(b"Host: x\r\n") + len(b"Connection: close\r\n") + len(b"X: \r\n")
        filler = b"f" * (1000 - used + over)
        head = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + filler + b"\r\n\r\n"
        answer = await exchange(server, head)
    # Limits are of what is parsed: one byte more is refused.
    assert status(answer) == (431 if over > 0 else 200)


@pytest.mark.parametrize("count", [9, 10, 11])
async def test_the_head_is_bounded_in_lines(count: int) -> None:
    async with serving(Application(), limits=Limits(head_count=10)) as server:
        lines = b"".join(b"X-%d: y\r\n" % number for number in range(count - 2))
        head = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n"
        answer = await exchange(server, head)
    assert status(answer) == (431 if count > 10 else 200)


async def test_an_endless_header_line_is_refused_before_it_ends() -> None:
    async with serving(Application(), limits=Limits(head_size=1000)) as server:
        answer = await exchange(server, b"GET /a HTTP/1.1\r\nX: " + b"f" * 5000)
    assert status(answer) == 431


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    async with serving(Application(), limits=Limits(head_timeout=0.05)) as server:
        assert await exchange(server, sent) == b""


async def test_the_deadline_holds_for_every_head_of_a_kept_connection() -> None:
    async with serving(Application(), limits=Limits(head_timeout=0.1)) as server:
        answer = await exchange(server, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\n")
    assert answer.endswith(b"/a")


async def test_a_request_answered_before_its_body_ends_the_connection() -> None:
    application = Application()
    async with serving(application) as server:
        endless = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome"
        answer = await exchange(server, endless)
    assert status(answer) == 200
    assert application.asked == ["http /a"]


async def test_another_protocol_is_answered_as_http() -> None:
    async with serving(Application()) as server:
        answer = await exchange(server, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert status(answer) == 200


async def test_a_kept_connection_serves_several_requests() -> None:
    async with serving(Application()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        for path in (b"/1", b"/2", b"/3"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == path
        writer.close()
