"""The examples' own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["test"], ["makemigrations", "--check", "--dry-run"], ["check"]])
def test_the_django_project_is_sound(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=EXAMPLES / "django_api",
        env={**os.environ, "DEMO_DATABASE": ":memory:"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
