from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.serving import exchange, port, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from fairlead.errors import Closed
from fairlead.limits import Compression, Limits
from fairlead.message import Message
from fairlead.routing import WebSocketRoute
from fairlead.server import Server
from fairlead.transports import Transport
from fairlead.transports.native import NativeTransport
from fairlead.websocket import WebSocket
from fairlead.wire.frames import Opcode, encode

Application = Callable[[Any, Any, Any], Awaitable[None]]

HANDSHAKE = (
    b"GET /s HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def sockets(handler: Application) -> Application:
    """An application without a lifespan whose sockets ``handler`` serves."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await handler(scope, receive, send)

    return application


def url(server: Server, path: str = "/s") -> str:
    return f"ws://127.0.0.1:{port(server)}{path}"


class Echo:
    """A Receiver that sends everything back."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.ends: list[int] = []

    def connected(self, transport: Transport) -> None:
        self.transport = transport
        transport.send(Message(b"hello"))

    def received(self, payload: str | bytes) -> None:
        assert self.transport is not None
        binary = isinstance(payload, bytes)
        self.transport.send(Message(payload if isinstance(payload, bytes) else payload.encode(), binary=binary))

    def closed(self, code: int, reason: str) -> None:
        self.ends.append(code)


async def test_an_attached_receiver_outlives_the_applications_call() -> None:
    receiver = Echo()
    returned = asyncio.Event()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        scope["extensions"]["fairlead"].attach(receiver)
        await send({"type": "websocket.accept"})
        returned.set()

    async with serving(application) as server, connect(url(server)) as client:
        await returned.wait()
        assert await client.recv() == "hello"
        await client.send("a")
        await client.send(b"b")
        assert [await client.recv(), await client.recv()] == ["a", b"b"]
        await client.close(4000)
        assert client.close_code == 4000
    assert receiver.ends == [4000]


async def test_bytes_behind_the_upgrade_are_the_first_messages() -> None:
    receiver = Echo()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["extensions"]["fairlead"].attach(receiver)
        await asyncio.sleep(0)
        await send({"type": "websocket.accept"})

    frame = b"\x81\x82\x00\x00\x00\x00hi" + b"\x88\x80\x00\x00\x00\x00"
    async with serving(application) as server:
        answer = await exchange(server, HANDSHAKE + frame)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert answer.endswith(b"\x81\x05hello\x81\x02hi\x88\x00")


async def test_too_many_bytes_before_the_verdict_end_the_connection() -> None:
    left = asyncio.Event()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "websocket.disconnect"
        left.set()

    async with serving(application, limits=Limits(early_size=1000)) as server:
        answer = await exchange(server, HANDSHAKE + b"x" * 1001)
        await asyncio.wait_for(left.wait(), 5)
    assert answer in (b"", b"<reset>")


async def test_an_application_that_does_not_know_us_gets_complete_asgi() -> None:
    seen = []

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        assert scope["subprotocols"] == ["one", "two"]
        assert (scope["path"], scope["query_string"]) == ("/ü s", b"a=%20")
        await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-extra", b"1")]})
        while (event := await receive())["type"] == "websocket.receive":
            seen.append(event)
            await send({"type": "websocket.send", **{key: event[key] for key in event if key != "type"}})
        seen.append(event)

    async with (
        serving(application) as server,
        connect(url(server, "/%C3%BC%20s?a=%20"), subprotocols=["one", "two"]) as client,  # type: ignore[list-item]
    ):
        assert client.subprotocol == "two"
        assert client.response is not None
        assert client.response.headers["x-extra"] == "1"
        for payload in ("text", b"bytes", ""):
            await client.send(payload)
            assert await client.recv() == payload
        await client.close(4100, "why")
    assert seen == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "text"},
        {"type": "websocket.receive", "bytes": b"bytes"},
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.disconnect", "code": 4100, "reason": "why"},
    ]


async def _accept_and_return(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})


async def _accept_and_fail(scope: Any, receive: Any, send: Any) -> None:
    await _accept_and_return(scope, receive, send)
    raise RuntimeError("secret")


async def _accept_and_close(scope: Any, receive: Any, send: Any) -> None:
    await _accept_and_return(scope, receive, send)
    await send({"type": "websocket.close", "code": 4999, "reason": "enough"})


@pytest.mark.parametrize(
    ("handler", "code"), [(_accept_and_return, 1000), (_accept_and_fail, 1011), (_accept_and_close, 4999)]
)
async def test_how_an_application_ends_decides_the_close_code(handler: Application, code: int) -> None:
    async with serving(sockets(handler)) as server, connect(url(server)) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == code
        assert "secret" not in (client.close_reason or "")


