"""Projects from end to end: what ``fairlead new`` writes, served by ``fairlead run`` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.processes import PATIENCE, Process, Reply, exchange, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

pytestmark = pytest.mark.slow

FAIRLEAD = str(Path(sys.executable).with_name("fairlead"))
KEY = "k" * 43


class Running(Process):
    """A running ``fairlead run``, in a process group of its own.

    Attributes:
        port: Where it listens.
    """

    port = 0

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        own_group = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-c", own_group, FAIRLEAD, "run", *arguments]
        super().__init__(command, folder=folder, environ=environment(**environ))

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to everybody in the group, as a terminal does."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        super().kill()

    def listening(self, times: int = 1) -> None:
        """Wait until it has said so many times that it listens; AssertionError if it ends before."""
        pattern = re.compile(r"listening: http://127.0.0.1:(\d+)")

        def look() -> bool:
            found = [match for line in list(self.lines) if (match := pattern.search(line))]
            if found:
                self.port = int(found[-1][1])
            assert self.running, self.lines
            return len(found) >= times

        until(look, f"it listens {times} times")

    def get(self, path: str, **headers: str) -> Reply:
        """GET a page."""
        return exchange(
            self.port, "GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    def connect(self, path: str, **options: Any) -> ClientConnection:
        """A WebSocket."""
        connection: ClientConnection = connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)
        return connection


def environment(**more: str) -> dict[str, str]:
    """The one of this process without settings, and with some."""
    return {name: text for name, text in os.environ.items() if not name.startswith("FAIRLEAD_")} | more


def fairlead(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [FAIRLEAD, *arguments],
        cwd=folder,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@contextmanager
def running(folder: Path, *arguments: str, **environ: str) -> Iterator[Running]:
    """Run ``fairlead run`` until the block ends, and see that SIGTERM ends it cleanly."""
    given = () if any(each.startswith("--port") for each in arguments) else ("--port=0",)
    process = Running(folder, *given, *arguments, **environ)
    try:
        process.listening()
        yield process
    finally:
        if process.running:
            process.signal(signal.SIGTERM)
        try:
            status = process.wait()
        finally:
            process.kill()
    assert status == 0, process.lines


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def call(client: ClientConnection, method: str, *params: object, id: int = 1) -> None:
    client.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))


def answer(client: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.recv(PATIENCE))
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A new project, for this test to change."""
    assert fairlead("new", "demo", folder=tmp_path).returncode == 0
    return tmp_path / "demo"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A new project as it is, running."""
    folder = tmp_path_factory.mktemp("projects")
    assert fairlead("new", "demo", folder=folder).returncode == 0
    write(folder / "demo", {"apps/hello/static/camel.html": "<!doctype html>", "common/static/tz.js": "export {};"})
    with running(folder / "demo") as process:
        yield process


# -- the new project ---------------------------------------------------------------------------------------------------


def test_page_knows_the_last_visit_by_the_cookie(served: Running) -> None:
    first = served.get("/")
    assert b"Last visit: None" in first.body
    cookie, _, attributes = first.headers["set-cookie"].partition(";")
    assert "httponly" in attributes and "samesite=lax" in attributes
    assert re.search(rb"Last visit: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d<", served.get("/", Cookie=cookie).body)
    assert b"Last visit: None" in served.get("/", Cookie=cookie + "x").body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/common/tz.js", "text/javascript; charset=utf-8"),
        ("/static/common/style.css", "text/css; charset=utf-8"),
        ("/static/hello/camel.html", "text/html; charset=utf-8"),
        ("/static/hello/hello.js", "text/javascript; charset=utf-8"),
        ("/fairlead.js", "text/javascript; charset=utf-8"),
    ],
)
def test_static_files_have_their_types_and_are_sent_once(served: Running, path: str, kind: str) -> None:
    reply = served.get(path)
    assert (reply.status, reply.headers["content-type"]) == (200, kind)
    assert served.get(path, If_None_Match=reply.headers["etag"]).status == 304


@pytest.mark.parametrize(
    "path",
    [
        "/session.key",
        "/server.yml",
        "/static/session.key",
        "/static/common/../../session.key",
        "/static/common/%2e%2e/%2e%2e/session.key",
        "/static/common/..%2f..%2fsession.key",
        "/static/common/..%5c..%5csession.key",
        "/static/common//etc/hostname",
        "/static/common/%2fetc/hostname",
        "/static/hello/../views.py",
        "/static/hello/file:///etc/hostname",
    ],
)
def test_no_file_that_a_client_names_is_served(served: Running, path: str) -> None:
    assert served.get(path).status in (400, 404)


def test_no_call_opens_what_a_client_names(served: Running) -> None:
    with served.connect("/ws/") as client:
        for number, method in enumerate(("get_page", "open", "views.PAGE", "__import__", "home")):
            call(client, method, "file:///etc/hostname", id=number)
            reply = answer(client)
            assert (reply["id"], reply["error"]["code"]) == (number, -32601)


def test_unknown_function_is_a_structured_error(served: Running) -> None:
    with served.connect("/ws/") as client:
        call(client, "nothing_such", id=7)
        reply = answer(client)
        assert (reply["id"], reply["error"]["code"]) == (7, -32601)
        call(client, "add", 2, 3)
        assert answer(client)["result"] == 5


def test_http_request_reaches_sockets(served: Running) -> None:
    with served.connect("/wall") as client:
        served.get("/")
        assert client.recv(PATIENCE) == "Somebody opened the page."


def test_middleware_runs_for_each_request(served: Running) -> None:
    for path in ("/", "/static/hello/hello.js", "/fairlead.js", "/none"):
        assert served.get(path).headers["x-content-type-options"] == "nosniff"


def test_pages_of_other_sites_open_no_socket(served: Running) -> None:
    for path in ("/wall", "/ws/"):
        with pytest.raises(InvalidStatus) as caught:
            served.connect(path, origin=Origin("https://other.example"))
        assert caught.value.response.status_code == 403


def test_test_of_the_new_project_passes(demo: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"],
        cwd=demo,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout
    assert "4 passed" in ended.stdout


def test_new_onto_an_existing_folder_is_one_line_and_a_status(demo: Path) -> None:
    ended = fairlead("new", "demo", folder=demo.parent)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "fairlead: demo is there already; choose another name, or another place with --directory\n"


# -- apps --------------------------------------------------------------------------------------------------------------


TICKS = """
import asyncio
from pathlib import Path

