from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.serving import exchange, port, serving

from fairlead.limits import Limits
from fairlead.server.http import HELD, SLICE, HttpProtocol
from fairlead.server.run import BACKLOG

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


async def test_an_upgrade_before_the_last_answer_is_read_is_not_taken_and_goes_not_into_it() -> None:
    body = bytes(8 * 2**20)  # more than the kernel takes
    answered = asyncio.Event()
    asked = []

    async def large(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        asked.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        answered.set()

    async with serving(large) as server, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await answered.wait()
        await reader.readuntil(b"\r\n\r\n")
        seen = await reader.readexactly(100_000)  # so that the kernel has some room again
        writer.write(b"GET /s HTTP/1.1\r\n" + HANDSHAKE + b"\r\n")
        seen += await reader.readexactly(len(body) - len(seen))
        answer = await reader.read()
        writer.close()
    assert seen == body
    assert status(answer) == 400 and ends_connection(answer)
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
    async with serving(Application(), limits=Limits(head_timeout=0.1)) as server:
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


async def echo_body(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the request's whole body."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event["body"]
        more = event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
async def test_another_protocol_that_is_asked_for_is_ignored_and_the_body_kept(framing: bytes) -> None:
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
    async with serving(echo_body) as server:
        answer = await exchange(server, head + b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n" + framing)
    assert status(answer) == 200
    assert answer.endswith(b"hello")


async def test_many_pipelined_wishes_for_another_protocol_are_no_recursion() -> None:
    application = Application()
    wish = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving(application) as server:
        answer = await exchange(server, wish * 2000 + last, seconds=20)
    assert answer.count(b"HTTP/1.1 200") == 2001


async def test_an_answer_reaches_a_client_that_is_still_sending() -> None:
    for line in (b"", b"Connection: close\r\n"):
        async with serving(Application()) as server:
            head = b"POST /a HTTP/1.1\r\nHost: x\r\n" + line + b"Content-Length: 8000000\r\n\r\n"
            answer = await exchange(server, head + b"x" * 8_000_000)
        assert status(answer) == 200
        assert answer.endswith(b"/a")


async def test_empty_lines_do_not_keep_a_connection_alive() -> None:
    async with serving(Application(), limits=Limits(head_timeout=0.1)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"/a")
        writer.write(b"\r\n")
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()


async def test_an_application_does_not_wait_for_a_body_that_is_malformed() -> None:
    over = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive())["type"] != "http.disconnect":
                pass
            over.set()

    async with serving(application) as server:
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert await exchange(server, head + b"zz\r\n") == b""
        await asyncio.wait_for(over.wait(), 5)


@pytest.mark.parametrize("before", [1, 2])
async def test_a_malformed_body_costs_the_requests_before_it_no_answer(
    before: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application()
    broken = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnowX"
    async with serving(app) as server:
        answers = await exchange(server, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * before + broken)
    assert answers.count(b"\r\n\r\n/a") == answers.count(b"HTTP/1.1") == before
    assert app.asked == ["http /a"] * before
    assert not caplog.records


async def test_a_request_pipelined_behind_another_keeps_its_body() -> None:
    async with serving(echo_body) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        second = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"
        writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + second)
        await reader.readuntil(b"\r\n\r\n")
        third = b"GET /c HTTP/1.1\r\nHost: x\r\n"
        writer.write(b"y" * 40_000 + third)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(40_000) == b"y" * 40_000
        writer.write(b"\r\n")
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("at", [None, -20])
async def test_lines_behind_a_body_are_not_taken_for_the_heads(at: int | None) -> None:
    told = asyncio.Queue[list[bytes]]()

    async def look(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            told.put_nowait([name for name, _ in scope["headers"]])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    head = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"1\r\nx\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\nExpect: 100-continue\r\n\r\n"
    async with serving(look) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        for last in (b"keep-alive", b"close"):
            request = head % last + body
            writer.write(request[:at])
            if at is not None:
                await asyncio.sleep(0)
                writer.write(request[at:])
            assert await told.get() == [b"host", b"connection", b"transfer-encoding"]
        answers = await reader.read()
        writer.close()
    assert answers.count(b"HTTP/1.1 204") == answers.count(b"HTTP/1.1") == 2


async def test_a_kept_connection_serves_several_requests() -> None:
    async with serving(Application()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        for path in (b"/1", b"/2", b"/3"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == path
        writer.close()


async def test_silent_connections_never_take_the_last_descriptor() -> None:
    async with serving(Application()) as server:
        server.shared.descriptors = 2
        crowd = [await asyncio.open_connection("127.0.0.1", port(server)) for _ in range(2)]
        assert await exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") in (b"", b"<reset>")
        for _, writer in crowd:
            writer.close()


async def test_the_kernel_holds_a_rush_of_connections_for_us() -> None:
    async with serving(Application()) as server:
        (listening,) = server._endpoints[0].server.sockets  # type: ignore[union-attr]
        information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    allowed = int(Path("/proc/sys/net/core/somaxconn").read_text())
    # Of a listening socket the kernel tells the length of its queue where else it counts acknowledgements.
    assert int.from_bytes(information[28:32], sys.byteorder) == min(BACKLOG, allowed)


async def test_requests_pipelined_become_objects_only_a_few_at_a_time() -> None:
    release = asyncio.Event()
    application = Application()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await release.wait()
            await application(scope, receive, send)

    request_ = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(slow) as server:
        last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answering = asyncio.create_task(exchange(server, request_ * 5000 + last, seconds=30))
        while not (held := [each for each in server.shared.connections if isinstance(each, HttpProtocol)]):
            await asyncio.sleep(0)
        while not held[0].pipeline:
            await asyncio.sleep(0)
        assert len(held[0].pipeline) <= SLICE // len(request_) + 1
        release.set()
        answer = await answering
    assert answer.count(b"HTTP/1.1 200 ") == 5001
    assert answer.endswith(b"/last")


async def test_a_client_that_takes_no_answers_is_dropped() -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    async with serving(large, limits=Limits(ping_timeout=0.2, ping_after=0.1)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.shared.connections:
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while server.shared.connections:
                await asyncio.sleep(0)
        writer.transport.abort()


async def test_a_request_held_back_has_the_time_it_needs() -> None:
    """The time that a kept connection may be idle does not run while it is answered."""
    release = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/last":
                await release.wait()
            await Application()(scope, receive, send)

    async with serving(application) as server:
        first = b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"f" * SLICE + b"\r\n\r\n"
        answering = asyncio.create_task(
            exchange(server, first + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        )
        while not (held := [each for each in server.shared.connections if isinstance(each, HttpProtocol)]):
            await asyncio.sleep(0)
        while held[0].cycle is None or held[0].cycle.scope["path"] != "/last":
            await asyncio.sleep(0)
        assert held[0].timeout_keep_alive_task is None
        release.set()
        assert (await answering).endswith(b"/last")


async def test_what_is_held_back_is_bounded_also_if_the_application_keeps_looking() -> None:
    async def polling(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive())["type"] != "http.disconnect":
                pass

    async with serving(polling) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000)
        while not (held := [each for each in server.shared.connections if isinstance(each, HttpProtocol)]):
            await asyncio.sleep(0)
        for _ in range(2000):
            assert len(held[0]._held) <= HELD
            await asyncio.sleep(0)
        writer.transport.abort()


@pytest.mark.slow
@pytest.mark.parametrize(
    "tail",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n",
    ],
)
async def test_an_answer_is_sent_whole_however_slowly_it_is_read(tail: bytes) -> None:
    size = 16_000_000

    async def large(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
            await send({"type": "http.response.body", "body": b"x" * size})

    async with serving(large) as server:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port(server))) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, tail)
            read, started = 0, loop.time()
            while chunk := await loop.sock_recv(client, 65536):
                read += len(chunk)
                behind = started + read / 4_000_000 - loop.time()
                if behind > 0:
                    await asyncio.sleep(behind)  # four megabytes a second: this client's pace is what is tested
    assert read > size