async def _close_first(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-why", b"tea")]})
    await send({"type": "websocket.http.response.body", "body": b"short ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"and stout"})


async def _return(scope: Any, receive: Any, send: Any) -> None: ...


async def _fail(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("secret")


async def _bad_header(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept", "headers": [(b"x", b"a\r\nset-cookie: evil=1")]})


async def _bad_refusal(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"x", b"a\x0bset-cookie: evil=1")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})


async def _second_thoughts(scope: Any, receive: Any, send: Any) -> None:
    with pytest.raises(ValueError):
        await send({"type": "websocket.http.response.start", "status": 101})
    await send({"type": "websocket.close"})


async def _frame_it_yourself(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"Connection", b"keep-alive"), (b"transfer-encoding", b"chunked"), (b"content-length", b"1")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"x"})


async def _send_first(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.send", "text": "too early"})


@pytest.mark.parametrize(
    ("handler", "status", "body"),
    [
        (_close_first, 403, b""),
        (_refuse, 418, b"short and stout"),
        (_return, 500, b"internal server error\n"),
        (_fail, 500, b"internal server error\n"),
        (_bad_header, 500, b"internal server error\n"),
        (_bad_refusal, 500, b"internal server error\n"),
        (_second_thoughts, 403, b""),
        (_frame_it_yourself, 401, b"x"),
        (_send_first, 500, b"internal server error\n"),
    ],
)
async def test_a_refusal_is_an_http_answer(handler: Application, status: int, body: bytes) -> None:
    async with serving(sockets(handler)) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server))
    assert refused.value.response.status_code == status
    assert refused.value.response.body == body
    assert refused.value.response.headers["connection"] == "close"
    assert refused.value.response.headers["content-length"] == str(len(body))
    assert "set-cookie" not in refused.value.response.headers


async def test_sending_to_a_client_that_left_raises_oserror() -> None:
    outcome: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        try:
            await send({"type": "websocket.send", "text": "hello?"})
        except OSError as exc:
            outcome.set_result(exc)

    async with serving(application) as server:
        async with connect(url(server)):
            pass
        assert isinstance(await asyncio.wait_for(outcome, 5), OSError)


@pytest.mark.parametrize("native", [True, False], ids=["ours", "asgi"])
async def test_who_does_nothing_but_send_learns_that_its_client_vanished(native: bool) -> None:
    told = asyncio.Event()

    async def forever(ws: WebSocket) -> None:
        with pytest.raises(Closed):
            for _ in range(100_000):  # else it would be for ever: the event loop has to tell it
                await ws.send("x")
        told.set()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(OSError):
            for _ in range(100_000):
                await send({"type": "websocket.send", "text": "x"})
        told.set()

    route = WebSocketRoute("/s", forever)
    async with serving(sockets(route.handle) if native else application) as server, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\x81\x01x")
        linger = struct.pack("ii", 1, 0)  # close() resets the connection
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await told.wait()


async def test_an_application_that_does_not_receive_stops_the_reading() -> None:
    go_on = asyncio.Event()
    seen = []

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go_on.wait()
        while (event := await receive())["type"] == "websocket.receive":
            seen.append(event["text"])

    async with serving(application, limits=Limits(message_burst=10_000)) as server, connect(url(server)) as client:
        sent = [str(number) for number in range(200)]
        for each in sent:
            await client.send(each)
        (transport,) = (each for each in server.shared.connections if isinstance(each, NativeTransport))
        while not transport._hold:
            await asyncio.sleep(0)
        go_on.set()
        await client.close()
    assert seen == sent


async def test_past_the_connection_limit_a_handshake_gets_503() -> None:
    async with serving(sockets(_accept_and_wait), limits=Limits(connections=2)) as server:
        async with connect(url(server)), connect(url(server)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url(server))
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"]
        async with connect(url(server)):
            pass


async def test_a_handshake_counts_until_its_application_is_done_though_the_client_left() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        await go_on.wait()
        await send({"type": "websocket.accept"})

    async with serving(application, limits=Limits(connections=1)) as server, asyncio.timeout(5):
        _, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(HANDSHAKE)
        await asked.wait()
        writer.transport.abort()
        while server.shared.connections:
            await asyncio.sleep(0)
        assert b" 503 " in await exchange(server, HANDSHAKE)
        go_on.set()
        while server.shared.websockets:
            await asyncio.sleep(0)
        async with connect(url(server)):
            pass
        while server.shared.websockets:
            await asyncio.sleep(0)


