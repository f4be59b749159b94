"""The gateway as a whole, in process: an ASGI application between a client and a fake API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import structs
from tests.fake_api import FakeApi, hang, reply
from tests.serving import port, serving
from websockets.asyncio.client import connect

from fairlead.errors import SettingsError
from fairlead.gateway import app as module
from fairlead.gateway.app import Gateway, run
from fairlead.gateway.connection import Connection, Welcome
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings, UpstreamSettings
from fairlead.limits import Limits
from fairlead.rooms.names import Grants, room_key
from fairlead.server.conversation import Disconnected
from fairlead.testing import RecordingTransport
from fairlead.transports import Receiver

KEY = "0123456789abcdef"
LIMITS = Limits(room_size=600)
Event = MutableMapping[str, Any]


def settings(url: str = "http://127.0.0.1:1/") -> GatewaySettings:
    return GatewaySettings(upstream=UpstreamSettings(url=url), api=ApiSettings(keys=(KEY,)), limits=LIMITS)


@asynccontextmanager
async def running(api: FakeApi) -> AsyncIterator[Gateway]:
    gateway = Gateway(settings(api.url))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


class Handshake:
    """One handshake, as a server brings it. It is the server's extension too, and takes the receiver."""

    def __init__(self, path: str = "/ws/") -> None:
        self.sent: list[Event] = []
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.events.put_nowait({"type": "websocket.connect"})
        self.receiver: Receiver | None = None
        self.failure: OSError | None = None  # of attaching
        self.broken: OSError | None = None  # of sending
        extensions = {"websocket.http.response": {}, "fairlead": self}
        self.scope: Event = {"type": "websocket", "path": path, "headers": [], "extensions": extensions}

    def attach(self, receiver: Receiver) -> None:
        if self.failure is not None:
            raise self.failure
        self.receiver = receiver

    async def receive(self) -> Event:
        return await self.events.get()

    async def send(self, event: Event) -> None:
        if self.broken is not None:
            raise self.broken
        self.sent.append(event)

    async def carry(self, gateway: Gateway) -> Event | None:
        """Carry it to its verdict."""
        await gateway(self.scope, self.receive, self.send)
        return self.sent[0] if self.sent else None


def connected(gateway: Gateway, transport: RecordingTransport) -> Connection:
    connection = Connection(gateway, "c1", Welcome(b"{}"), user=None, grants=Grants(), forwarded=b"")
    connection.connected(transport)
    return connection


# -- handshakes ------------------------------------------------------------------------------------------------------


async def test_a_handshake_before_the_start_and_while_draining_is_503_and_the_api_is_not_asked() -> None:
    async with FakeApi() as api:
        gateway = Gateway(settings(api.url))
        early = await Handshake().carry(gateway)
        await gateway.start()
        assert (await Handshake().carry(gateway) or {})["type"] == "websocket.accept"
        gateway.drain()
        late = await Handshake().carry(gateway)
        await gateway.stop()
        for refusal in (early, late):
            assert refusal is not None
            assert (refusal["status"], dict(refusal["headers"])[b"retry-after"]) == (503, b"5")
        assert len(api.requests) == 1


async def test_an_unknown_path_is_404_and_both_spellings_of_the_sockets_path_are_known() -> None:
    async with FakeApi() as api, running(api) as gateway:
        assert (await Handshake("/other").carry(gateway) or {})["status"] == 404
        for path in ("/ws", "/ws/"):
            assert (await Handshake(path).carry(gateway) or {})["type"] == "websocket.accept"
            sent: list[Event] = []

            async def send(event: Event, sent: list[Event] = sent) -> None:
                sent.append(event)

            await gateway({"type": "http", "method": "GET", "path": path, "headers": []}, Handshake().receive, send)
            assert sent[0]["status"] == 426


async def test_a_client_that_leaves_meanwhile_drops_its_ask_and_gets_no_verdict() -> None:
    async with FakeApi() as api, running(api) as gateway:
        before = asyncio.all_tasks()
        api.default = hang
        handshake = Handshake()
        carrying = asyncio.create_task(handshake.carry(gateway))
        await api.asked(1)
        handshake.events.put_nowait({"type": "websocket.disconnect"})
        assert await carrying is None
        await api.left()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


async def test_a_client_that_left_before_the_verdict_is_no_fault() -> None:
    async with FakeApi() as api, running(api) as gateway:
        gone = Handshake()
        gone.failure = Disconnected("the client left")
        assert await gone.carry(gateway) is None
        gone = Handshake()
        gone.broken = ConnectionResetError("the client left")  # as foreign servers say it
        assert await gone.carry(gateway) is None


async def test_other_faults_of_the_system_do_not_pass_for_a_client_that_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> Connection:
        raise OSError("a fault of ours")

    async with FakeApi() as api, running(api) as gateway:
        monkeypatch.setattr(gateway._admission, "_admit", fail)
        with pytest.raises(OSError, match="a fault of ours"):
            await Handshake().carry(gateway)


