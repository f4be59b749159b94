"""Ten minutes of everything at once in the gateway: does its memory grow, is a message lost?

5,000 clients stay in 500 rooms, ten in each. 200 publications a second go round the rooms; 50 clients a second connect,
subscribe to one of these rooms, and are gone ten seconds later. Those who stay must get every publication to their
room, in order; those who come and go, all from the first one they get on.

Memory counts when three times as many clients have come as there are at once: by then every table of clients in the
server has been replaced by one of its final size. It is read ten times from there on. What is compared is by how much
it grew between two readings, and how much of that is certain: less twice its standard error. Nothing certain does not
mean that nothing grew: it may have by up to twice that error.
"""

from __future__ import annotations

import functools
import itertools
import json
import statistics
import time
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import closing

from clients import PATIENCE, Crowd, Undelivered, latencies, payloads, text, upgrade
from harness import Bench, Sample, Subject, Target
from rooms import Scene, Work, in_gateway
from servers import Server, api

WORK = Work(subscribers=5000, rooms=500)
MEMBERS = WORK.subscribers // WORK.rooms
TICKS = 10
"""In a second."""
PUBLICATIONS = 200 // TICKS
CONNECTS = 50 // TICKS
LIFE = 10 * TICKS
WARM_UP = 3 * (WORK.subscribers + LIFE * CONNECTS) // (CONNECTS * TICKS)
"""Seconds."""

READINGS = 10
GROWTH = "certain KiB/min"


class Load:
    """The clients and their publications.

    Args:
        scene: The gateway and those who stay.
        visitors: Those who come and go.
    """

    def __init__(self, scene: Scene, visitors: Crowd) -> None:
        self.waited: array[float] = array("d")
        self._scene = scene
        self._visitors = visitors
        self._rooms: deque[str] = deque()
        self._streams: deque[bytes] = deque()
        self._calls = WORK.round(0)
        self._number = 0
        self._start = 0.0  # of the last publication
        self._ticks = 0
        self._unseen: list[tuple[str, str]] = []

    def second(self) -> None:
        """Go on for a second, and look at what came."""
        end = time.monotonic()
        for _ in range(TICKS):
            end += 1 / TICKS
            self._tick()
            self._scene.crowd.listen(max(0.0, end - time.monotonic()))
            self._finish()
        self._scene.verify(self._unseen)
        self._unseen.clear()

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks > LIFE:
            self._keep()
            self._visitors.leave(CONNECTS)
            for _ in range(CONNECTS):
                verify(self._rooms.popleft(), self._streams.popleft())
        self._come()
        for _ in range(PUBLICATIONS):
            self._start = time.monotonic()
            room, _ = self._next()
            data = f'"{self._number:08d}"'
            self._number += 1
            self._scene.publish([(room, data)])
            self._unseen.append((room, data))

    def _finish(self) -> None:
        """Wait until those who stay have got everything."""
        crowd, late = self._scene.crowd, time.monotonic() + PATIENCE
        while crowd.frames() < len(self._unseen) * MEMBERS and time.monotonic() < late:
            crowd.listen(0.01)
        self.waited += self._last()

    def _next(self) -> tuple[str, str]:
        return self._calls[self._number % WORK.rooms][0]

    def _last(self) -> array[float]:
        """How long the last publication of a tick took to its ten."""
        return self._scene.crowd.waited(self._start)[(self._number - 1) % WORK.rooms :: WORK.rooms]

    def _come(self) -> None:
        first = len(self._visitors)
        self._keep()
        self._visitors.open([upgrade("/ws/")] * CONNECTS, frames=1)
        for each in range(CONNECTS):
            room = self._calls[(self._ticks * CONNECTS + each) % WORK.rooms][0][0]
            self._rooms.append(room)
            self._streams.append(b"")
        words = '{{"type":"subscribe","room":"{}","requestId":"000000"}}'
        rooms = list(self._rooms)[first:]
        self._visitors.send([text(words.format(room).encode()) for room in rooms], first=first)
        self._visitors.receive(1, first=first)

    def _keep(self) -> None:
        self._visitors.listen(0.001)
        for index, stream in enumerate(self._visitors.take()):
            self._streams[index] += stream


def verify(room: str, stream: bytes) -> None:
    """A visitor was subscribed, and got all publications to its room from some on."""
    subscribed, *publications = [json.loads(payload) for payload in payloads(stream)]
    numbers = [int(each["data"]) for each in publications]
    right = all(each["room"] == room for each in publications)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1, WORK.rooms)) if numbers else True
    if subscribed.get("code") != "success" or not right or not whole:
        raise Undelivered(f"a visitor of {room} got {stream!r}")


def growth(memory: Sequence[int]) -> tuple[float, float]:
    """From one reading to the next: the mean, and its standard error.

    Memory grows in steps, whenever there is no room for a table that is replaced, and keeps what it has grown by: so it
    is the steps that are independent of each other, and not the readings around a line.
    """
    steps = [after - before for before, after in itertools.pairwise(memory)]
    return statistics.fmean(steps), statistics.stdev(steps) / len(steps) ** 0.5


def measure(upstream: Server, seconds: int, warm_up: int) -> Sample:
    """One repeat."""
    with in_gateway(upstream, WORK) as scene, closing(Crowd(scene.server.port)) as visitors:
        load = Load(scene, visitors)
        for _ in range(warm_up):
            load.second()
        memory = [scene.server.memory("Pss_Anon")]  # without the pages of files, which others share or not
        before, start = scene.server.cpu(), time.monotonic()
        for _ in range(READINGS):
            for _ in range(max(1, seconds // READINGS)):
                load.second()
            memory.append(scene.server.memory("Pss_Anon"))
        took = time.monotonic() - start
        share = (scene.server.cpu() - before) / took
    per_minute = 60 / (took / READINGS) / 1024
    grown, error = (each * per_minute for each in growth(memory))
    figures = {"+- KiB/min": error, GROWTH: max(0.0, grown - 2 * error), "% CPU": share * 100}
    sizes = {"MiB at first": memory[0] / 2**20, "MiB at last": memory[-1] / 2**20}
    return Sample(grown, {**figures, **sizes, **latencies(load.waited)})


def main() -> None:
    """Measure the gateway alone."""
    bench = Bench(__doc__, repeats=1, seconds=(30, 600))
    warm_up = WARM_UP if bench.full else bench.seconds
    with api() as upstream:
        subjects = [Subject("fairlead", ["fairlead"], functools.partial(measure, upstream, bench.seconds, warm_up))]
        targets = [Target("fairlead", 0.0, column=GROWTH)]
        bench.compare(f"mixed load, {bench.seconds} s", "KiB/min", subjects, targets)


if __name__ == "__main__":
    main()
