"""The pool: connecting, keeping, and leaving nothing behind. What it does for an ask: test_gateway_upstream.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.fake_api import FakeApi, hang, reply
from yarl import URL

from fairlead.gateway.exchange import NoAnswer
from fairlead.gateway.pool import Pool
from fairlead.gateway.settings import UpstreamSettings

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def pool(api: FakeApi, **given: object) -> AsyncIterator[Pool]:
    made = Pool(UpstreamSettings(**{"url": api.url, **given}), None)  # type: ignore[arg-type]  # a test's table
    try:
        yield made
    finally:
        made.close()
        await api.left()


class Names:
    """Instead of the system's: every host has these addresses, and who asks is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.asked: list[object] = []
        self._addresses = addresses
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._look_up)

    async def _look_up(self, host: object, port: int, **given: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self._addresses]


async def test_a_connection_that_nobody_needs_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.gateway.pool.IDLE", 0.02)
    async with FakeApi() as api, pool(api) as made:
        await asyncio.gather(made.get(REQUEST), made.get(REQUEST))
        assert api.open == 2
        await api.left()
        await made.get(REQUEST)
        assert api.connections == 3


async def test_a_kept_connection_is_not_closed_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.gateway.pool.IDLE", 0.02)
    async with FakeApi() as api, pool(api) as made:
        api.script(reply(), reply(), hang)
        await asyncio.gather(made.get(REQUEST), made.get(REQUEST))
        held = asyncio.create_task(made.get(REQUEST))
        await api.left(1)
        assert not held.done()
        held.cancel()


async def test_one_that_is_cancelled_closes_its_connection() -> None:
    async with FakeApi() as api, pool(api) as made:
        api.script(hang)
        asking = asyncio.create_task(made.get(REQUEST))
        await api.asked(1)
        asking.cancel()
        await api.left()


async def test_closed_while_it_connects_it_asks_nobody() -> None:
    async with FakeApi() as api, pool(api) as made:
        asking = asyncio.create_task(made.get(REQUEST))
        await asyncio.sleep(0)
        made.close()
        with pytest.raises(NoAnswer, match="^not asked: closed$"):
            await asking
        await api.left()
        assert not api.requests


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_any_moment_of_connecting_nothing_is_left(turns: int) -> None:
    async with FakeApi() as api, pool(api) as made:
        asking = asyncio.create_task(made.get(REQUEST))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await made.get(REQUEST)
        await api.left(1)


async def test_a_name_is_looked_up_once_in_a_while_and_for_each_new_connection_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeApi() as api:
        api.default = reply(200, {}, {"Connection": "close"})
        names = Names(monkeypatch, "127.0.0.1")
        async with pool(api, url=f"http://api.example:{URL(api.url).port}/") as made:
            await made.get(REQUEST)
            await made.get(REQUEST)
            assert names.asked == ["api.example"]
            monkeypatch.setattr("fairlead.gateway.pool.RESOLVED", -1.0)
            made._resolved_until = 0.0
            await made.get(REQUEST)
            await made.get(REQUEST)
            assert names.asked == ["api.example"] * 3
        assert api.connections == 4


async def test_of_several_addresses_one_that_refuses_or_swallows_all_costs_its_part_of_the_time_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeApi() as api:
        port = URL(api.url).port or 0
        api.default = reply(200, {}, {"Connection": "close"})
        names = Names(monkeypatch, "127.0.0.3", "127.0.0.2", "127.0.0.1")  # nobody, a full backlog, the API
        with socket.create_server(("127.0.0.2", port), backlog=0) as full, socket.socket() as first:
            first.connect(full.getsockname())
            async with pool(api, url=f"http://api.example:{port}/", connect_timeout=0.3) as made:
                loop = asyncio.get_running_loop()
                started = loop.time()
                await made.get(REQUEST)
                between = loop.time()
                await made.get(REQUEST)
                assert 0.09 < between - started < 0.3
                assert loop.time() - between < 0.09
        assert names.asked == ["api.example"]


async def test_if_no_address_answers_the_last_ones_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeApi() as api:
        port = URL(api.url).port
        Names(monkeypatch, "127.0.0.3", "127.0.0.4")
        async with pool(api, url=f"http://api.example:{port}/") as made:
            with pytest.raises(NoAnswer, match=f"^cannot connect to api.example:{port}: connection refused$"):
                await made.get(REQUEST)


async def test_a_name_that_nobody_knows_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*args: object, **given: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with FakeApi() as api:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        async with pool(api, url="http://api.example:8000/") as made:
            with pytest.raises(NoAnswer, match="^cannot connect to api.example:8000: name or service not known$"):
                await made.get(REQUEST)


async def test_an_address_of_ipv6_is_written_with_its_brackets() -> None:
    async with FakeApi() as api, pool(api, url="http://[::1]:9/") as made:
        with pytest.raises(NoAnswer, match=r"^cannot connect to \[::1\]:9: "):
            await made.get(REQUEST)
