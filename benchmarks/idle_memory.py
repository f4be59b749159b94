"""Memory that 10,000 idle connections hold in the server: growth of its PSS per connection, kernel buffers apart.

"fairlead gateway": every client came with a 300-byte Cookie of its own, got ten grants that are its own strings, an
expiry after which the API will be asked again, and has one subscription; "plain" has none. "fairlead handler" is an
``async for`` in a route of an App. It and the peers keep nothing but the connection.
"""

from __future__ import annotations

import functools
import time
from contextlib import closing

from clients import Crowd, Undelivered, text, upgrade
from harness import Bench, Sample, Subject, Target
from servers import Server, api, gateway, script
from systems import AIOHTTP, NCHAN, PICOWS, STARLETTE, WEBSOCKETS, System

SYSTEMS = (
    System("fairlead handler", ("fairlead",), functools.partial(script, "handlers.py")),
    NCHAN,
    WEBSOCKETS,
    AIOHTTP,
    System(PICOWS.name, PICOWS.packages, functools.partial(script, "peers/with_picows.py 256")),
    STARLETTE,
)
TARGETS = [Target("fairlead gateway", 4.5), Target("fairlead handler", 8.0)]
WARM_UP = 200
GATEWAY = "/ws/"
SETTLE = 2.0
"""Seconds without work before memory is read: longer than one tick of any timer that would release something."""


def cookie(number: int) -> str:
    """A Cookie header whose value is 300 bytes long."""
    return f"Cookie: {f'session={number:06d}; n={number:06d}; '.ljust(300, 'c')}\r\n"


def growth(server: Server, path: str, count: int, *, subscribed: bool = False) -> Sample:
    """Open ``count`` connections; KiB of PSS for each."""
    with closing(Crowd(server.port)) as crowd:
        return Sample(_grow(server, crowd, path, count, subscribed=subscribed))


def _grow(server: Server, crowd: Crowd, path: str, count: int, *, subscribed: bool) -> float:
    join(crowd, path, WARM_UP, subscribed=subscribed)
    time.sleep(SETTLE)
    before = server.memory()
    join(crowd, path, count, subscribed=subscribed)
    time.sleep(SETTLE)
    return (server.memory() - before) / count / 1024


def join(crowd: Crowd, path: str, count: int, *, subscribed: bool) -> None:
    """Open connections that come after those there are; ``subscribed``: to the room of each, through the gateway."""
    first = len(crowd)
    numbers = range(first, first + count)
    crowd.open([upgrade(path, cookie(number)) for number in numbers], frames=1 if path == GATEWAY else 0)
    if not subscribed:
        return
    ask = '{{"type":"subscribe","room":"room-{0:06d}-0","requestId":"{0:06d}"}}'
    crowd.send([text(ask.format(number).encode()) for number in numbers], first=first)
    crowd.receive(1, first=first)
    for number, stream in zip(numbers, crowd.take()[first:], strict=True):
        if b'"success"' not in stream or b'"%06d"' % number not in stream:
            raise Undelivered(f"subscription {number} was refused: {stream!r}")


def measure_gateway(upstream: Server, count: int, *, subscribed: bool) -> Sample:
    """One repeat on a fresh gateway."""
    with gateway(upstream.port) as server:
        return growth(server, GATEWAY, count, subscribed=subscribed)


def measure(system: System, count: int) -> Sample:
    """One repeat on any other fresh server."""
    with system.run() as server:
        return growth(server, "/idle", count)


def main() -> None:
    """Compare everything."""
    bench = Bench(__doc__)
    count = 10_000 if bench.full else 2000
    with api() as upstream:
        ours = functools.partial(measure_gateway, upstream, count)
        subjects = [
            Subject("fairlead gateway", ["fairlead"], functools.partial(ours, subscribed=True)),
            Subject("fairlead gateway, plain", ["fairlead"], functools.partial(ours, subscribed=False)),
        ]
        for each in SYSTEMS:
            subjects.append(Subject(each.name, each.packages, functools.partial(measure, each, count)))
        bench.compare(f"idle memory, {count} connections", "KiB/connection", subjects, TARGETS)


if __name__ == "__main__":
    main()
