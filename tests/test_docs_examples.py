"""Every example in the documentation runs, and the tests among them pass."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.docs_examples import MODULE, PAGES, ROOT, examples, write

from fairlead.cli.new import write_project

NEEDS = {"fastapi.md": "fastapi"}
"""Packages that are none of ours, by the page that is about them."""

IN_A_PROJECT = {"projects.md"}
"""Pages whose examples change the project that ``fairlead new`` writes."""

WITH_PYTHON = [page for page in PAGES if any(each.language == "python" for each in examples(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_examples_can_be_read(page: Path) -> None:
    for example in examples(page):
        if example.language == "python":
            compile("\n" * (example.line - 1) + example.text, page, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_examples_pass(page: Path, tmp_path: Path) -> None:
    needed = NEEDS.get(page.name)
    if needed and find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    if page.name in IN_A_PROJECT:
        write_project(tmp_path, "demo")
    write(examples(page), tmp_path)
    (tmp_path / MODULE).touch()
    settings = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *settings]
    run = subprocess.run([*command, "--rootdir", "."], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    tests = sum(each.text.count("def test_") for each in examples(page) if each.language == "python")
    assert run.returncode == (0 if tests else pytest.ExitCode.NO_TESTS_COLLECTED), run.stdout + run.stderr
    assert not tests or f"{tests} passed" in run.stdout
