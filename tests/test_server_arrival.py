from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.serving import exchange, port, serving

from fairlead.limits import Limits
from fairlead.server import Server, arrival
from fairlead.transports.turns import Turns

HEAD = (
    b"GET /s?q HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Any: \t a b \r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Application:
    """Lets every socket in, and remembers what it was asked."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.scopes.append({name: scope[name] for name in ("type", "path", "query_string", "headers")})
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})


async def asked(*parts: bytes) -> list[dict[str, Any]]:
    """What the application is asked where a handshake comes in these parts, each when the one before is there."""
    application = Application()
    async with serving(application) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        for part in parts:
            writer.write(part)
            while not any(not isinstance(each, arrival.Arrival) for each in server.shared.connections):
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert answer.startswith(b"HTTP/1.1 101 ")
    return application.scopes


@pytest.mark.parametrize(
    "parts",
    [[HEAD], [HEAD.replace(b"Sec-WebSocket", b"sec-websocket")], [HEAD[:40], HEAD[40:]], [HEAD + b"\x81\x80\0\0\0\0"]],
    ids=["whole", "in lower case", "in two parts", "with a message behind it"],
)
async def test_a_handshake_is_the_same_however_it_comes(parts: list[bytes]) -> None:
    (scope,) = await asked(*parts)
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/s", b"q")
    assert scope["headers"][:3] == [(b"host", b"a.test"), (b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
    assert scope["headers"][3:5] == [(b"x-any", b"a b"), (b"sec-websocket-version", b"13")]


async def test_a_handshake_that_comes_whole_needs_no_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(arrival, "HttpProtocol")
    assert len(await asked(HEAD)) == 1


@pytest.mark.parametrize("limits", [Limits(head_size=len(HEAD) - 30), Limits(head_count=5)])
async def test_a_handshake_has_the_same_limits_as_every_head(limits: Limits) -> None:
    application = Application()
    async with serving(application, limits=limits) as server:
        assert (await exchange(server, HEAD)).startswith(b"HTTP/1.1 431 ")
    assert application.scopes == []


async def test_other_requests_are_answered() -> None:
    application = Application()
    async with serving(application) as server:
        answer = await exchange(server, b"GET /a HTTP/1.1\r\nHost: x\r\nX: Sec-WebSocket-Key: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [scope["type"] for scope in application.scopes] == ["http"]


async def test_a_silent_connection_ends_with_the_server() -> None:
    async with serving(Application()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        while not server.shared.connections:
            await asyncio.sleep(0)
    assert await reader.read() == b""
    writer.close()


class Gate(Turns):
    """It is nobody's turn before the test says so."""

    def __init__(self, server: Server) -> None:
        super().__init__(asyncio.get_running_loop(), 1)
        self._later: list[Callable[[], object]] = []
        server.shared.newcomers = self

    def take(self, later: Callable[[], object]) -> bool:
        self._later.append(later)
        return False

    async def waiting(self, count: int) -> None:
        while len(self._later) < count:
            await asyncio.sleep(0)

    def open(self) -> None:
        for later in self._later:
            later()


async def test_in_a_rush_a_handshake_waits_for_its_turn_as_long_as_it_takes_and_nothing_of_it_is_lost() -> None:
    application = Application()
    async with serving(application, limits=Limits(head_timeout=0.1)) as server:
        gate = Gate(server)
        whole = asyncio.create_task(exchange(server, HEAD + b"\x88\x80\0\0\0\0"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(HEAD[:40])
        await gate.waiting(2)
        writer.write(HEAD[40:])
        await asyncio.sleep(0.15)  # longer than a client has for its head
        assert application.scopes == []
        gate.open()
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert (await whole).startswith(b"HTTP/1.1 101 ")
        writer.close()
    assert len(application.scopes) == 2


async def test_a_client_that_left_before_its_turn_is_not_asked_about() -> None:
    application = Application()
    async with serving(application) as server:
        gate = Gate(server)
        _, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(HEAD)
        await gate.waiting(1)
        writer.transport.abort()
        while server.shared.connections:
            await asyncio.sleep(0)
        gate.open()
    assert application.scopes == []


async def test_a_server_that_goes_waits_for_nobodys_turn() -> None:
    async with serving(Application()) as server:
        gate = Gate(server)
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(HEAD)
        await gate.waiting(1)
        server.should_exit = True
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
