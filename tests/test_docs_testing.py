"""The examples in docs/testing.md are one test module, and it passes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "testing.md"


@pytest.mark.slow
def test_the_examples_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    module = tmp_path / "test_examples.py"
    module.write_text("\n".join(blocks))
    settings = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *settings, str(module)]
    run = subprocess.run([*command, "--rootdir", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    tests = sum(block.count("def test_") for block in blocks)
    assert f"{tests} passed" in run.stdout
