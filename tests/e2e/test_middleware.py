"""Middleware around the Gateway, and the Gateway itself, work alike under our server and under stock uvicorn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.middleware.trustedhost import TrustedHostMiddleware
from tests.e2e.processes import KEY, PATIENCE, Reply, cheap_api, exchange
from tests.e2e.servers import (
    DROP_IN,
    NATIVE,
    SANSIO,
    WSPROTO,
    Application,
    Event,
    Receive,
    Running,
    Send,
    end,
    running,
    until,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings, UpstreamSettings
from fairlead.limits import Limits

pytestmark = pytest.mark.slow

SERVERS = [NATIVE, DROP_IN, SANSIO, WSPROTO]
ANSWER = {"allowed_rooms": ["r"], "user_id": 7}


# -- middleware ------------------------------------------------------------------------------------------------------


def with_header(app: Application) -> Application:
    """Middleware that adds a header to every verdict."""

    async def wrapped(scope: Any, receive: Receive, send: Send) -> None:
        async def add(event: Event) -> None:
            if event["type"] in ("websocket.accept", "websocket.http.response.start"):
                event = {**event, "headers": [*event.get("headers", ()), (b"x-seen-by", b"middleware")]}
            await send(event)

        await app(scope, receive, add)

    return wrapped


def refusing(*answer: Event) -> Callable[[Application], Application]:
    """Middleware that lets nobody in and answers with these events."""

    def around(app: Application) -> Application:
        async def wrapped(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] != "websocket":
                await app(scope, receive, send)
                return
            assert (await receive())["type"] == "websocket.connect"
            for event in answer:
                await send(event)

        return wrapped

    return around


def only_one_host(app: Application) -> Application:
    """A well-known middleware, as it is."""
    return TrustedHostMiddleware(app, allowed_hosts=["good.test"])


# -- the Gateway at work ---------------------------------------------------------------------------------------------


@dataclass
class Site:
    """The Gateway under some server."""

    gateway: Gateway
    running: Running

    def connect(self, path: str = "/ws/", **options: Any) -> connect:
        """A client."""
        return self.running.connect(path, **options)

    async def call(self, method: str, path: str, body: object = None) -> Reply:
        """Call the admin listener."""
        headers = {"Authorization": f"Bearer {KEY}"}
        return await asyncio.to_thread(exchange, self.running.ports[1], method, path, body, headers=headers)

    async def publish(self, data: object) -> object:
        """Publish to the room "r"; how many subscriptions there were."""
        reply = await self.call("POST", "/trigger/", {"rooms": ["r"], "data": data})
        assert reply.status == 200
        return reply.json()["delivered"]


@asynccontextmanager
async def site(
    kind: str,
    around: Callable[[Application], Application] = lambda app: app,
    *,
    answer: object = ANSWER,
    **settings: Any,
) -> AsyncIterator[Site]:
    """The Gateway with its middleware under one of SERVERS.

    Args:
        kind: Which.
        around: The middleware.
        answer: The API's, to everybody.
        settings: Sections besides.
    """
    with cheap_api(lambda head: answer) as api:
        gateway = Gateway(
            GatewaySettings(upstream=UpstreamSettings(url=api.url), api=ApiSettings(keys=(KEY,)), **settings)
        )
        hooks = {"limits": gateway.limits, "flush": gateway.node.flush, "draining": gateway.drain}
        async with running(kind, around(gateway), gateway.admin, **hooks) as server:
            yield Site(gateway, server)
    assert len(gateway.node.hub) == 0
    assert list(gateway.connections()) == []


async def told(socket: ClientConnection) -> Any:
    """The next message."""
    async with asyncio.timeout(PATIENCE):
        return json.loads(await socket.recv())


async def subscribe(socket: ClientConnection) -> None:
    """Pass the first message and subscribe to "r"."""
    assert (await told(socket))["is_authorized"] is True
    await socket.send(json.dumps({"type": "subscribe", "room": "r", "requestId": 1}))
    assert await told(socket) == {"requestId": 1, "code": "success"}


# -- the same everywhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_header_of_the_middleware_is_in_the_101_and_the_connection_works(kind: str) -> None:
    async with site(kind, with_header) as place, place.connect() as client:
        assert client.response is not None
        assert client.response.headers["x-seen-by"] == "middleware"
        await subscribe(client)
        await client.send("ping")
        assert await client.recv() == "pong"
        for number in range(20):
            assert await place.publish({"n": number}) == 1
        for number in range(20):
            expected = {"type": "publish", "requestId": 1, "room": "r", "data": {"n": number}}
            assert await told(client) == expected
        await client.send(b'{"type": "unsubscribe", "requestId": 1}')
        assert await told(client) == {"requestId": 1, "code": "success"}
        assert await place.publish("nobody is there") == 0
        await client.send("{}")
        assert (await told(client))["code"] == "error"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_close_of_the_middleware_before_the_accept_is_403(kind: str) -> None:
    async with site(kind, refusing({"type": "websocket.close", "code": 4000, "reason": "no"})) as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.connect()
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_response_of_the_middleware_before_the_accept_is_what_the_client_gets(kind: str) -> None:
    events: list[Event] = [
        {"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"7")]},
        {"type": "websocket.http.response.body", "body": b"too ", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"many\n"},
    ]
    async with site(kind, refusing(*events)) as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.connect()
        response = caught.value.response
        assert (response.status_code, response.body, response.headers["retry-after"]) == (429, b"too many\n", "7")


@pytest.mark.parametrize("kind", SERVERS)
async def test_the_gateways_own_refusals_pass_through_the_middleware(kind: str) -> None:
    async with site(kind, with_header) as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.connect(origin="https://evil.test")
        assert caught.value.response.status_code == 403
        assert caught.value.response.headers["x-seen-by"] == "middleware"
        with pytest.raises(InvalidStatus) as caught:
            await place.connect(path="/elsewhere/")
        assert caught.value.response.status_code == 404


@pytest.mark.parametrize("kind", SERVERS)
async def test_starlettes_middleware_refuses_before_the_api_is_asked(kind: str) -> None:
    async with site(kind, only_one_host) as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.connect(host="evil.test")
        assert caught.value.response.status_code == 400
        async with place.connect(host="good.test") as client:
            await subscribe(client)


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_api_that_answers_nonsense_is_503_or_a_close_as_the_settings_say(kind: str) -> None:
    async with site(kind, with_header, answer=["nonsense"], server=ServerSettings(refuse="http")) as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.connect()
        response = caught.value.response
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.headers["x-seen-by"] == "middleware"
    async with site(kind, with_header, answer=["nonsense"]) as place, place.connect() as client:
        assert await told(client) == {"is_authorized": False, "error": "unavailable", "retry": True}
        assert await end(client) == (1013, "")


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_disconnect_reaches_the_client_with_its_code_after_what_was_published(kind: str) -> None:
    async with site(kind) as place, place.connect() as client:
        await subscribe(client)
        assert await place.publish("last") == 1
        assert (await place.call("POST", "/disconnect", {"user": 7, "reason": "logged out"})).json() == {
            "connections": 1
        }
        assert (await told(client))["data"] == "last"
        assert await end(client) == (4401, "logged out")
        await until(lambda: not list(place.gateway.connections()))


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_slow_client_is_closed_with_1013_and_the_others_get_everything(kind: str) -> None:
    # Below the kernel's and the foreign server's own buffers nobody is slow.
    size, count = 200_000, 100
    async with site(kind, limits=Limits(close_timeout=PATIENCE)) as place:
        async with place.connect(max_queue=1) as slow, place.connect() as fast:
            await subscribe(slow)
            await subscribe(fast)
            (seen, _) = place.gateway.connections()
            assert seen.transport is not None
            for number in range(count):
                await place.publish(f"{number:03d}" + "x" * size)
                assert (await told(fast))["data"][:3] == f"{number:03d}"
                assert seen.transport.buffered <= place.gateway.limits.outbox_limit
            assert not seen.transport.open
            assert await end(slow) == (1013, "outbox full")
            await until(lambda: len(list(place.gateway.connections())) == 1)
            assert b"\nfairlead_slow_closes_total 1.0\n" in (await place.call("GET", "/metrics")).body


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_client_that_vanishes_leaves_its_rooms(kind: str) -> None:
    async with site(kind) as place, place.connect() as client, place.connect() as other:
        await subscribe(client)
        await subscribe(other)
        client.transport.abort()
        await until(lambda: len(list(place.gateway.connections())) == 1)
        assert await place.publish("still here") == 1
        assert (await told(other))["data"] == "still here"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_client_that_closes_gets_its_close_back_and_leaves_its_rooms(kind: str) -> None:
    async with site(kind) as place:
        client = await place.connect()
        await subscribe(client)
        await client.close(3001, "bye")
        assert client.close_code == 3001
        await until(lambda: not list(place.gateway.connections()))
        assert len(place.gateway.node.hub) == 0


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_that_is_stopped_tells_its_clients_to_come_back(kind: str) -> None:
    async with site(kind) as place:
        clients = [await place.connect() for _ in range(5)]
        for client in clients:
            await subscribe(client)
        place.running.server.should_exit = True
        assert {(await end(client))[0] for client in clients} == {1012}
        async with asyncio.timeout(PATIENCE):
            await place.running.ended
        assert not place.gateway.ready
