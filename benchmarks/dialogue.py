"""Clients that say something and wait for the answers, over and over: what echo and calls have in common."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import closing

from clients import KEPT, Crowd, latencies, upgrade
from harness import Sample
from servers import Server

Verify = Callable[[Sequence[bytes], int], None]
"""Looks at what each client has got in so many rounds; raises Undelivered."""


def converse(
    server: Server, path: str, segments: Sequence[bytes], together: int, rounds: int, verify: Verify
) -> Sample:
    """Microseconds of server CPU for each message and its answer, after a warm-up.

    Args:
        server: A fresh one.
        path: Where the clients connect, one for each segment.
        segments: What each of them sends with one write in each round.
        together: How many messages that is, and how many answers.
        rounds: How often everybody does that, when everybody has all answers.
        verify: Looks at the answers.
    """
    with closing(Crowd(server.port)) as crowd:
        crowd.open([upgrade(path)] * len(segments))
        _rounds(crowd, segments, together, max(1, rounds // 10), verify)
        before = server.cpu()
        waited = _rounds(crowd, segments, together, rounds, verify)
        used = server.cpu() - before
    return Sample(used / (len(segments) * together * rounds) * 1e6, latencies(waited))


def _rounds(crowd: Crowd, segments: Sequence[bytes], together: int, rounds: int, verify: Verify) -> array[float]:
    waited: array[float] = array("d")
    size = sum(map(len, segments))
    unseen = 0
    for _ in range(rounds):
        start = time.monotonic()
        crowd.send(segments)
        unseen += 1
        crowd.receive(together * unseen)
        waited += crowd.waited(start)
        if size * unseen > KEPT:
            verify(crowd.take(), unseen)
            unseen = 0
    verify(crowd.take(), unseen)
    return waited
