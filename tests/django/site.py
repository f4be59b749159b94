"""The project at work, with the views of one test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from django.test.utils import override_settings
from tests.e2e.harness import Raw, upgrade

from fairlead.django import get_asgi_application
from fairlead.testing import RunningServer, running


@asynccontextmanager
async def serving(*patterns: Any, **settings: Any) -> AsyncIterator[RunningServer]:
    """Serve views on a socket of this machine, under further settings, until the block ends."""
    with override_settings(ROOT_URLCONF=patterns, **settings):
        app = get_asgi_application()
        async with running(app, limits=app.limits) as server:
            yield server


@asynccontextmanager
async def opened(
    server: RunningServer, path: str, *headers: str, replace: tuple[str, str] = ("", "")
) -> AsyncIterator[tuple[Raw, bytes]]:
    """A TCP connection on which a handshake was sent, and the head of its answer.

    Args:
        server: Where.
        path: What is asked for.
        headers: Further lines.
        replace: What in it is written in another way.
    """
    host = server.url.removeprefix("http://")
    name, port = host.split(":")
    raw = Raw(*await asyncio.open_connection(name, int(port)))
    try:
        raw.send(upgrade(host, path, *headers).decode().replace(*replace).encode("latin-1"))
        yield raw, await raw.head()
    finally:
        raw.vanish()


def descriptors(file: Path) -> int:
    """How often this process has a file open."""
    folder = Path("/proc/self/fd")
    found = 0
    for each in os.listdir(folder):
        try:
            found += os.readlink(folder / each) == str(file)
        except FileNotFoundError:  # closed meanwhile
            pass
    return found
