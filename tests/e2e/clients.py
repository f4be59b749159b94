"""Raw clients: one on a blocking socket, or thousands on one epoll; no library but this makes and cuts their frames."""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Sequence
from typing import Self, cast

from tests.e2e.processes import PATIENCE

from fairlead.server.run import raise_descriptor_limit

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10  # RFC 6455, 5.2
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


def upgrade(headers: str = "", *, path: str = "/ws/") -> bytes:
    """An upgrade request; ``headers`` are further lines, each with its CRLF."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZmFpcmxlYWQgZW5kIHRvIA==\r\n{headers}\r\n"
    ).encode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame, at most 65,535 bytes; masked with zeros, which leaves the payload as it is."""
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + size + bytes(4) + payload


def subscribe(room: str, request_id: str = "s") -> bytes:
    """The frame that asks for a room."""
    return frame(json.dumps({"type": "subscribe", "room": room, "requestId": request_id}).encode())


def frames(stream: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The whole frames that a server's stream begins with, each as (opcode, payload), and their size together."""
    found = []
    at = 0
    while len(stream) - at >= 2:
        opcode, size = stream[at] & 15, stream[at + 1]
        start = at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(stream[at + 2 : start], "big")
        if len(stream) < start + size or start > len(stream):
            break
        found.append((opcode, stream[start : start + size]))
        at = start + size
    return found, at


class Client:
    """One client on a blocking socket, past its handshake.

    Args:
        address: A port of this machine, or the path of a Unix socket.
        headers: Further lines of its request.
        buffer: Bytes for SO_RCVBUF; None: the system's.

    Attributes:
        hello: The first message.
    """

    def __init__(self, address: int | str, headers: str = "", *, buffer: int | None = None) -> None:
        self.socket = connect(address, buffer=buffer)
        self._pending = b""
        self._frames: list[tuple[int, bytes]] = []
        self.socket.sendall(upgrade(headers))
        head = self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.hello = self.message()

    def head(self) -> bytes:
        """The handshake's answer up to its empty line."""
        while b"\r\n\r\n" not in self._pending:
            self._fill()
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        return head

    def _fill(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError("the server closed the connection")
        self._pending += data

    def next(self) -> tuple[int, bytes]:
        """The next frame as (opcode, payload). Raises EOFError, or ConnectionError where the connection was reset."""
        while not self._frames:
            self._frames, size = frames(self._pending)
            self._pending = self._pending[size:]
            if not self._frames:
                self._fill()
        return self._frames.pop(0)

    def message(self) -> dict[str, object]:
        """The next text message, which is a JSON object; pings are passed over."""
        opcode, payload = self.next()
        while opcode == PING:
            opcode, payload = self.next()
        assert opcode == TEXT, (opcode, payload)
        return cast("dict[str, object]", json.loads(payload))

    def subscribe(self, room: str, request_id: str = "s") -> None:
        """Subscribe, and wait until it is done."""
        self.socket.sendall(subscribe(room, request_id))
        reply = self.message()
        assert reply == {"requestId": request_id, "code": "success"}, reply

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def connect(address: int | str, *, buffer: int | None = None) -> socket.socket:
    """A connected blocking socket to a port of this machine or to a Unix socket."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(PATIENCE)
    if buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    try:
        made.connect(("127.0.0.1", address) if isinstance(address, int) else address)
    except OSError:
        made.close()
        raise
    return made


class Crowd:
    """Thousands of clients on one epoll; what each got is kept as it came.

    Attributes:
        streams: What each client received after its 101.
    """

    def __init__(self, address: int | str) -> None:
        raise_descriptor_limit()
        self._address = address
        self._epoll = select.epoll()
        self._places: dict[int, int] = {}
        self.sockets: list[socket.socket] = []
        self.streams: list[bytearray] = []

    def open(self, requests: Sequence[bytes], subscriptions: Sequence[bytes], *, in_flight: int = 100) -> None:
        """Connect once per request; send the frame at the same place when the first message is there, and wait for
        the answer to it."""
        ahead = iter(zip(requests, subscriptions, strict=True))
        waiting: dict[int, bytes] = {}
        done = 0
        while done < len(requests):
            while len(waiting) < in_flight and (pair := next(ahead, None)) is not None:
                waiting[self._connect(pair[0])] = pair[1]
            for place in self.read():
                if place in waiting:
                    done += self._step(place, waiting)

    def _connect(self, request: bytes) -> int:
        place = len(self.sockets)
        made = connect(self._address)
        made.sendall(request)
        self.sockets.append(made)
        self.streams.append(bytearray())
        self._places[made.fileno()] = place
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return place

    def _step(self, place: int, waiting: dict[int, bytes]) -> bool:
        """One client got something: send what is next; True when all is there."""
        head, end, rest = bytes(self.streams[place]).partition(b"\r\n\r\n")
        if not end:
            return False
        assert head.startswith(b"HTTP/1.1 101 "), head + end + rest
        count = len(frames(rest)[0])
        if count and waiting[place]:
            self.sockets[place].sendall(waiting[place])
            waiting[place] = b""
        if count < 2:
            return False
        del waiting[place]
        self.streams[place].clear()
        return True

    def read(self, seconds: float = PATIENCE) -> list[int]:
        """Wait until something arrives and read it; the places of the clients that got some, or whose connection has
        ended: those are closed here, too.

        Raises:
            AssertionError: Nothing came in so many seconds.
        """
        events = self._epoll.poll(seconds)
        assert events, f"nothing arrived for {seconds:g} s"
        touched = []
        for descriptor, _ in events:
            place = self._places[descriptor]
            try:
                data = self.sockets[place].recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if data:
                self.streams[place] += data
            else:
                self._epoll.unregister(descriptor)
                self.sockets[place].close()
            touched.append(place)
        return touched

    def drop(self, *, reset: bool) -> None:
        """Close every socket without a Close frame: with RST, or else with FIN."""
        for each in self.sockets:
            if reset and each.fileno() >= 0:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            each.close()
        self._epoll.close()
