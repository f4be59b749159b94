"""Rooms full of clients, in the gateway and in the peers, and publications to them of which every one is looked at."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from clients import KEPT, Crowd, Poster, Undelivered, latencies, payloads, text, upgrade
from harness import Sample
from servers import KEY, Server, gateway
from systems import System

FIRST = 50
"""Clients that come before memory is first read, so that what the first one brings along is not counted."""

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

Publication = tuple[str, str]
"""The room and the JSON that is published there."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done.

    Attributes:
        subscribers: How many clients there are.
        size: Bytes of JSON that are published.
        rooms: How many there are.
        rooms_each: How many of them each client is in: one, or all.
        batch: Publications in one call.
        own_ids: Whether each client has its own requestId.
        compression: Of the gateway; the clients offer it.
    """

    subscribers: int = 1000
    size: int = 64
    rooms: int = 1
    rooms_each: int = 1
    batch: int = 1
    own_ids: bool = False
    compression: str = "off"

    def of_client(self, index: int) -> dict[str, str]:
        """One client's subscriptions: the requestId for each room."""
        return {
            _room((index + each) % self.rooms): f"{index if self.own_ids else each:06d}"
            for each in range(self.rooms_each)
        }

    def round(self, number: int) -> list[list[Publication]]:
        """The calls of one round, after which everybody has ``batch`` messages more."""
        calls = self.rooms // self.rooms_each
        first = number * calls
        return [
            [(_room(call % self.rooms), _data(call * self.batch + each, self.size)) for each in range(self.batch)]
            for call in range(first, first + calls)
        ]


def _room(number: int) -> str:
    return f"lobby-{number}" if number else "lobby"


def _data(number: int, size: int) -> str:
    return f'"{number:08d}'.ljust(size - 1, "x") + '"'


def message(request_id: str, publication: Publication) -> str:
    """What a subscriber gets of a publication, in the gateway's words; the peers are given the same to send."""
    room, data = publication
    return f'{{"type":"publish","requestId":"{request_id}","room":"{room}","data":{data}}}'


@dataclass
class Scene:
    """Clients in their rooms.

    Attributes:
        work: What is to be done.
        server: The server.
        crowd: The clients.
        publish: Makes one call.
        memory: KiB for each connection.
        unwrap: Takes the JSON out of what a client gets.
    """

    work: Work
    server: Server
    crowd: Crowd
    publish: Callable[[Sequence[Publication]], None]
    memory: float
    unwrap: Callable[[bytes], bytes] = field(default=lambda frame: frame)

    def run(self, rounds: int, *, first: int = 0) -> array[float]:
        """Publish, each time when everybody has the last one; the seconds that each client waited each time."""
        waited: array[float] = array("d")
        done: list[Publication] = []
        kept = 0
        for number in range(first, first + rounds):
            calls = self.work.round(number)
            kept += self.work.batch
            start = time.monotonic()
            for call in calls:
                self.publish(call)
                done += call
            self.crowd.receive(kept)
            waited += self.crowd.waited(start)
            if kept * len(self.crowd) * (self.work.size + 100) > KEPT:
                self.verify(done)
                kept = 0
                done.clear()
        self.verify(done)
        return waited

    def verify(self, publications: Sequence[Publication]) -> None:
        """Every client got every publication to its rooms once, in order, under its own id; and nothing else."""
        decode = functools.lru_cache(4096)(json.loads)
        for index, stream in enumerate(self.crowd.take()):
            ids = self.work.of_client(index)
            got = [decode(self.unwrap(payload)) for payload in payloads(stream)]
            expected = [decode(message(ids[each[0]], each)) for each in publications if each[0] in ids]
            if got != expected:
                raise Undelivered(f"client {index} got {len(got)} messages, {got[:2]!r}, instead of {expected[:2]!r}")


def measure(scene: Scene, rounds: int) -> Sample:
    """Microseconds of server CPU for each delivery, after a warm-up."""
    warm_up = max(2, rounds // 8)
    scene.run(warm_up)
    before = scene.server.cpu()
    waited = scene.run(rounds, first=warm_up)
    used = scene.server.cpu() - before
    cost = used / (rounds * scene.work.batch * len(scene.crowd)) * 1e6
    return Sample(cost, {**latencies(waited), "KiB/connection": scene.memory})


@contextlib.contextmanager
def in_gateway(api: Server, work: Work) -> Iterator[Scene]:
    """Everybody in his rooms of a fresh gateway, let in by the API; a call is a POST to the admin listener."""
    path = "lobbies" if work.rooms > 1 else ""
    with gateway(api.port, path=path, compression=work.compression) as server, contextlib.ExitStack() as stack:
        crowd = stack.enter_context(contextlib.closing(Crowd(server.port)))
        join = functools.partial(_subscribe, crowd, work)
        memory = _grow(server, work, join)
        headers = f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        poster = stack.enter_context(contextlib.closing(Poster(server.admin, "/trigger/", headers)))
        yield Scene(work, server, crowd, lambda publications: poster.post(_trigger(publications)), memory)


def _trigger(publications: Sequence[Publication]) -> bytes:
    calls = [f'{{"rooms":["{room}"],"data":{data}}}' for room, data in publications]
    return (calls[0] if len(calls) == 1 else "[" + ",".join(calls) + "]").encode()


def _subscribe(crowd: Crowd, work: Work, count: int) -> None:
    first = len(crowd)
    crowd.open([upgrade("/ws/", OFFER if work.compression != "off" else "")] * count, frames=1)
    asks = []
    for index in range(first, first + count):
        words = '{{"type":"subscribe","room":"{}","requestId":"{}"}}'
        asks.append(b"".join(text(words.format(*each).encode()) for each in work.of_client(index).items()))
    crowd.send(asks, first=first)
    crowd.receive(work.rooms_each, first=first)
    streams = crowd.take()[first:]
    if work.compression == "own":
        return  # to inflate them takes what each client got before; whoever is not in will lack the publications
    for stream in streams:
        if not all(b'"success"' in reply for reply in payloads(stream)):
            raise Undelivered(f"a subscription was refused: {payloads(stream)!r}")


@contextlib.contextmanager
def in_peer(system: System, work: Work) -> Iterator[Scene]:
    """Everybody in the one room of a peer."""
    with system.run() as server, contextlib.ExitStack() as stack:
        crowd = stack.enter_context(contextlib.closing(Crowd(server.port)))
        memory = _grow(server, work, functools.partial(_join, crowd, system))
        publish = stack.enter_context(system.publisher(server))

        def call(publications: Sequence[Publication]) -> None:
            publish([message("000000", each).encode() for each in publications])

        yield Scene(work, server, crowd, call, memory, system.unwrap)


def _join(crowd: Crowd, system: System, count: int) -> None:
    first = len(crowd)
    crowd.open([upgrade(system.path)] * count, frames=system.frames)
    if system.hello:
        crowd.send([system.hello] * count, first=first)
        crowd.receive(1, first=first)
        crowd.take()


def _grow(server: Server, work: Work, join: Callable[[int], None]) -> float:
    """Let everybody in; KiB of PSS for each."""
    few = min(FIRST, work.subscribers - 1)
    if few:
        join(few)
    before = server.memory()
    join(work.subscribers - few)
    return (server.memory() - before) / (work.subscribers - few) / 1024
