"""The examples' own tests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.serving import free_port, free_ports

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["test"], ["makemigrations", "--check", "--dry-run"], ["check"]])
def test_the_django_project_is_sound(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=EXAMPLES / "django_api",
        env={**os.environ, "DEMO_DATABASE": ":memory:"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_the_demo_ends_with_its_terminal(tmp_path: Path) -> None:
    ports = free_ports(3)
    flags = [f"--port={ports[0]}", f"--gateway-port={ports[1]}", f"--api-port={ports[2]}"]
    command = [sys.executable, "django_api/run.py", *flags, f"--database={tmp_path / 'demo.sqlite3'}"]
    with subprocess.Popen(command, cwd=EXAMPLES, stdout=subprocess.PIPE, text=True, preexec_fn=hear_hangups) as demo:
        try:
            assert demo.stdout is not None
            assert any(line.startswith("Open http") for line in demo.stdout)
            demo.send_signal(signal.SIGHUP)
            assert demo.wait(30) == 0
        finally:
            demo.terminate()
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"something still listens on {port}"


def test_a_taken_port_is_named_with_what_to_type_instead() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free, other = free_ports(2)
        flags = [f"--port={free}", f"--gateway-port={port}", f"--api-port={other}"]
        run = subprocess.run(
            [sys.executable, "django_api/run.py", *flags], cwd=EXAMPLES, capture_output=True, text=True, check=False
        )
    assert run.returncode == 1
    assert run.stderr.startswith(f"demo: port {port} cannot be used")
    assert run.stderr.endswith(
        'python examples/django_api/run.py --gateway-port PORT, or make demo ARGS="--gateway-port PORT"\n'
    )


@pytest.mark.parametrize("key", [{}, {"FAIRLEAD_API__KEYS": ""}], ids=["unset", "empty"])
def test_the_plain_api_without_a_key_says_so_in_one_line(key: dict[str, str]) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "FAIRLEAD_API__KEYS"}
    run = subprocess.run(
        [sys.executable, "curl_api/api.py"],
        cwd=EXAMPLES,
        env=environ | key,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == "api.py: set FAIRLEAD_API__KEYS to the key that the gateway has\n"


def test_the_plain_api_answers_nonsense_with_400() -> None:
    port = free_port()
    environ = {**os.environ, "PORT": str(port), "FAIRLEAD_API__KEYS": "k" * 16}
    command = [sys.executable, "curl_api/api.py"]
    with subprocess.Popen(command, cwd=EXAMPLES, env=environ, stderr=subprocess.PIPE, text=True) as api:
        try:
            bodies = (b"", b"{}", b"[1]", b"5", b'"room"', b"\xff")
            assert {body: post(port, "/messages", body) for body in bodies} == dict.fromkeys(bodies, 400)
        finally:
            api.terminate()
            _, errors = api.communicate(timeout=10)
    assert not re.search("ValueError|TypeError|KeyError", errors)


def hear_hangups() -> None:
    """Undo the nohup under which the tests may run: it would be inherited."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def post(port: int, path: str, body: bytes) -> int:
    """The status of the answer, from a server that may need a moment to start."""
    deadline = time.monotonic() + 20
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", path, body, {"Authorization": "Token token-of-ada"})
            return connection.getresponse().status
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # between two looks, not instead of one
        finally:
            connection.close()
