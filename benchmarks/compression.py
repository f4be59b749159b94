"""What ``limits.compression`` costs and saves: the real gateway, a room of 1,000, JSON that changes each time.

CPU per delivery, counted from the trigger to the sockets, and bytes on the wire for each; then the memory of a
connection that got one publication and is idle. Each setting is measured with one requestId for all subscribers, and
"shared" also with one of their own for each, where a frame can serve nobody else. One more subscriber is the client of
``websockets``, which inflates and compares everything.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection

from clients import Crowd, Undelivered, text, upgrade
from harness import KEY, Server, Subject, compare, gateway, options, script
from websockets.sync.client import ClientConnection, connect

SUBSCRIBERS = 1000
SETTLE = 2.0
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
SETTINGS = {
    "off": ("off", False),
    "shared": ("shared", False),
    "own": ("own", False),
    "shared, own requestIds": ("shared", True),
}
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa".split()


def documents(size: int, count: int) -> list[str]:
    """JSON as an API may send it: the same keys, other values; the same for every run."""
    choose = random.Random(size)
    found = []
    for number in range(count):
        document: dict[str, object] = {"id": number, "price": choose.randrange(10**5) / 100, "items": []}
        items: list[object] = []
        while len(json.dumps(document | {"items": items})) < size:
            items.append({"sku": choose.randrange(10**6), "name": " ".join(choose.sample(WORDS, 3)), "in_stock": True})
        found.append(json.dumps(document | {"items": items}))
    return found


@contextlib.contextmanager
def room(api: Server, setting: str, ids: Sequence[str]) -> Iterator[tuple[Server, Crowd, HTTPConnection]]:
    """A fresh gateway with everybody in one room, and a connection to its admin listener."""
    os.environ["FAIRLEAD_LIMITS__COMPRESSION"] = setting
    with gateway(api.port) as server:
        crowd = Crowd(server.port)
        crowd.open([upgrade("/ws/", OFFER)] * len(ids), frames=1)
        crowd.send(text(f'{{"type":"subscribe","room":"lobby","requestId":"{each}"}}'.encode()) for each in ids)
        crowd.receive_frames(1)
        crowd.take()
        with contextlib.closing(HTTPConnection("127.0.0.1", server.admin)) as publisher:
            yield server, crowd, publisher
        crowd.close()


def publish(publisher: HTTPConnection, data: str) -> None:
    """Trigger one publication."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    publisher.request("POST", "/trigger/", f'{{"rooms":["lobby"],"data":{data}}}'.encode(), headers)
    if (answer := publisher.getresponse()).status != 200 or not answer.read():
        raise Undelivered(f"the trigger was refused: {answer.status}")


def deliver(api: Server, name: str, size: int, count: int, sizes: dict[str, float]) -> float:
    """One repeat: microseconds of server CPU per delivery; bytes on the wire per delivery go into ``sizes``."""
    setting, own_ids = SETTINGS[name]
    ids = [f"{index if own_ids else 0:06d}" for index in range(SUBSCRIBERS)]
    sent = documents(size, count)
    received = 0
    with room(api, setting, ids) as (server, crowd, publisher), witness(server) as client:
        before = server.cpu()
        for data in sent:
            publish(publisher, data)
            crowd.receive_frames(1)
            received += sum(map(len, crowd.take()))
            if json.loads(client.recv())["data"] != json.loads(data):
                raise Undelivered("something else arrived")
        used = server.cpu() - before
    sizes[name] = received / count / SUBSCRIBERS
    return used / (count * SUBSCRIBERS) * 1e6


@contextlib.contextmanager
def witness(server: Server) -> Iterator[ClientConnection]:
    """A complete client in the room."""
    with connect(f"ws://127.0.0.1:{server.port}/ws/") as client:
        client.recv()
        client.send('{"type":"subscribe","room":"lobby","requestId":"w"}')
        client.recv()
        yield client


def memory(api: Server, setting: str, count: int) -> float:
    """One repeat: KiB of PSS for each connection more, all of which got one publication."""
    used = []
    for members in (100, count + 100):
        with room(api, setting, ["000000"] * members) as (server, crowd, publisher):
            publish(publisher, documents(300, 1)[0])
            crowd.receive_frames(1)
            time.sleep(SETTLE)
            used.append(server.memory())
    return (used[1] - used[0]) / count / 1024


def main() -> None:
    """Compare the settings with each other."""
    quick, repeats = options(__doc__, quick=1, full=3)
    count = 10 if quick else 60
    with script("api.py") as api:
        for size in (100, 1000, 4000):
            sizes: dict[str, float] = {}
            subjects = [
                Subject(name, ["fairlead"], functools.partial(deliver, api, name, size, count, sizes))
                for name in SETTINGS
            ]
            compare(f"compression, {size} bytes to {SUBSCRIBERS} subscribers", "us CPU/delivery", subjects, repeats)
            print("  bytes on the wire: " + ", ".join(f"{name} {each:.0f}" for name, each in sizes.items()))
        connections = 500 if quick else 2000
        subjects = [
            Subject(setting, ["fairlead"], functools.partial(memory, api, setting, connections))
            for setting in ("off", "shared", "own")
        ]
        compare(f"compression, {connections} idle connections", "KiB PSS/connection", subjects, repeats)


if __name__ == "__main__":
    main()
