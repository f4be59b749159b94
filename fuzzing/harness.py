"""What all targets share: what a finding is, the clock, and bytes cut in pieces."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Protocol, cast

TARGETS = ("messages", "deflate", "opening", "dialect", "rooms", "api", "exchange")

CORPUS = Path(__file__).parent / "corpus"
"""Inputs worth running again, in a directory for each target."""

SLOWEST = 0.1
"""Seconds that one input may take."""

Mutation = Callable[[bytes], bytes]
"""libFuzzer's own mutation of some bytes."""


class Target(Protocol):
    """A module of ``fuzzing.targets``.

    Attributes:
        LENGTH: Bytes of an input at most: enough for every rule to be broken.
    """

    LENGTH: int

    def check(self, data: bytes) -> None:
        """Run one input; return if what came of it is documented, raise anything if it is not."""
        ...

    def seeds(self) -> list[bytes]:
        """Inputs to begin with."""
        ...

    def mutate(self, data: bytes, random: Random, mutation: Mutation) -> bytes:
        """Make an input of the same shape from another one."""
        ...


class Finding(Exception):
    """Something that is not documented came of an input."""


def load(name: str) -> Target:
    """Import a target; what it tests of ``fairlead`` is imported with it, and not before."""
    return cast(Target, import_module(f"fuzzing.targets.{name}"))


def require(rule: bool, otherwise: str) -> None:
    """Raise a Finding unless the rule holds."""
    if not rule:
        raise Finding(otherwise)


def in_time(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The check, which then also finds inputs that take longer than ``SLOWEST``.

    The clock on the wall only says where to look: on a busy machine it is the CPU time that counts, the least of three.
    """

    def timed(data: bytes) -> None:
        started = time.perf_counter()
        check(data)
        if time.perf_counter() - started > SLOWEST:
            least = min(_cpu_time(check, data) for _ in range(3))
            require(least <= SLOWEST, f"one input took {least:.3f} s")

    return timed


def _cpu_time(check: Callable[[bytes], None], data: bytes) -> float:
    started = time.process_time()
    check(data)
    return time.process_time() - started


def cut(data: bytes, first: int, second: int) -> list[bytes]:
    """Three pieces, some maybe empty; if both numbers are 0 and there are few bytes, one piece for each."""
    if first == second == 0 and len(data) <= 12:
        return [data[index : index + 1] for index in range(len(data))]
    size = len(data) + 1
    begin, end = sorted((first % size, second % size))
    return [data[:begin], data[begin:end], data[end:]]