async def ticks():
    try:
        for number in range(1000):
            yield number
            await asyncio.sleep(0.01)
    finally:
        Path(__file__).with_name("ended").touch()

calls = {"ticks": ticks}
"""


def test_nothing_keeps_running_after_the_client_left(demo: Path) -> None:
    write(demo, {"apps/ticks/routes.py": TICKS, "server.yml": "apps: [ticks]"})
    ended = demo / "apps/ticks/ended"
    with running(demo) as process:
        with process.connect("/ws/") as client:
            call(client, "ticks")
            assert [answer(client)["params"]["value"] for _ in range(5)] == [0, 1, 2, 3, 4]
            assert not ended.exists()
        until(ended.exists, "the generator is closed")


def test_the_same_call_in_two_apps_does_not_start_and_names_both(demo: Path) -> None:
    write(demo, {"apps/a/routes.py": TICKS, "apps/b/routes.py": TICKS, "server.yml": "apps: [a, b]"})
    for command in ("run", "check"):
        ended = fairlead(command, folder=demo)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.splitlines()[-1] == (
            "fairlead: apps/b/routes.py: two functions are called 'ticks': apps.a.routes.ticks and apps.b.routes.ticks"
        )


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("server: {prot: 1}", "server.yml: unknown key server.prot; the nearest known one is server.port"),
        ("server: {port: many}", "server.yml: server.port: expected int, got str"),
        ("apps: [", "server.yml: expected the node content, but found '<stream end>' (at line 1, column 8)"),
        ("apps: [none]", "apps: there is no apps/none/routes.py"),
    ],
)
def test_bad_settings_are_one_line_and_a_status(demo: Path, settings: str, fault: str) -> None:
    write(demo, {"server.yml": settings})
    ended = fairlead("run", folder=demo)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("fairlead: ")]
    assert line.endswith(fault)
    assert "Traceback" not in ended.stderr


# -- run ---------------------------------------------------------------------------------------------------------------


def test_handler_alone_can_be_served(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"shout.py": "async def shout(ws):\n    async for text in ws:\n        await ws.send(text.upper())\n"},
    )
    with running(tmp_path, "shout:shout") as process, process.connect("/any/path") as client:
        client.send("hi")
        assert client.recv(PATIENCE) == "HI"


def test_taken_port_is_one_line_and_a_status(demo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = fairlead("run", f"--port={port}", folder=demo)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"fairlead: cannot listen on 127.0.0.1:{port}: address already in use; "
        "stop what listens there, or choose another port\n"
    )


def test_unix_socket_is_removed_at_the_end(demo: Path) -> None:
    path = demo / "s"
    process = Running(demo, "--uds", str(path))
    process.line(r"listening: unix:")
    assert path.is_socket()
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert not path.exists()


HANG = """
import asyncio, time

async def hang(ws):
    await ws.send("in")
    await asyncio.to_thread(time.sleep, 3600)
"""


def test_a_thread_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(HANG)
    with running(tmp_path, "hang:hang") as process, process.connect("/") as client:
        assert client.recv(PATIENCE) == "in"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        process.line("left although threads are still at work: ")


def test_session_outlives_a_restart(demo: Path) -> None:
    with running(demo) as process:
        cookie = process.get("/").headers["set-cookie"].partition(";")[0]
    with running(demo) as process:
        assert b"Last visit: None" not in process.get("/", Cookie=cookie).body


# -- production --------------------------------------------------------------------------------------------------------


BROKEN = """
from starlette.routing import Route

async def broken(request):
    raise ValueError("the cause")

