"""One publication to 1,000 subscribers: server CPU per delivery, everything counted from the trigger to the sockets.

Ours: the real gateway. The subscribers were let in by an API and subscribed; each publication is an HTTP POST to the
admin listener. Peers: a message on one more WebSocket, which is cheaper than a POST, makes the handler send to all the
others. All systems put messages of the same length on the wire, and the next publication is sent when all clients have
the last one. Besides: each subscriber with its own requestId, and 32 publications in one POST.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
from collections.abc import Callable, Sequence
from http.client import HTTPConnection

from clients import Crowd, Undelivered, payloads, text, upgrade
from harness import KEY, Server, Subject, Target, compare, gateway, options, script

SUBSCRIBERS = 1000
BATCH = 32
PEERS = {
    "websockets.broadcast": ("peers/with_websockets.py", ("websockets",)),
    "aiohttp": ("peers/with_aiohttp.py", ("aiohttp",)),
    "picows": ("peers/with_picows.py 4096", ("picows",)),
    "uvicorn+starlette": ("peers/with_starlette.py", ("uvicorn", "starlette")),
}

Publish = Callable[[Sequence[int]], None]


def data(number: int) -> str:
    """The 64 bytes of JSON that are published as number so and so."""
    return f'"{number:08d}{"x" * 54}"'


def message(request_id: str, number: int) -> str:
    """What a subscriber gets of it."""
    return f'{{"type":"publish","requestId":"{request_id}","room":"lobby","data":{data(number)}}}'


def sender(publisher: socket.socket) -> Publish:
    """How to publish through a peer: one text message for each publication."""

    def publish(numbers: Sequence[int]) -> None:
        publisher.sendall(b"".join(text(message("000000", number).encode()) for number in numbers))

    return publish


def trigger(publisher: HTTPConnection) -> Publish:
    """How to publish through the gateway: a POST, of an object or of a batch, and its answer."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

    def publish(numbers: Sequence[int]) -> None:
        triggers = [f'{{"rooms":["lobby"],"data":{data(number)}}}' for number in numbers]
        body = triggers[0] if len(triggers) == 1 else "[" + ",".join(triggers) + "]"
        publisher.request("POST", "/trigger/", body.encode(), headers)
        answer = publisher.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise Undelivered(f"the trigger was refused: {answer.status} {said!r}")

    return publish


def window(server: Server, crowd: Crowd, publish: Publish, ids: Sequence[str], count: int, batch: int) -> float:
    """Publish ``count`` times in groups of ``batch``; microseconds of server CPU per delivery."""
    publish([0])  # tells the frame's size, and is the last of the warm-up
    crowd.receive_frames(1)
    size = sum(map(len, crowd.take()))
    before = server.cpu()
    for first in range(0, count, batch):
        publish(range(first, first + batch))
        crowd.receive(size * batch)
    used = server.cpu() - before
    verify(crowd.take(), ids, count)
    return used / (count * len(crowd)) * 1e6


def verify(streams: Sequence[bytes], ids: Sequence[str], count: int) -> None:
    """Every client got every publication once, in order, under its own id."""
    decode = functools.lru_cache(4 * BATCH)(json.loads)
    for stream, request_id in zip(streams, ids, strict=True):
        got = [decode(payload) for payload in payloads(stream)]
        expected = [decode(message(request_id, number)) for number in range(count)]
        if got != expected:
            raise Undelivered(f"{request_id} got {len(got)} messages, {got[:2]!r}, instead of {expected[:2]!r}")


def measure_gateway(api: Server, *, own_ids: bool, batch: int, count: int) -> float:
    """One repeat on a fresh gateway."""
    ids = [f"{index if own_ids else 0:06d}" for index in range(SUBSCRIBERS)]
    with gateway(api.port) as server:
        crowd = Crowd(server.port)
        crowd.open([upgrade("/ws/")] * SUBSCRIBERS, frames=1)
        crowd.send(text(f'{{"type":"subscribe","room":"lobby","requestId":"{each}"}}'.encode()) for each in ids)
        crowd.receive_frames(1)
        if not all(b'"success"' in stream for stream in crowd.take()):
            raise Undelivered("a subscription was refused")
        with contextlib.closing(HTTPConnection("127.0.0.1", server.admin)) as publisher:
            publish = trigger(publisher)
            for number in range(10):
                publish([number])
            crowd.receive_frames(10)
            crowd.take()
            used = window(server, crowd, publish, ids, count, batch)
        crowd.close()
    return used


def measure_peer(name: str, *, count: int) -> float:
    """One repeat on a fresh server of a peer."""
    with script(name) as server:
        crowd = Crowd(server.port)
        crowd.open([upgrade("/room")] * SUBSCRIBERS)
        with socket.create_connection(("127.0.0.1", server.port)) as publisher:
            publisher.sendall(upgrade("/publish"))
            publisher.recv(65536)
            publish = sender(publisher)
            publish(range(10))
            crowd.receive_frames(10)
            crowd.take()
            used = window(server, crowd, publish, ["000000"] * SUBSCRIBERS, count, 1)
        crowd.close()
    return used


def main() -> None:
    """Compare everything."""
    quick, repeats = options(__doc__, quick=2, full=5)
    count = BATCH if quick else 4 * BATCH
    with script("api.py") as api:
        ours = functools.partial(measure_gateway, api, count=count)
        subjects = [
            Subject("fairlead", ["fairlead"], functools.partial(ours, own_ids=False, batch=1)),
            Subject("fairlead, own requestIds", ["fairlead"], functools.partial(ours, own_ids=True, batch=1)),
            Subject(
                f"fairlead, {BATCH} at once",
                ["fairlead"],
                functools.partial(ours, own_ids=False, batch=BATCH, count=4 * count),
            ),
        ]
        for name, (path, packages) in PEERS.items():
            subjects.append(Subject(name, packages, functools.partial(measure_peer, path, count=count)))
        compare(
            f"fanout, 64 bytes to {SUBSCRIBERS} subscribers, {count * SUBSCRIBERS} or more deliveries, all verified",
            "us CPU/delivery",
            subjects,
            repeats,
            [
                Target("fairlead", 0.75, "websockets.broadcast"),
                Target("fairlead", 0.9, "aiohttp"),
                Target(f"fairlead, {BATCH} at once", 0.15, "fairlead"),
            ],
        )


if __name__ == "__main__":
    main()
