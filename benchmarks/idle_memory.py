"""Memory that 10,000 idle connections hold in the server: growth of its PSS per connection, kernel buffers apart.

Ours: the real gateway. Every client came with a 300-byte Cookie of its own, got ten grants that are its own strings,
an expiry after which the API will be asked again, and has one subscription. "fairlead handler" is an ``async for`` in a
route of an App. It and the peers keep nothing but the connection.
"""

from __future__ import annotations

import functools
import time

from clients import Crowd, Undelivered, text, upgrade
from harness import Server, Subject, Target, compare, gateway, options, script

OTHERS = {
    "fairlead handler": ("handlers.py", ("fairlead",)),
    "websockets": ("peers/with_websockets.py", ("websockets",)),
    "aiohttp": ("peers/with_aiohttp.py", ("aiohttp",)),
    "picows": ("peers/with_picows.py 256", ("picows",)),
    "uvicorn+starlette": ("peers/with_starlette.py", ("uvicorn", "starlette")),
}
TARGETS = [Target("fairlead gateway", 5.0), Target("fairlead handler", 8.0)]
WARM_UP = 200
SETTLE = 2.0
"""Seconds without work before memory is read: longer than one tick of any timer that would release something."""


def cookie(number: int) -> str:
    """A Cookie header whose value is 300 bytes long."""
    return f"Cookie: {f'session={number:06d}; n={number:06d}; '.ljust(300, 'c')}\r\n"


def growth(server: Server, crowd: Crowd, count: int, *, subscribed: bool) -> float:
    """Open ``count`` connections more; KiB of PSS for each."""
    join(crowd, WARM_UP, subscribed=subscribed)
    time.sleep(SETTLE)
    before = server.memory()
    join(crowd, count, subscribed=subscribed)
    time.sleep(SETTLE)
    return (server.memory() - before) / count / 1024


def join(crowd: Crowd, count: int, *, subscribed: bool) -> None:
    """Open connections that come after those there are; ``subscribed``: to the room of each, through the gateway."""
    first = len(crowd)
    numbers = range(first, first + count)
    if not subscribed:
        crowd.open([upgrade("/idle", cookie(number)) for number in numbers])
        return
    crowd.open([upgrade("/ws/", cookie(number)) for number in numbers], frames=1)
    ask = '{{"type":"subscribe","room":"room-{0:06d}-0","requestId":"{0:06d}"}}'
    crowd.send([text(ask.format(number).encode()) for number in numbers], first=first)
    crowd.receive_frames(1, first=first)
    for number, stream in zip(numbers, crowd.take()[first:], strict=True):
        if b'"success"' not in stream or b'"%06d"' % number not in stream:
            raise Undelivered(f"subscription {number} was refused: {stream!r}")


def measure_gateway(api: Server, count: int) -> float:
    """One repeat on a fresh gateway."""
    with gateway(api.port) as server:
        crowd = Crowd(server.port)
        used = growth(server, crowd, count, subscribed=True)
        crowd.close()
    return used


def measure(name: str, count: int) -> float:
    """One repeat on any other fresh server."""
    with script(name) as server:
        crowd = Crowd(server.port)
        used = growth(server, crowd, count, subscribed=False)
        crowd.close()
    return used


def main() -> None:
    """Compare everything."""
    quick, repeats = options(__doc__, quick=1, full=3)
    count = 2000 if quick else 10_000
    with script("api.py") as api:
        subjects = [Subject("fairlead gateway", ["fairlead"], functools.partial(measure_gateway, api, count))]
        for name, (path, packages) in OTHERS.items():
            subjects.append(Subject(name, packages, functools.partial(measure, path, count)))
        title = f"idle memory, {count} connections, all open"
        compare(title, "KiB PSS/connection", subjects, repeats, TARGETS)


if __name__ == "__main__":
    main()
