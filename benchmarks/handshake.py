"""Server CPU per handshake, from the first byte of the connection to the 101.

"fairlead gateway" asks an API about every client, over HTTP in another process whose CPU is not counted, and sends its
first message; all others accept without asking anybody. "fairlead" is an ASGI application on the bare transport,
"fairlead handler" a route of an App, its Origin check included.
"""

from __future__ import annotations

import functools
from contextlib import closing

from clients import Crowd, upgrade
from harness import Bench, Sample, Subject, Target
from servers import Server, api, gateway, script
from systems import AIOHTTP, GRANIAN, LIMIT, NCHAN, PICOWS, STARLETTE, WEBSOCKETS, System

SYSTEMS = (
    System("fairlead", ("fairlead",), functools.partial(script, "ours.py")),
    System("fairlead handler", ("fairlead",), functools.partial(script, "handlers.py")),
    LIMIT,
    NCHAN,
    AIOHTTP,
    WEBSOCKETS,
    PICOWS,
    STARLETTE,
    GRANIAN,
)
TARGETS = [
    Target("fairlead gateway", 300),
    Target("fairlead", 0.6, AIOHTTP.name),
    Target("fairlead handler", 0.6, AIOHTTP.name),
]
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nPragma: no-cache\r\n"
    "Cache-Control: no-cache\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\n"
)
"""What a browser sends besides."""
CLIENTS = 4000
"""Handshakes get dearer with the connections there are, for some servers more than for others."""

WARM_UP = 200


def window(server: Server, path: str, *, frames: int = 0) -> Sample:
    """Open connections; microseconds of server CPU for each, and what memory each took."""
    request = upgrade(path, HEADERS)
    with closing(Crowd(server.port)) as crowd:
        crowd.open([request] * WARM_UP, frames=frames)
        before, memory = server.cpu(), server.memory()
        crowd.open([request] * CLIENTS, frames=frames)
        used, grown = server.cpu() - before, server.memory() - memory
    return Sample(used / CLIENTS * 1e6, {"KiB/connection": grown / CLIENTS / 1024})


def measure_gateway(upstream: Server) -> Sample:
    """One repeat on a fresh gateway."""
    with gateway(upstream.port) as server:
        return window(server, "/ws/", frames=1)


def measure(system: System) -> Sample:
    """One repeat on any other fresh server."""
    with system.run() as server:
        return window(server, "/idle")


def main() -> None:
    """Compare everything."""
    bench = Bench(__doc__)
    with api() as upstream:
        subjects = [Subject(each.name, each.packages, functools.partial(measure, each)) for each in SYSTEMS]
        subjects.insert(2, Subject("fairlead gateway", ["fairlead"], functools.partial(measure_gateway, upstream)))
        bench.compare(f"handshake, {CLIENTS} clients", "us CPU/handshake", subjects, TARGETS)


if __name__ == "__main__":
    main()
