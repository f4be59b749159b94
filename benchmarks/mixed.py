"""Ten minutes of everything at once in the gateway: does its memory grow, is a message lost?

5,000 clients stay in 500 rooms, ten in each. 200 publications a second go round the rooms; 50 clients a second connect,
subscribe to one of these rooms, and are gone ten seconds later. Those who stay must get every publication to their
room, in order; those who come and go, all from the first one they get on. Memory is read once a second; what is
compared is the slope of a line through it, the first quarter and at least 15 seconds left out, and how much of it is
certain: less twice its standard error.
"""

from __future__ import annotations

import functools
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


def slope(memory: Sequence[float]) -> tuple[float, float]:
    """KiB per minute, and the standard error of that, of bytes read once a second."""
    seconds = range(len(memory))
    fit = statistics.linear_regression(seconds, memory)
    rest = [each - fit.slope * second - fit.intercept for second, each in zip(seconds, memory, strict=True)]
    spread = sum((second - statistics.fmean(seconds)) ** 2 for second in seconds)
    error = (sum(each**2 for each in rest) / (len(memory) - 2) / spread) ** 0.5
    return fit.slope * 60 / 1024, error * 60 / 1024


def measure(upstream: Server, seconds: int) -> Sample:
    """One repeat."""
    memory = []
    with in_gateway(upstream, WORK) as scene, closing(Crowd(scene.server.port)) as visitors:
        load = Load(scene, visitors)
        before, start = scene.server.cpu(), time.monotonic()
        for _ in range(seconds):
            load.second()
            memory.append(float(scene.server.memory()))
        share = (scene.server.cpu() - before) / (time.monotonic() - start)
    grown, error = slope(memory[max(15, seconds // 4) :])
    figures = {"+- KiB/min": error, GROWTH: max(0.0, grown - 2 * error), "% CPU": share * 100}
    return Sample(grown, {**figures, "MiB": memory[-1] / 2**20, **latencies(load.waited)})


def main() -> None:
    """Measure the gateway alone."""
    bench = Bench(__doc__, quick=1, full=1, seconds=(30, 600))
    with api() as upstream:
        subjects = [Subject("fairlead", ["fairlead"], functools.partial(measure, upstream, bench.seconds))]
        targets = [Target("fairlead", 0.0, column=GROWTH)]
        bench.compare(f"mixed load, {bench.seconds} s", "KiB/min", subjects, targets)


if __name__ == "__main__":
    main()
