"""A cheap crowd of WebSocket clients: plain sockets in one epoll, frames made beforehand, nothing parsed in a window.

While a window is measured the clients only count frames and keep what they read, in C: ``crowd.c``. Every byte is
looked at afterwards: ``Crowd.take()`` gives each client's stream and ``payloads()`` cuts it into messages.
"""

from __future__ import annotations

import ctypes
import itertools
import socket
import statistics
import time
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence

from compiling import compiled

KEY = b"ZmFpcmxlYWQgYmVuY2htYQ=="
PATIENCE = 60.0
"""Seconds that one reply, or one round of replies to everybody, may take; the slowest peer needs some."""

KEPT = 64 * 2**20
"""Bytes that the clients may keep before they are looked at."""

_MASK = b"\x37\xfa\x21\x3d"


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
    key = int.from_bytes((_MASK * (size // 4 + 1))[:size], "big")
    return head + _MASK + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def payloads(stream: bytes) -> list[bytes]:
    """The payloads of the whole, unfragmented text frames in a server's stream; compressed ones inflated (RFC 7692).

    Raises:
        Undelivered: The stream holds anything else, or ends within a frame.
    """
    found = []
    at = 0
    while at < len(stream):
        start, end = _bounds(stream, at)
        if stream[at] not in (0x81, 0xC1) or end > len(stream):
            raise Undelivered(f"not a whole text frame: {stream[at : at + 40]!r}")
        payload = stream[start:end]
        found.append(zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") if stream[at] == 0xC1 else payload)
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


_FAULTS = {1: "had not got all of it in time", 2: "was closed by the server", 3: "was refused"}


class Crowd:
    """Many client connections to one port of this machine, driven by the calling thread.

    Args:
        port: Where the server listens on 127.0.0.1.

    Its methods raise Undelivered when a connection is refused or closed, or PATIENCE is over.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._library = _library()
        self._crowd = ctypes.c_void_p(self._library.crowd_new())
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def open(self, requests: Sequence[bytes], *, frames: int = 0, in_flight: int = 50) -> None:
        """Connect once per request and wait for every 101 and for ``frames`` messages after each.

        What was received until then is dropped.

        Args:
            requests: One upgrade request per connection.
            frames: Messages the server sends first; they are taken away.
            in_flight: Handshakes at once; under the backlog of every server measured.
        """
        self._check(
            self._library.crowd_open(
                self._crowd, self._port, len(requests), *_pieces(requests), frames, in_flight, ctypes.c_double(PATIENCE)
            )
        )
        self._count += len(requests)

    def send(self, data: Iterable[bytes], *, first: int = 0) -> None:
        """Send one piece of bytes from each client in order, beginning with client ``first``."""
        pieces = list(data)
        if first + len(pieces) != self._count:
            raise ValueError(f"{len(pieces)} pieces for {self._count - first} clients")
        self._check(
            self._library.crowd_send(self._crowd, first, len(pieces), *_pieces(pieces), ctypes.c_double(PATIENCE))
        )

    def receive(self, frames: int, *, first: int = 0) -> None:
        """Read until every client from ``first`` on has ``frames`` whole frames that were not taken yet.

        It polls without sleeping, so that the server's sends never pay for waking somebody up.
        """
        self._check(self._library.crowd_receive(self._crowd, first, frames, ctypes.c_double(PATIENCE)))

    def listen(self, seconds: float) -> None:
        """Read whatever comes within so many seconds."""
        self._check(self._library.crowd_listen(self._crowd, ctypes.c_double(seconds)))

    def frames(self) -> int:
        """How many whole frames all clients together have got and not taken."""
        count: int = self._library.crowd_frames(self._crowd)
        return count

    def waited(self, since: float, *, first: int = 0) -> array[float]:
        """Seconds from ``since``, a ``time.monotonic()``, to the last bytes that each client from ``first`` on got."""
        found = array("d", bytes(8 * (self._count - first)))
        self._library.crowd_waited(
            self._crowd, first, ctypes.c_double(since), (ctypes.c_double * len(found)).from_buffer(found)
        )
        return found

    def take(self) -> list[bytes]:
        """What each client has got since the last call, in the order of the requests."""
        size = ctypes.c_size_t()
        streams = []
        for index in range(self._count):
            at = self._library.crowd_stream(self._crowd, index, ctypes.byref(size))
            streams.append(ctypes.string_at(at, size.value) if size.value else b"")
        self._library.crowd_forget(self._crowd)
        return streams

    def leave(self, count: int) -> None:
        """Reset the connections of those that came first; all others have their numbers lowered by ``count``."""
        self._library.crowd_leave(self._crowd, count)
        self._count -= count

    def close(self) -> None:
        """Reset every connection."""
        self._library.crowd_free(self._crowd)
        self._count = 0

    def _check(self, code: int) -> None:
        if code:
            index = self._library.crowd_failed(self._crowd)
            size = ctypes.c_size_t()
            at = self._library.crowd_stream(self._crowd, index, ctypes.byref(size))
            got = ctypes.string_at(at, size.value)[-300:] if size.value else b""
            raise Undelivered(f"connection {index} {_FAULTS.get(code, 'could not be made')}; the end of it: {got!r}")


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(compiled("crowd.c", "-shared", "-fPIC")))
    library.crowd_frames.restype = ctypes.c_size_t
    library.crowd_new.restype = library.crowd_stream.restype = ctypes.c_void_p
    return library


def _pieces(data: Sequence[bytes]) -> tuple[bytes, object]:
    """All of them in one, and where each ends."""
    ends = (ctypes.c_size_t * len(data))(*itertools.accumulate(map(len, data)))
    return b"".join(data), ends


class Poster:
    """POSTs over one connection, which is made anew where the server closes it.

    Args:
        port: Where the server listens on 127.0.0.1.
        path: Of every request.
        headers: Further lines, each with its CRLF.
    """

    def __init__(self, port: int, path: str, headers: str = "") -> None:
        self._address = ("127.0.0.1", port)
        self._head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: ".encode()
        self._socket: socket.socket | None = None

    def post(self, body: bytes) -> None:
        """Send one and read its answer.

        Raises:
            Undelivered: The answer is none of success.
        """
        if self._socket is None:
            self._socket = socket.create_connection(self._address, PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setblocking(False)
        self._socket.sendall(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        answer = self._read(self._socket)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise Undelivered(f"the publication was refused: {answer[:300]!r}")
        if b"connection: close" in answer.lower():
            self.close()

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        """One answer; without sleeping, so that the server does not pay for waking us up."""
        answer, late = b"", time.monotonic() + PATIENCE
        while not _complete(answer):
            try:
                got = connection.recv(65536)
            except BlockingIOError:
                if time.monotonic() > late:
                    raise Undelivered("a publication was not answered") from None
                continue
            if not got:
                break
            answer += got
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _complete(answer: bytes) -> bool:
    head, end, body = answer.lower().partition(b"\r\n\r\n")
    if not end:
        return False
    _, found, rest = head.partition(b"content-length:")
    if found:
        return len(body) >= int(rest.split(b"\r\n", 1)[0])
    return body.endswith(b"0\r\n\r\n") if b"chunked" in head else True


def latencies(seconds: Sequence[float]) -> Mapping[str, float]:
    """The median and the 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return {"p50 ms": statistics.median(ordered) * 1e3, "p99 ms": ordered[int(len(ordered) * 0.99)] * 1e3}
