"""A gateway that serves both listeners on free ports in the test's own event loop, and whoever talks to it.

Everything goes over real sockets. Nothing is ever waited for by time: that nothing arrives is seen by a marker sent
later, to which the answer comes first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import quote

import aiohttp
from tests.fake_api import FakeApi
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin

from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings, UpstreamSettings
from fairlead.limits import KIB, Limits
from fairlead.server.run import Listener, Server

KEY = "the-key-of-these-tests"
PATIENCE = 5.0
"""Seconds after which what should have happened will not happen any more."""

# The client library logs every header and frame; what the gateway logs is what the tests are about.
_silent = logging.getLogger("tests.client")
_silent.propagate = False
_silent.addFilter(lambda record: False)  # whoever configures logging sets levels, and enables what was disabled


class QuickServer(Server):
    """Ends as soon as it is told to, where uvicorn looks ten times a second."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._over = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._over.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._over.set()


@dataclass(frozen=True, slots=True)
class Reply:
    """What an HTTP call got."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The JSON in it."""
        return json.loads(self.text)


class Client:
    """A client that speaks the fairlead dialect.

    Attributes:
        socket: The library's connection.
        hello: The first message.
    """

    def __init__(self, socket: ClientConnection, hello: dict[str, Any]) -> None:
        self.socket = socket
        self.hello = hello

    async def send(self, *messages: object) -> None:
        """Send each: text and bytes as they are, anything else as JSON."""
        for message in messages:
            await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def receive(self) -> Any:
        """The next message: ``pong``, or decoded JSON."""
        async with asyncio.timeout(PATIENCE):
            text = await self.socket.recv()
        return text if text == "pong" else json.loads(text)

    async def ask(self, message: object) -> Any:
        """Send one message and take the next that arrives."""
        await self.send(message)
        return await self.receive()

    async def subscribe(self, room: object, request_id: object) -> None:
        """Subscribe, which must succeed."""
        reply = await self.ask({"type": "subscribe", "room": room, "requestId": request_id})
        assert reply == {"requestId": request_id, "code": "success"}

    async def unsubscribe(self, request_id: object) -> None:
        """Unsubscribe, which must succeed."""
        reply = await self.ask({"type": "unsubscribe", "requestId": request_id})
        assert reply == {"requestId": request_id, "code": "success"}

    async def nothing(self) -> None:
        """Nothing else has arrived, and the connection lives."""
        assert await self.ask("ping") == "pong"

    async def closed(self) -> tuple[int, str]:
        """Wait until the server closes, with nothing before it; the code and the reason."""
        async with asyncio.timeout(PATIENCE):
            try:
                raise AssertionError(f"still open, and got {await self.socket.recv()!r}")
            except ConnectionClosed as over:
                assert over.rcvd is not None, "the connection was lost without a Close frame"
                return over.rcvd.code, over.rcvd.reason

    async def close(self) -> None:
        """Leave in good order."""
        await self.socket.close()

    def vanish(self) -> None:
        """Drop the connection without a Close frame."""
        self.socket.transport.abort()


