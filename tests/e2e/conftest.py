"""One gateway per test, on uvloop and on asyncio's own loop, that leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from tests.e2e.harness import Site, Start
from tests.fake_api import FakeApi


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops; for what takes long, the one that is used in production."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.get_closest_marker("slow") is None:
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@pytest.fixture
async def nothing_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """See that no task and no timer outlives the gateway, and that nothing went wrong behind the client's back."""
    yield
    assert asyncio.all_tasks() <= {asyncio.current_task()}
    timers = getattr(asyncio.get_running_loop(), "_scheduled", ())  # asyncio's own loop has it; uvloop tells nobody
    assert [timer for timer in timers if not timer.cancelled()] == []
    records = [*caplog.get_records("setup"), *caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []


@pytest.fixture
async def api(nothing_left: None) -> AsyncIterator[FakeApi]:
    """The API; it lets everybody in, with no rooms, until it is told otherwise."""
    async with FakeApi() as api:
        yield api


@pytest.fixture
async def start(api: FakeApi) -> AsyncIterator[Start]:
    """Start gateways with settings of the test's own; they are stopped after it."""
    sites: list[Site] = []

    async def start(**sections: Any) -> Site:
        site = Site(api, **sections)
        sites.append(site)
        await site.start()
        return site

    yield start
    for site in sites:
        await site.stop()


@pytest.fixture
async def site(start: Start) -> Site:
    """A gateway with the default settings."""
    return await start()
