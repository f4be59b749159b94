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

BEFORE = """
SECRET_KEY = "of this test alone"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "project.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "static/"
"""
"""What every project has."""


@pytest.mark.slow
def test_the_examples_are_a_project_whose_tests_pass(tmp_path: Path) -> None:
    for package in ("project", "chat"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "project" / "settings.py").write_text(BEFORE)
    write(examples(PAGE), tmp_path)
    settings = environ(DJANGO_SETTINGS_MODULE="project.settings", PYTHONPATH=str(tmp_path))
    for arguments in (["check"], ["test"]):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-m", "django", *arguments],
            cwd=tmp_path,
            env=settings,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^Ran 5 tests", run.stderr, re.MULTILINE)


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
