"""The list of exceptions speaks of what there is, and docs/servers.md has all of it."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.behaviours import endings, handshakes, in_rooms, messages, pressure  # noqa: F401  # they register themselves
from tests.behaviours.behaviour import BEHAVIOURS
from tests.behaviours.exceptions import CANNOT, COMPLAINS, RESTART
from tests.behaviours.hosts import HOSTS

from fairlead.testing import connect

PAGE = Path(__file__).parents[2] / "docs" / "servers.md"


def test_exceptions_are_of_behaviours_and_hosts_that_there_are() -> None:
    assert CANNOT.keys() | COMPLAINS.keys() <= {host.name for host in HOSTS}
    for exceptions in CANNOT.values():
        assert exceptions.keys() <= BEHAVIOURS.keys() | {RESTART}


def test_exceptions_differ_from_what_is_expected() -> None:
    for host, exceptions in CANNOT.items():
        for name, exception in exceptions.items():
            if name != RESTART:
                assert exception.seen != BEHAVIOURS[name].expected, f"{host}: {name}"


@pytest.mark.parametrize("host", CANNOT)
def test_the_page_has_every_exception_under_its_host(host: str) -> None:
    said = section(host)
    for exception in CANNOT[host].values():
        assert exception.reason in said, exception.reason
    assert COMPLAINS.get(host, "") in said


@pytest.mark.slow
@pytest.mark.parametrize(("number", "path"), [(0, "/live/echo"), (1, "/echo")])
async def test_the_examples_of_the_page_echo(number: int, path: str) -> None:
    pytest.importorskip("fastapi")
    example = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]
    names: dict[str, Any] = {}
    exec(example, names)
    async with connect(names["app"], path) as client:
        await client.send("hello")
        assert await client.receive() == "hello"


def section(host: str) -> str:
    """What the page says about a host, in one line."""
    found = PAGE.read_text().partition(f"<!-- {host} -->")[2].partition("\n#")[0].partition("<!--")[0]
    assert found, f"{PAGE.name} has no section about {host}"
    return " ".join(found.split())
