from __future__ import annotations

import subprocess
import sys

import pytest

import fairlead


@pytest.mark.parametrize("name", fairlead.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(fairlead, name)
    assert value.__doc__
    assert value.__module__.startswith("fairlead.")
    assert name in dir(fairlead)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = fairlead.nonsense


def test_importing_the_package_or_publishing_loads_no_server() -> None:
    code = "import sys, fairlead; fairlead.Publisher; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "uvicorn", "aiohttp", "starlette"} & set(run.stdout.split())
