"""The browser client, tested on Node.js with a scripted WebSocket and its own clock."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "js"
NODE = shutil.which("node")


def node_version() -> tuple[int, ...]:
    """(0,) without Node.js."""
    if NODE is None:
        return (0,)
    output = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in output.strip().removeprefix("v").split("."))


@pytest.mark.slow
@pytest.mark.skipif(node_version() < (20, 19), reason="needs Node.js 20.19 or newer, which takes .js files for modules")
def test_the_browser_client_keeps_its_rules() -> None:
    assert NODE is not None
    files = [str(path) for path in sorted(TESTS.glob("*.test.js"))]
    run = subprocess.run([NODE, "--test", *files], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert files
