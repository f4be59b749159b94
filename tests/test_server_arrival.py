from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.serving import exchange, port, serving

from fairlead.limits import Limits
from fairlead.server import arrival

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