class Raw:
    """A TCP connection to the public listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)

    def send_frame(self, opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> None:
        """Write one masked frame."""
        self.send(frame(opcode, data, fin=fin))

    async def head(self) -> bytes:
        """An HTTP response's head."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def frame(self) -> tuple[Opcode, bytes]:
        """The server's next frame."""
        async with asyncio.timeout(PATIENCE):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return Opcode(first & 15), await self.reader.readexactly(size)

    def pause(self) -> None:
        """Read nothing until ``resume()``; the system's buffers still fill."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads, too

    def resume(self) -> None:
        """Read again."""
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def vanish(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """One frame as a client sends it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def upgrade(host: str, path: str = "/ws/", *headers: str) -> bytes:
    """A good opening handshake with further header lines."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Site:
    """A gateway at work, with its API and its clients.

    Attributes:
        api: What it asks.
        gateway: The application.
        server: Serves it.
        public: Host and port for clients.
        admin: Host and port for the API.
    """

    def __init__(self, api: FakeApi, **sections: Mapping[str, Any]) -> None:
        given: dict[str, dict[str, Any]] = {name: dict(section) for name, section in sections.items()}
        settings = GatewaySettings(
            server=ServerSettings(**{"port": 0, **given.pop("server", {})}),
            upstream=UpstreamSettings(**{"url": api.url, **given.pop("upstream", {})}),
            api=ApiSettings(**{"port": 0, "keys": (KEY,), **given.pop("api_", {})}),
            limits=Limits(**{"message_size": 64 * KIB, **given.pop("limits", {})}),
        )
        assert not given, f"no such section: {given}"
        self.api = api
        self.gateway = Gateway(settings)
        self._ready = asyncio.Event()
        self.server = QuickServer(
            Listener(app=self.gateway, port=0),
            also=[Listener(app=self.gateway.admin, port=0)],
            limits=settings.limits,
            flush=self.gateway.node.flush,
            draining=self.gateway.drain,
            ready=lambda addresses: self._ready.set(),
        )
        self.public = self.admin = ""
        self._clients: list[Client | Raw] = []
        self._serving: asyncio.Task[None] | None = None
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when both listeners accept."""
        self._serving = asyncio.create_task(self.server.serve())
        async with asyncio.timeout(PATIENCE):
            await self._ready.wait()
        self.public, self.admin = (address.removeprefix("http://") for address in self.server.addresses)

    def drain(self) -> None:
        """What SIGTERM does. A second time it cuts the drain short."""
        self.server.handle_exit(signal.SIGTERM, None)

    async def drained(self) -> None:
        """Wait for the end of the process."""
        assert self._serving is not None
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(self._serving)

    async def stop(self) -> None:
        """Let all clients leave, see that nothing of them is left, and end it."""
        await self._http.close()
        for client in self._clients:
            if isinstance(client, Client):
                await client.close()
            else:
                client.vanish()
        try:
            await self.until(lambda: not self.left_behind())
        finally:
            if not self.server.should_exit:
                self.drain()
            try:
                await self.drained()
            except TimeoutError:
                self.drain()
                await self.drained()
                raise

    def left_behind(self) -> list[object]:
        """What there is of clients: connections, rooms, deadlines."""
        wheels = (self.server.shared.ticker.wheel, self.gateway._ticker.wheel)
        return [
            *self.gateway.connections(),
            *self.server.shared.connections,
            *self.gateway.node.hub.rooms(),
            *(wheel for wheel in wheels if wheel),
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the event loop work until something is true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0)

    # -- clients -----------------------------------------------------------------------------------------------------

    async def connect(
        self, query: str = "", *, headers: Mapping[str, str] | None = None, origin: str | None = None, **options: Any
    ) -> Client:
        """A client with its first message, be that a welcome or a refusal."""
        socket = await connect(
            f"ws://{self.public}/ws/{query}",
            additional_headers=headers or {},
            origin=None if origin is None else Origin(origin),
            proxy=None,
            ping_interval=None,
            logger=_silent,
            **options,
        )
        client = Client(socket, {})
        self._clients.append(client)
        client.hello = await client.receive()
        return client

    async def refused(self, query: str = "", **options: Any) -> Response:
        """The HTTP answer to a client that is not let in."""
        try:
            client = await self.connect(query, **options)
        except InvalidStatus as refusal:
            return refusal.response
        raise AssertionError(f"let in: {client.hello}")

    async def open(self) -> Raw:
        """A TCP connection to the public listener."""
        host, port = self.public.split(":")
        raw = Raw(*await asyncio.open_connection(host, int(port)))
        self._clients.append(raw)
        return raw

    async def handshake(self, path: str = "/ws/", *headers: str) -> Raw:
        """A TCP connection on which the 101 and the first message were read."""
        raw = await self.open()
        raw.send(upgrade(self.public, path, *headers))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        opcode, _ = await raw.frame()
        assert opcode is Opcode.TEXT
        return raw

    # -- the API -----------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        host: str = "",
    ) -> Reply:
        """Call the admin listener with the key; ``headers`` instead of it. A body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {KEY}"} if headers is None else headers
        async with asyncio.timeout(PATIENCE):
            async with self._http.request(
                method, f"http://{host or self.admin}{path}", data=data, headers=given, allow_redirects=False
            ) as response:
                return Reply(response.status, dict(response.headers), await response.text())

    async def trigger(self, rooms: Sequence[object], data: object) -> int:
        """Publish; how many subscriptions got it."""
        reply = await self.call("POST", "/trigger/", {"rooms": rooms, "data": data})
        assert reply.status == 200, reply.text
        delivered: int = reply.body["delivered"]
        return delivered

    async def rooms(self) -> dict[str, int]:
        """Every room by its canonical name, with its subscriptions."""
        found: dict[str, int] = {}
        after = ""
        while True:
            page = (await self.call("GET", f"/rooms?limit=1000{after}")).body
            for entry in page["rooms"]:
                found[key(entry["room"])] = entry["subscriptions"]
            if page["next"] is None:
                assert page["total"] == len(found)
                return found
            after = "&after=" + quote(page["next"], safe="")

    async def connections(self) -> dict[str, int]:
        """Every connection's id with the number of its subscriptions."""
        page = (await self.call("GET", "/connections?limit=1000")).body
        assert page["next"] is None
        return {entry["connection"]: entry["subscriptions"] for entry in page["connections"]}

    async def gone(self, *clients: Client) -> None:
        """Wait until the gateway knows that these are gone."""
        ids = {client.hello["connection"] for client in clients}
        await self.until(lambda: ids.isdisjoint(each.id for each in self.gateway.connections()))


Start = Callable[..., Awaitable[Site]]
"""Starts a gateway: ``await start(server={...}, upstream={...}, limits={...}, api_={...})``."""


def key(room: object) -> str:
    """A room's canonical name."""
    return room if isinstance(room, str) else json.dumps(room, sort_keys=True, separators=(",", ":"))


def publish(request_id: object, room: object, data: object) -> dict[str, object]:
    """The message that a subscriber gets."""
    return {"type": "publish", "requestId": request_id, "room": room, "data": data}


def failure(request_id: object, word: str) -> dict[str, object]:
    """The reply to a request that is refused."""
    return {"requestId": request_id, "code": "error", "message": word}
