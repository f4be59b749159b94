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
from collections.abc import Iterator

from clients import Undelivered
from harness import Bench, Sample, Subject
from idle_memory import SETTLE
from rooms import Work, in_gateway
from servers import Server, api
from websockets.sync.client import ClientConnection, connect

SUBSCRIBERS = 1000
ROOM = "lobby"
WORKS = {
    "off": Work(subscribers=SUBSCRIBERS),
    "shared": Work(subscribers=SUBSCRIBERS, compression="shared"),
    "own": Work(subscribers=SUBSCRIBERS, compression="own"),
    "shared, own requestIds": Work(subscribers=SUBSCRIBERS, compression="shared", own_ids=True),
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


def deliver(upstream: Server, work: Work, size: int, count: int) -> Sample:
    """One repeat: microseconds of server CPU per delivery, and bytes on the wire."""
    sent = documents(size, count)
    received = 0
    with in_gateway(upstream, work) as scene, witness(scene.server) as client:
        before = scene.server.cpu()
        for data in sent:
            scene.publish([(ROOM, data)])
            scene.crowd.receive(1)
            received += sum(map(len, scene.crowd.take()))
            if json.loads(client.recv())["data"] != json.loads(data):
                raise Undelivered("something else arrived")
        used = scene.server.cpu() - before
    deliveries = count * work.subscribers
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
        with in_gateway(upstream, Work(subscribers=members, compression=setting)) as scene:
            scene.publish([(ROOM, documents(300, 1)[0])])
            scene.crowd.receive(1)
            time.sleep(SETTLE)
            used.append(scene.server.memory())
    return Sample((used[1] - used[0]) / count / 1024)


def main() -> None:
    """Compare the settings with each other."""
    bench = Bench(__doc__)
    count = 60 if bench.full else 10
    with api() as upstream:
        for size in (100, 1000, 4000):
            subjects = [
                Subject(name, ["fairlead"], functools.partial(deliver, upstream, work, size, count))
                for name, work in WORKS.items()
            ]
            bench.compare(f"compression, {size} bytes to {SUBSCRIBERS} subscribers", "us CPU/delivery", subjects)
        connections = bench.share(2000)
        subjects = [
            Subject(setting, ["fairlead"], functools.partial(memory, upstream, setting, connections))
            for setting in ("off", "shared", "own")
        ]
        bench.compare(f"compression, {connections} idle connections", "KiB/connection", subjects)


if __name__ == "__main__":
    main()