async def test_no_line_of_the_log_is_a_clients(caplog: pytest.LogCaptureFixture) -> None:
    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    async with serving(application) as server:
        assert b" 500 " in await exchange(server, HANDSHAKE.replace(b"/s", b"/s%0aERROR"))
    assert "/s\\nERROR" in caplog.text and "/s\nERROR" not in caplog.text


async def _accept_and_wait(scope: Any, receive: Any, send: Any) -> None:
    await _accept_and_return(scope, receive, send)
    await receive()


async def test_a_client_that_leaves_before_the_verdict_is_a_disconnect() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        assert await receive() == {"type": "websocket.disconnect", "code": 1006}
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})
        left.set()

    async with serving(application) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(HANDSHAKE)
        await asked.wait()
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), 5)


# -- compression ------------------------------------------------------------------------------------------------------

TEXT = '{"type":"publish","room":"prices","data":{"price":12.5,"currency":"EUR"}}' * 3


def offering(*parameters: object) -> dict[str, Any]:
    """Options of a client that offers nothing but this."""
    return {"compression": None, "extensions": [ClientPerMessageDeflateFactory(*parameters)]}  # type: ignore[arg-type]


@sockets
async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Knows nothing of compression."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


@pytest.mark.parametrize("compression", ["shared", "own"])
@pytest.mark.parametrize(
    "options",
    [
        {},  # the client's default: client_max_window_bits
        offering(),
        offering(True),
        offering(True, True),
        offering(False, False, 9, 9),
        offering(False, False, 15, 10),
        offering(False, True, 10, True),
        {**offering(), "extensions": [ClientPerMessageDeflateFactory(True), ClientPerMessageDeflateFactory()]},
    ],
)
async def test_whatever_the_client_offers_is_agreed_on_and_used(
    compression: Compression, options: dict[str, Any]
) -> None:
    limits = Limits(compression=compression)
    async with serving(echo, limits=limits) as server, connect(url(server), **options) as client:
        assert client.response is not None
        assert client.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        assert [type(extension) for extension in client.protocol.extensions] == [PerMessageDeflate]
        for number in range(3):
            for message in (f"{TEXT}{number}", TEXT.encode() * 300, "", b"", "x", b"\xff" * 70_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send([TEXT, "", TEXT])
            assert await client.recv() == TEXT * 2


@pytest.mark.parametrize(("compression", "least", "most"), [("off", 1, 1.1), ("shared", 0.3, 0.5), ("own", 0, 0.15)])
async def test_what_is_sent_is_compressed_as_agreed(compression: Compression, least: float, most: float) -> None:
    receiver = Echo()

    @sockets
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["extensions"]["fairlead"].attach(receiver)
        await send({"type": "websocket.accept"})

    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    sent = encode(Opcode.TEXT, TEXT.encode(), mask=bytes(4)) * 5 + encode(Opcode.CLOSE, b"", mask=bytes(4))
    async with serving(application, limits=Limits(compression=compression)) as server:
        head, _, frames = (await exchange(server, HANDSHAKE[:-2] + offer + sent)).partition(b"\r\n\r\n")
    assert (b"permessage-deflate" in head) == (compression != "off")
    assert least < len(frames) / (5 * len(TEXT)) < most


@pytest.mark.parametrize(("compression", "offer"), [("shared", None), ("own", None), ("off", "deflate")])
async def test_without_the_setting_or_the_offer_nothing_is_agreed_on(compression: Compression, offer: str) -> None:
    limits = Limits(compression=compression)
    async with serving(echo, limits=limits) as server, connect(url(server), compression=offer) as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        await client.send(TEXT)
        assert await client.recv() == TEXT


async def test_an_offer_that_cannot_be_accepted_is_declined_and_a_malformed_one_refused() -> None:
    answers = {}
    async with serving(echo, limits=Limits(compression="shared")) as server:
        for value in (b"permessage-deflate; server_max_window_bits=7", b"x-other", b"permessage-deflate;"):
            request = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: " + value + b"\r\n\r\n" + b"\x88\x80\0\0\0\0"
            answers[value] = await exchange(server, request)
    statuses = [answer.split(b" ", 2)[1] for answer in answers.values()]
    assert statuses == [b"101", b"101", b"400"]
    assert not any(b"extensions" in answer.lower().partition(b"\r\n\r\n")[0] for answer in answers.values())


async def test_a_bomb_ends_the_connection() -> None:
    limits = Limits(compression="shared", message_size=100_000)
    async with serving(echo, limits=limits) as server, connect(url(server)) as client:
        with pytest.raises(ConnectionClosed):
            await client.send(bytes(100_001))
            await client.recv()
        assert client.close_code == 1009
