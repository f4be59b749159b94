"""Echo of a 64-byte text: server CPU per message, one frame per read and 32 frames per segment.

Twenty connections. "One at a time": each sends its next message when it has got back the last one. "32 per segment":
each sends 32 frames with one write and waits for all of them. "fairlead" is a receiver on the bare transport, "fairlead
handler" an ``async for`` in a route of an App.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from clients import Crowd, Undelivered, payloads, text, upgrade
from harness import Subject, Target, compare, options, script

CONNECTIONS = 20
SEGMENT = 32
SIZE = 64
TARGETS = [
    Target("fairlead", 0.8, "aiohttp"),
    Target("fairlead handler", 0.95, "aiohttp"),
    Target("fairlead handler", 0.65, "uvicorn+starlette"),
]
TARGETS_TOGETHER = [Target("fairlead", 0.8, "aiohttp"), Target("fairlead handler", 0.4, "aiohttp")]
SYSTEMS = {
    "fairlead": ("ours.py", ("fairlead",)),
    "fairlead handler": ("handlers.py", ("fairlead",)),
    "aiohttp": ("peers/with_aiohttp.py", ("aiohttp",)),
    "websockets": ("peers/with_websockets.py", ("websockets",)),
    "picows": ("peers/with_picows.py 4096", ("picows",)),
    "uvicorn+starlette": ("peers/with_starlette.py", ("uvicorn", "starlette")),
}


def message(connection: int, position: int) -> bytes:
    """What one connection sends as its frame so and so of a segment."""
    return f"{connection:04d} {position:04d} ".encode().ljust(SIZE, b"e")


def measure(name: str, *, together: int, rounds: int) -> float:
    """One repeat on a fresh server: microseconds of server CPU per message."""
    with script(name) as server:
        crowd = Crowd(server.port)
        crowd.open([upgrade("/echo")] * CONNECTIONS)
        sent = [[message(connection, position) for position in range(together)] for connection in range(CONNECTIONS)]
        segments = [b"".join(map(text, messages)) for messages in sent]
        size = CONNECTIONS * together * (SIZE + 2)
        for _ in range(max(1, rounds // 10)):
            crowd.send(segments)
            crowd.receive(size)
        crowd.take()
        before = server.cpu()
        for _ in range(rounds):
            crowd.send(segments)
            crowd.receive(size)
        used = server.cpu() - before
        verify(crowd.take(), sent, rounds)
        crowd.close()
    return used / (CONNECTIONS * together * rounds) * 1e6


def verify(streams: Sequence[bytes], sent: Sequence[list[bytes]], rounds: int) -> None:
    """Every connection got back what it sent, in order."""
    for stream, messages in zip(streams, sent, strict=True):
        if payloads(stream) != messages * rounds:
            raise Undelivered(f"not the echo of {messages[0]!r}: {stream[:200]!r}")


def main() -> None:
    """Compare everything, both ways."""
    quick, repeats = options(__doc__, quick=2, full=5)
    for title, together, rounds, targets in (
        ("one at a time", 1, 2000, TARGETS),
        (f"{SEGMENT} per segment", SEGMENT, 200, TARGETS_TOGETHER),
    ):
        rounds = rounds // 4 if quick else rounds
        count = CONNECTIONS * together * rounds
        compare(
            f"echo, {SIZE} bytes, {title}, {CONNECTIONS} connections, {count} messages, all verified",
            "us CPU/message",
            [
                Subject(system, packages, functools.partial(measure, path, together=together, rounds=rounds))
                for system, (path, packages) in SYSTEMS.items()
            ],
            repeats,
            targets,
        )


if __name__ == "__main__":
    main()
