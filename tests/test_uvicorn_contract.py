"""What the server relies on in uvicorn, whose protocol-class contract is not documented: if a new release breaks one
of these, widen or narrow the range in pyproject.toml knowingly."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ssl
from importlib.metadata import version
from typing import Any

import pytest
import uvicorn
from tests.serving import exchange, serving
from uvicorn.config import Config
from uvicorn.protocols import utils
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from fairlead.server.arrival import Arrival
from fairlead.server.http import HttpProtocol
from fairlead.server.prompt import PromptProtocol
from fairlead.server.run import Server
from fairlead.server.websocket import WebSocketProtocol

UPGRADE = (
    b"GET /ws/?a=%20b HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-One: 1\r\nX-One: 2\r\n\r\n"
)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that is never called."""


class Socket(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 80)})
        self.written: list[bytes] = []
        self.protocol: asyncio.BaseProtocol | None = None
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


def test_the_installed_version_is_one_that_was_looked_at() -> None:
    major, minor = map(int, version("uvicorn").split(".")[:2])
    assert (0, 54) <= (major, minor) < (0, 60)


def test_protocol_classes_are_called_with_these_arguments() -> None:
    expected = ["config", "server_state", "app_state", "_loop"]
    assert parameters(HttpToolsProtocol) == expected
    assert parameters(HttpProtocol)[:4] == parameters(Arrival)[:4] == expected
    assert parameters(WebSocketProtocol)[:4] == expected


def test_config_takes_any_callable_for_a_protocol_class_and_keeps_it() -> None:
    made: list[str] = []
    http: Any = functools.partial(made.append, "http")
    ws: Any = functools.partial(made.append, "ws")
    config = Config(
        nothing,
        host="127.0.0.1",
        port=0,
        http=http,
        ws=ws,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        forwarded_allow_ips=[],
        server_header=False,
        workers=1,
        ssl_certfile=None,
        ssl_keyfile=None,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )
    assert not config.loaded
    config.load()
    config.http_protocol_class()
    assert config.ws_protocol_class is not None
    config.ws_protocol_class()
    assert made == ["http", "ws"]
    assert (config.loaded_app, config.loaded, config.ssl) == (nothing, True, None)
    assert (config.root_path, config.asgi_version, config.encoded_headers) == ("", "3.0", [])


def test_a_context_of_ones_own_is_taken_for_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config = Config(nothing, log_config=None, ssl_context_factory=lambda config, default: context)
    config.load()
    assert config.ssl is context


def test_what_is_overridden_is_there_and_takes_the_same() -> None:
    http = ["connection_made", "connection_lost", "data_received", "on_message_begin", "on_url", "on_header"]
    http += ["on_headers_complete", "on_response_complete", "_should_upgrade"]
    for ours, theirs, names in (
        (HttpProtocol, HttpToolsProtocol, http),
        (PromptProtocol, HttpToolsProtocol, ["connection_lost", "on_body", "on_message_complete"]),
        (Server, uvicorn.Server, ["startup", "on_tick", "shutdown", "handle_exit"]),
    ):
        for name in names:
            assert name in vars(ours)
            assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name)), name
    assert parameters(HttpToolsProtocol._unset_keepalive_if_required) == ["self"]
    assert parameters(HttpToolsProtocol.timeout_keep_alive_handler) == ["self"]
    assert inspect.iscoroutinefunction(uvicorn.Server.startup) and inspect.iscoroutinefunction(uvicorn.Server.shutdown)


async def test_the_state_of_a_protocol_and_of_a_server_has_these_parts() -> None:
    state = ServerState()
    assert (state.connections, state.tasks, state.default_headers, state.total_requests) == (set(), set(), [], 0)
    config = Config(nothing, lifespan="off", log_config=None, proxy_headers=False)
    server = uvicorn.Server(config)
    assert (server.started, server.should_exit, server.force_exit) == (False, False, False)
    assert (server.config, type(server.server_state)) == (config, ServerState)
    protocol = HttpToolsProtocol(config, state, {})
    socket = Socket()
    protocol.connection_made(socket)
    assert state.connections == {protocol} == protocol.connections
    assert (protocol.config, protocol.server_state, protocol.app_state) == (config, state, {})
    assert protocol.transport is socket
    assert protocol.loop is asyncio.get_running_loop()
    assert protocol.cycle is None
    protocol.data_received(b"POST /a HTTP/1.1\r\nHost: A.test\r\nContent-Length: 1\r\n\r\n")
    assert (protocol.url, protocol.headers[0]) == (b"/a", (b"host", b"A.test"))
    assert (protocol.expect_100_continue, protocol.flow.write_paused) == (False, False)
    assert (protocol.timeout_keep_alive, protocol.timeout_keep_alive_task) == (5, None)
    cycle = protocol.cycle
    assert isinstance(cycle, RequestResponseCycle)
    assert (cycle.response_complete, cycle.keep_alive, cycle.more_body) == (False, True, True)
    protocol.shutdown()
    assert not cycle.keep_alive
    for task in state.tasks:
        task.cancel()
    protocol.connection_lost(None)
    assert state.connections == set()


async def test_the_helpers_say_this() -> None:
    socket = Socket()
    assert utils.get_remote_addr(socket) == ("192.0.2.1", 5000)
    assert utils.get_local_addr(socket) == ("192.0.2.2", 80)
    assert not utils.is_ssl(socket)


async def test_a_websocket_class_is_given_the_socket_and_then_the_whole_head() -> None:
    calls: list[Any] = []

    class Recorder(asyncio.Protocol):
        def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
            calls.append((config, server_state, app_state))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            calls.append(transport)

        def data_received(self, data: bytes) -> None:
            calls.append(data)

    config = Config(nothing, ws=Recorder, lifespan="off", log_config=None, proxy_headers=False)
    state, socket = ServerState(), Socket()
    protocol = HttpToolsProtocol(config, state, {"k": "v"})
    protocol.connection_made(socket)
    protocol.data_received(UPGRADE)
    arguments, transport, head = calls
    assert arguments == (config, state, {"k": "v"})
    assert transport is socket
    line, *headers = head.split(b"\r\n")
    assert line == b"GET /ws/?a=%20b HTTP/1.1"
    assert headers[:3] == [b"host: a.test", b"upgrade: websocket", b"connection: keep-alive, Upgrade"]
    assert headers[-4:] == [b"x-one: 1", b"x-one: 2", b"", b""]
    assert isinstance(socket.protocol, Recorder)
    assert state.connections == set()


async def test_a_server_asks_every_connection_to_shut_down() -> None:
    class Connection:
        def __init__(self) -> None:
            self.asked = 0

        def shutdown(self) -> None:
            self.asked += 1
            state.connections.clear()

    server = uvicorn.Server(Config(nothing, port=0, lifespan="off", log_config=None, proxy_headers=False))
    state, connection = server.server_state, Connection()
    state.connections.add(connection)  # type: ignore[arg-type]  # stands for ours
    server.should_exit = True
    await server.serve()
    assert connection.asked == 1


async def test_environment_variables_of_uvicorn_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    seen: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "lifespan":
            seen.append((scope["scheme"], scope["client"][0]))

    forwarded = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
    async with serving(app) as server:
        assert server.config.workers == 1
        assert not server.config.use_subprocess
        answer = await exchange(server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + forwarded + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"\r\nserver:" not in answer.lower()
        assert (await exchange(server, UPGRADE[:-2] + forwarded + b"\r\n")).startswith(b"HTTP/1.1 403 ")
    assert seen == [("http", "127.0.0.1"), ("ws", "127.0.0.1")]
