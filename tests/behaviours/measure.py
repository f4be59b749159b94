"""What the same handler costs under each server: the figures of docs/servers.md.

    python -m tests.behaviours.measure [HOST ...]

CPU of the server's processes for a text message of 64 bytes that comes and goes back, one at a time; and the memory
that a connection takes which waits for a message. One line for each server.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from tests.behaviours.hosts import APPLICATION, HOSTS, Foreign, ForeignHttp2, Site

from fairlead.limits import KIB

ECHOES = 10_000
IDLE = 1_000
TEXT = "x" * 64


def processes(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes(int(child))


def cpu(pid: int) -> float:
    """Seconds of CPU that they have used."""
    tasks = (task for each in processes(pid) for task in Path(f"/proc/{each}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory(pid: int) -> int:
    """Bytes that are theirs alone."""
    rollups = (Path(f"/proc/{each}/smaps_rollup").read_text() for each in processes(pid))
    return sum(KIB * int(re.findall(r"^Private_Dirty:\s+(\d+) kB", rollup, re.MULTILINE)[0]) for rollup in rollups)


async def echo(site: Site, pid: int) -> float:
    """Microseconds of CPU for one."""
    async with site.connect("/echo") as client:
        before = 0.0
        for number in range(-500, ECHOES):
            if number == 0:
                before = cpu(pid)
            await client.send(TEXT)
            await client.receive()
        return (cpu(pid) - before) / ECHOES * 1e6


async def idle(site: Site, pid: int) -> float:
    """KiB of one connection."""
    async with AsyncExitStack() as stack:
        before = memory(pid)
        for _ in range(IDLE):
            client = await stack.enter_async_context(site.connect("/echo"))
        await client.send(TEXT)
        await client.receive()
        return (memory(pid) - before) / IDLE / KIB


async def measure(host: Foreign) -> None:
    """Print one line."""
    with host.started():
        async with host.site() as site:
            figures = await echo(site, host.pid), await idle(site, host.pid)
    print("{:16} {:5.0f} µs an echo, {:4.0f} KiB a connection".format(host.name, *figures), flush=True)


if __name__ == "__main__":
    native = Foreign(
        "native",
        command=f"fairlead run --port 0 {APPLICATION}",
        listening="http://127.0.0.1:([0-9]+)",
    )
    hosts = [native, *(host for host in HOSTS if isinstance(host, Foreign) and not isinstance(host, ForeignHttp2))]
    for each in hosts:
        if each.name in (sys.argv[1:] or [host.name for host in hosts]):
            asyncio.run(measure(each))
