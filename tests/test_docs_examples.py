"""Every example in the documentation runs, and the tests among them pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs_examples import MODULE, PAGES, ROOT, examples, write

from fairlead.cli.new import write_project

IN_A_PROJECT = {"projects.md"}
"""Pages whose examples change the project that ``fairlead new`` writes."""

TEST = re.compile(r"^(?:async )?def test_", re.MULTILINE)

SIGNATURES = ROOT / "docs" / "reference.md"

WITH_PYTHON = [
    page for page in PAGES if page != SIGNATURES and any(each.language == "python" for each in examples(page))
]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_examples_can_be_read(page: Path) -> None:
    for example in examples(page):
        if example.language == "python":
            compile("\n" * (example.line - 1) + example.text, page, "exec")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_examples_in_javascript_can_be_read(tmp_path: Path) -> None:
    for page in PAGES:
        for example in examples(page):
            if example.language == "javascript":
                script = tmp_path / f"{page.stem}-{example.line}.mjs"
                script.write_text(example.text)
                run = subprocess.run(["node", "--check", script], capture_output=True, text=True, timeout=100)
                assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_examples_pass(page: Path, tmp_path: Path) -> None:
    if page.name in IN_A_PROJECT:
        write_project(tmp_path, "demo")
    write(examples(page), tmp_path)
    (tmp_path / MODULE).touch()
    own_settings = ("-c", str(ROOT / "pyproject.toml"), "--import-mode=prepend", "--rootdir", ".")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *own_settings, "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    tests = sum(len(TEST.findall(module.read_text())) for module in tmp_path.rglob("*.py"))
    passed = re.search(r"^(\d+) passed", run.stdout, re.MULTILINE)
    assert run.returncode == (0 if tests else pytest.ExitCode.NO_TESTS_COLLECTED), run.stdout + run.stderr
    assert (int(passed[1]) if passed else 0) >= tests, run.stdout
