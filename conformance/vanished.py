"""Clients whose machine is gone: no end, no reset, no acknowledgement ever arrives.

    unshare --net --map-root-user python -m conformance.vanished

Server and clients run in a network namespace of their own. Once all are connected its loopback interface is taken
down, so that every packet is lost from there on; the server's descriptors tell when it has let go. Prints how many
seconds that took for clients that were idle and for clients that were being sent messages, as a JSON object.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import time

from conformance.client import Client
from conformance.setups import Running, serving

COUNT = 10
GIVE_UP = 60.0
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def set_loopback(*, up: bool) -> None:
    """Take the namespace's loopback interface up or down."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP if up else 0))


async def measure(running: Running) -> dict[str, float]:
    """Connect, lose the network, and wait for the server to notice."""
    before = running.sockets()
    idle = [await Client.open(running.address) for _ in range(COUNT)]
    held = {"idle": running.sockets() - before}
    busy = [await Client.open(running.address, "/push") for _ in range(COUNT)]
    held["sent to"] = running.sockets() - before - held["idle"]
    set_loopback(up=False)
    started = time.monotonic()
    figures: dict[str, float] = {}
    while len(figures) < len(held) and time.monotonic() < started + GIVE_UP:
        await asyncio.sleep(0.1)
        for name, sockets in held.items():
            if name not in figures and not sockets & running.sockets():
                figures[name] = round(time.monotonic() - started, 1)
    for client in idle + busy:
        client.abandon()
    return figures


def main() -> None:
    """Measure and print."""
    set_loopback(up=True)
    with serving("uvloop") as running:
        print(json.dumps(asyncio.run(measure(running))))


if __name__ == "__main__":
    main()
