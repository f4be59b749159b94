"""Ten thousand clients vanish without a word, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import resource
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from tests.e2e import processes
from tests.e2e.clients import Crowd, subscribe, upgrade
from tests.e2e.processes import KEY, PATIENCE, CheapApi, cheap_api, gateway, until
from tests.serving import port, serving

from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings
from fairlead.server import Listener, Server
from fairlead.server.run import loop_factory, raise_descriptor_limit

pytestmark = pytest.mark.slow

CLIENTS = 10_000
FEW = 1_000
GRANTS = 10
COOKIE = 300


def answer(head: bytes) -> object:
    """Ten grants that nobody else has, and rights that end."""
    found = re.search(rb"n=(\d+)", head)
    assert found is not None
    number = found[1].decode()
    rooms = [f"room-{number}-{place}" for place in range(GRANTS)]
    return {"allowed_rooms": rooms, "user_id": number, "expires_in": 3600}


def enter(address: int, count: int) -> Crowd:
    """Connect so many clients, each with its cookie and in one of its rooms."""
    crowd = Crowd(address)
    requests = [upgrade(f"Cookie: {f'n={number:06d}; sid='.ljust(COOKIE, 's')}\r\n") for number in range(count)]
    crowd.open(requests, [subscribe(f"room-{number:06d}-3") for number in range(count)])
    return crowd


def come_and_go(running: processes.Gateway, api: CheapApi, base: int, *, reset: bool) -> int:
    """All come, all vanish; the gateway's memory when nothing is left of them."""
    crowd = enter(running.port, CLIENTS)
    assert (running.total("connections"), running.total("rooms")) == (CLIENTS, CLIENTS)
    crowd.drop(reset=reset)
    until(lambda: running.total("connections") == 0, "no connection is left")
    assert running.total("rooms") == 0
    assert running.metric("fairlead_connections") == 0
    api.hang_up()  # the gateway's kept connections to it are not the clients'
    until(lambda: running.descriptors() == base, f"{base} descriptors, as at the start")
    return running.memory()


def test_of_ten_thousand_dropped_connections_nothing_is_left(tmp_path: Path) -> None:
    """The level that memory has to come back to is the one after three rounds, from where on it hardly rises: before
    that, not all of what the allocator and the interpreter keep for the next time is there, which is no leak. Half a
    kilobyte left behind by each connection is more than what is allowed; the tests below see less than that."""
    raise_descriptor_limit()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < CLIENTS + 500:
        pytest.skip(f"needs {CLIENTS + 500} descriptors in each of two processes")
    with cheap_api(answer) as api, gateway(tmp_path, api.url) as running:
        base = running.descriptors()
        fresh = running.memory()
        first, _, level = [come_and_go(running, api, base, reset=bool(number % 2)) for number in range(3)]
        after_resets = come_and_go(running, api, base, reset=True)
        after_fins = come_and_go(running, api, base, reset=False)
        print(
            f"\nMB: {fresh / 1e6:.1f} at the start, {first / 1e6:.1f} and {level / 1e6:.1f} after warming up, ", end=""
        )
        print(f"{after_resets / 1e6:.1f} after RST, {after_fins / 1e6:.1f} after FIN; {running.cpu():.1f} s of CPU")
        assert abs(after_resets - level) <= 0.05 * level
        assert abs(after_fins - level) <= 0.05 * level
        assert not [line for line in running.lines if " INFO " not in line]


OURS = re.compile(r"(fairlead|uvicorn)\.(?!gateway\.exchange)")  # the pool keeps its 64 connections to the API
FOREIGN = (type, ModuleType, FunctionType, FrameType, Thread, logging.Logger)
"""What leads out of what a server holds, into everything else."""


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_of_a_thousand_dropped_connections_no_task_no_timer_and_no_object_is_left(loop: str, reset: bool) -> None:
    with cheap_api(answer) as api, asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(leave_nothing(api, reset=reset))


async def leave_nothing(api: CheapApi, *, reset: bool) -> None:
    async with site(api) as (app, server):
        await one_round(app, server, api, 1, reset=reset)  # what is made once and kept
        objects, timers, entries = living(), pending(), held(app, server)
        await one_round(app, server, api, FEW, reset=reset)
        assert living() - objects == Counter()
        assert pending() - timers == Counter()
        # The pool may still hold some of its 64 connections that the API has closed, each with eight entries or so. A
        # single entry left behind by each connection would be FEW.
        assert held(app, server) - entries < FEW * 8 // 10


@asynccontextmanager
async def site(api: CheapApi) -> AsyncIterator[tuple[Gateway, Server]]:
    """A gateway in this event loop."""
    app = Gateway(GatewaySettings(upstream=UpstreamSettings(url=api.url), api=ApiSettings(keys=(KEY,))))
    async with serving(app, also=[Listener(app=app.admin, port=0)]) as server:
        yield app, server


async def one_round(app: Gateway, server: Server, api: CheapApi, count: int, *, reset: bool) -> None:
    """Come and vanish; of the tasks and deadlines that this begins, none is there when it is over."""
    tasks = asyncio.all_tasks()
    gc.collect()
    gc.disable()
    try:
        crowd = await asyncio.to_thread(enter, port(server), count)
        connections = list(app.connections())
        assert len(connections) == len(server.shared.ticker.wheel) == count
        assert sum(1 for each in connections if each.due) == count
        del connections
        await asyncio.to_thread(crowd.drop, reset=reset)
        api.hang_up()  # or what the gateway keeps open to it grows with the rush
        async with asyncio.timeout(PATIENCE):
            while server.shared.connections or list(app.connections()) or not asyncio.all_tasks() <= tasks:
                await asyncio.sleep(0.01)
        assert (len(server.shared.ticker.wheel), len(app.node.hub)) == (0, 0)
    finally:
        gc.enable()


def living() -> Counter[str]:
    """The instances of our classes and of uvicorn's, by class. Not collected first: a cycle of garbage is a leak."""
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return Counter(name for name in names if OURS.match(name))


def held(*roots: object) -> int:
    """The entries of all dictionaries, sets, lists and tuples that these objects hold, however far down."""
    seen: set[int] = set()
    ahead = list(roots)
    count = 0
    while ahead:
        each = ahead.pop()
        if id(each) in seen or isinstance(each, FOREIGN) or type(each).__module__.startswith(("asyncio", "uvloop")):
            continue
        seen.add(id(each))
        if isinstance(each, dict | set | frozenset | list | tuple | deque):
            count += len(each)
        ahead += gc.get_referents(each)
    return count


def pending() -> Counter[str]:
    """The timers of the running loop that were not cancelled, by what they call; uvloop does not tell."""
    scheduled: Any = getattr(asyncio.get_running_loop(), "_scheduled", ())
    return Counter(str(getattr(each._callback, "__qualname__", each)) for each in scheduled if not each.cancelled())
