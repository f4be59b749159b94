"""A WebSocket client that does what it is told, right or wrong, and says how its connection ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from conformance.setups import Address

_REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NO_CLOSE = 1006
"""Of a connection that ended without a Close frame (RFC 6455, 7.1.5)."""


def request(path: str = "/echo", headers: str = "") -> bytes:
    """A good upgrade request.

    Args:
        path: The route.
        headers: More header lines, each with its end.
    """
    return _REQUEST.format(path=path, headers=headers).encode()


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when the server ended a connection.

    Attributes:
        seconds: From the client's last byte to the end; infinite if the client lost patience first.
        code: Of the Close frame; NO_CLOSE for none; of a handshake's refusal the HTTP status.
    """

    seconds: float
    code: int = NO_CLOSE


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame; its mask is zero, which is as legal as any other."""
    first = bytes([fin << 7 | rsv1 << 6 | opcode])
    size = len(payload)
    if size < 126:
        return first + bytes([0x80 | size]) + bytes(4) + payload
    if size < 0x10000:
        return first + b"\xfe" + size.to_bytes(2, "big") + bytes(4) + payload
    return first + b"\xff" + size.to_bytes(8, "big") + bytes(4) + payload


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The opcodes and payloads of the whole frames in what a server sent."""
    at = 0
    while at + 2 <= len(data):
        size, start = data[at + 1], at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[start : start + width], "big")
            start += width
        if start + size > len(data):
            return
        yield data[at] & 0x0F, data[start : start + size]
        at = start + size


class Client:
    """An open WebSocket connection, or a bare one on which nothing was sent yet.

    Attributes:
        response: The head of the server's 101.
        received: What came after it, as far as it was read.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sent = time.monotonic()
        self.response = b""
        self.received = b""

    @classmethod
    async def connect(cls, address: Address, *, receive_buffer: int = 0) -> Client:
        """Connect, with TLS where the address has it, and send nothing."""
        return cls(*await address.connect(receive_buffer=receive_buffer))

    @classmethod
    async def open(cls, address: Address, path: str = "/echo", *, headers: str = "", receive_buffer: int = 0) -> Client:
        """Connect and become a WebSocket.

        Args:
            address: The server.
            path: Its route.
            headers: More header lines, each with its end.
            receive_buffer: Bytes the kernel shall hold for a client that does not read; 0 for its default.
        """
        client = await cls.connect(address, receive_buffer=receive_buffer)
        client.send(request(path, headers))
        client.response = await client._reader.readuntil(b"\r\n\r\n")
        if not client.response.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"the handshake was refused: {client.response!r}")
        return client

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        self._sent = time.monotonic()

    async def flood(self, data: bytes, *, seconds: float) -> None:
        """Send until all is sent, the server ends the connection, or the time is over: then what is left is dropped."""
        step = 256 * 1024
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                for start in range(0, len(data), step):
                    self.send(data[start : start + step])
                    await self._writer.drain()

    def stop_reading(self) -> None:
        """Take nothing more from the kernel."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's

    def read_again(self) -> None:
        """Go on reading."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def end_writing(self) -> None:
        """Close our side of the TCP connection."""
        self._writer.write_eof()

    async def read(self) -> None:
        """Read something, or note that there is no more: then ``ended`` is true."""
        self.received += await self._reader.read(2**18)

    @property
    def ended(self) -> bool:
        """Whether the server closed its side and all of it was read."""
        return self._reader.at_eof()

    async def ending(self, *, seconds: float, pongs: bool = False) -> Ending:
        """Read until the server ends the connection, and drop ours.

        Args:
            seconds: Patience.
            pongs: Answer pings meanwhile.
        """
        ending = await self.end_of_reading(seconds=seconds, pongs=pongs)
        self.abandon()
        return ending

    async def end_of_reading(self, *, seconds: float, pongs: bool = False) -> Ending:
        """Read until the server ends the connection, and keep our side of it; see ``ending``."""
        answered = 0
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.ended:
                    await self.read()
                    pings = [payload for opcode, payload in frames(self.received) if opcode == PING] if pongs else []
                    for payload in pings[answered:]:
                        self.send(frame(PONG, payload))
                    answered = len(pings)
        over = self.ended or self._reader.exception() is not None
        return Ending(time.monotonic() - self._sent if over else float("inf"), self.code())

    async def refused_bytes(self, *, seconds: float) -> Ending:
        """Go on sending, a byte four times a second, until the server's socket is gone and resets them.

        The time counts from this call: what is measured is how long a dead connection costs the server anything.
        """
        reading = asyncio.create_task(self.end_of_reading(seconds=seconds))
        started = time.monotonic()
        while time.monotonic() < started + seconds and not self._writer.transport.is_closing():
            self._writer.write(b"\x00")
            await asyncio.sleep(0.25)
        gone = self._writer.transport.is_closing()
        self.abandon()
        await reading
        return Ending(time.monotonic() - started if gone else float("inf"), self.code())

    def abandon(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    def code(self) -> int:
        """The close code, or the status of a refusal, in what was received so far."""
        if self.received.startswith(b"HTTP/1.1 "):
            return int(self.received[9:12])
        closes = [payload for opcode, payload in frames(self.received) if opcode == CLOSE]
        return int.from_bytes(closes[0][:2], "big") if closes else NO_CLOSE
