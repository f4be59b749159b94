"""``fairlead run --wsgi``: what it makes of an application, and what it cannot serve."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.cli import main
from fairlead.cli.run import wsgi_application
from fairlead.cli.target import Target
from fairlead.testing import running

SITE = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

async def other(scope, receive, send):
    ...

class Other:
    async def __call__(self, scope, receive, send):
        ...

third = Other()
nothing = 7
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Run a command in this process and in a folder with a module ``site_of_wsgi``."""
    for name in [name for name in os.environ if name.startswith("FAIRLEAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "site_of_wsgi.py").write_text(SITE)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run
    sys.modules.pop("site_of_wsgi", None)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["site_of_wsgi:other", "--wsgi"], "site_of_wsgi:other is an ASGI application: leave out --wsgi"),
        (["site_of_wsgi:third", "--wsgi"], "site_of_wsgi:third is an ASGI application: leave out --wsgi"),
        (["site_of_wsgi:nothing", "--wsgi"], "site_of_wsgi:nothing is no WSGI application, but int"),
        (["site_of_wsgi:app", "--threads", "2"], "--threads and --sockets are for --wsgi"),
        (["site_of_wsgi:app", "--sockets", "2"], "--threads and --sockets are for --wsgi"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(run: Run, arguments: list[str], fault: str) -> None:
    assert run("run", *arguments) == (1, "", f"fairlead: {fault}\n")


def test_a_project_is_none(run: Run) -> None:
    assert run("new", "demo")[0] == 0
    status, _, err = run("run", "demo", "--wsgi")
    assert (status, err) == (1, "fairlead: --wsgi is for MODULE:NAME, not for a project's folder\n")


def test_check_says_whether_and_where_it_would_be_served(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "site_of_wsgi:app: a WSGI application on http://127.0.0.1:8000\n"
    assert run("check", "--wsgi", "site_of_wsgi:app") == (0, said, "")
    fault = "fairlead: site_of_wsgi:nothing is no WSGI application, but int\n"
    assert run("check", "--wsgi", "site_of_wsgi:nothing") == (1, "", fault)
    monkeypatch.setenv("FAIRLEAD_BROKER__URL", "pigeon://")
    assert run("check", "--wsgi", "site_of_wsgi:app")[0] == 1


@pytest.mark.parametrize("target", [[], ["demo"], ["demo/server.yml"], ["-c", "fairlead.toml"]])
def test_check_takes_no_project_for_one(run: Run, target: list[str]) -> None:
    assert run("new", "demo")[0] == 0
    assert run("check", "--wsgi", *target) == (1, "", "fairlead: --wsgi is for MODULE:NAME\n")


async def test_settings_and_flags_reach_the_application(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_SERVER__ALLOWED_ORIGINS", "https://page.example")
    monkeypatch.setenv("FAIRLEAD_LIMITS__PING_TIMEOUT", "70")
    place = Target.parse("site_of_wsgi:app")
    app = wsgi_application(place, place.settings(), {"threads": 3, "sockets": 5})
    assert (app._pool.limit, app._threads.limit, app.limits.ping_timeout) == (3, 5, 70)
    assert app._origins == frozenset({"https://page.example:443"})
    async with running(app) as server:
        assert (await server.http("GET", "/")).text == "hello"
