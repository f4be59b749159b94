"""The server behind an ini file, and applications under servers that have no sockets: real processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Process, exchange, until
from tests.pyramid.wire import UPGRADE
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fairlead.errors import SettingsError
from fairlead.pyramid.serving import server_factory

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "pyramid_jobs"

INI = """
[app:main]
paste.app_factory = jobs:main
{app}
[server:main]
{server}
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys =
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
"""


@contextmanager
def pserve(*arguments: str, folder: Path) -> Iterator[Process]:
    folders = os.pathsep.join([str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": folders}
    process = Process([str(Path(sys.executable).with_name("pserve")), *arguments], folder=folder, environ=environ)
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def served(folder: Path, server: str, app: str = "") -> Iterator[int]:
    """Run it with a server section of the test's own; the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "test.ini").write_text(INI.format(app=app, server=server.format(port=port)))
    with pserve("test.ini", folder=folder) as process:
        until(lambda: answers(port, process), f"an answer on port {port}")
        yield port


def answers(port: int, process: Process) -> bool:
    assert process.running, "\n".join(process.lines)
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def follow(port: int, path: str = "/jobs/1/", **options: Any) -> ClientConnection:
    connection: ClientConnection = connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options)
    return connection


# -- ours --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_runs_with_pserve_and_drains(tmp_path: Path) -> None:
    (tmp_path / "any-port.ini").write_text((EXAMPLE / "development.ini").read_text().replace("port = 6543", "port = 0"))
    with pserve("any-port.ini", folder=tmp_path) as process:
        port = int(process.line(r"listening: http://127\.0\.0\.1:(\d+)")[1])
        assert b"new WebSocket" in exchange(port, "GET", "/jobs/1/").body
        with follow(port) as job, follow(port, "/jobs/") as board:
            assert job.recv(5) == "wait"
            assert "Paint the hull" in str(board.recv(5))
            process.signal(signal.SIGTERM)
            for client in (job, board):
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(20)
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        assert process.wait() == 0
        assert not [line for line in process.lines if "Traceback" in line]


@pytest.mark.slow
def test_where_it_listens_is_said_whatever_is_logged(tmp_path: Path) -> None:
    ini = INI.format(app="", server="use = egg:fairlead\nport = 0").partition("[loggers]")[0]
    (tmp_path / "silent.ini").write_text(ini)
    with pserve("silent.ini", folder=tmp_path) as process:
        port = int(process.line(r"listening: http://127\.0\.0\.1:(\d+)")[1])
        assert answers(port, process)


@pytest.mark.slow
def test_the_servers_settings_are_those_of_the_ini_file(tmp_path: Path) -> None:
    server = """
use = egg:fairlead
host = 127.0.0.1
port = {port}
sockets = 1
limits.message_size = 10
trusted_proxies = 127.0.0.1 ::1
"""
    with served(tmp_path, server) as port, follow(port) as first:
        assert first.recv(5) == "wait"
        with pytest.raises(InvalidStatus) as refused, follow(port):
            pass
        assert refused.value.response.status_code == 503
        assert exchange(port, "GET", "/jobs/1/").status == 200
        behind_tls = exchange(port, "GET", "/", headers={"X-Forwarded-Proto": "https"})
        assert behind_tls.headers["location"].startswith("https://")
        first.send("x" * 11)
        with pytest.raises(ConnectionClosed) as closed:
            first.recv(5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


@pytest.mark.slow
def test_origins_are_those_of_the_applications_settings(tmp_path: Path) -> None:
    app = "fairlead.allowed_origins = https://app.example"
    with served(tmp_path, "use = egg:fairlead\nport = {port}", app) as port:
        with follow(port, additional_headers={"Origin": "https://app.example"}) as client:
            assert client.recv(5) == "wait"
        with (
            pytest.raises(InvalidStatus) as refused,
            follow(port, additional_headers={"Origin": "https://evil.example"}),
        ):
            pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prot": "80"}, r"\[server\]: unknown key prot; the nearest known one is port"),
        (
            {"limits.message_sise": "80"},
            r"unknown key limits.message_sise; the nearest known one is limits.message_size",
        ),
        ({"port": "http"}, r"\[server\]: port: expected int"),
        ({"port": "70000"}, r"\[server\]: port: must be from 0 to 65535"),
        ({"limits.ping_after": "100"}, r"\[server\]: limits.ping_timeout: must be longer"),
        ({"trusted_proxies": "10.0.0.0/8 nginx"}, r"\[server\]: trusted_proxies: must be an address"),
        ({"keyfile": "key.pem"}, r"\[server\]: keyfile: of no use without certfile"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        server_factory({}, **settings)


# -- others ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_under_another_wsgi_server_sockets_are_refused_in_plain_words(tmp_path: Path) -> None:
    with served(tmp_path, "use = egg:waitress#main\nlisten = 127.0.0.1:{port}") as port:
        assert exchange(port, "GET", "/jobs/1/").status == 200
        status, headers, body = ask(port, UPGRADE)
        assert (status, body) == (501, b"Upgrade negotiation failed: this server carries no WebSockets\n")
        status, headers, body = ask(port, UPGRADE | {"Sec-WebSocket-Version": "8", "Cookie": "sid=secret"})
        assert (status, headers["Sec-WebSocket-Version"]) == (426, "13")
        assert body.startswith(b"Upgrade negotiation failed: ") and b"secret" not in body


def ask(port: int, headers: dict[str, str]) -> tuple[int, Message, bytes]:
    """The answer to a handshake, refused."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/jobs/1/", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
