"""Whatever can carry the application: ours on a socket and in memory, other ASGI servers as real processes, FastAPI."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from socket import socket
from subprocess import TimeoutExpired
from typing import Any, Protocol

import httpx2
from tests.behaviours import http2
from tests.behaviours.application import LIMITS, app
from tests.e2e.processes import Process, until
from tests.serving import free_port

from fairlead.testing import Client, Rejected, connect, lifespan, running
from fairlead.testing.client import TIMEOUT
from fairlead.testing.request import asking
from fairlead.testing.sockets import connected

ROOT = Path(__file__).parents[2]
APPLICATION = "tests.behaviours.application:app"
LISTED = "tests.behaviours.inside:listed"

Connecting = AbstractAsyncContextManager[Client]


class Site(Protocol):
    """The application at work, as its clients see it. Every wait ends after five seconds.

    Attributes:
        origin: The same origin.
        http: For plain requests.
    """

    origin: str
    http: httpx2.AsyncClient

    def connect(self, path: str, **options: Any) -> Connecting:
        """A client; ``options`` as for ``fairlead.testing.connect``."""
        ...


async def refused(site: Site, path: str, **options: Any) -> Rejected:
    """The answer to a client that is not let in."""
    try:
        async with site.connect(path, **options):
            raise AssertionError(f"let in: {path}")
    except Rejected as rejected:
        return rejected


def new_key() -> str:
    """A key under which a handler notes what it sees: give it as ``query={"key": key}``."""
    return secrets.token_hex(4)


async def seen(site: Site, key: str) -> Any:
    """What the handler of the connection with this key has noted; waits for it."""
    answer = await site.http.get(f"seen/{key}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def tell(site: Site, key: str) -> None:
    """Let the handler of the connection with this key go on."""
    answer = await site.http.post(f"tell/{key}")
    assert answer.status_code == 204


# -- sites -------------------------------------------------------------------------------------------------------------


class MemorySite:
    """In this process and without a socket."""

    origin = "http://testserver"

    def __init__(self) -> None:
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=self.origin)

    def connect(self, path: str, **options: Any) -> Connecting:
        return connect(app, path, limits=LIMITS, **options)


class SocketSite:
    """A port of this machine; clients of the ``websockets`` library."""

    def __init__(self, port: int, prefix: str = "", **options: Any) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.http = httpx2.AsyncClient(
            base_url=self.origin + prefix, verify=False, trust_env=False, timeout=TIMEOUT + 1, **options
        )
        self._url = f"ws://127.0.0.1:{port}"
        self._prefix = prefix

    def connect(self, path: str, **options: Any) -> Connecting:
        asked = asking(self._prefix + path, **options)
        return connected(self._url, asked, timeout=TIMEOUT, compression=False)


class Http2Site(SocketSite):
    """The same port over HTTP/2, with a connection for each client."""

    def __init__(self, port: int) -> None:
        super().__init__(port, http1=False, http2=True)
        self.port = port

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[Client]:
        async with http2.connection(self.port) as connection, connection.connect(path, **options) as client:
            yield client


# -- hosts -------------------------------------------------------------------------------------------------------------


class Host:
    """What carries the application. Entered once for all tests; a site is made for each.

    Args:
        name: Of the host.
        needs: The packages without which it is skipped.
    """

    def __init__(self, name: str, *needs: str) -> None:
        self.name = name
        self.needs = needs

    def __repr__(self) -> str:
        return self.name

    @contextmanager
    def started(self) -> Iterator[None]:
        """Have it at work while the block runs."""
        yield

    def site(self) -> AbstractAsyncContextManager[Site]:
        """The application for one test."""
        raise NotImplementedError

    def log(self) -> list[str]:
        """What it wrote so far, where it is a process of its own."""
        return []


class Memory(Host):
    """``fairlead.testing.connect``."""

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        site = MemorySite()
        async with lifespan(app), site.http:
            yield site


class Native(Host):
    """Our server, in this process; with an application of which ``app`` is a part, below a prefix."""

    def __init__(self, name: str, *needs: str, application: str = APPLICATION, prefix: str = "") -> None:
        super().__init__(name, *needs)
        self._application = application
        self._prefix = prefix

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        module, _, attribute = self._application.partition(":")
        async with running(getattr(import_module(module), attribute), limits=LIMITS) as server:
            site = SocketSite(int(server.url.rpartition(":")[2]), self._prefix)
            async with site.http:
                yield site


class Foreign(Host):
    """Another server, as a process of its own.

    Args:
        name: Of the host.
        needs: The packages it is made of.
        command: Its command line behind ``python -m``; ``PORT`` stands for a free port.
        listening: What it says when it listens, as a regular expression; a group in it is the port.
    """

    def __init__(self, name: str, *needs: str, command: str, listening: str) -> None:
        super().__init__(name, *needs)
        self._command = command
        self._listening = listening
        self._process: Process | None = None
        self._port = 0

    @contextmanager
    def started(self) -> Iterator[None]:
        self._port = free_port()
        arguments = self._command.replace("PORT", str(self._port)).split()
        # All that it says, whichever way it says it.
        command = ["sh", "-c", 'exec "$@" 1>&2', "sh", sys.executable, "-m", *arguments]
        process = self._process = Process(command, folder=ROOT)
        try:
            found = process.line(self._listening)
            self._port = int(found[1]) if found.groups() else self._port
            until(self._connects, f"{self.name} to listen on port {self._port}")
            yield
        finally:
            self._end(process)

    def _connects(self) -> bool:
        with socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _end(self, process: Process) -> None:
        if process.running:
            process.signal(signal.SIGTERM)
        try:
            process.wait(10)
        except TimeoutExpired:
            process.kill()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def terminate(self) -> None:
        """End it as a service manager does."""
        assert self._process is not None
        self._process.signal(signal.SIGTERM)

    def log(self) -> list[str]:
        assert self._process is not None
        return list(self._process.lines)

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        site = SocketSite(self._port)
        async with site.http:
            yield site


class ForeignHttp2(Foreign):
    """The same over HTTP/2."""

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        site = Http2Site(self._port)
        async with site.http:
            yield site


UVICORN = "uvicorn --port 0"
HYPERCORN = f"hypercorn --bind 127.0.0.1:0 --graceful-timeout 1 {APPLICATION}"
GUNICORN = f"gunicorn --worker-class asgi --bind 127.0.0.1:0 --graceful-timeout 1 --no-control-socket {APPLICATION}"

UVICORN_SAYS = "Uvicorn running on http://127.0.0.1:([0-9]+)"
HYPERCORN_SAYS = "Running on http://127.0.0.1:([0-9]+)"

HOSTS: Sequence[Host] = (
    Memory("memory"),
    Native("native"),
    Native("fastapi-mount", "fastapi", application="tests.behaviours.inside:mounted", prefix="/site"),
    Foreign("fastapi-routes", "fastapi", command=f"{UVICORN} {LISTED}", listening=UVICORN_SAYS),
    Foreign(
        "uvicorn-fairlead",
        command=f"{UVICORN} --ws fairlead.server:WebSocketProtocol {APPLICATION}",
        listening=UVICORN_SAYS,
    ),
    Foreign("uvicorn", command=f"{UVICORN} --ws websockets-sansio {APPLICATION}", listening=UVICORN_SAYS),
    Foreign("uvicorn-wsproto", "wsproto", command=f"{UVICORN} --ws wsproto {APPLICATION}", listening=UVICORN_SAYS),
    Foreign("hypercorn", "hypercorn", command=HYPERCORN, listening=HYPERCORN_SAYS),
    ForeignHttp2("hypercorn-http2", "hypercorn", "h2", command=HYPERCORN, listening=HYPERCORN_SAYS),
    Foreign(
        "granian",
        "granian",
        command=f"granian --interface asgi --port PORT {APPLICATION}",
        listening="Started worker",
    ),
    Foreign(
        "gunicorn",
        "gunicorn",
        command=GUNICORN,
        listening="ASGI server listening on http://127.0.0.1:([0-9]+)",
    ),
    Foreign(
        "daphne",
        "daphne",
        command=f"daphne --port 0 {APPLICATION}",
        listening="Listening on TCP address 127.0.0.1:([0-9]+)",
    ),
)