async def test_a_handshake_that_is_cancelled_at_its_last_moment_is_cancelled() -> None:
    cancelled, released = asyncio.Event(), asyncio.Event()

    class Slow(Handshake):
        async def receive(self) -> Event:
            try:
                return await super().receive()
            except asyncio.CancelledError:
                cancelled.set()
                await released.wait()
                raise

    async with FakeApi() as api, running(api) as gateway:
        await Handshake().carry(gateway)
        before = asyncio.all_tasks()
        handshake = Slow()
        carrying = asyncio.create_task(handshake.carry(gateway))
        await cancelled.wait()
        carrying.cancel()
        await asyncio.wait((carrying,))
        assert carrying.cancelled()
        assert handshake.sent == []
        assert asyncio.all_tasks() == before


# -- what runs in the background -------------------------------------------------------------------------------------


async def test_a_background_task_that_fails_is_logged_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("a fault")

    async with FakeApi() as api, running(api) as gateway:
        gateway._spawn(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "a background task failed" in caplog.text
        assert gateway._tasks == set()


async def test_stopping_ends_what_has_not_even_begun() -> None:
    async with FakeApi() as api, running(api) as gateway:
        connection = connected(gateway, RecordingTransport())
        connection.set_joined([room_key("a")])
    assert gateway._tasks == set()


# -- limits, metrics, the server -------------------------------------------------------------------------------------


async def test_room_size_holds_for_the_answer_and_for_rights_told_later() -> None:
    async with FakeApi() as api, running(api) as gateway:
        room = "x" * 600
        api.default = reply(200, {"user_id": 7, "allowed_rooms": [room], "allowed_prefixes": [room], "rooms": [room]})
        handshake = Handshake()
        await handshake.carry(gateway)
        connection = handshake.receiver
        assert isinstance(connection, Connection)
        connection.connected(RecordingTransport())
        assert connection.grants.allows(room_key(room, size=600))
        assert await gateway.refresh("7", b'{"allowed_rooms": ["%b"]}' % (b"y" * 600)) == 1
        assert connection.grants.allows(room_key("y" * 600, size=600))


async def test_a_slow_close_is_the_transports_own_and_not_what_a_client_says() -> None:
    async with FakeApi() as api, running(api) as gateway:
        transport = RecordingTransport()
        forging = connected(gateway, transport)
        transport.close(1013, "outbox full")
        forging.closed(1013, "outbox full")
        assert gateway.metrics.slow_closes == 0
        transport = RecordingTransport(capacity=0)
        slow = connected(gateway, transport)
        slow.closed(1013, "outbox full")
        assert gateway.metrics.slow_closes == 1


async def test_a_client_cannot_forge_a_slow_close_over_the_wire() -> None:
    async with FakeApi() as api:
        gateway = Gateway(settings(api.url))
        async with serving(gateway, limits=LIMITS) as server:
            client = await connect(f"ws://127.0.0.1:{port(server)}/ws/")
            await client.recv()
            await client.close(1013, "outbox full")
        assert client.close_code == 1013
        assert gateway.metrics.slow_closes == 0


async def test_what_the_api_has_and_what_waits_for_it_can_be_seen() -> None:
    async with FakeApi() as api, running(api) as gateway:
        api.default = hang
        asking = asyncio.create_task(Handshake().carry(gateway))
        await api.asked(1)
        text = gateway.metrics.text()
        assert b"\nfairlead_asks_in_flight 1.0\n" in text
        assert b"\nfairlead_asks_waiting 0.0\n" in text
        assert b"\nfairlead_connections 0.0\n" in text
        asking.cancel()
        await asyncio.wait((asking,))


def test_run_hands_both_listeners_to_the_server_and_returns_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: dict[str, Any] = {}

    def serve(app: object, **options: Any) -> int:
        handed.update(options, app=app)
        return 3

    monkeypatch.setattr(module, "run_server", serve)
    given = settings()
    assert run(given, loop="asyncio") == 3
    gateway, (admin,) = handed["app"], handed["also"]
    assert isinstance(gateway, Gateway)
    assert (handed["host"], handed["port"], handed["loop"]) == ("127.0.0.1", 8100, "asyncio")
    assert (admin.app, admin.host, admin.port) == (gateway.admin, "127.0.0.1", 8101)
    assert handed["limits"] is given.limits
    assert handed["tls"] is None


def test_run_refuses_a_certificate_before_it_starts_and_names_its_key() -> None:
    given = structs.replace(settings(), server=ServerSettings(port=0, certfile="/none.pem"))
    with pytest.raises(SettingsError, match=r"^server.certfile: cannot use /none.pem: No such file or directory$"):
        run(given)
