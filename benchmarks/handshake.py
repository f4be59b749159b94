"""Server CPU per handshake, from the first byte of the connection to the 101.

"fairlead gateway" asks an API about every client, over HTTP in another process whose CPU is not counted, and sends its
first message; all others accept without asking anybody.
"""

from __future__ import annotations

import functools

from clients import Crowd, upgrade
from harness import Server, Subject, compare, gateway, options, script

SYSTEMS = {
    "fairlead": ("ours.py", ("fairlead",)),
    "aiohttp": ("peers/with_aiohttp.py", ("aiohttp",)),
    "websockets": ("peers/with_websockets.py", ("websockets",)),
    "picows": ("peers/with_picows.py 4096", ("picows",)),
    "uvicorn+starlette": ("peers/with_starlette.py", ("uvicorn", "starlette")),
}
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nPragma: no-cache\r\n"
    "Cache-Control: no-cache\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\n"
)
"""What a browser sends besides."""
WARM_UP = 200


def window(server: Server, path: str, count: int, *, frames: int = 0) -> float:
    """Open ``count`` connections; microseconds of server CPU for each."""
    crowd = Crowd(server.port)
    request = upgrade(path, HEADERS)
    crowd.open([request] * WARM_UP, frames=frames)
    before = server.cpu()
    crowd.open([request] * count, frames=frames)
    used = server.cpu() - before
    crowd.close()
    return used / count * 1e6


def measure_gateway(api: Server, count: int) -> float:
    """One repeat on a fresh gateway."""
    with gateway(api.port) as server:
        return window(server, "/ws/", count, frames=1)


def measure(name: str, count: int) -> float:
    """One repeat on any other fresh server."""
    with script(name) as server:
        return window(server, "/idle", count)


def main() -> None:
    """Compare everything."""
    quick, repeats = options(__doc__, quick=2, full=5)
    count = 1000 if quick else 4000
    with script("api.py") as api:
        subjects = [
            Subject(name, packages, functools.partial(measure, path, count))
            for name, (path, packages) in SYSTEMS.items()
        ]
        subjects.insert(1, Subject("fairlead gateway", ["fairlead"], functools.partial(measure_gateway, api, count)))
        compare(f"handshake, {count} clients, all accepted", "us CPU/handshake", subjects, repeats)


if __name__ == "__main__":
    main()
