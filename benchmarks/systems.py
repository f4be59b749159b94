"""The systems that publish: how each is started, how its clients get into a room, and how one publishes to it.

A peer is given its best: no pings, no compression, no logs, and whatever setting makes it fastest (the reasons stand at
each). All put the same JSON on the wire; what wraps it is the system's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clients import Poster, text, upgrade
from compiling import NotInstalled, compiled
from servers import HERE, Server, free_port, running, script

NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

Publish = Callable[[Sequence[bytes]], None]
"""Publishes messages to the system's one room, in order."""


def _same(message: bytes) -> bytes:
    return message


@dataclass(frozen=True)
class System:
    """One system in which a message to a room goes to all its members.

    Attributes:
        name: How it is called in the output.
        packages: Its Python distributions.
        run: Runs a fresh server.
        path: Where a client gets into the room.
        frames: What the server sends first.
        hello: What a client sends then, and gets one frame for.
        post: Where publications are posted; "": they are messages of one more client, at /publish.
        body: The body of such a POST.
        unwrap: Takes a message out of what a client gets.
    """

    name: str
    packages: Sequence[str]
    run: Callable[[], AbstractContextManager[Server]]
    path: str = "/room"
    frames: int = 0
    hello: bytes = b""
    post: str = ""
    body: Callable[[bytes], bytes] = _same
    unwrap: Callable[[bytes], bytes] = _same

    @contextlib.contextmanager
    def publisher(self, server: Server) -> Iterator[Publish]:
        """Something to publish with."""
        if self.post:
            with contextlib.closing(Poster(server.admin or server.port, self.post)) as poster:

                def publish(messages: Sequence[bytes]) -> None:
                    for each in messages:
                        poster.post(self.body(each))

                yield publish
            return
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(upgrade("/publish"))
            connection.recv(65536)
            yield lambda messages: connection.sendall(b"".join(map(text, messages)))


def _missing(program: str, package: str) -> NotInstalled:
    return NotInstalled(f"{program} is not installed (Debian: apt-get install {package})")


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        raise _missing(name, package)
    return found


@contextlib.contextmanager
def _limit() -> Iterator[Server]:
    port = free_port()
    with running([str(compiled("peers/limit.c")), str(port)], port) as server:
        yield server


@contextlib.contextmanager
def _nchan() -> Iterator[Server]:
    """One worker that keeps no messages, as the others keep none."""
    nginx = _program("nginx", "nginx")
    if not NCHAN_MODULE.exists():
        raise _missing("nchan", "libnginx-mod-nchan")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = (HERE / "peers/nchan.conf").read_text().format(module=NCHAN_MODULE, folder=folder, port=port)
        path = Path(folder) / "nginx.conf"
        path.write_text(settings)
        with running([nginx, "-c", str(path), "-p", folder, "-e", "stderr"], port) as server:
            yield server


@contextlib.contextmanager
def _pushpin() -> Iterator[Server]:
    """All its processes on the one core. ``message_rate=0``: with any other it publishes every 25 ms only."""
    pushpin = _program("pushpin", "pushpin")
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, script("peers/grip_backend.py", measured=False) as backend:
        settings = (HERE / "peers/pushpin.conf").read_text().format(folder=folder, port=port, admin=admin)
        (Path(folder) / "pushpin.conf").write_text(settings)
        (Path(folder) / "routes").write_text(f"* 127.0.0.1:{backend.port},over_http\n")
        with running([pushpin, "--config", f"{folder}/pushpin.conf"], port, admin) as server:
            yield server


def _pushpin_body(message: bytes) -> bytes:
    item = {"channel": "room", "formats": {"ws-message": {"content": message.decode()}}}
    return json.dumps({"items": [item]}).encode()


@contextlib.contextmanager
def _channels(layer: str) -> Iterator[Server]:
    """On uvicorn, which costs it less than daphne; Redis itself is not measured."""
    with contextlib.ExitStack() as stack:
        environ = {"LAYER": layer}
        if layer != "memory":
            redis, port = _program("redis-server", "redis-server"), free_port()
            command = [redis, "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
            stack.enter_context(running(command, port, measured=False))
            environ["REDIS"] = f"redis://127.0.0.1:{port}"
        yield stack.enter_context(script("peers/with_channels.py", environ=environ))


@contextlib.contextmanager
def _granian() -> Iterator[Server]:
    port = free_port()
    program = str(Path(sys.executable).with_name("granian"))
    options = ["--interface", "asgi", "--loop", "uvloop", "--no-log", "--backlog", "4096", "--port", str(port)]
    with running(
        [program, *options, "with_starlette:app"], port, environ={"PYTHONPATH": str(HERE / "peers")}
    ) as server:
        yield server


_SOCKET_IO = "/socket.io/?EIO=4&transport=websocket"
_UVICORN = ("uvicorn", "starlette")

LIMIT = System("C limit", (), _limit)
NCHAN = System("nchan", (), _nchan, post="/publish")
PUSHPIN = System("Pushpin", (), _pushpin, post="/publish/", body=_pushpin_body)
WEBSOCKETS = System("websockets.broadcast", ("websockets",), partial(script, "peers/with_websockets.py"))
AIOHTTP = System("aiohttp", ("aiohttp",), partial(script, "peers/with_aiohttp.py"))
PICOWS = System("picows", ("picows",), partial(script, "peers/with_picows.py 4096"))
STARLETTE = System("uvicorn+starlette", _UVICORN, partial(script, "peers/with_starlette.py"))
GRANIAN = System("granian+starlette", ("granian", "starlette"), _granian)
SOCKETIO = System(
    "python-socketio",
    ("python-socketio", "uvicorn"),
    partial(script, "peers/with_socketio.py"),
    path=_SOCKET_IO,
    frames=1,
    hello=text(b"40"),
    post="/publish",
    unwrap=lambda frame: frame.removeprefix(b'42["message",').removesuffix(b"]"),
)
_CHANNELS = ("channels", "Django", "uvicorn")
CHANNELS = System("Channels, in memory", _CHANNELS, partial(_channels, "memory"), post="/publish")
CHANNELS_REDIS = System(
    "Channels, Redis", (*_CHANNELS, "channels-redis", "redis"), partial(_channels, "redis"), post="/publish"
)

SYSTEMS = (
    LIMIT,
    WEBSOCKETS,
    NCHAN,
    STARLETTE,
    AIOHTTP,
    PICOWS,
    GRANIAN,
    PUSHPIN,
    SOCKETIO,
    CHANNELS,
    CHANNELS_REDIS,
)
