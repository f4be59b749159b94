"""The same behaviours over every host, and the exceptions to them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from copy import copy
from importlib.util import find_spec

import pytest
from tests.behaviours import endings, handshakes, in_rooms, messages, pressure  # noqa: F401  # they register themselves
from tests.behaviours.behaviour import BEHAVIOURS
from tests.behaviours.exceptions import CANNOT, COMPLAINS, RESTART
from tests.behaviours.hosts import HOSTS, Foreign, Host, Site

pytestmark = pytest.mark.slow

COMPLAINT = re.compile(
    "Exception in ASGI application|Error in ASGI Framework|Application callable raised|Exception inside application"
    "|Error in WebSocket ASGI application|never retrieved|was destroyed but it is pending"
)
"""What servers write about applications that fail. Ours deals with its failures itself."""


def skip_without(host: Host) -> None:
    """Skip where a package is not installed."""
    for package in host.needs:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module", params=HOSTS, ids=str)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    host: Host = request.param
    skip_without(host)
    with host.started():
        yield host
    if host.name not in COMPLAINS:
        assert [line for line in host.log() if COMPLAINT.search(line)] == []


@pytest.fixture
async def site(host: Host) -> AsyncIterator[Site]:
    async with host.site() as site:
        yield site


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_behaviour(host: Host, site: Site, name: str) -> None:
    behaviour = BEHAVIOURS[name]
    exception = CANNOT.get(host.name, {}).get(name)
    if exception is None:
        assert await behaviour.observe(site) == behaviour.expected
    elif not exception.fatal:
        assert await behaviour.observe(site) == exception.seen
    else:
        victim = copy(host)
        with victim.started():
            async with victim.site() as another:
                assert await behaviour.observe(another) == exception.seen


@pytest.mark.parametrize("host", [host for host in HOSTS if isinstance(host, Foreign)], ids=str)
async def test_a_client_is_told_of_a_restart(host: Foreign) -> None:
    skip_without(host)
    exception = CANNOT.get(host.name, {}).get(RESTART)
    victim = copy(host)
    with victim.started():
        async with victim.site() as site, site.connect("/echo") as client:
            await client.send("hello")
            assert await client.receive() == "hello"
            victim.terminate()
            assert (await client.closed()).code == (1012 if exception is None else exception.seen)
