"""An HTTP API that says exactly what a test wants, byte by byte, and remembers exactly what it was asked.

    async with FakeApi() as api:                                  # or: with FakeApi() as api, without any await
        api.on(reply(200, {"allowed_rooms": ["a"], "user_id": 1}), cookie="sid=alice")
        api.on(reply(401), token="expired")
        api.script(reset, hang)                                   # first one for each ask, in turn
        ...                                                       # api.url is where to ask
        await api.asked(2)
        assert api.requests[0].header("cookie") == "sid=alice"

First the script is used up; then the answer for this cookie or token is given, and to anybody else ``api.default`` (200
and no rooms). An answer is any ``async def (ask: Ask, wire: Wire)``; ``reply``, ``raw``, ``hang``, ``cut``, ``reset``,
``drip``, ``hold`` and ``half_close`` make the usual ones, faults among them. The connection is kept alive unless the
answer closes it, and ``api.connections`` counts how many were opened.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fairlead.testing.client import TIMEOUT
from fairlead.testing.errors import TimedOut
from fairlead.testing.portal import Entry, wherever


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as it arrived. ``raw`` is the whole head; ``connection`` numbers the TCP connections from 1."""

    raw: bytes
    connection: int

    @property
    def line(self) -> str:
        """The request line."""
        return self.raw.split(b"\r\n", 1)[0].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, in the order they came."""
        lines = self.raw.decode().split("\r\n")[1:-2]
        return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]

    def header(self, name: str) -> str | None:
        """The only value of a header; None if it did not come. Two lines of one name are an error here."""
        values = [value for key, value in self.headers if key == name]
        if len(values) > 1:
            raise ValueError(f"{name} came {len(values)} times")
        return values[0] if values else None

    @property
    def cookies(self) -> list[str]:
        """Each as ``name=value``."""
        return [pair.strip() for pair in (self.header("cookie") or "").split(";") if pair]

    @property
    def token(self) -> str | None:
        """What stands behind the scheme in ``Authorization``."""
        _, _, token = (self.header("authorization") or "").partition(" ")
        return token or None


class Wire:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Send bytes as they are. Raises ConnectionError once the other side has gone."""
        if self._writer.is_closing():  # uvloop's transports then raise RuntimeError
            raise ConnectionResetError("the other side has gone")
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the other side closes the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass

    def half_close(self) -> None:
        """Send FIN and go on reading."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close in good order."""
        self._writer.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()


Answer = Callable[[Ask, Wire], Awaitable[None]]
"""What the API does about one request."""


def reply(status: int = 200, body: object = b"{}", headers: Mapping[str, str] | None = None) -> Answer:
    """A whole, well-formed answer; a body that is not bytes is sent as JSON."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Length": str(len(payload)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return raw(f"HTTP/1.1 {status} Fake\r\n{head}\r\n".encode() + payload)


def raw(*parts: bytes) -> Answer:
    """These bytes, each part with its own write; the connection stays open."""

    async def answer(ask: Ask, wire: Wire) -> None:
        for part in parts:
            await wire.write(part)

    return answer


def cut(*parts: bytes) -> Answer:
    """These bytes, then the connection is closed in good order."""

    async def answer(ask: Ask, wire: Wire) -> None:
        await raw(*parts)(ask, wire)
        wire.close()

    return answer


def half_close(*parts: bytes) -> Answer:
    """These bytes, then FIN, and the API waits for the other side to close."""

    async def answer(ask: Ask, wire: Wire) -> None:
        await raw(*parts)(ask, wire)
        wire.half_close()
        await wire.gone()

    return answer


def drip(head: bytes, byte: bytes, every: float) -> Answer:
    """A head, then one byte every so many seconds, until the other side has enough."""

    async def answer(ask: Ask, wire: Wire) -> None:
        await wire.write(head)
        while True:
            await asyncio.sleep(every)
            await wire.write(byte)

    return answer


def hold(released: asyncio.Event, then: Answer) -> Answer:
    """Nothing until the event is set, then another answer."""

    async def answer(ask: Ask, wire: Wire) -> None:
        await released.wait()
        await then(ask, wire)

    return answer


async def hang(ask: Ask, wire: Wire) -> None:
    """Nothing at all, until the other side closes."""
    await wire.gone()


async def reset(ask: Ask, wire: Wire) -> None:
    """Drop the connection without a word."""
    wire.abort()


class FakeApi(Entry["FakeApi", "FakeApi"]):
    """The API; see the module's text.

    Args:
        uds: Path of a Unix socket to listen on instead of a port of 127.0.0.1.
        path: Path in ``url``; requests to any path are answered.
        tls: Serve https with this.

    Attributes:
        url: Where to ask.
        requests: What was asked, in order.
        connections: How many connections were opened.
        open: How many of them are open.
        default: The answer where there is no other.
    """

    def __init__(
        self, *, uds: str | None = None, path: str = "/api/bootstrap/", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(self._listen(), lambda api, portal: api)
        self.requests: list[Ask] = []
        self.connections = 0
        self.open = 0
        self.default: Answer = reply(200, {})
        self.url = ""
        self._uds = uds
        self._path = path
        self._tls = tls
        self._script: deque[Answer] = deque()
        self._answers: list[tuple[str | None, str | None, Answer]] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def script(self, *answers: Answer) -> None:
        """Answer the next asks with these, in turn."""
        self._script.extend(answers)

    def on(self, answer: Answer, *, cookie: str | None = None, token: str | None = None) -> None:
        """Answer so whoever sends this cookie, this token, or both; of several that fit the one said last counts.

        Args:
            answer: What to answer.
            cookie: As ``name=value``.
            token: What stands behind the scheme in ``Authorization``.
        """
        self._answers.insert(0, (cookie, token, answer))

    def asked(self, count: int, *, timeout: float = TIMEOUT) -> Awaitable[None]:
        """Wait until so many requests have arrived in all; awaited, or done when it returns."""
        return wherever(self._loop, self._until(lambda: len(self.requests) >= count, f"request {count}", timeout))

    def left(self, count: int = 0, *, timeout: float = TIMEOUT) -> Awaitable[None]:
        """Wait until no more than so many connections are open; awaited, or done when it returns."""
        what = f"no more than {count} connections"
        return wherever(self._loop, self._until(lambda: self.open <= count, what, timeout))

    async def _until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            state = f"there were {len(self.requests)} requests, and {self.open} connections are open"
            raise TimedOut(f"waited {timeout:g} s for {what}; {state}") from None

    @asynccontextmanager
    async def _listen(self) -> AsyncIterator[FakeApi]:
        self._loop = asyncio.get_running_loop()
        if self._uds is not None:
            server = await asyncio.start_unix_server(self._accept, self._uds)
            self.url = f"http://localhost{self._path}"
        else:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
            scheme = "https" if self._tls is not None else "http"
            self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}{self._path}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await self._count(1)
        wire = Wire(reader, writer)
        try:
            while not writer.is_closing():
                ask = Ask(await reader.readuntil(b"\r\n\r\n"), number)
                self.requests.append(ask)
                await self._count(0)
                await self._answer(ask)(ask, wire)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await self._count(-1)

    def _answer(self, ask: Ask) -> Answer:
        if self._script:
            return self._script.popleft()
        for cookie, token, answer in self._answers:
            if (cookie is None or cookie in ask.cookies) and (token is None or token == ask.token):
                return answer
        return self.default

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.open += change
            self._changed.notify_all()
