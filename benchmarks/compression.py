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
import random
import time
from collections.abc import Iterator, Sequence

from clients import Crowd, Poster, Undelivered, text, upgrade
from harness import Bench, Sample, Subject
from servers import KEY, Server, api, gateway
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
def room(upstream: Server, setting: str, ids: Sequence[str]) -> Iterator[tuple[Server, Crowd, Poster]]:
    """A fresh gateway with everybody in one room, and a connection to its admin listener."""
    with gateway(upstream.port, compression=setting) as server:
        crowd = Crowd(server.port)
        crowd.open([upgrade("/ws/", OFFER)] * len(ids), frames=1)
        crowd.send(text(f'{{"type":"subscribe","room":"lobby","requestId":"{each}"}}'.encode()) for each in ids)
        crowd.receive(1)
        crowd.take()
        headers = f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        with contextlib.closing(Poster(server.admin, "/trigger/", headers)) as publisher:
            yield server, crowd, publisher
        crowd.close()


def publish(publisher: Poster, data: str) -> None:
    """Trigger one publication."""
    publisher.post(f'{{"rooms":["lobby"],"data":{data}}}'.encode())


def deliver(upstream: Server, name: str, size: int, count: int) -> Sample:
    """One repeat: microseconds of server CPU per delivery, and bytes on the wire."""
    setting, own_ids = SETTINGS[name]
    ids = [f"{index if own_ids else 0:06d}" for index in range(SUBSCRIBERS)]
    sent = documents(size, count)
    received = 0
    with room(upstream, setting, ids) as (server, crowd, publisher), witness(server) as client:
        before = server.cpu()
        for data in sent:
            publish(publisher, data)
            crowd.receive(1)
            received += sum(map(len, crowd.take()))
            if json.loads(client.recv())["data"] != json.loads(data):
                raise Undelivered("something else arrived")
        used = server.cpu() - before
    deliveries = count * SUBSCRIBERS
    return Sample(used / deliveries * 1e6, {"bytes/delivery": received / deliveries})


@contextlib.contextmanager
def witness(server: Server) -> Iterator[ClientConnection]:
    """A complete client in the room."""
    with connect(f"ws://127.0.0.1:{server.port}/ws/") as client:
        client.recv()
        client.send('{"type":"subscribe","room":"lobby","requestId":"w"}')
        client.recv()
        yield client


def memory(upstream: Server, setting: str, count: int) -> Sample:
    """One repeat: KiB of PSS for each connection more, all of which got one publication."""
    used = []
    for members in (100, count + 100):
        with room(upstream, setting, ["000000"] * members) as (server, crowd, publisher):
            publish(publisher, documents(300, 1)[0])
            crowd.receive(1)
            time.sleep(SETTLE)
            used.append(server.memory())
    return Sample((used[1] - used[0]) / count / 1024)


def main() -> None:
    """Compare the settings with each other."""
    bench = Bench(__doc__, quick=1, full=3)
    count = 10 if bench.quick else 60
    with api() as upstream:
        for size in (100, 1000, 4000):
            subjects = [
                Subject(name, ["fairlead"], functools.partial(deliver, upstream, name, size, count))
                for name in SETTINGS
            ]
            bench.compare(f"compression, {size} bytes to {SUBSCRIBERS} subscribers", "us CPU/delivery", subjects)
        connections = 500 if bench.quick else 2000
        subjects = [
            Subject(setting, ["fairlead"], functools.partial(memory, upstream, setting, connections))
            for setting in ("off", "shared", "own")
        ]
        bench.compare(f"compression, {connections} idle connections", "KiB/connection", subjects)


if __name__ == "__main__":
    main()
