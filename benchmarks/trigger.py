"""Publications over HTTP to a room with one subscriber, one after the other: server CPU for each, and their rate.

Each is a POST on a connection that stays open, where the server lets it; the next one follows when the subscriber has
got the message. The rate is that of one caller who waits, on a machine where the clients have a core of their own.
"""

from __future__ import annotations

import functools
import time

from clients import latencies
from harness import Bench, Sample, Subject, Target
from rooms import Scene, Work, in_gateway, in_peer
from servers import Server, api
from systems import CHANNELS, CHANNELS_REDIS, NCHAN, PUSHPIN, SOCKETIO, System

RATE = "per second"
SYSTEMS = (NCHAN, PUSHPIN, SOCKETIO, CHANNELS, CHANNELS_REDIS)
TARGETS = [
    Target("fairlead", 80.0),
    *(Target("fairlead", 1.0, each.name, RATE, least=True) for each in SYSTEMS if each is not NCHAN),
]


def measure(scene: Scene, count: int) -> Sample:
    """Microseconds of server CPU for each trigger."""
    scene.run(count // 10)
    before, start = scene.server.cpu(), time.monotonic()
    waited = scene.run(count, first=count // 10)
    took, used = time.monotonic() - start, scene.server.cpu() - before
    return Sample(used / count * 1e6, {RATE: count / took, **latencies(waited)})


def ours(upstream: Server, count: int) -> Sample:
    """One repeat on a fresh gateway."""
    with in_gateway(upstream, Work(subscribers=1)) as scene:
        return measure(scene, count)


def peer(system: System, count: int) -> Sample:
    """One repeat on a fresh server of a peer."""
    with in_peer(system, Work(subscribers=1)) as scene:
        return measure(scene, count)


def main() -> None:
    """Compare everything."""
    bench = Bench(__doc__)
    count = bench.share(2000)
    with api() as upstream:
        subjects = [Subject("fairlead", ["fairlead"], functools.partial(ours, upstream, count))]
        subjects += [Subject(each.name, each.packages, functools.partial(peer, each, count)) for each in SYSTEMS]
        bench.compare(f"{count} triggers, one subscriber", "us CPU/trigger", subjects, TARGETS)


if __name__ == "__main__":
    main()
