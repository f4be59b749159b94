"""One publication to a room of 1,000: server CPU per delivery, everything counted from the trigger to the sockets.

Ours: the real gateway. The subscribers were let in by an API and subscribed; each publication is an HTTP POST to the
admin listener. The C limit and the frameworks get a message on one more WebSocket, which is cheaper than a POST, and
send it to all the others; nchan, Pushpin, python-socketio and Channels get a POST. All put the same JSON on the wire,
and the next publication is sent when all clients have the last one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from harness import Bench, Sample, Subject, Target
from rooms import Work, in_gateway, in_peer, measure
from servers import Server, api
from systems import LIMIT, NCHAN, STARLETTE, SYSTEMS, WEBSOCKETS, System

BATCH = 32
UNIT = "us CPU/delivery"
OURS = {
    "fairlead": Work(),
    "fairlead, own requestIds": Work(own_ids=True),
    f"fairlead, {BATCH} at once": Work(batch=BATCH),
    "fairlead, compressed": Work(compression="shared"),
}
TARGETS = [
    Target("fairlead", 1.25, LIMIT.name),
    Target("fairlead", 1.0, NCHAN.name),
    Target("fairlead", 0.7, WEBSOCKETS.name),
    Target("fairlead", 0.6, STARLETTE.name),
    Target("fairlead, own requestIds", 1.45, LIMIT.name),
    Target(f"fairlead, {BATCH} at once", 0.1, LIMIT.name),
    Target("fairlead, compressed", 1.3, "fairlead"),
]
LARGE = {
    "10,000 subscribers, 64 bytes": Work(subscribers=10_000),
    "1,000 subscribers, 4,096 bytes": Work(size=4096),
    "10,000 subscribers, 4,096 bytes": Work(subscribers=10_000, size=4096),
}
"""Beside the systems of FAST only; the others take minutes for them."""
FAST = (LIMIT, NCHAN, WEBSOCKETS, STARLETTE)
ROOMS = {
    "one room of 1,000": Work(),
    "1,000 rooms of 10": Work(subscribers=10_000, rooms=1000),
    "50 rooms of 1,000": Work(rooms=50, rooms_each=50),
}
"""Of the gateway alone: publications go round the rooms."""
CLOSE, SLOW = SYSTEMS[:6], SYSTEMS[6:]
"""In tables of their own: a turn with all of them takes so long that the machine may have become another one in it."""
FEW = 10
"""Rounds for those that need over 20 us, in which they are busy as long as the others."""


def ours(server: Server, work: Work, rounds: int) -> Sample:
    """One repeat on a fresh gateway."""
    with in_gateway(server, work) as scene:
        return measure(scene, rounds)


def peer(system: System, work: Work, rounds: int) -> Sample:
    """One repeat on a fresh server of a peer."""
    with in_peer(system, work) as scene:
        return measure(scene, rounds)


def subjects_of(server: Server, works: dict[str, Work], rounds: int) -> list[Subject]:
    """Subjects that are the gateway."""
    found = []
    for name, work in works.items():
        fewer = rounds if work.batch == 1 else max(2, 4 * rounds // work.batch)
        found.append(Subject(name, ["fairlead"], functools.partial(ours, server, work, fewer)))
    return found


def peers(systems: Sequence[System], work: Work, rounds: int) -> list[Subject]:
    """Subjects that are not."""
    found = []
    for each in systems:
        fewer = min(rounds, FEW) if each in SLOW else rounds
        found.append(Subject(each.name, each.packages, functools.partial(peer, each, work, fewer)))
    return found


def main() -> None:
    """Compare everything."""
    bench = Bench(__doc__)
    rounds = bench.share(4 * BATCH)
    with api() as server:
        name = "fan-out, 64 bytes of JSON to 1,000 subscribers"
        first, *others = subjects_of(server, OURS, rounds)
        subjects = [first, *peers(CLOSE, Work(), rounds), *others]  # what is compared is near in time
        bench.compare(name, UNIT, subjects, TARGETS, often=3)
        if not bench.full:
            return
        subjects = subjects_of(server, {"fairlead": Work()}, rounds) + peers(SLOW, Work(), rounds)
        bench.compare(f"{name}, slower servers", UNIT, subjects)
        for title, work in LARGE.items():
            fewer = max(2, rounds * 1000 // work.subscribers // 2)
            subjects = subjects_of(server, {"fairlead": work}, fewer) + peers(FAST, work, fewer)
            bench.compare(f"fan-out, {title}", UNIT, subjects)
        few = {name: work for name, work in ROOMS.items() if work.rooms_each == work.rooms}
        many = {name: work for name, work in ROOMS.items() if name not in few}
        bench.compare("fan-out, many rooms", UNIT, subjects_of(server, few, rounds) + subjects_of(server, many, 4))


if __name__ == "__main__":
    main()