routes = [Route("/broken", broken)]
"""


@pytest.mark.parametrize("production", [True, False])
def test_error_is_logged_and_shown_to_developers_alone(demo: Path, production: bool) -> None:
    write(demo, {"apps/hello/routes.py": BROKEN})
    environ = {"FAIRLEAD_PRODUCTION": str(production).lower(), "FAIRLEAD_SESSION__KEY": KEY}
    with running(demo, **environ) as process:
        reply = process.get("/broken")
        assert (reply.status, b"the cause" in reply.body) == (500, not production)
        process.line("ValueError: the cause")


def test_production_cookie_travels_over_https_only(demo: Path) -> None:
    with running(demo, FAIRLEAD_PRODUCTION="true") as process:
        attributes = process.get("/").headers["set-cookie"].partition(";")[2]
    assert attributes == " path=/; Max-Age=1209600; httponly; samesite=lax; secure"


def test_production_does_not_start_without_a_session_key(demo: Path) -> None:
    (demo / "session.key").unlink()
    ended = fairlead("run", folder=demo, FAIRLEAD_PRODUCTION="true")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert ended.stderr.startswith("fairlead: session.key: production needs one: set FAIRLEAD_SESSION__KEY, or ")


# -- reload ------------------------------------------------------------------------------------------------------------


@contextmanager
def reloading(folder: Path) -> Iterator[Running]:
    """Run with --reload on one free port; what was bound to it lately may be bound again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(folder, "--reload", f"--port={port}") as process:
        yield process


def edit(path: Path, old: str, new: str) -> None:
    """Change a file as editors do: the new one takes the old one's place at once."""
    text = path.read_text()
    assert old in text
    new_path = path.with_name(path.name + ".new")
    new_path.write_text(text.replace(old, new))
    new_path.replace(path)


def test_editing_the_views_takes_effect_and_pages_are_told_to_come_back(demo: Path) -> None:
    with reloading(demo) as process, process.connect("/wall") as client:
        edit(demo / "apps/hello/views.py", '"%Y-%m-%d %H:%M:%S"', '"stardate %j"')
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        process.listening(2)
        process.line(r"^fairlead: apps/hello/views.py changed: starting again$")
        cookie = process.get("/").headers["set-cookie"].partition(";")[0]
        assert b"Last visit: stardate" in process.get("/", Cookie=cookie).body


@pytest.mark.parametrize("name", ["server.yml", "apps/hello/home.html", "apps/hello/static/hello.js", "main.py"])
def test_every_kind_of_file_is_looked_at(demo: Path, name: str) -> None:
    with reloading(demo) as process:
        os.utime(demo / name, ns=(1, 1))
        process.line(f"^fairlead: {name} changed: starting again$")
        process.listening(2)


def test_error_in_an_import_is_told_and_its_repair_waited_for(demo: Path) -> None:
    views = demo / "apps/hello/views.py"
    with reloading(demo) as process:
        edit(views, "def home", "def home(")
        process.line(r"fairlead: apps/hello/routes.py: cannot import .* \(apps/hello/views.py, line \d+\)$")
        process.line("^fairlead: it has ended; waiting for a change$")
        edit(views, "def home(", "def home")
        process.listening(2)
        assert process.get("/").status == 200


def test_project_that_does_not_start_yet_is_waited_for(demo: Path) -> None:
    edit(demo / "apps/hello/views.py", "def home", "def home(")
    process = Running(demo, "--reload", "--port=0")
    process.line("^fairlead: it has ended; waiting for a change$")
    process.signal(signal.SIGINT)
    assert process.wait() == 0


def test_ctrl_c_ends_server_and_reloader(demo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = Running(demo, "--reload", f"--port={port}")
    process.listening()
    process.signal_all(signal.SIGINT)
    assert process.wait() == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not any("Traceback" in line for line in process.lines)


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.browser
@needs_chromium
def test_page_lives_and_comes_back_after_a_reload(demo: Path) -> None:
    with reloading(demo) as process, chromium() as browser:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{process.port}/")
        expect(page.locator("#status")).to_have_text("Live")
        expect(page.locator("#clock")).not_to_be_empty()
        page.get_by_role("button", name="=").click()
        expect(page.locator("#sum")).to_have_text("5")
        other = browser.new_page()
        other.goto(f"http://127.0.0.1:{process.port}/")
        expect(page.locator("#wall li").first).to_have_text("Somebody opened the page.")
        page.get_by_label("what to say").fill("Ahoy, <b>you</b>")
        page.get_by_role("button", name="Say").click()
        expect(other.locator("#wall li").first).to_have_text("Ahoy, <b>you</b>")
        edit(demo / "apps/hello/views.py", "return a + b", "return a * b")
        process.listening(2)
        expect(page.locator("#status")).to_have_text("Live", timeout=PATIENCE * 1000)
        page.get_by_role("button", name="=").click()
        expect(page.locator("#sum")).to_have_text("6", timeout=PATIENCE * 1000)
        assert errors == []
