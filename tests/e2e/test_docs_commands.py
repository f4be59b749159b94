"""The commands in the documentation that serve something, as they stand there but for their port."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.docs_examples import MODULE, ROOT, examples, write
from tests.e2e.processes import PATIENCE, Process, exchange, until
from tests.serving import free_port
from websockets.sync.client import connect
from websockets.typing import Origin

from fairlead.testing import FakeApi, reply

pytestmark = pytest.mark.slow

PORT = "8000"
SERVERS = ("fairlead run", "uvicorn", "hypercorn", "granian", "python")
HOWTO = ROOT / "docs" / "howto"
PYRAMID = ROOT / "docs" / "pyramid.md"


def serving(page: Path) -> Iterator[str]:
    """The lines of a page's shell blocks that start a server for the page's own files."""
    for example in examples(page):
        if example.language == "sh":
            for line in example.text.splitlines():
                if line.startswith(SERVERS) and "module:app" not in line:
                    yield line.partition("  #")[0]


SHOUTING = [(page, line) for page in (HOWTO / "servers.md", HOWTO / "one-handler.md") for line in serving(page)]


@contextmanager
def started(command: str, folder: Path, port: int) -> Iterator[Process]:
    """Run a command line in a shell until the block ends."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "FAIRLEAD_SERVER__PORT": str(port)}
    *before, last = re.sub(rf"\b{PORT}\b", str(port), command).split("\n")
    script = "\n".join(["set -e", *before, f"exec {last} >&2"])
    process = Process(["sh", "-c", script], folder=folder, environ=environ)

    def listens() -> bool:
        assert process.running, process.lines
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens, f"{command!r} to listen")
        yield process
    finally:
        if process.running:
            process.signal(signal.SIGTERM)
        process.wait()


def write_examples(page: Path, folder: Path, port: int) -> None:
    """The page's files, for another port."""
    write((each._replace(text=each.text.replace(PORT, str(port))) for each in examples(page)), folder)


@pytest.mark.parametrize(("page", "command"), SHOUTING, ids=[command for _, command in SHOUTING])
def test_a_handler_is_served(page: Path, command: str, tmp_path: Path) -> None:
    port = free_port()
    write_examples(page, tmp_path, port)
    with started(command, tmp_path, port), connect(f"ws://127.0.0.1:{port}/rooms/lobby", proxy=None) as client:
        client.send("ahoy")
        assert str(client.recv(PATIENCE)).lower() == "ahoy"


def test_the_readme_makes_a_project_and_serves_it(tmp_path: Path) -> None:
    port = free_port()
    commands = next(each.text for each in examples(ROOT / "README.md") if each.text.startswith("fairlead new"))
    with started(commands.strip(), tmp_path, port):
        page = exchange(port, "GET", "/")
        assert (page.status, b"<h1>demo</h1>" in page.body) == (200, True)
    assert (tmp_path / "demo" / "apps" / "hello" / "views.py").exists()


def test_the_readme_serves_a_chat_for_two(tmp_path: Path) -> None:
    port = free_port()
    write_examples(ROOT / "README.md", tmp_path, port)
    assert "fairlead run chat:app" in serving(ROOT / "README.md")
    url = f"ws://127.0.0.1:{port}/rooms/lobby"
    with (
        started("fairlead run chat:app", tmp_path, port),
        connect(url, proxy=None) as one,
        connect(url, proxy=None) as other,
    ):
        one.send("ahoy")
        assert (one.recv(PATIENCE), other.recv(PATIENCE)) == ("ahoy", "ahoy")


