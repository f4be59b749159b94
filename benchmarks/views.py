"""What is asked of frameworks' views: an echo of 64 bytes, one at a time, and memory for each one that waits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import echo
import idle_memory
from harness import Bench, Sample, Subject, Target
from systems import System

TITLE = "64 bytes, one at a time"


def compare(
    bench: Bench, kind: str, systems: Sequence[System], *, idle: int, echoes: Sequence[Target], memory: Sequence[Target]
) -> None:
    """Compare systems both ways.

    Args:
        bench: The run.
        kind: What they have in common.
        systems: Each with the paths /echo and /idle; ours first.
        idle: Connections whose memory is measured.
        echoes: What is promised of the echo's CPU.
        memory: And of the memory.
    """

    def subjects(measure: Callable[[System], Sample]) -> list[Subject]:
        return [Subject(each.name, each.packages, functools.partial(measure, each)) for each in systems]

    size, together, rounds, _ = echo.WORK[TITLE]
    one = functools.partial(echo.measure, size=size, together=together, rounds=bench.share(rounds))
    bench.compare(f"{kind}: echo, {TITLE}, {echo.CONNECTIONS} connections", "us CPU/message", subjects(one), echoes)
    waiting = functools.partial(idle_memory.measure, count=idle)
    bench.compare(f"{kind}: idle memory, {idle} connections", "KiB/connection", subjects(waiting), memory)
