"""A Django project in this process, with a database in a file, which threads and processes can share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import django
import pytest
import uvloop

FOLDER = Path(tempfile.mkdtemp(prefix="fairlead-django-"))
DATABASE = FOLDER / "project.sqlite3"

with pytest.MonkeyPatch.context() as environment:  # of this alone: other tests start projects of their own
    environment.setenv("TEST_PROJECT_DATABASE", str(DATABASE))
    environment.setenv("DJANGO_SETTINGS_MODULE", "tests.django.project.settings")
    django.setup()


def pytest_unconfigure() -> None:
    shutil.rmtree(FOLDER)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops; for what takes long, the one that is used in production."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.get_closest_marker("slow") is None:
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@pytest.fixture(scope="session")
def database() -> Iterator[Path]:
    """The database's file, with its tables."""
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", run_syncdb=True, verbosity=0)
    connections.close_all()
    yield DATABASE
    connections.close_all()


@pytest.fixture(scope="session")
def ada(database: Path) -> Any:
    """A user."""
    from django.contrib.auth.models import User

    return User.objects.create_user("ada")


@pytest.fixture
def logged_in(ada: Any) -> dict[str, str]:
    """The cookies of a browser in which she is logged in."""
    from django.db import connections
    from django.test import Client

    from fairlead.django.testing import cookies_of

    client = Client()
    client.force_login(ada)
    connections.close_all()
    return cookies_of(client)
