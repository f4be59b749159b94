"""10,000 clients connect as fast as the server lets them: seconds until the last one is in, and what others notice.

Before them 100 are in a room and get a publication every 20 ms: how long it takes to each is in the table. 4,000
handshakes are under way at once, which is what the servers' backlogs hold; then the gateway has all 10,000 at once, of
which its kernel lets those wait that its backlog does not hold. The gateway asks an API about every client, on the
clients' core.
"""

from __future__ import annotations

import functools
import time
from array import array
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from clients import Crowd, latencies, upgrade
from harness import Bench, Sample, Subject, Target
from rooms import Scene, Work, in_gateway, in_peer
from servers import Server, api
from systems import AIOHTTP, GRANIAN, LIMIT, NCHAN, PICOWS, STARLETTE, WEBSOCKETS, System

CLIENTS = 10_000
EXISTING = 100
INTERVAL = 0.02
IN_FLIGHT = 4000
SYSTEMS = (LIMIT, NCHAN, AIOHTTP, WEBSOCKETS, PICOWS, STARLETTE, GRANIAN)
TARGETS = [Target("fairlead gateway", 5.0), Target("fairlead gateway", 100, column="p99 ms")]


def measure(scene: Scene, path: str, frames: int, in_flight: int = IN_FLIGHT) -> Sample:
    """One repeat: seconds; the CPU is that of the publications, too."""
    scene.run(10)
    with closing(Crowd(scene.server.port)) as crowd, ThreadPoolExecutor(1) as pool:
        before = scene.server.cpu()
        storm = pool.submit(_storm, crowd, [upgrade(path)] * CLIENTS, frames, in_flight)
        waited = _publish(scene, storm)
        used = scene.server.cpu() - before
        return Sample(storm.result(), {"us CPU/connect": used / CLIENTS * 1e6, **latencies(waited)})


def _storm(crowd: Crowd, requests: list[bytes], frames: int, in_flight: int) -> float:
    start = time.monotonic()
    crowd.open(requests, frames=frames, in_flight=in_flight)
    return time.monotonic() - start


def _publish(scene: Scene, storm: Future[float]) -> array[float]:
    """Publish until the storm is over; the seconds that the existing clients waited."""
    waited: array[float] = array("d")
    number = 10
    while not storm.done():
        start = time.monotonic()
        for call in scene.work.round(number):
            scene.publish(call)
            scene.crowd.listen(INTERVAL)  # without polling: the storm's core is this one
            scene.crowd.receive(1)
            waited += scene.crowd.waited(start)
            scene.verify(call)
        number += 1
    return waited


def ours(upstream: Server, in_flight: int = IN_FLIGHT) -> Sample:
    """One repeat on a fresh gateway."""
    with in_gateway(upstream, Work(subscribers=EXISTING)) as scene:
        return measure(scene, "/ws/", 1, in_flight)


def peer(system: System) -> Sample:
    """One repeat on a fresh server of a peer."""
    with in_peer(system, Work(subscribers=EXISTING)) as scene:
        return measure(scene, "/idle", 0)


def main() -> None:
    """Compare everything."""
    bench = Bench(__doc__)
    with api() as upstream:
        at_once = Subject("fairlead gateway", ["fairlead"], functools.partial(ours, upstream, CLIENTS))
        bench.compare(f"storm, {CLIENTS} connects at once", "s", [at_once], TARGETS)
        if bench.full:
            subjects = [Subject("fairlead gateway", ["fairlead"], functools.partial(ours, upstream))]
            subjects += [Subject(each.name, each.packages, functools.partial(peer, each)) for each in SYSTEMS]
            bench.compare(f"storm, {CLIENTS} connects", "s", subjects, TARGETS)


if __name__ == "__main__":
    main()
