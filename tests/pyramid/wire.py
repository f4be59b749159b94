"""A client that sees and says every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fairlead.testing import RunningServer

UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
CLOSE = b"\x88\x80\0\0\0\0"  # masked, without a code


def text(message: str) -> bytes:
    """A text frame of a client, masked with zeros; up to 125 bytes."""
    payload = message.encode()
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


class Wire:
    """An open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Write it, in a segment of its own."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> tuple[str, list[tuple[str, str]]]:
        """Status line and headers of the answer."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        fields = [line.split(": ", 1) for line in lines]
        return first, [(name.lower(), value) for name, value in fields]

    async def read(self, size: int) -> bytes:
        """So many bytes."""
        return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """All bytes until the server ends the connection."""
        return await self._reader.read()

    def drop(self) -> None:
        """Vanish, with a reset."""
        self._writer.transport.abort()


@asynccontextmanager
async def wire(
    server: RunningServer, path: str, headers: dict[str, str], *, method: str = "GET"
) -> AsyncIterator[Wire]:
    """Send a request's head; every wait ends after five seconds."""
    url = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
    try:
        async with asyncio.timeout(5):
            yield Wire(reader, writer)
    finally:
        writer.close()
