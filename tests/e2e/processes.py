"""Real processes: a gateway, and an API that costs next to nothing.

    with cheap_api() as api, gateway(folder, api.url) as running:
        client = Client(running.port)
        client.subscribe("news")
        running.publish(["news"], 1)

Everything here is synchronous; what is looked at is another process, so conditions are polled, with a deadline.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

KEY = "an-api-key-for-end-to-end-tests"
PATIENCE = 20.0
"""Seconds without any progress after which a test has failed; what is waited for takes milliseconds."""


def until(condition: Callable[[], bool], what: str, *, seconds: float = PATIENCE) -> None:
    """Poll until something holds in another process; AssertionError names it if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


# -- processes -------------------------------------------------------------------------------------------------------


class Process:
    """A child process, what it writes to stderr, and what the kernel says about it.

    Attributes:
        lines: Its stderr so far.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._child = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.pid = self._child.pid

    def _read(self) -> None:
        assert self._child.stderr is not None
        with self._child.stderr:
            for line in self._child.stderr:
                self.lines.append(line.rstrip("\n"))

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which ``pattern`` is found."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(match for text in list(self.lines) if (match := re.search(pattern, text)))
            if not found and self._child.poll() is not None and not self._reader.is_alive():
                raise AssertionError(f"it ended with {self._child.returncode}:\n" + "\n".join(self.lines[-20:]))
            return bool(found)

        until(look, f"a line like {pattern!r} on stderr")
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status, once it has ended; negative: the signal that killed it."""
        status = self._child.wait(seconds)
        self._reader.join()
        return status

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def kill(self) -> None:
        """End it now, if it has not ended."""
        if self.running:
            self._child.kill()
        self.wait()

    def memory(self, field: str = "Rss") -> int:
        """Bytes, as ``smaps_rollup`` counts them: "Rss", or "Private_Dirty" without what is shared or from files."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return 1024 * int(re.findall(rf"^{field}:\s+(\d+) kB", rollup, re.MULTILINE)[0])

    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def cpu(self) -> float:
        """Seconds of CPU it has used."""
        return sum(int((task / "schedstat").read_text().split()[0]) for task in self._tasks()) / 1e9

    def _tasks(self) -> list[Path]:
        return list(Path(f"/proc/{self.pid}/task").iterdir())


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body, which is a JSON object."""
        return cast("dict[str, object]", json.loads(self.body))


class Gateway(Process):
    """A running ``fairlead gateway``.

    Attributes:
        port: Where clients connect; 0 on a Unix socket.
        admin: The port of the admin listener; 0 likewise.
    """

    port = 0
    admin = 0

    def listening(self) -> None:
        """Wait for its "listening" line and take the addresses from it."""
        public, admin = self.line(r"listening: clients (\S+), API (\S+)").groups()
        self.port, self.admin = _port(public), _port(admin)

    def call(self, method: str, path: str, body: object = None) -> Reply:
        """Call the admin listener, with a connection for this call alone."""
        return exchange(self.admin, method, path, body, headers={"Authorization": f"Bearer {KEY}"})

    def publish(self, rooms: Sequence[str], data: object) -> int:
        """Publish to rooms; how many subscriptions there were."""
        reply = self.call("POST", "/trigger/", {"rooms": rooms, "data": data})
        assert reply.status == 200, reply
        return cast(int, reply.json()["delivered"])

    def total(self, what: str) -> int:
        """How many "rooms" or "connections" there are."""
        return cast(int, self.call("GET", f"/{what}?limit=1").json()["total"])

    def metric(self, name: str) -> float:
        """A figure of /metrics that has no labels."""
        text = self.call("GET", "/metrics").body.decode()
        return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


def _port(url: str) -> int:
    found = re.search(r":(\d+)(?:/|$)", url)
    return int(found[1]) if found else 0


def exchange(
    port: int, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
) -> Reply:
    """One HTTP request and its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, path, payload, {**(headers or {}), "Connection": "close"})
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Settings as TOML; for text, numbers, booleans and lists of these JSON is TOML."""
    lines = []
    for name, section in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


@contextmanager
def gateway(
    folder: Path, upstream: str, *, environ: Mapping[str, str] | None = None, **sections: Mapping[str, object]
) -> Iterator[Gateway]:
    """Run a gateway on free ports until the block ends.

    Args:
        folder: For the settings file.
        upstream: The API's URL.
        environ: Environment variables besides those of the test.
        sections: Settings besides, by section. Below "info" it would not say where it listens.
    """
    settings: dict[str, dict[str, object]] = {
        "server": {"port": 0},
        "upstream": {"url": upstream},
        "api": {"port": 0, "keys": [KEY]},
    }
    for name, section in sections.items():
        settings.setdefault(name, {}).update(section)
    (folder / "fairlead.toml").write_text(toml(settings))
    command = [str(Path(sys.executable).with_name("fairlead")), "gateway", "--config", "fairlead.toml"]
    running = Gateway(command, folder=folder, environ={**os.environ, **(environ or {})})
    try:
        running.listening()
        yield running
    finally:
        running.kill()


# -- the API ---------------------------------------------------------------------------------------------------------


class CheapApi:
    """An HTTP API in a thread of its own that answers every request 200 with what ``answer`` makes of its head.

    Attributes:
        url: Where to ask it.
        asked: How many requests it got.
    """

    def __init__(self, answer: Callable[[bytes], object]) -> None:
        self.answer = answer
        self.url = ""
        self.asked = 0
        self._held: list[Callable[[], None]] | None = None
        self._open: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            self._loop.create_server(lambda: _Exchange(self), "127.0.0.1", 0, backlog=1024), self._loop
        ).result(PATIENCE)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    def hold(self) -> None:
        """Answer nobody until ``release()``."""
        self._held = []

    def release(self) -> None:
        """Answer all who wait, and everybody from now on."""
        held, self._held = self._held or [], None
        for answer in held:
            self._loop.call_soon_threadsafe(answer)

    def hang_up(self) -> None:
        """Close all kept connections."""
        for each in list(self._open):
            self._loop.call_soon_threadsafe(each.close)

    def stop(self) -> None:
        """End the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        while self._open:
            for each in list(self._open):
                each.abort()
            await asyncio.sleep(0)

    def opened(self, transport: asyncio.Transport) -> None:
        """A connection of the gateway's."""
        self._open.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """It is gone."""
        self._open.discard(transport)

    def request(self, head: bytes, transport: asyncio.Transport) -> None:
        """Answer, now or later."""
        self.asked += 1
        body = json.dumps(self.answer(head)).encode()
        response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        if self._held is None:
            transport.write(response)
        else:
            self._held.append(lambda: transport.write(response))


class _Exchange(asyncio.Protocol):
    """One kept connection; requests have no body."""

    def __init__(self, api: CheapApi) -> None:
        self._api = api
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._api.opened(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._api.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._pending = (self._pending + data).split(b"\r\n\r\n")
        for head in heads:
            self._api.request(head, self._transport)


@contextmanager
def cheap_api(answer: Callable[[bytes], object] = lambda head: {"allowed_prefixes": [""]}) -> Iterator[CheapApi]:
    """Run an API until the block ends; by default everybody may join every room with a string for a name."""
    api = CheapApi(answer)
    api.start()
    try:
        yield api
    finally:
        api.stop()
