"""What is said of functions before they are called."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from fairlead.callables import is_coroutine_function, title


async def waits() -> None: ...


def blocks() -> None: ...


async def streams() -> Any:
    yield


class Waiting:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...


class Blocking:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [waits, partial(waits), Waiting(), Waiting().method])
def test_what_gives_a_coroutine(function: Any) -> None:
    assert is_coroutine_function(function)


@pytest.mark.parametrize("function", [blocks, partial(blocks), Blocking(), streams, Waiting, lambda: waits()])
def test_what_gives_none_or_does_not_say_so(function: Any) -> None:
    assert not is_coroutine_function(function)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (waits, "waits"),
        (partial(partial(waits)), "waits"),
        (Waiting, "Waiting"),
        (Waiting(), "Waiting"),
        (Waiting().method, "Waiting.method"),
    ],
)
def test_a_title_says_where_to_look(thing: object, name: str) -> None:
    assert title(thing) == f"tests.test_callables.{name}"
