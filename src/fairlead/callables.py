"""What can be said of a function before it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling this gives a coroutine: an ``async def``, or an object whose ``__call__`` is one."""
    called = getattr(type(function), "__call__", None)  # noqa: B004  # of an object that can be called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def title(function: object) -> str:
    """Where a function is, for whoever has to find it: ``module.name``. Of an object: where its class is."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
