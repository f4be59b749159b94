"""The bare socket that the server hands over in the place of a verdict."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.clients import upgrade
from tests.serving import port, serving

from fairlead.limits import Limits
from fairlead.server import Server
from fairlead.server import raw as raw_module
from fairlead.server.conversation import Disconnected
from fairlead.transports.asgi import RAW

PATIENCE = 5.0

Use = Callable[[socket.socket], Any]


class Owner:
    """An application that takes every client's socket, and uses it in a thread.

    Attributes:
        result: What the use came to.
    """

    def __init__(self, use: Use, *, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self.use = use
        self.before = before
        self.socket: socket.socket | None = None
        self.result: Any = None
        self.over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        try:
            if self.before is not None:
                await self.before()
            self.socket = await scope["extensions"][RAW].hand_over()
            self.result = await asyncio.to_thread(self.use, self.socket)
            with pytest.raises(Disconnected):
                await send({"type": "websocket.accept"})
            assert (await receive())["type"] == "websocket.disconnect"
        except BaseException as exc:
            self.result = exc
            raise
        finally:
            self.over.set()

    async def has_it(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.socket is None:
                await asyncio.sleep(0.001)

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def visiting(server: Server, **options: Any) -> AsyncIterator[Streams]:
    """A client whose request is sent."""
    if server.addresses[0].startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(server.addresses[0].removeprefix("unix:"))
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server), **options)
    writer.write(upgrade())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await reader.read()


async def left_by_all(server: Server) -> None:
    """Nobody is connected any more."""
    async with asyncio.timeout(PATIENCE):
        while server.shared.connections:
            await asyncio.sleep(0.001)


async def counted(server: Server, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while server.shared.websockets != number:
            await asyncio.sleep(0.001)


def echo(raw: socket.socket) -> int:
    total = 0
    while data := raw.recv(65_536):
        total += len(data)
        raw.sendall(data)
    return total


# -- what goes through -------------------------------------------------------------------------------------------------


async def test_all_that_follows_the_request_is_there_as_it_came_and_nothing_was_written() -> None:
    owner = Owner(echo)
    async with serving(owner) as server:
        async with visiting(server) as (reader, writer):
            writer.write(b"\xff\x00 no frames at all")
            assert await reader.readexactly(19) == b"\xff\x00 no frames at all"
            assert server.shared.websockets == 1 and len(server.shared.connections) == 1
        await owner.ended()
        await left_by_all(server)
        await counted(server, 0)
    assert owner.result == 19


async def test_what_came_before_it_was_handed_over_is_part_of_it() -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await go.wait()

    owner = Owner(echo, before=wait)
    async with serving(owner) as server, visiting(server) as (reader, writer):
        await waiting.wait()
        writer.write(b"early")
        await writer.drain()
        async with asyncio.timeout(PATIENCE):
            while not any(getattr(each, "_early", b"") for each in server.shared.connections):
                await asyncio.sleep(0.001)
        go.set()
        assert await reader.readexactly(5) == b"early"
        writer.write(b"late")
        assert await reader.readexactly(4) == b"late"


async def test_much_goes_through_in_both_directions() -> None:
    data = bytes(range(256)) * 40_000
    owner = Owner(echo)
    async with serving(owner) as server, visiting(server) as (reader, writer):
        await owner.has_it()
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(len(data)) == data


async def test_a_client_that_does_not_read_stops_the_owner() -> None:
    sent: list[int] = []

    def flood(raw: socket.socket) -> None:
        with pytest.raises(OSError):
            while True:
                sent.append(raw.send(bytes(65_536)))

    owner = Owner(flood)
    async with serving(owner) as server:
        async with visiting(server) as (reader, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads, too
            before = -1
            async with asyncio.timeout(PATIENCE):
                while len(sent) != before or before < 1:
                    before = len(sent)
                    await asyncio.sleep(0.05)
            assert sum(sent) < 20 * 2**20
        await owner.ended()
        assert owner.result is None
        await left_by_all(server)


async def test_a_client_that_reads_again_gets_everything_in_its_order() -> None:
    data = bytes(range(256)) * 40_000
    owner = Owner(lambda raw: raw.sendall(data))
    async with serving(owner) as server, visiting(server) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads, too
        await owner.has_it()
        async with asyncio.timeout(PATIENCE):
            while not any(
                getattr(getattr(each, "_client", None), "_stalled", None) for each in server.shared.connections
            ):
                await asyncio.sleep(0.001)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(len(data)) == data


async def test_a_client_that_never_reads_again_is_dropped() -> None:
    def flood(raw: socket.socket) -> None:
        with pytest.raises(OSError):
            while True:
                raw.send(bytes(65_536))

    owner = Owner(flood)
    async with serving(owner, limits=Limits(ping_after=0.1, ping_timeout=0.2)) as server:
        async with visiting(server) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads, too
            await owner.ended()
    assert owner.result is None


async def test_an_owner_that_does_not_read_stops_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_module, "GRACE", 0)
    go = threading.Event()

    def wait(raw: socket.socket) -> bool:
        return go.wait(PATIENCE)

    owner = Owner(wait)
    async with serving(owner) as server:
        async with visiting(server) as (reader, writer):
            await owner.has_it()
            writer.transport.set_write_buffer_limits(high=0)
            taken = 0

            async def flood() -> None:
                nonlocal taken
                while True:
                    writer.write(bytes(2**16))
                    await writer.drain()
                    taken += 1

            flooding = asyncio.create_task(flood())
            before = -1
            async with asyncio.timeout(PATIENCE):
                while taken != before or before < 1:
                    before = taken
                    await asyncio.sleep(0.05)
            assert taken * 2**16 < 20 * 2**20
            flooding.cancel()
            await asyncio.wait((flooding,))
            go.set()
            await owner.ended()  # and its end is not kept from the client by what nobody has read
            assert await rest(reader) == b""
        await left_by_all(server)


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_is_the_end_of_the_socket() -> None:
    owner = Owner(echo)
    async with serving(owner) as server:
        async with visiting(server) as (reader, writer):
            await counted(server, 1)
            writer.write_eof()
            await owner.ended()
        assert owner.result == 0
        await left_by_all(server)


def say_and_return(raw: socket.socket) -> None:
    raw.sendall(b"x" * 300_000)


def say_and_close(raw: socket.socket) -> None:
    raw.sendall(b"x" * 300_000)
    raw.close()


def say_and_shut_down(raw: socket.socket) -> None:
    raw.sendall(b"x" * 300_000)
    raw.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("use", [say_and_return, say_and_close, say_and_shut_down])
@pytest.mark.parametrize("still", [b"", b"said while the server leaves"])
async def test_what_the_owner_said_last_arrives_whole_and_then_the_end(
    use: Use, still: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_module, "GRACE", 0.05 if use is say_and_return else 60)
    owner = Owner(use)
    async with serving(owner) as server:
        async with visiting(server) as (reader, writer):
            writer.write(still)
            assert await rest(reader) == b"x" * 300_000
        await owner.ended()
        assert owner.result is None and owner.socket is not None and owner.socket.fileno() == -1
        await left_by_all(server)


async def test_an_owner_that_fails_ends_it_too(caplog: pytest.LogCaptureFixture) -> None:
    def fail(raw: socket.socket) -> None:
        raw.close()
        raise ValueError("secret")

    async with serving(Owner(fail)) as server:
        async with visiting(server) as (reader, _):
            assert await rest(reader) == b""
        await left_by_all(server)
    assert "secret" in caplog.text


async def test_a_draining_server_is_a_client_that_left() -> None:
    def until_the_end(raw: socket.socket) -> bytes:
        data = raw.recv(100)
        assert raw.recv(100) == b""
        raw.sendall(b"bye")
        raw.close()
        return data

    owner = Owner(until_the_end)
    async with serving(owner) as server, visiting(server) as (reader, writer):
        writer.write(b"here")
        await counted(server, 1)
        await owner.has_it()
        server.should_exit = True
        assert await rest(reader) == b"bye"
        await owner.ended()
    assert owner.result == b"here"


async def test_a_server_that_is_told_twice_does_not_wait_for_the_owner() -> None:
    ended = threading.Event()

    def stay(raw: socket.socket) -> None:
        while raw.recv(100) or not ended.wait(PATIENCE):
            pass

    owner = Owner(stay)
    async with serving(owner) as server:
        async with visiting(server) as (reader, _):
            await owner.has_it()
            server.should_exit = server.force_exit = True
            assert await rest(reader) == b""
        ended.set()


async def test_a_thread_that_the_application_left_behind_has_a_moment() -> None:
    """So simple-websocket answers a Close frame: the application is told first."""
    left, said = threading.Event(), threading.Event()

    def leave_one_behind(raw: socket.socket) -> None:
        def answer() -> None:
            assert left.wait(PATIENCE)
            raw.sendall(b"bye")
            raw.close()
            said.set()

        threading.Thread(target=answer).start()

    owner = Owner(leave_one_behind)
    async with serving(owner) as server:
        async with visiting(server) as (reader, _):
            await owner.ended()
            left.set()
            assert await rest(reader) == b"bye"
        await left_by_all(server)
    assert said.is_set()


# -- when there is nothing to hand over --------------------------------------------------------------------------------


async def test_a_client_that_left_has_no_socket() -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await go.wait()

    owner = Owner(echo, before=wait)
    async with serving(owner) as server:
        async with visiting(server):
            await waiting.wait()
        await left_by_all(server)
        go.set()
        await owner.ended()
    assert isinstance(owner.result, Disconnected)


async def test_there_is_no_way_back_behind_a_verdict(caplog: pytest.LogCaptureFixture) -> None:
    said: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await scope["extensions"][RAW].hand_over()
        except Exception as exc:
            said.append(type(exc))
        await send({"type": "websocket.send", "text": "goes on"})

    async with serving(app) as server, visiting(server) as (reader, _):
        assert b"goes on" in await reader.readuntil(b"goes on")
    assert said == [RuntimeError]


# -- other kinds of sockets --------------------------------------------------------------------------------------------


async def test_on_a_unix_socket(tmp_path: Path) -> None:
    async with serving(Owner(echo), uds=str(tmp_path / "s")) as server, visiting(server) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout - -subj /CN=test -days 2"
    path.write_bytes(subprocess.run(words.split(), check=True, capture_output=True).stdout)
    return path


async def test_behind_tls(certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    data = bytes(range(256)) * 4_000
    owner = Owner(echo)
    async with serving(owner, certfile=str(certificate)) as server:
        async with visiting(server, ssl=context) as (reader, writer):
            await owner.has_it()
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
        await owner.ended()
        await left_by_all(server)
    assert owner.result == len(data)
