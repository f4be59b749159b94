"""What a behaviour is: something to do with the application, and what has to be observed of it everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.behaviours.hosts import Site

Observe = Callable[[Site], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One rule.

    Attributes:
        observe: Does it, and returns what happened.
        expected: What has to happen.
    """

    observe: Observe
    expected: object


BEHAVIOURS: dict[str, Behaviour] = {}
"""All of them, by the names of their functions."""


def expect(expected: object) -> Callable[[Observe], Observe]:
    """Make a behaviour of the decorated function."""

    def register(observe: Observe) -> Observe:
        name = getattr(observe, "__name__", "")
        assert name not in BEHAVIOURS, f"two behaviours are called {name}"
        BEHAVIOURS[name] = Behaviour(observe, expected)
        return observe

    return register
