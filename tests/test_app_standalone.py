"""Serving one thing: what it may be, and what becomes of its messages."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.routes import http, refused
from websockets.asyncio.client import connect as connect_socket

from fairlead import App, Closed, Endpoint, Limits, Reject, Request, WebSocket
from fairlead.app.standalone import application, run, serve
from fairlead.errors import CannotListen, UsageError
from fairlead.testing import connect


async def shout(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message.upper())


class Shout:
    """An object with callbacks for text."""

    def __init__(self) -> None:
        self.log: list[object] = []

    async def on_connect(self, ws: WebSocket) -> None:
        self.log.append("connected")
        await ws.send("hello")

    async def on_text(self, ws: WebSocket, text: str) -> None:
        await ws.send(text.upper())

    async def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.log.append((code, reason))


class Method:
    async def method(self, ws: WebSocket) -> None:
        await shout(ws)

    async def __call__(self, ws: WebSocket) -> None:
        await shout(ws)


async def prefixed(word: str, ws: WebSocket, *, more: int = 1) -> None:
    await shout(ws)


HANDLERS: list[Any] = [shout, Method().method, Method(), functools.partial(prefixed, "x")]


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("path", ["/", "/any/path?x=1"])
async def test_a_handler_is_served_on_every_path(handler: Any, path: str) -> None:
    async with connect(application(handler), path) as client:
        await client.send("hi")
        assert await client.receive() == "HI"


async def test_an_endpoint_is_served_with_its_guard() -> None:
    class Guarded(Endpoint):
        async def authorize(self, request: Request) -> None:
            if "x" not in request.query:
                raise Reject(401)

        async def handle(self, ws: WebSocket) -> None:
            await shout(ws)

    app = application(Guarded)
    await refused(app, "/", 401)
    async with connect(app, "/?x") as client:
        await client.send("hi")
        assert await client.receive() == "HI"


async def test_only_the_same_origin_may_connect_unless_it_is_said() -> None:
    await refused(application(shout), "/", 403, origin="https://other.test")
    for allowed in (["https://other.test"], "*"):
        async with connect(application(shout, allowed_origins=allowed), "/", origin="https://other.test"):
            pass


async def test_nothing_else_is_served_beside_a_handler() -> None:
    assert (await http(application(shout), "/fairlead.js"))[0] == 426


def test_an_application_is_served_as_it_is() -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None: ...

    def wrapped(*args: Any) -> Awaitable[None]:
        return bare(*args)

    for app in (App(), Starlette(), bare, wrapped):
        assert application(app) is app


class PlainCallback:
    def on_text(self, ws: WebSocket, text: str) -> None: ...


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (7, "neither an application nor a handler"),
        (Shout, "neither an application nor a handler"),
        (object(), "neither an application nor a handler"),
        (lambda ws: None, "must be an async def"),
        (PlainCallback(), "on_text must be an async def"),
    ],
)
def test_what_cannot_be_served_is_an_error(target: object, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        application(target)


def test_an_application_has_its_own_rule_for_origins() -> None:
    with pytest.raises(UsageError, match="has its own rule"):
        application(App(), allowed_origins="*")


# -- callbacks ---------------------------------------------------------------------------------------------------------


async def test_callbacks_are_called() -> None:
    target = Shout()
    async with connect(application(target)) as client:
        assert await client.receive() == "hello"
        await client.send("hi")
        assert await client.receive() == "HI"
        await client.close(3001, "bye")
    assert target.log == ["connected", (3001, "bye")]


async def test_a_message_without_a_callback_closes_with_1003() -> None:
    target = Shout()
    async with connect(application(target)) as client:
        assert await client.receive() == "hello"
        await client.send(b"bytes")
        assert await client.closed() == (1003, "")
    assert target.log == ["connected", (1003, "")]


async def test_one_callback_is_enough() -> None:
    class Echo:
        async def on_binary(self, ws: WebSocket, data: bytes) -> None:
            await ws.send(data)

    async with connect(application(Echo())) as client:
        await client.send(b"bytes")
        assert await client.receive() == b"bytes"


@pytest.mark.parametrize("failing", ["on_connect", "on_text"])
async def test_a_callback_that_fails_is_1011_and_the_end_is_told(
    failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*args: object) -> None:
        raise ValueError("secret")

    target = Shout()
    setattr(target, failing, fail)
    async with connect(application(target)) as client:
        if failing == "on_text":
            await client.send("x")
        assert await client.closed() == (1011, "")
    assert target.log[-1] == (1011, "") and "secret" in caplog.text


async def test_a_callback_may_close() -> None:
    class Close:
        ends: list[int] = []

        async def on_text(self, ws: WebSocket, text: str) -> None:
            await ws.close(4001, text)

        async def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            self.ends.append(code)

    async with connect(application(Close())) as client:
        await client.send("enough")
        assert await client.closed() == (4001, "enough")
    assert Close.ends == [4001]


# -- on a socket -------------------------------------------------------------------------------------------------------


async def served(target: object, talk: Callable[[str], Awaitable[None]], **options: Any) -> int:
    """Serve on a free port until somebody has talked to it, as SIGTERM ends it."""
    talking: list[asyncio.Task[None]] = []

    async def then_end(url: str) -> None:
        try:
            await talk(url)
        finally:
            signal.raise_signal(signal.SIGTERM)

    def ready(addresses: Sequence[str]) -> None:
        talking.append(asyncio.create_task(then_end(addresses[0].replace("http", "ws"))))

    status = await serve(target, port=0, ready=ready, **options)
    await talking[0]
    return status


@pytest.mark.slow
async def test_a_handler_is_served_on_a_socket_with_limits() -> None:
    async def talk(url: str) -> None:
        async with connect_socket(url, proxy=None) as client:
            await client.send("hi")
            assert await client.recv() == "HI"
            await client.send("x" * 101)
            await client.wait_closed()
            assert client.close_code == 1009

    async def say_nothing(url: str) -> None: ...

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # what the server hands the signal on to
    try:
        assert await served(shout, talk, limits=Limits(message_size=100)) == 0
        app = App(limits=Limits(message_size=100))
        app.websocket("/")(shout)
        assert await served(app, talk) == 0
        assert await served(Starlette(), say_nothing) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_address_that_cannot_be_bound_is_an_error() -> None:
    with pytest.raises(CannotListen):
        run(shout, host="192.0.2.1", loop="asyncio")
    with pytest.raises(UsageError, match="neither an application nor a handler"):
        run(None)


def test_what_is_public_is_what_is_tested_here() -> None:
    import fairlead

    assert (fairlead.serve, fairlead.run, fairlead.Closed) == (serve, run, Closed)


def test_a_wsgi_application_is_refused_with_what_to_do() -> None:
    def pages(environ: object, start_response: object) -> list[bytes]:
        return []

    with pytest.raises(UsageError, match="--wsgi"):
        application(pages)
