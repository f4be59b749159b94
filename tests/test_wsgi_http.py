"""Plain requests to a WSGI application, over sockets: under our server, and where it matters under another one."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from wsgiref.validate import validator

import pytest
from tests.e2e.servers import SANSIO
from tests.e2e.servers import running as serving_foreign

from fairlead.app.application import App
from fairlead.limits import Limits
from fairlead.testing import running
from fairlead.wsgi import WSGI

PATIENCE = 5.0

Start = Callable[..., Any]
Call = Callable[[dict[str, Any], Start], Iterable[bytes]]


class Raw:
    """A connection of a client that says and reads what the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, line: str, *headers: str, body: bytes = b"") -> None:
        """A request head, with what follows it."""
        self.writer.write("\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body)

    async def until(self, end: bytes) -> bytes:
        """What comes, up to this."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """What comes until the server ends it."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def vanish(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def dialing(port: int) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(reader, writer)
    try:
        yield raw
    finally:
        raw.vanish()


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Callable[[], Any]]:
    """The application under our server; what is yielded makes clients."""
    async with running(app, **options) as server:
        yield lambda: dialing(int(server.url.rpartition(":")[2]))


@pytest.fixture(params=["fairlead", pytest.param("uvicorn", marks=pytest.mark.slow)])
def serve(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    if request.param == "fairlead":
        return serving

    @asynccontextmanager
    async def foreign(app: Any) -> AsyncIterator[Callable[[], Any]]:
        async with serving_foreign(SANSIO, app) as server:
            yield lambda: dialing(server.ports[0])

    return foreign


def page(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["wsgi.input"].read()]


class Endless:
    """An application that goes on and on: ``close`` tells that somebody stopped it.

    Attributes:
        sent: How many parts were asked for.
        stopped: Its iterable was closed.
    """

    def __init__(self, size: int = 1_000) -> None:
        self.sent = 0
        self.stopped = threading.Event()
        self._part = bytes(size)

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        return self._parts()

    def _parts(self) -> Iterator[bytes]:
        try:
            while True:
                self.sent += 1
                yield self._part
        finally:
            self.stopped.set()

    async def ended(self) -> None:
        assert await asyncio.to_thread(self.stopped.wait, PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def at_rest(count: Callable[[], int]) -> int:
    """What a number comes to, once it does not change any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            before = count()
            await asyncio.sleep(0.05)
            if count() == before > 0:
                return before


# -- whole requests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
async def test_a_request_passes_the_validator_both_ways(method: str) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])])
        return [method.encode() + b" " + body] if method != "HEAD" else []

    async with running(WSGI(validator(app))) as server:
        body = b"a body" if method in ("POST", "DELETE") else None
        answer = await server.http(method, "/a%20b?q", body=body)
    assert answer.status == 200 and answer.headers["x-path"] == "/a b"
    assert answer.body == (b"" if method == "HEAD" else method.encode() + b" " + (body or b""))


async def test_a_connection_carries_one_request_after_another(serve: Callable[[Any], Any]) -> None:
    async with serve(WSGI(page)) as client, client() as raw:
        for number in range(3):
            raw.ask("POST /", "Content-Length: 2", body=b"b%d" % number)
            assert b"200 OK" in await raw.until(b"\r\n\r\n")
            assert await raw.until(b"POST b%d" % number) == b"POST b%d" % number


async def test_a_body_without_a_length_is_read_to_its_end(serve: Callable[[Any], Any]) -> None:
    async with serve(WSGI(page)) as client, client() as raw:
        raw.ask("POST /", "Transfer-Encoding: chunked", body=b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        await raw.until(b"\r\n\r\n")
        assert await raw.until(b"POST onetwo")


async def test_write_and_file_wrapper_send_all_that_they_are_given() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        from io import BytesIO

        write = start_response("200 OK", [])
        write(b"written ")
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](BytesIO(b"x" * 100_000), 8192)
        return wrapped

    async with running(WSGI(app)) as server:
        answer = await server.http("GET", "/")
    assert answer.body == b"written " + b"x" * 100_000


# -- streaming ---------------------------------------------------------------------------------------------------------


async def test_body_and_answer_go_on_at_the_same_time(serve: Callable[[Any], Any]) -> None:
    def echo(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        while part := environ["wsgi.input"].read1(100):
            yield part.upper()

    async with serve(WSGI(echo)) as client, client() as raw:
        raw.ask("POST /", "Transfer-Encoding: chunked")
        for part in (b"one", b"two", b"six"):
            raw.writer.write(b"3\r\n" + part + b"\r\n")
            assert (await raw.until(part.upper())).endswith(b"\r\n3\r\n" + part.upper())
        raw.writer.write(b"0\r\n\r\n")
        assert (await raw.until(b"0\r\n\r\n")).endswith(b"\r\n0\r\n\r\n")


async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    reading, done = threading.Event(), queue.SimpleQueue[int]()

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        assert reading.wait(PATIENCE)
        total = 0
        while part := environ["wsgi.input"].read(2**16):
            total += len(part)
        done.put(total)
        start_response("200 OK", [])
        return []

    size = 20 * 2**20
    async with serving(WSGI(app)) as client, client() as raw:
        raw.ask("POST /", f"Content-Length: {size}")
        raw.writer.transport.set_write_buffer_limits(high=0)
        taken = 0

        async def send() -> None:
            nonlocal taken
            for _ in range(20):
                raw.writer.write(bytes(2**20))
                await raw.writer.drain()
                taken += 2**20

        sending = asyncio.create_task(send())
        assert await at_rest(lambda: taken or 1) < size / 2  # what the kernel holds, and a little
        reading.set()
        await sending
        await raw.until(b"\r\n\r\n")
    assert done.get() == size


async def test_an_answer_that_nobody_reads_is_not_made() -> None:
    app = Endless(2**16)
    async with serving(WSGI(app)) as client, client() as raw:
        raw.writer.transport.pause_reading()
        raw.ask("GET /")
        count = await at_rest(lambda: app.sent)
        assert count * 2**16 < 20 * 2**20
        raw.vanish()
        await app.ended()


async def test_a_large_answer_does_not_keep_its_thread_waiting() -> None:
    left = threading.Event()

    class Page(list[bytes]):
        def close(self) -> None:
            left.set()

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return Page([bytes(20 * 2**20)])

    async with serving(WSGI(app, threads=1)) as client, client() as slow, client() as quick:
        slow.writer.transport.pause_reading()
        slow.ask("GET /")
        assert await asyncio.to_thread(left.wait, PATIENCE)
        quick.ask("GET /")
        assert b"200 OK" in await quick.until(b"\r\n\r\n")


# -- clients that leave ------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_ends_the_answer(serve: Callable[[Any], Any]) -> None:
    app = Endless()
    async with serve(WSGI(app)) as client, client() as raw:
        raw.ask("GET /")
        await raw.until(bytes(100))
        raw.vanish()
        await app.ended()


@pytest.mark.parametrize("reads", [True, False])
async def test_so_it_does_behind_a_body_without_a_length(serve: Callable[[Any], Any], reads: bool) -> None:
    endless = Endless()

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        if reads:
            assert environ["wsgi.input"].read() == b"abc"
        return endless(environ, start_response)

    async with serve(WSGI(app)) as client, client() as raw:
        raw.ask("POST /", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n")
        await raw.until(bytes(100))
        raw.vanish()
        await endless.ended()


async def test_the_end_of_a_body_may_be_an_event_of_its_own() -> None:
    endless = Endless()
    events = [{"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.request"}]
    begun = asyncio.Event()

    async def receive() -> Any:
        if events:
            return events.pop(0)
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        begun.set()

    headers = [(b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    async with asyncio.timeout(PATIENCE):
        await WSGI(endless)(scope, receive, send)
    await endless.ended()


async def test_so_it_does_while_its_body_is_unread() -> None:
    app = Endless()
    async with serving(WSGI(app)) as client, client() as raw:
        raw.ask("POST /", "Content-Length: 1000000", body=bytes(500_000))
        await raw.until(bytes(100))
        raw.vanish()
        await app.ended()


async def test_a_client_that_leaves_in_its_body_ends_the_reading(
    serve: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    said: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    begun = threading.Event()

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        environ["wsgi.input"].read(10)
        begun.set()
        try:
            environ["wsgi.input"].read()
        except ConnectionResetError as exc:
            said.put(exc)
            raise
        raise AssertionError

    async with serve(WSGI(app)) as client, client() as raw:
        raw.ask("POST /", "Content-Length: 100000", body=bytes(100))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        raw.vanish()
        await asyncio.to_thread(said.get, timeout=PATIENCE)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_small_body_is_awaited_without_a_thread() -> None:
    """A client that sends slowly holds no thread, and one that leaves has never had one."""
    calls: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        calls.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    async with serving(WSGI(app, threads=1)) as client, client() as slow, client() as gone, client() as quick:
        slow.ask("POST /", "Content-Length: 4", body=b"sl")
        gone.ask("POST /", "Content-Length: 4", body=b"go")
        await slow.writer.drain()
        gone.vanish()
        quick.ask("POST /", "Content-Length: 4", body=b"fast")
        await quick.until(b"\r\n\r\n")
        slow.writer.write(b"ow")
        await slow.until(b"\r\n\r\n")
    assert calls == [b"fast", b"slow"]


async def test_who_waits_to_be_asked_for_a_body_is_asked_when_it_is_read() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/no":
            start_response("413 Too Large", [])
            return []
        return page(environ, start_response)

    async with serving(WSGI(app)) as client:
        async with client() as raw:
            raw.ask("POST /", "Content-Length: 4", "Expect: 100-continue")
            assert await raw.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            raw.writer.write(b"body")
            assert b"200 OK" in await raw.until(b"\r\n\r\n")
        async with client() as raw:
            raw.ask("POST /no", "Content-Length: 4", "Expect: 100-continue")
            assert (await raw.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", [4, 1_000_000])
async def test_a_body_that_stops_coming_is_given_up(length: int, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(ping_after=0.1, ping_timeout=0.2)
    async with serving(WSGI(page, limits=limits)) as client, client() as raw:
        raw.ask("POST /", f"Content-Length: {length}", body=b"x")
        answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer
    assert caplog.records == []


async def test_a_body_that_trickles_is_given_up_too(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        return [environ["wsgi.input"].read()]

    limits = Limits(ping_after=0.1, ping_timeout=0.2)
    async with serving(WSGI(app, limits=limits)) as client, client() as raw:
        raw.ask("POST /", "Transfer-Encoding: chunked")
        answer = asyncio.create_task(raw.rest())
        while not answer.done():
            raw.writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)  # 50 bytes per second
    assert answer.result().startswith(b"HTTP/1.1 408") and caplog.records == []


# -- threads -----------------------------------------------------------------------------------------------------------


async def test_there_are_so_many_threads_and_others_wait_for_their_turn() -> None:
    busy, go = threading.Semaphore(0), threading.Event()
    seen: list[str] = []

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        busy.release()
        assert go.wait(PATIENCE)
        start_response("200 OK", [])
        return []

    wsgi = WSGI(app, threads=2)
    async with running(wsgi) as server:
        dial = partial(dialing, int(server.url.rpartition(":")[2]))
        async with dial() as one, dial() as two, dial() as three, dial() as gone:
            for raw, path in ((one, "/1"), (two, "/2")):
                raw.ask(f"GET {path}")
                assert await asyncio.to_thread(busy.acquire, timeout=PATIENCE)
            gone.ask("GET /gone")
            three.ask("GET /3")
            await until(lambda: len(wsgi._pool._jobs) == 2)
            assert seen == ["/1", "/2"]
            gone.vanish()
            await until(lambda: len(server._server.shared.connections) == 3)
            go.set()
            for raw in (one, two, three):
                assert b"200 OK" in await raw.until(b"\r\n\r\n")
    assert seen == ["/1", "/2", "/3"]


@pytest.mark.slow
async def test_a_thread_that_hangs_does_not_keep_the_server() -> None:
    hanging, go = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        hanging.set()
        go.wait(60)
        return []

    async with running(WSGI(app)) as server, dialing(int(server.url.rpartition(":")[2])) as raw:
        raw.ask("GET /")
        assert await asyncio.to_thread(hanging.wait, PATIENCE)
        await server.stop()
        assert b"200" not in await raw.rest()
    go.set()


# -- failures ----------------------------------------------------------------------------------------------------------


def fail_at_once(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    raise ValueError("secret")


def fail_behind_the_head(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [])
    raise ValueError("secret")


def fail_in_the_iteration(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [])
    raise ValueError("secret")
    yield b""


@pytest.mark.parametrize("app", [fail_at_once, fail_behind_the_head, fail_in_the_iteration])
async def test_what_fails_before_the_body_is_a_500_and_the_log_has_it(
    app: Call, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(WSGI(app)) as server:
        answer = await server.http("GET", "/")
    assert answer.status == 500 and b"secret" not in answer.body and "ValueError: secret" in caplog.text


async def test_what_fails_in_the_body_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"so far"
        raise ValueError("secret")

    async with serving(WSGI(app)) as client, client() as raw:
        raw.ask("GET /")
        answer = await raw.rest()
    assert answer.endswith(b"\r\n6\r\nso far\r\n") and "ValueError: secret" in caplog.text


async def test_a_head_that_splits_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [("Location", "/\r\nSet-Cookie: a=b")])
        return [b"x"]

    async with serving(WSGI(app)) as client, client() as raw:
        raw.ask("GET /")
        answer = await raw.rest()
    assert b"Set-Cookie" not in answer and "Invalid HTTP header value" in caplog.text


# -- inside others -----------------------------------------------------------------------------------------------------


async def test_mounted_it_knows_where_it_is_and_uses_the_rooms_that_are_there() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        assert environ["fairlead.rooms"] is outer.rooms
        start_response("200 OK", [])
        return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]

    outer = App()
    outer.mount("/old", WSGI(app))
    async with running(outer) as server:
        assert (await server.http("GET", "/old/a/b")).text == "/old /a/b"


async def test_a_broker_that_is_down_keeps_the_server_from_starting() -> None:
    from fairlead.brokers.memory import MemoryBroker
    from fairlead.errors import BrokerUnavailable, UsageError

    class Down(MemoryBroker):
        async def start(self, sink: Any) -> None:
            raise BrokerUnavailable("no link")

    with pytest.raises(UsageError, match="startup failed"):
        async with running(WSGI(page, broker=Down())):
            pass
