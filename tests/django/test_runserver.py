"""``manage.py runserver`` in a real process: pages, static files and sockets, and a new process for every change."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from tests.e2e.processes import Reply, exchange, until
from tests.serving import free_port
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.slow

MANAGE = """
import sys
from pathlib import Path
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    DEBUG=True,
    SECRET_KEY="of this test alone",
    ROOT_URLCONF="views",
    INSTALLED_APPS=["fairlead.django", "django.contrib.staticfiles"],
    STATIC_URL="/static/",
    STATICFILES_DIRS=[Path(__file__).parent / "assets"],
    FAIRLEAD={{"limits": {{"message_size": 100}}}},
    {further}
)
execute_from_command_line(sys.argv)
"""

VIEWS = """
from pathlib import Path
import time
from django.http import HttpResponse
from django.urls import path
from fairlead.django import accept_websocket, get_asgi_application

@accept_websocket
def talk(request):
    if not request.is_websocket():
        return HttpResponse("version 1")
    for message in request.websocket:
        request.websocket.send("1: " + message)

def slow(request):
    Path("asked").touch()
    time.sleep(1.5)
    return HttpResponse("in the end")

def hangs(request):
    Path("asked").touch()
    time.sleep(3600)

urlpatterns = [path("talk/", talk), path("slow/", slow), path("hangs/", hangs)]


def application():
    return get_asgi_application()
"""


class Project:
    """A project that is served.

    Attributes:
        folder: Where it is.
        port: Where it answers.
        lines: What the server has said so far.
    """

    def __init__(self, folder: Path, *flags: str, further: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.lines: list[str] = []
        (folder / "assets").mkdir()
        (folder / "assets" / "style.css").write_text("p {}")
        (folder / "manage.py").write_text(MANAGE.format(further=further))
        self.write(VIEWS)
        command = [sys.executable, "-W", "error", "manage.py", "runserver", *flags, str(self.port)]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
            preexec_fn=hear_interrupts,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def write(self, views: str) -> None:
        """Change the code."""
        (self.folder / "views.py").write_text(views)

    def change(self, views: str) -> None:
        """Change the code, and wait until that is noticed.

        Django compares with what it saw when it first looked, some time after it listens: what changed before is
        noticed when it changes again.
        """
        before = len(self.lines)
        self.write(views)
        written = time.monotonic()

        def noticed() -> bool:
            nonlocal written
            if time.monotonic() - written > 1.5:
                self.write(views)
                written = time.monotonic()
            return any("changed, reloading" in line for line in self.lines[before:])

        until(noticed, "the change is noticed")

    def served(self, times: int = 1) -> None:
        """Wait until the server listens, for the so manieth time."""

        def listening() -> bool:
            assert self.process.poll() is None, "\n".join(self.lines)
            return sum(line.startswith("Serving HTTP and WebSockets at") for line in self.lines) >= times

        until(listening, "the server listens")

    def get(self, path: str) -> Reply:
        """A page."""
        return exchange(self.port, "GET", path)

    def connect(self, path: str) -> AbstractContextManager[ClientConnection]:
        """A client."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None)

    def interrupt(self) -> int:
        """What Control-C does in a terminal; the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(20)

    def end(self) -> None:
        """End all of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def hear_interrupts() -> None:
    """In the child: where the tests run in a shell's background they inherit that Control-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def served(folder: Path, *flags: str, further: str = "") -> Iterator[Project]:
    project = Project(folder, *flags, further=further)
    try:
        project.served()
        yield project
    finally:
        project.end()


def closed(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=20)
    assert caught.value.rcvd is not None, "lost without a Close frame"
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_pages_static_files_and_sockets_are_served_and_a_change_closes_sockets_with_1012(tmp_path: Path) -> None:
    with served(tmp_path) as project:
        assert project.get("/talk/").body == b"version 1"
        assert project.get("/static/style.css").body == b"p {}"
        with pytest.raises(InvalidStatus) as refusal, project.connect("/nothing/"):
            pass
        assert refusal.value.response.status_code == 404

        with project.connect("/talk/") as client:
            client.send("hello")
            assert client.recv(timeout=20) == "1: hello"
            project.change(VIEWS.replace('"1: "', '"2: "').replace("version 1", "version 2"))
            assert closed(client) == (1012, "service restart")
        project.served(times=2)
        assert project.get("/talk/").body == b"version 2"
        with project.connect("/talk/") as client:
            client.send("hello")
            assert client.recv(timeout=20) == "2: hello"
            client.send("x" * 101)  # the project's limits hold
            assert closed(client)[0] == 1009
        with project.connect("/talk/") as client:
            assert project.interrupt() == 0
            assert closed(client) == (1012, "service restart")
        log = "\n".join(project.lines)
        for line in ('"GET /talk/" 200', '"WebSocket /talk/" 101', '"WebSocket /nothing/" 404'):
            assert line in log


def test_a_request_under_way_is_answered_by_the_old_code(tmp_path: Path) -> None:
    with served(tmp_path) as project, ThreadPoolExecutor() as pool:
        answer = pool.submit(project.get, "/slow/")
        until(lambda: (tmp_path / "asked").exists(), "the view is at work")
        project.change(VIEWS.replace("in the end", "too late"))
        assert answer.result().body == b"in the end"
        project.served(times=2)


def test_a_view_that_hangs_keeps_neither_the_new_code_nor_the_end(tmp_path: Path) -> None:
    with served(tmp_path) as project:
        for times in (2, None):
            with socket.create_connection(("127.0.0.1", project.port)) as client:
                client.sendall(b"GET /hangs/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                until(lambda: (tmp_path / "asked").exists(), "the view is at work")
                if times is None:
                    assert project.interrupt() == 0
                else:
                    project.change(VIEWS + "\n")
                    project.served(times)
                    (tmp_path / "asked").unlink()


def test_without_the_reloader_a_signal_drains_and_ends_it_with_0(tmp_path: Path) -> None:
    with served(tmp_path, "--noreload", "--nostatic") as project:
        assert project.get("/static/style.css").status == 404
        with project.connect("/talk/") as client:
            project.process.send_signal(signal.SIGTERM)
            assert closed(client) == (1012, "service restart")
        assert project.process.wait(20) == 0


def test_an_application_of_the_projects_own_is_served_instead(tmp_path: Path) -> None:
    wrapped = VIEWS.replace(
        "def application():\n    return get_asgi_application()\n",
        "async def application(scope, receive, send):\n"
        "    scope['path'] = '/talk/'\n"
        "    await inner(scope, receive, send)\n\n"
        "inner = get_asgi_application()\n",
    )
    (tmp_path / "wrapped.py").write_text(wrapped)
    with served(tmp_path, "--noreload", further='ASGI_APPLICATION="wrapped.application",') as project:
        assert project.get("/anything/").body == b"version 1"


def test_a_port_that_is_taken_is_explained(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "assets").mkdir()
        (tmp_path / "manage.py").write_text(MANAGE.format(further=""))
        (tmp_path / "views.py").write_text(VIEWS)
        command = [sys.executable, "manage.py", "runserver", "--noreload", str(taken.getsockname()[1])]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "Error: That port is already in use." in run.stderr
