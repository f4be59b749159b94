"""The set-ups that every suite runs in: a fresh server process of ours, as bare or as wrapped as its name says."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 20.0
SETUPS = {
    "uvloop": "TCP, the uvloop event loop",
    "asyncio": "TCP, asyncio's own event loop",
    "tls": "TLS on uvloop, the certificate made by the openssl command",
    "unix": "a Unix socket on uvloop",
    "nginx": "behind nginx on TCP, configured as its documentation shows for WebSockets",
}


class NotRun(Exception):
    """This machine lacks something that a set-up needs; the text says what and how to get it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server under test listens.

    Attributes:
        host: Name or address.
        port: TCP port.
        uds: Path of a Unix socket instead.
        tls: Speak TLS; the certificate is not verified.
    """

    host: str = "127.0.0.1"
    port: int = 0
    uds: str = ""
    tls: bool = False

    async def connect(self, *, receive_buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, TLS handshake included.

        Args:
            receive_buffer: Bytes the kernel shall hold for a client that does not read; 0 for its default.
        """
        return await asyncio.open_connection(
            sock=await self.connect_socket(receive_buffer=receive_buffer),
            ssl=trusting() if self.tls else None,
            server_hostname=self.host if self.tls else None,
        )

    async def connect_socket(self, *, receive_buffer: int = 0) -> socket.socket:
        """Open a connection without TLS; see ``connect``."""
        connection = socket.socket(socket.AF_UNIX if self.uds else socket.AF_INET)
        connection.setblocking(False)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(connection, self.uds or (self.host, self.port))
        return connection


@functools.cache
def trusting() -> ssl.SSLContext:
    """TLS for a client that verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Running:
    """A server of ours under test.

    Attributes:
        address: Where clients connect: in the nginx set-up that is nginx.
        process: The server's own process.
    """

    address: Address
    process: subprocess.Popen[str]

    def resident(self) -> int:
        """Resident bytes of the server process now, and start anew to keep the highest figure for ``peak``."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    def peak(self) -> int:
        """Resident bytes at most since the last call of ``resident``: the kernel's own count, which misses nothing."""
        return self._status("VmHWM")

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"the kernel does not tell {field}")

    def sockets(self) -> set[str]:
        """The sockets that the server process has open."""
        found = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(descriptor))
        return {name for name in found if name.startswith("socket:")}

    def children(self) -> list[int]:
        """Process ids of its children."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


@contextlib.contextmanager
def serving(setup: str, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run the echo server in one of the set-ups while the block lasts.

    Args:
        setup: A key of ``SETUPS``.
        options: More options of ``conformance.echo_server``.
        environ: More environment variables for it.

    Raises:
        NotRun: The machine lacks what the set-up needs.
    """
    with tempfile.TemporaryDirectory(prefix="conformance-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if setup == "asyncio":
            options = ("--loop", "asyncio", *options)
        elif setup == "tls":
            options = ("--certfile", str(_certificate(folder)), *options)
        elif setup == "unix":
            options = ("--uds", str(folder / "server.sock"), *options)
        nginx = _nginx_program() if setup == "nginx" else ""
        running = stack.enter_context(_echo_server(options, environ or {}))
        if nginx:
            front = stack.enter_context(_nginx(nginx, folder, running.address))
            running = Running(front, running.process)
        yield running


@contextlib.contextmanager
def _echo_server(options: Sequence[str], environ: Mapping[str, str]) -> Iterator[Running]:
    command = [sys.executable, "-m", "conformance.echo_server", *options]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True)
    with ending(process):
        assert process.stdout is not None
        yield Running(_parse(process.stdout.readline().strip()), process)


def _parse(url: str) -> Address:
    """The address out of the line that the echo server prints."""
    scheme, _, rest = url.partition(":")
    if scheme == "unix":
        return Address(uds=rest)
    if scheme not in ("http", "https"):
        raise RuntimeError("the echo server did not start")
    host, _, port = rest.removeprefix("//").rpartition(":")
    return Address(host, int(port), tls=scheme == "https")


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End the process with the block: nothing measured needs its farewell."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def _certificate(folder: Path) -> Path:
    """Make a self-signed certificate for this run: certificate and key in one file."""
    if shutil.which("openssl") is None:
        raise NotRun("there is no openssl command (Debian: apt-get install openssl)")
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    both.write_text(key.read_text() + certificate.read_text())
    return both


_NGINX_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_read_timeout 60s;
        }}
    }}
}}
"""


def _nginx_program() -> str:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NotRun("there is no nginx (Debian: apt-get install nginx)")
    return program


@contextlib.contextmanager
def _nginx(program: str, folder: Path, upstream: Address) -> Iterator[Address]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # its workers write below our folder, which is ours alone
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX_CONFIGURATION.format(folder=folder, port=port, upstream=upstream.port, user=user))
    command = [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for_port(port, process)
        yield Address(port=port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the master and its worker, a group of their own
        process.communicate()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until somebody listens on a port of 127.0.0.1.

    Raises:
        RuntimeError: The process ended, or nobody listened for ``START_TIMEOUT`` seconds.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not listen on port {port}")
        time.sleep(0.02)
