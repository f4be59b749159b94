"""The shopping list on Flask and flask-sock, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.processes import Process
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_sock"


@contextmanager
def served(folder: Path = EXAMPLE, **environ: str) -> Iterator[str]:
    """Serve it; its URL."""
    pytest.importorskip("flask_sock")
    command = [sys.executable, "-W", "error", "-m", "fairlead", "run", "--wsgi", "shopping:app", "--port", "0"]
    process = Process(command, folder=folder, environ={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ})
    try:
        yield process.line(r"listening: (http://\S+)")[1]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert [line for line in process.lines if re.search("ERROR|Traceback", line)] == []
    finally:
        process.kill()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Its URL."""
    with served(SHOPPING_KEY="of these tests alone") as url:
        yield url


def login(site: str, name: str) -> str:
    """Say a name; the cookie."""
    with httpx2.Client(base_url=site, trust_env=False) as browser:
        assert browser.get("/").headers["location"] == "/name"
        answer = browser.post("/name", data={"name": name})
        assert (answer.status_code, answer.headers["location"]) == (302, "/")
        assert f"Hello {name}." in browser.get("/").text
        cookie: str = answer.headers["set-cookie"].partition(";")[0]
    return cookie


def enter(site: str, name: str) -> ClientConnection:
    """Say a name, and open the list."""
    return visit(site, login(site, name))


def visit(site: str, cookie: str) -> ClientConnection:
    """Open the list."""
    return connect(f"{site.replace('http', 'ws')}/changes", additional_headers={"Cookie": cookie}, proxy=None)


def tell(client: ClientConnection, message: object) -> None:
    client.send(json.dumps(message))


def told(client: ClientConnection) -> Any:
    return json.loads(client.recv(timeout=5))


@pytest.mark.slow
def test_everybody_sees_what_anybody_changes(site: str) -> None:
    with enter(site, "Ann") as ann:
        assert told(ann) == {"things": {}}
        tell(ann, {"add": " milk "})
        added = told(ann)
        assert added == {"added": added["added"], "text": "milk", "by": "Ann"}
        with enter(site, "Bob") as bob:
            assert told(bob) == {"things": {str(added["added"]): "milk"}}
            tell(bob, {"done": added["added"]})
            assert told(ann) == told(bob) == {"done": added["added"], "by": "Bob"}
        tell(ann, {"add": "bread"})
        assert told(ann)["text"] == "bread"


@pytest.mark.slow
@pytest.mark.parametrize(
    "message", ["", "no json", "[]", '{"add": "  "}', '{"add": 7}', '{"done": 999}', '{"done": "1"}']
)
def test_what_cannot_be_done_is_answered(site: str, message: str) -> None:
    with enter(site, "Ann") as ann:
        told(ann)
        ann.send(message)
        assert told(ann) == {"error": "that cannot be done"}


@pytest.mark.slow
@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"Origin": "https://evil.example"}, 403)])
def test_strangers_are_refused(site: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{site.replace('http', 'ws')}/changes", additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == status


@pytest.mark.slow
def test_a_name_is_kept_over_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.key", "__pycache__"))
    with served(folder) as site:
        cookie = login(site, "Ann")
    with served(folder) as site, visit(site, cookie) as ann:
        assert told(ann) == {"things": {}}
    assert (folder / "shopping.key").stat().st_mode & 0o777 == 0o600
