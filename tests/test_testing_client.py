"""The client that a test holds: the same behaviour in memory and on a socket, awaited or not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from fairlead import App, Closed, Reject, Request, WebSocket
from fairlead.errors import UsageError
from fairlead.testing import (
    Client,
    Connecting,
    RunningServer,
    SyncClient,
    SyncRunningServer,
    TimedOut,
    Unexpected,
    connect,
    rejects,
    running,
)

app = App()


@app.websocket("/echo", subprotocols=["two", "one"])
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/words")
async def words(ws: WebSocket) -> None:
    for word in ("one", "two", "three"):
        await ws.send(word)
    await ws.close(4000, "said all")


@app.websocket("/silent")
async def silent(ws: WebSocket) -> None:
    async for _ in ws:
        pass


@app.websocket("/seen/{name}")
async def seen(ws: WebSocket, name: str) -> None:
    request = ws.request
    await ws.send_json(
        {
            "name": name,
            "query": dict(request.query),
            "cookies": dict(request.cookies),
            "tags": [value.decode() for value in request.values(b"x-tag")],
            "origin": request.headers.get("origin"),
        }
    )


async def nobody(request: Request) -> None:
    raise Reject(401, "log in first\n", {"WWW-Authenticate": "Bearer"})


@app.websocket("/private", guards=[nobody])
async def private(ws: WebSocket) -> None: ...


@app.websocket("/chat")
async def chat(ws: WebSocket) -> None:
    await ws.join("lobby")
    await ws.send("joined")
    async for text in ws:
        await app.room("lobby").publish(text)


@dataclass
class Way:
    """In memory, or over a socket."""

    server: RunningServer | None

    def connect(self, path: str, **options: object) -> Connecting:
        if self.server is not None:
            return self.server.connect(path, **options)  # type: ignore[arg-type]  # as connect() has them
        return connect(app, path, **options)  # type: ignore[arg-type]

    @property
    def origin(self) -> str:
        return "http://testserver" if self.server is None else self.server.url


@pytest.fixture(params=["memory", "socket"])
async def way(request: pytest.FixtureRequest) -> object:
    if request.param == "memory":
        yield Way(None)
        return
    async with running(app) as server:
        yield Way(server)


async def test_text_and_binary_messages_come_back_as_what_they_were(way: Way) -> None:
    async with way.connect("/echo") as client:
        await client.send("é")
        await client.send(b"\x00")
        assert await client.receive() == "é"
        assert await client.receive() == b"\x00"
        await client.send("a")
        await client.send(b"b")
        assert await client.receive_text() == "a"
        assert await client.receive_bytes() == b"b"


async def test_json_is_decoded_and_checked_if_asked_for(way: Way) -> None:
    class Point(msgspec.Struct):
        x: int

    async with way.connect("/echo") as client:
        await client.send_json({"x": 1})
        assert await client.receive_json() == {"x": 1}
        await client.send_json({"x": 1})
        assert (await client.receive_json(type=Point)).x == 1
        await client.send_json({"x": "one"})
        with pytest.raises(Unexpected, match="Expected `int`"):
            await client.receive_json(type=Point)
        await client.send("not json")
        with pytest.raises(Unexpected, match="'not json'"):
            await client.receive_json()


async def test_a_message_of_the_other_kind_is_unexpected(way: Way) -> None:
    async with way.connect("/echo") as client:
        await client.send(b"binary")
        with pytest.raises(Unexpected, match="b'binary'"):
            await client.receive_text()
        await client.send("text")
        with pytest.raises(Unexpected, match="'text'"):
            await client.receive_bytes()


async def test_a_wait_that_is_over_says_for_what_and_what_came_last_and_loses_nothing(way: Way) -> None:
    async with way.connect("/echo", timeout=0.02) as client:
        with pytest.raises(TimedOut, match=r"^waited 0\.02 s for a message; nothing came before$"):
            await client.receive()
        await client.send("last")
        await client.receive(timeout=5)
        with pytest.raises(TimeoutError, match=r"^waited 0\.01 s for JSON; the last message of 1 was 'last'$"):
            await client.receive_json(timeout=0.01)
        with pytest.raises(TimedOut, match="for the connection to be closed"):
            await client.closed()
        await client.send("kept")
        assert await client.receive(timeout=5) == "kept"


async def test_messages_can_be_iterated_until_the_connection_is_over(way: Way) -> None:
    async with way.connect("/words") as client:
        assert [message async for message in client] == ["one", "two", "three"]
        assert await client.closed() == (4000, "said all")


async def test_what_came_before_the_close_can_still_be_received(way: Way) -> None:
    async with way.connect("/words") as client:
        closure = await client.closed()
        assert (closure.code, closure.reason) == (4000, "said all")
        assert await client.receive() == "one"
        assert await client.receive() == "two"
        assert await client.receive() == "three"
        with pytest.raises(Closed) as closed:
            await client.receive()
        assert (closed.value.code, closed.value.reason) == (4000, "said all")
        with pytest.raises(Closed):
            await client.send("too late")


async def test_closing_waits_for_the_answer_and_does_so_once(way: Way) -> None:
    async with way.connect("/echo") as client:
        await client.close(4001, "bye")
        assert await client.closed() == (4001, ""), "the server answers with the code"
        await client.close(4002)
        assert await client.closed() == (4001, "")


async def test_a_client_that_vanished_is_over_at_once(way: Way) -> None:
    async with way.connect("/echo") as client:
        client.abort()
        assert (await client.closed()).code == 1006


async def test_the_handshake_carries_what_the_test_says(way: Way) -> None:
    opening = way.connect(
        "/seen/b%20c",
        query={"a": "1 & 2", "é": ""},
        cookies={"sid": "1", "theme": "dark"},
        headers=[("X-Tag", "one"), ("X-Tag", "two")],
        origin=way.origin,
    )
    async with opening as client:
        assert await client.receive_json() == {
            "name": "b c",
            "query": {"a": "1 & 2", "é": ""},
            "cookies": {"sid": "1", "theme": "dark"},
            "tags": ["one", "two"],
            "origin": way.origin,
        }
    async with way.connect("/seen/é?a=b") as client:
        came = await client.receive_json()
        assert (came["name"], came["query"]) == ("é", {"a": "b"})


async def test_the_agreed_subprotocol_and_the_headers_are_there(way: Way) -> None:
    async with way.connect("/echo", subprotocols=["one", "two"]) as client:
        assert client.subprotocol in ("one", "two")
        assert client.headers["Sec-WebSocket-Protocol"] == client.subprotocol
    async with way.connect("/echo") as client:
        assert client.subprotocol is None


async def test_a_refused_handshake_raises_rejected(way: Way) -> None:
    with rejects(401, "log in") as refusal:
        async with way.connect("/private"):
            pass
    assert refusal.status == 401
    assert refusal.headers["WWW-Authenticate"] == "Bearer"
    assert refusal.text == "log in first\n"
    assert refusal.value.body == b"log in first\n"
    with rejects(404):
        async with way.connect("/nowhere"):
            pass
    with rejects(403):
        async with way.connect("/echo", origin="http://evil.example"):
            pass


async def test_rejects_says_what_happened_instead(way: Way) -> None:
    with pytest.raises(Unexpected, match="HTTP 401, not 403: b'log in first"), rejects(403):
        async with way.connect("/private"):
            pass
    with pytest.raises(Unexpected, match="'sign up'"), rejects(text="sign up"):
        async with way.connect("/private"):
            pass
    with pytest.raises(Unexpected, match="let in"), rejects():
        async with way.connect("/echo"):
            pass
    with pytest.raises(UsageError, match="after the block"), rejects() as refusal:
        _ = refusal.status


async def test_nothing_more_has_come(way: Way) -> None:
    async with way.connect("/silent") as client:
        await client.send("a")
        await client.assert_nothing()
    async with way.connect("/echo") as client:
        for text in ("a", "b"):
            await client.send(text)
        with pytest.raises(Unexpected, match="but 'a' did"):
            await client.assert_nothing()
        assert await client.receive() == "b"
        await client.assert_nothing()
    async with way.connect("/words") as client:
        assert len([message async for message in client]) == 3
        with pytest.raises(Unexpected, match="4000"):
            await client.assert_nothing()


async def test_what_others_in_the_room_caused_is_there_when_nothing_is_asserted(way: Way) -> None:
    async with way.connect("/chat") as one, way.connect("/chat") as other, way.connect("/silent") as third:
        for client in (one, other):
            assert await client.receive() == "joined"
        await one.send("hello")
        await third.assert_nothing()
        with pytest.raises(Unexpected, match="'hello'"):
            await other.assert_nothing()


def test_a_path_must_be_one() -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        connect(app, "echo")
    with pytest.raises(ValueError, match="has a query already"):
        connect(app, "/echo?a=b", query={"c": "d"})


# -- without async -------------------------------------------------------------------------------------------------


@dataclass
class SyncWay:
    server: SyncRunningServer | None

    def connect(self, path: str, **options: object) -> Connecting:
        if self.server is not None:
            return self.server.connect(path, **options)  # type: ignore[arg-type]
        return connect(app, path, **options)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "socket"])
def sync_way(request: pytest.FixtureRequest) -> Iterator[SyncWay]:
    if request.param == "memory":
        yield SyncWay(None)
        return
    with running(app) as server:
        yield SyncWay(server)


def test_everything_is_there_without_async(sync_way: SyncWay) -> None:
    with sync_way.connect("/echo", subprotocols=["one"]) as client:
        assert client.subprotocol == "one"
        assert client.headers["sec-websocket-protocol"] == "one"
        client.send("a")
        assert client.receive() == "a"
        client.send("b")
        assert client.receive_text() == "b"
        client.send(b"c")
        assert client.receive_bytes() == b"c"
        client.send_json({"d": 1})
        assert client.receive_json() == {"d": 1}
        client.send_json({"d": 1})
        assert client.receive_json(type=dict[str, int]) == {"d": 1}
        client.assert_nothing()
        with pytest.raises(TimedOut, match="the last message of 5 was"):
            client.receive(timeout=0.01)
        client.pause_reading()
        client.send("e")
        client.resume_reading()
        assert client.receive() == "e"
        client.close(4001, "bye")
        assert client.closed() == (4001, "")
        with pytest.raises(Closed):
            client.receive()
    with sync_way.connect("/words") as client:
        assert list(client) == ["one", "two", "three"]
    with sync_way.connect("/echo") as client:
        client.abort()
        assert client.closed().code == 1006
    with rejects(401) as refusal, sync_way.connect("/private"):
        pass
    assert refusal.headers["www-authenticate"] == "Bearer"


def test_clients_without_async_meet_in_the_same_rooms(sync_way: SyncWay) -> None:
    with sync_way.connect("/chat") as one, sync_way.connect("/chat") as other:
        assert one.receive() == other.receive() == "joined"
        one.send("hello")
        assert [client.receive() for client in (one, other)] == ["hello", "hello"]
        app.room("lobby").publish("from the test's thread")
        assert other.receive() == "from the test's thread"
        assert len(app.room("lobby")) == 2


def test_nothing_is_left_of_the_background_loop() -> None:
    before = threading.active_count()
    with connect(app, "/echo"), connect(app, "/echo"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


async def test_in_a_coroutine_the_form_without_async_is_refused() -> None:
    with pytest.raises(UsageError, match="async with"), connect(app, "/echo"):
        pass


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(SyncClient)
    assert public(SyncRunningServer) | {"connect", "stop"} == public(RunningServer)


async def test_the_tests_own_failure_is_what_is_raised(way: Way) -> None:
    with pytest.raises(ZeroDivisionError):
        async with way.connect("/echo"):
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with way.connect("/echo"):
            raise asyncio.CancelledError
