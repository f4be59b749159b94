"""Several sockets on one HTTP/2 connection (RFC 8441), which only Hypercorn offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.behaviours import http2
from tests.behaviours.hosts import HOSTS, ForeignHttp2, Http2Site

from fairlead.errors import Closed
from fairlead.testing.request import asking

pytestmark = pytest.mark.slow


@pytest.fixture
async def connection() -> AsyncIterator[http2.Connection]:
    (host,) = (each for each in HOSTS if isinstance(each, ForeignHttp2))
    for package in host.needs:
        pytest.importorskip(package)
    with host.started():
        async with host.site() as site:
            assert isinstance(site, Http2Site)
            async with http2.connection(site.port) as connection:
                yield connection


async def test_fifty_sockets_share_a_connection(connection: http2.Connection) -> None:
    async def talk(number: int) -> str | bytes:
        async with connection.connect("/echo") as client:
            await client.send(str(number))
            return await client.receive()

    assert await asyncio.gather(*map(talk, range(50))) == [str(number) for number in range(50)]


async def test_hypercorn_drops_all_of_them_when_one_speaks_after_the_servers_close(
    connection: http2.Connection,
) -> None:
    """Not what RFC 9113, 5.1 has: frames on a stream that is closed concern that stream alone."""
    async with connection.connect("/echo") as other:
        stream = http2.Stream(connection)
        await stream.open(asking("/returns"))
        assert (await stream.mailbox.over()).code == 1000
        await stream.send("a message that crossed the close")
        with pytest.raises(Closed) as lost:
            while True:
                await other.send("still here")
                await other.receive()
        assert lost.value.code == 1006
