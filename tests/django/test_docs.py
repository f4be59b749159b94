"""docs/django.md: its examples are a project whose tests pass, and its list of settings is right."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest
from tests.django.test_example import environ
from tests.docs_examples import ROOT, examples, write

from fairlead.django.settings import FairleadSettings
from fairlead.limits import Limits

PAGE = ROOT / "docs" / "django.md"


@pytest.mark.slow
def test_the_examples_are_a_project_whose_tests_pass(tmp_path: Path) -> None:
    values = {"DJANGO_SETTINGS_MODULE": "project.settings", "PYTHONPATH": str(tmp_path), "FAIRLEAD_API__KEYS": ""}

    def manage(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-m", "django", *arguments],
            cwd=tmp_path,
            env=environ(**values),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    manage("startproject", "project", ".")
    manage("startapp", "chat")
    write(examples(PAGE), tmp_path)
    assert "Create model Notice" in manage("makemigrations")
    manage("migrate")
    assert "gateway.key is empty" in manage("check")
    assert re.search(r"^Ran 5 tests", manage("test"), re.MULTILINE)


def test_the_list_of_settings_is_complete_and_right() -> None:
    table = PAGE.read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    found = dict(re.findall(r"^\| `([\w.]+)` \| `(.+?)` \|", table, re.MULTILINE))
    defaults: dict[str, object] = {}
    for name, value in msgspec.structs.asdict(FairleadSettings()).items():
        if isinstance(value, msgspec.Struct):
            defaults |= {f"{name}.{key}": inner for key, inner in msgspec.structs.asdict(value).items()}
        elif not isinstance(value, Limits):
            defaults[name] = value
    assert {name: msgspec.json.decode(text) for name, text in found.items()} == msgspec.to_builtins(
        {**defaults, "allowed_origins": []}
    )
    assert "message_size" in {field.name for field in fields(Limits)}