@pytest.mark.parametrize("page", ["README.md", "docs/gateway.md", "docs/django.md"])
def test_pages_of_the_api_may_connect_to_the_gateway(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_API__PORT", "0")
    site, port = "http://127.0.0.1:8000", free_port()
    (command,) = (each.text.strip() for each in examples(ROOT / page) if "\nfairlead gateway" in each.text)
    (script,) = (each.text for each in examples(ROOT / page) if "import { connect }" in each.text)
    assert "http://127.0.0.1:8100/fairlead.js" in script and "ws://127.0.0.1:8100/ws/" in script
    with FakeApi() as api:
        api.default = reply(200, {"user": {"id": 7}})
        command = command.replace(f"{site}/api/bootstrap/", api.url).replace(site, "http://pages.test")
        with started(command, tmp_path, port):
            assert exchange(port, "GET", "/fairlead.js").status == 200
            with connect(f"ws://127.0.0.1:{port}/ws/", origin=Origin("http://pages.test"), proxy=None) as client:
                assert json.loads(client.recv(PATIENCE))["is_authorized"] is True


@contextmanager
def nginx(folder: Path, port: int, front: int, static: str = "") -> Iterator[Process]:
    """The configuration of the page about nginx, without TLS, on the port ``front``, and before ``port``.

    Args:
        folder: For nginx's files.
        port: Of the application.
        front: Of nginx.
        static: What stands in the server block besides.
    """
    (conf,) = (each.text for each in examples(HOWTO / "nginx.md") if each.language == "nginx")
    site = "\n".join(line for line in conf.splitlines() if "ssl_" not in line)
    site = site.replace("listen 443 ssl", f"{static}\nlisten 127.0.0.1:{front}").replace(PORT, str(port))
    temporary = "".join(
        f"{each}_temp_path {folder}/{each}; " for each in ("client_body", *"proxy fastcgi uwsgi scgi".split())
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{site}\n}}\n"
    )
    with started(f"nginx -p {folder} -c {folder}/nginx.conf -e stderr", folder, front) as process:
        yield process


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_nginx_passes_sockets_and_pages_on(tmp_path: Path) -> None:
    port, front = free_port(), free_port()
    write_examples(HOWTO / "nginx.md", tmp_path, port)
    origin = f"http://127.0.0.1:{front}"
    with started("fairlead run main:app", tmp_path, port), nginx(tmp_path, port, front):
        assert exchange(front, "GET", "/fairlead.js").status == 200
        assert exchange(front, "GET", "/whoami").status == 426
        with connect(f"ws://127.0.0.1:{front}/whoami", origin=Origin(origin), proxy=None) as client:
            assert client.recv(PATIENCE) == "ws from 127.0.0.1"


@pytest.fixture
def yourproject(tmp_path: Path) -> Path:
    """A folder with the module of the page about Pyramid."""
    write_examples(PYRAMID, tmp_path, 0)
    (tmp_path / MODULE).rename(tmp_path / "yourproject.py")
    with (tmp_path / "yourproject.py").open("a") as module:
        module.write("\napp = main({})\n")
    return tmp_path


def is_served(port: int) -> None:
    """See that the project of the page about Pyramid is served there."""
    assert b"socket(" in exchange(port, "GET", "/echo").body
    assert b"export function socket" in exchange(port, "GET", "/fairlead.js").body
    with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as client:
        client.send("ahoy")
        assert client.recv(PATIENCE) == "ahoy"


def test_a_pyramid_application_is_served(yourproject: Path) -> None:
    port = free_port()
    (command,) = serving(PYRAMID)
    with started(command.replace("6543", str(port)), yourproject, port):
        is_served(port)


def test_an_installed_pyramid_project_is_served_by_pserve(yourproject: Path) -> None:
    port = free_port()
    (declared,) = (each.text for each in examples(PYRAMID) if each.file == "pyproject.toml")
    ((group, names),) = tomllib.loads(declared)["project"]["entry-points"].items()
    installed = yourproject / "yourproject-1.0.dist-info"  # what pip makes of it
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: yourproject\nVersion: 1.0\n")
    points = "\n".join(f"{name} = {place}" for name, place in names.items())
    (installed / "entry_points.txt").write_text(f"[{group}]\n{points}\n")
    ini = yourproject / "development.ini"
    ini.write_text(ini.read_text().replace("6543", str(port)))
    with started(f"export PYTHONPATH=.:$PYTHONPATH\npserve {ini.name}", yourproject, port):
        is_served(port)


def test_a_pyramid_module_is_served_by_pserve(yourproject: Path) -> None:
    port = free_port()
    ini = yourproject / "development.ini"
    egg, factory = "use = egg:yourproject", "paste.app_factory = yourproject:main"
    assert f"`{factory}` takes the place of `{egg}`" in PYRAMID.read_text()
    ini.write_text(ini.read_text().replace(egg, factory).replace("6543", str(port)))
    with started(f"export PYTHONPATH=.:$PYTHONPATH\npserve {ini.name}", yourproject, port):
        is_served(port)
