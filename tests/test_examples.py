"""The examples' own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["test"], ["makemigrations", "--check", "--dry-run"], ["check"]])
def test_the_django_project_is_sound(arguments: list[str]) -> None:
    command = [sys.executable, "-W", "error", "manage.py", *arguments]
    run = subprocess.run(command, cwd=EXAMPLES / "django_api", capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
