"""Echo: server CPU per message, of 64 bytes and of 16 KiB, one frame at a time and 32 in flight.

Twenty connections. "One at a time": each sends its next message when everybody has got back the last one. "32 in
flight": each sends 32 frames with one write and waits for all of them. "fairlead" is a receiver on the bare transport,
"fairlead handler" an ``async for`` in a route of an App.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from clients import Undelivered, payloads, text
from dialogue import converse
from harness import Bench, Sample, Subject, Target
from servers import script
from systems import AIOHTTP, GRANIAN, LIMIT, PICOWS, STARLETTE, WEBSOCKETS, System

CONNECTIONS = 20
IN_FLIGHT = 32
SYSTEMS = (
    System("fairlead", ("fairlead",), functools.partial(script, "ours.py")),
    System("fairlead handler", ("fairlead",), functools.partial(script, "handlers.py")),
    LIMIT,
    AIOHTTP,
    WEBSOCKETS,
    PICOWS,
    STARLETTE,
    GRANIAN,
)
TARGETS = [
    Target("fairlead", 0.8, AIOHTTP.name),
    Target("fairlead handler", 0.95, AIOHTTP.name),
    Target("fairlead handler", 0.65, STARLETTE.name),
]
TARGETS_IN_FLIGHT = [Target("fairlead", 0.8, AIOHTTP.name), Target("fairlead handler", 0.4, AIOHTTP.name)]
WORK = {
    "64 bytes, one at a time": (64, 1, 2000, TARGETS),
    f"64 bytes, {IN_FLIGHT} in flight": (64, IN_FLIGHT, 200, TARGETS_IN_FLIGHT),
    "16 KiB, one at a time": (16384, 1, 400, []),
    f"16 KiB, {IN_FLIGHT} in flight": (16384, IN_FLIGHT, 20, []),
}
"""Bytes, messages in flight, rounds, what is promised."""


def message(connection: int, position: int, size: int) -> bytes:
    """What one connection sends as its frame so and so of a segment."""
    return f"{connection:04d} {position:04d} ".encode().ljust(size, b"e")


def measure(system: System, *, size: int, together: int, rounds: int) -> Sample:
    """One repeat on a fresh server."""
    sent = [[message(each, position, size) for position in range(together)] for each in range(CONNECTIONS)]
    segments = [b"".join(map(text, messages)) for messages in sent]
    with system.run() as server:
        return converse(server, "/echo", segments, together, rounds, functools.partial(verify, sent))


def verify(sent: Sequence[list[bytes]], streams: Sequence[bytes], rounds: int) -> None:
    """Every connection got back what it sent, in order."""
    for stream, messages in zip(streams, sent, strict=True):
        if payloads(stream) != messages * rounds:
            raise Undelivered(f"not the echo of {messages[0][:80]!r}: {stream[:200]!r}")


def main() -> None:
    """Compare everything, each way."""
    bench = Bench(__doc__)
    for title, (size, together, rounds, targets) in WORK.items():
        if not (bench.full or targets):
            continue
        rounds = bench.share(rounds)
        subjects = [
            Subject(
                each.name,
                each.packages,
                functools.partial(measure, each, size=size, together=together, rounds=rounds),
            )
            for each in SYSTEMS
        ]
        bench.compare(f"echo, {title}, {CONNECTIONS} connections", "us CPU/message", subjects, targets)


if __name__ == "__main__":
    main()
