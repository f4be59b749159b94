from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.serving import port, serving
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from fairlead.errors import CannotListen, UsageError
from fairlead.limits import Limits
from fairlead.server import Listener

IN_USE = "address already in use; stop what listens there, or choose"


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    """Lets every socket in and waits for its end."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


async def test_a_drain_tells_every_client_to_come_back() -> None:
    async with serving(accepting) as server:
        clients = [await connect(f"ws://127.0.0.1:{port(server)}/") for _ in range(5)]
    for client in clients:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1012
    assert not server.force_exit


async def test_what_waits_is_flushed_before_clients_are_closed_and_other_listeners_go_last() -> None:
    log: list[str] = []

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def flush() -> None:
        # The admin listener still takes connections, the public one does not.
        with socket.create_connection(("127.0.0.1", int(server.addresses[1].rpartition(":")[2]))):
            pass
        log.append("flush")

    listeners = [Listener(app=admin, port=0)]
    async with (
        serving(accepting, also=listeners, flush=flush, draining=lambda: log.append("draining")) as server,
        connect(f"ws://127.0.0.1:{port(server)}/") as client,
    ):
        await client.ping()
        server.should_exit = True
        await client.wait_closed()
        assert client.close_code == 1012
        assert log[:2] == ["draining", "flush"]


async def test_a_client_that_does_not_finish_its_close_is_dropped_after_the_grace() -> None:
    async with serving(accepting, limits=Limits(drain_window=0.0, drain_grace=0.05)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(3):
        try:
            assert (await reader.read()).startswith(b"\x88")
        except ConnectionResetError:
            pass
    writer.close()


async def test_a_second_signal_ends_everything_at_once() -> None:
    hanging = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            hanging.set()
            await asyncio.Event().wait()
        await accepting(scope, receive, send)

    async with asyncio.timeout(5), serving(application) as server, connect(f"ws://127.0.0.1:{port(server)}/"):
        server.handle_exit(signal.SIGTERM, None)
        await hanging.wait()
        server.handle_exit(signal.SIGTERM, None)
    assert server.force_exit


async def test_a_unix_socket_is_the_owners_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(accepting, uds=str(path)):
        assert path.stat().st_mode & 0o777 == 0o660
        async with unix_connect(str(path), "ws://localhost/"):
            pass
    assert not path.exists()


async def test_a_unix_socket_left_behind_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(accepting, uds=str(path)):
        with pytest.raises(CannotListen, match=f"^cannot listen on {re.escape(str(path))}: {IN_USE} another path$"):
            async with serving(accepting, uds=str(path)):
                pass
        async with unix_connect(str(path), "ws://localhost/"):
            pass


async def test_a_socket_that_another_server_put_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(accepting, uds=str(path)):
        path.rename(tmp_path / "old")
        path.write_text("another's")
    assert path.read_text() == "another's"


async def test_a_failing_startup_is_an_error_and_leaves_nothing_listening() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(UsageError):
        async with serving(application):
            pass


async def test_a_port_in_use_is_named_with_its_cause() -> None:
    async with serving(accepting) as server:
        where = f"127.0.0.1:{port(server)}"
        with pytest.raises(CannotListen, match=f"^cannot listen on {where}: {IN_USE} another port$"):
            async with serving(accepting, also=[Listener(app=accepting, port=port(server))]):
                pass


@pytest.mark.parametrize(
    ("listener", "text"),
    [
        (Listener(app=accepting, host="::1%none", port=81), r"\[::1%none\]:81: \w.*"),  # the resolver's words
        (Listener(app=accepting, uds="/none/s"), "/none/s: no such file or directory"),
        (Listener(app=accepting, uds="/" + 200 * "x"), "/x{200}: af_unix path too long"),
    ],
)
async def test_an_address_that_is_not_there_is_one_line(listener: Listener, text: str) -> None:
    with pytest.raises(CannotListen, match=f"^cannot listen on {text}$"):
        async with serving(accepting, also=[listener]):
            pass


async def test_a_context_of_ones_own_makes_it_a_tls_listener() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with serving(accepting, also=[Listener(app=accepting, port=0, tls=tls)]) as server:
        assert [address.partition(":")[0] for address in server.addresses] == ["http", "https"]


async def test_a_second_signal_while_a_refused_client_lingers_ends_in_good_order() -> None:
    asked = asyncio.Event()

    async def undecided(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            asked.set()
            await receive()

    async with asyncio.timeout(5), serving(undecided) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port(server))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await asked.wait()
        server.handle_exit(signal.SIGTERM, None)
        while not any(type(each).__name__ == "Lingering" for each in server.shared.connections):
            await asyncio.sleep(0)
        server.handle_exit(signal.SIGTERM, None)
    writer.close()


def test_a_client_that_leaves_does_not_end_a_program_that_wants_sigpipe() -> None:
    program = """
import os, signal, fairlead

async def app(scope, receive, send): ...

def ready(addresses):
    print(signal.getsignal(signal.SIGPIPE).name)
    os.kill(os.getpid(), signal.SIGTERM)

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
fairlead.run(app, port=0, ready=ready)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert "SIG_IGN" in ran.stdout
