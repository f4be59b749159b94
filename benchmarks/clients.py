"""A cheap crowd of WebSocket clients: plain sockets in one epoll, frames made beforehand, nothing parsed in a window.

While a window is measured the clients only count bytes and keep what they read. Every byte is looked at afterwards:
``Crowd.take()`` gives each client's stream and ``payloads()`` cuts it into messages.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence

KEY = b"ZmFpcmxlYWQgYmVuY2htYQ=="
PATIENCE = 60.0
"""Seconds that one reply, or one round of replies to everybody, may take; the slowest peer needs milliseconds."""

_MASK = b"\x37\xfa\x21\x3d"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER 0: a reset instead of TIME_WAIT, which would use up the ports
_READ = 16 * 1024


class Undelivered(Exception):
    """Something did not arrive, or something else did: the repeat does not count."""


def upgrade(path: str, headers: str = "") -> bytes:
    """An upgrade request; ``headers`` are further lines, each with its CRLF."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY.decode()}\r\n{headers}\r\n"
    ).encode()


def text(payload: bytes) -> bytes:
    """A masked text frame, as a client sends it (RFC 6455, 5.2); at most 65,535 bytes of payload."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    masked = bytes(byte ^ _MASK[index & 3] for index, byte in enumerate(payload))
    return head + _MASK + masked


def payloads(stream: bytes) -> list[bytes]:
    """The payloads of the whole, unfragmented text frames in a server's stream.

    Raises:
        Undelivered: The stream holds anything else, or ends within a frame.
    """
    found = []
    at = 0
    while at < len(stream):
        start, end = _bounds(stream, at)
        if stream[at] != 0x81 or end > len(stream):
            raise Undelivered(f"not a whole text frame: {stream[at : at + 40]!r}")
        found.append(stream[start:end])
        at = end
    return found


def _bounds(stream: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at ``at`` starts and ends; past the end if not all of it is there."""
    head = stream[at : at + 10]
    if len(head) < 2 or len(head) < {126: 4, 127: 10}.get(head[1], 2):
        return len(stream), len(stream) + 1
    if head[1] < 126:
        return at + 2, at + 2 + head[1]
    width = 2 if head[1] == 126 else 8
    start = at + 2 + width
    return start, start + int.from_bytes(head[2 : 2 + width], "big")


def _has_frames(stream: bytes, count: int) -> bool:
    at = 0
    for _ in range(count):
        _, at = _bounds(stream, at)
        if at > len(stream):
            return False
    return True


class Crowd:
    """Many client connections to one port of this machine, driven by the calling thread.

    Args:
        port: Where the server listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._epoll = select.epoll()
        self._sockets: list[socket.socket] = []
        self._arrived: list[list[bytes]] = []
        self._by_descriptor: dict[int, int] = {}
        self._readers: dict[int, tuple[Callable[[int], bytes], Callable[[bytes], None]]] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, requests: Sequence[bytes], *, frames: int = 0, in_flight: int = 50) -> None:
        """Connect once per request and wait for every 101 and for ``frames`` messages after each.

        Args:
            requests: One upgrade request per connection.
            frames: Messages the server sends first; they are taken away.
            in_flight: Handshakes at once; under the backlog of every server measured.
        """
        waiting: set[int] = set()
        ahead = iter(requests)
        left = len(requests)
        while left:
            while len(waiting) < in_flight and (request := next(ahead, None)) is not None:
                waiting.add(self._connect(request))
            for index in self._read_some():
                if index in waiting and self._opened(index, frames):
                    waiting.remove(index)
                    left -= 1

    def send(self, data: Iterable[bytes], *, first: int = 0) -> None:
        """Send one piece of bytes from each client in order, beginning with client ``first``."""
        for connection, piece in zip(self._sockets[first:], data, strict=True):
            connection.sendall(piece)

    def receive(self, size: int) -> None:
        """Read until all clients together have got ``size`` bytes; the fast path of a measured window.

        It polls without sleeping, so that the server's sends never pay for waking somebody up.

        Raises:
            Undelivered: More arrived, it took too long, or a connection was closed.
        """
        poll, readers, left = self._epoll.poll, self._readers, size
        deadline = time.monotonic() + PATIENCE
        while left > 0:
            events = poll(0)
            if not events and time.monotonic() > deadline:
                raise Undelivered(f"{left} of {size} bytes are missing")
            for descriptor, _ in events:
                recv, keep = readers[descriptor]
                data = recv(_READ)
                if not data:
                    raise Undelivered(f"the server closed a connection; {left} of {size} bytes are missing")
                keep(data)
                left -= len(data)
        if left:
            raise Undelivered(f"{-left} bytes more than the {size} expected")

    def receive_frames(self, count: int, *, first: int = 0) -> None:
        """Read until every client from ``first`` on has ``count`` whole frames, where nothing is measured."""
        waiting = {index for index in range(first, len(self)) if not _has_frames(b"".join(self._arrived[index]), count)}
        while waiting:
            waiting -= {index for index in self._read_some() if _has_frames(b"".join(self._arrived[index]), count)}

    def take(self) -> list[bytes]:
        """What each client has got since the last call, in the order of the requests."""
        streams = [b"".join(chunks) for chunks in self._arrived]
        for chunks in self._arrived:
            chunks.clear()
        return streams

    def close(self) -> None:
        """Reset every connection."""
        for connection in self._sockets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()
        self._epoll.close()

    def _connect(self, request: bytes) -> int:
        connection = socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        index = len(self._sockets)
        chunks: list[bytes] = []
        self._sockets.append(connection)
        self._arrived.append(chunks)
        self._by_descriptor[connection.fileno()] = index
        self._readers[connection.fileno()] = (connection.recv, chunks.append)
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return index

    def _read_some(self) -> list[int]:
        """Wait for bytes and read them; the indexes of the clients that got some."""
        events = self._epoll.poll(PATIENCE)
        if not events:
            raise Undelivered(f"nothing arrived for {PATIENCE} s")
        touched = []
        for descriptor, _ in events:
            recv, keep = self._readers[descriptor]
            data = recv(_READ)
            index = self._by_descriptor[descriptor]
            if not data:
                raise Undelivered(f"connection {index} was closed after {b''.join(self._arrived[index])[-200:]!r}")
            keep(data)
            touched.append(index)
        return touched

    def _opened(self, index: int, frames: int) -> bool:
        chunks = self._arrived[index]
        head, end, rest = b"".join(chunks).partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Undelivered(f"the handshake was refused: {head + rest!r}")
        if not _has_frames(rest, frames):
            return False
        chunks.clear()
        return True
