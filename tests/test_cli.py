"""The command line: what it starts with, and that every fault is one line on stderr and a status."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest
from tests.serving import free_port, free_ports

from fairlead import __version__
from fairlead.cli import main
from fairlead.cli.demo_api import PEOPLE, DemoApi
from fairlead.publisher import Publisher

KEY = "0123456789abcdef"
GOOD = f"""
[upstream]
url = "http://127.0.0.1:8000/api/bootstrap/"
[api]
keys = ["{KEY}"]
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, without the settings of the one who runs the tests."""
    for name in [name for name in os.environ if name.startswith("FAIRLEAD_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fairlead.toml"
    path.write_text(GOOD)
    return path


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"fairlead {__version__}\n", "")


def test_without_a_command_it_says_what_there_is(run: Run) -> None:
    status, out, _ = run()
    assert status == 0
    assert all(command in out for command in ("new", "run", "routes", "gateway", "check", "publish", "demo"))


def test_no_line_of_the_list_of_commands_is_cut(run: Run) -> None:
    _, out, _ = run()
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("command", ["new", "run", "routes", "gateway", "check", "publish", "demo"])
def test_options_say_what_they_take_in_words(run: Run, command: str) -> None:
    _, out, _ = run(command, "--help")
    assert not re.search(r"^ +-[^[]* <", out, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [("nope",), ("check", "a", "b"), ("gateway", "--nope"), ("gateway", "--port", "many"), ("publish", "a")],
)
def test_wrong_command_line_is_one_line_and_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"fairlead: [^\n]+\n", err)


def test_check_says_what_the_gateway_would_do(run: Run, file: Path) -> None:
    status, out, err = run("check", str(file))
    assert (status, err) == (0, "")
    assert out == (
        f"{file}: clients on ws://127.0.0.1:8100/ws/, asking http://127.0.0.1:8000/api/bootstrap/, "
        "triggers on http://127.0.0.1:8101/trigger/\n"
    )


def test_check_sees_the_environment_over_the_file(run: Run, file: Path) -> None:
    _, out, _ = run("check", str(file), FAIRLEAD_SERVER__HOST="::1", FAIRLEAD_API__UDS="/run/f.sock")
    assert "clients on ws://[::1]:8100/ws/" in out
    assert "triggers on http+unix:///run/f.sock:/trigger/" in out


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD + "colour = 1", "unknown key api.colour; the nearest known one is api."),
        (GOOD + "port = 'x'", "api.port: expected int, got str"),
        (GOOD + "port = ", "Invalid value (at end of document)"),
        (
            GOOD + "[server]\ncertfile = '/none.pem'",
            "server.certfile: cannot use /none.pem: No such file or directory",
        ),
        (GOOD + "[server]\ncertfile = 'FILE'", "server.certfile: cannot use FILE: it holds no certificate in PEM"),
        (GOOD.replace("[api]", "ca_file = 'FILE'\n[api]"), "upstream.ca_file: cannot use FILE: it holds no certifi"),
        (GOOD + "[server]\nhost = 'a..b'", "server.host: neither an address nor the name of a host: 'a..b'"),
        (GOOD + "[server]\nhost = '::1%none'", "server.host: cannot listen on ::1%none: "),
        (GOOD + "host = '127.0.0.1.1'", "api.host: cannot listen on 127.0.0.1.1: "),
        (GOOD + "[server]\nuds = '/none/s'", "server.uds: cannot make a socket in /none"),
        (GOOD + f"uds = '/{'x' * 107}'", "api.uds: a socket's path has at most 107 bytes"),
        (
            GOOD + "[broker]\nurl = 'pigeon://:hunter2@loft'",
            "broker.url: the broker's URL begins with none of the known",
        ),
    ],
)
def test_check_names_the_fault_in_one_line(run: Run, file: Path, text: str, fault: str) -> None:
    file.write_text(text.replace("FILE", str(file)))
    status, out, err = run("check", str(file))
    assert (status, out) == (1, "")
    assert re.fullmatch(r"fairlead: [^\n]+\n", err)
    assert fault.replace("FILE", str(file)) in err
    assert "hunter2" not in err
    assert KEY not in err


def test_check_takes_the_file_as_the_gateway_does(run: Run, file: Path) -> None:
    assert run("check", "-c", str(file)) == run("check", str(file))
    assert run("check", str(file), "-c", str(file))[0] == 1


def test_check_of_the_environment_alone(run: Run) -> None:
    status, out, _ = run("check", FAIRLEAD_API__KEYS=KEY, FAIRLEAD_UPSTREAM__URL="http://api/")
    assert (status, out[:42]) == (0, "environment: clients on ws://127.0.0.1:810")
    status, _, err = run("check", FAIRLEAD_SERVER__PORT="\udcff")
    assert (status, err) == (1, "fairlead: FAIRLEAD_SERVER__PORT: server.port: not UTF-8\n")


def test_check_of_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    status, _, err = run("check", str(tmp_path / "none.toml"))
    assert (status, err) == (1, f"fairlead: cannot read {tmp_path}/none.toml: No such file or directory\n")


def test_gateway_checks_flags_like_the_file(run: Run, file: Path) -> None:
    status, _, err = run("gateway", "-c", str(file), "--allow-origin", "https://a.example", "--allow-origin", "*")
    assert status == 1
    assert err.startswith("fairlead: command line: server.allowed_origins: ")
    status, _, err = run("gateway", "-c", str(file), "--port", "8101")
    assert (status, "api.port: the same as server.port" in err) == (1, True)


def test_gateway_without_settings_names_what_it_needs(run: Run) -> None:
    status, _, err = run("gateway", "--api-key", KEY)
    assert status == 1
    assert err.startswith("fairlead: upstream.url: missing; ")
    assert "--upstream" in err


# -- publish -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bytes, str]]]:
    """A gateway's admin listener that delivers to 7; yields the bodies and keys it got."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    got: list[tuple[bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((body, self.headers["Authorization"].removeprefix("Bearer ")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"published":1,"delivered":7}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        monkeypatch.setenv("TEST_URL", f"http://127.0.0.1:{server.server_port}")
        yield got
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["harbour", '{"n": 1.0}'], b'{"rooms":["harbour"],"data":{"n": 1.0}}'),
        (["harbour", "null"], b'{"rooms":["harbour"],"data":null}'),
        (["harbour", "ahoy", "--text"], b'{"rooms":["harbour"],"data":"ahoy"}'),
        (['{"order": 7}', "1"], b'{"rooms":[{"order":7}],"data":1}'),
    ],
)
def test_publish_sends_one_trigger(
    run: Run, published: list[tuple[bytes, str]], arguments: list[str], body: bytes
) -> None:
    result = run("publish", *arguments, "--url", os.environ["TEST_URL"], "--api-key", KEY)
    assert result == (0, "delivered: 7\n", "")
    assert published == [(body, KEY)]


@pytest.mark.parametrize("keys", [f"{KEY}, other", f'["{KEY}", "other"]'])
def test_publish_takes_the_first_key_of_the_environment(
    run: Run, published: list[tuple[bytes, str]], keys: str
) -> None:
    run("publish", "a", "1", "--url", os.environ["TEST_URL"], FAIRLEAD_API__KEYS=keys)
    assert published[0][1] == KEY


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["a", "1"], "no key: set FAIRLEAD_API__KEYS, or give --api-key"),
        (["a", "ahoy", "--api-key", KEY], "DATA is not JSON, and --text is not given"),
        (
            ['{"a": {}}', "1", "--api-key", KEY],
            "ROOM is none: a room is a string, or a flat object of strings, integers",
        ),
        (['{"a": 1', "1", "--api-key", KEY], "ROOM begins like a JSON object and is none: "),
        (["a", "1", "--api-key", KEY, "--url", "nowhere"], "the gateway's address must be an http or https URL"),
    ],
)
def test_publish_names_the_fault_in_one_line(run: Run, arguments: list[str], fault: str) -> None:
    status, out, err = run("publish", *arguments)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"fairlead: [^\n]+\n", err)
    assert fault in err


def test_publish_does_not_show_keys_that_cannot_be_read(run: Run) -> None:
    _, _, err = run("publish", "a", "1", FAIRLEAD_API__KEYS=f'["{KEY}"')
    assert "FAIRLEAD_API__KEYS is neither a comma separated nor a JSON list" in err
    assert KEY not in err


# -- demo --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[HTTPConnection]:
    """A connection to a demo API whose gateway is not there."""
    publisher = Publisher("http://127.0.0.1:1", key=KEY, tries=1)
    with DemoApi(0, gateway_port=8123, publisher=publisher) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        yield connection
        connection.close()
        server.shutdown()
        thread.join()


def ask(api: HTTPConnection, method: str, path: str, body: str = "", cookie: str = "") -> tuple[int, bytes, str]:
    api.request(method, path, body.encode(), {"Cookie": f"other=a b; fairlead_demo={cookie}"} if cookie else {})
    response = api.getresponse()
    return response.status, response.read(), response.headers.get("Set-Cookie", "")


@pytest.mark.parametrize("flag", ["--port", "--gateway-port", "--api-port"])
def test_demo_names_the_port_that_is_taken_and_its_flag_before_it_starts_anything(run: Run, flag: str) -> None:
    ports = dict(zip(("--port", "--gateway-port", "--api-port"), map(str, free_ports(3)), strict=True))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[flag] = str(taken.getsockname()[1])
        status, out, err = run("demo", *(word for pair in ports.items() for word in pair))
    assert (status, out) == (1, "")
    assert err == (
        f"fairlead: cannot listen on 127.0.0.1:{ports[flag]}: address already in use; choose another with {flag}\n"
    )


def test_demo_needs_three_ports(run: Run) -> None:
    port = str(free_port())
    status, _, err = run("demo", "--port", port, "--gateway-port", port)
    assert (status, "choose another with --gateway-port" in err) == (1, True)


def test_demo_page_knows_its_gateway(api: HTTPConnection) -> None:
    status, page, _ = ask(api, "GET", "/")
    assert status == 200
    assert b'data-gateway-port="8123"' in page


def test_demo_login_sets_the_cookie_that_bootstrap_knows(api: HTTPConnection) -> None:
    status, _, cookie = ask(api, "POST", "/login", "name=ben")
    assert (status, cookie) == (303, "fairlead_demo=ben; Path=/; HttpOnly; SameSite=Lax")
    status, body, _ = ask(api, "GET", "/bootstrap/", cookie="ben")
    assert status == 200
    assert msgspec.json.decode(body) == {"user": {"id": "ben"}, "allowed_rooms": list(PEOPLE["ben"])}


def test_demo_logout_ends_the_cookie(api: HTTPConnection) -> None:
    assert ask(api, "POST", "/logout", cookie="ben") == (303, b"", "fairlead_demo=; Path=/; Max-Age=0")


@pytest.mark.parametrize(
    ("method", "path", "body", "cookie", "status"),
    [
        ("GET", "/bootstrap/", "", "", 401),
        ("GET", "/bootstrap/", "", "mallory", 401),
        ("GET", "/nowhere", "", "", 404),
        ("POST", "/nowhere", "", "", 404),
        ("POST", "/login", "name=mallory", "", 400),
        ("POST", "/say", "{}", "ada", 400),
        ("POST", "/say", '{"room":"deck","text":"x"}', "", 403),
        ("POST", "/say", '{"room":"deck","text":"x"}', "cleo", 403),
        ("POST", "/say", '{"room":"deck","text":"x"}', "ada", 502),
        ("POST", "/say", "x" * 5000, "ada", 413),
    ],
)
def test_demo_api_refuses(api: HTTPConnection, method: str, path: str, body: str, cookie: str, status: int) -> None:
    assert ask(api, method, path, body, cookie)[0] == status


# -- whole processes ---------------------------------------------------------------------------------------------------


def process(*arguments: str, **options: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    command = [sys.executable, "-m", "fairlead", *arguments]
    return subprocess.Popen(command, env=environ | options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["check", "FILE"],
        ["new", "demo", "--directory", "/none"],
        ["run", "/none"],
        ["publish", "a", "1", "--api-key", KEY, "--url", "http://127.0.0.1:1"],
    ],
)
def test_light_commands_load_no_server(file: Path, arguments: list[str]) -> None:
    arguments = [str(file) if argument == "FILE" else argument for argument in arguments]
    code = (
        "import sys; from fairlead.cli import main; main(sys.argv[1:]); "
        "print({'asyncio', 'aiohttp', 'uvicorn', 'starlette'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
def test_port_in_use_is_one_line_without_a_traceback(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        gateway = process("gateway", "-c", str(file), "--port", port, "--api-port", "0")
        out, err = gateway.communicate(timeout=60)
    assert (gateway.returncode, out) == (1, "")
    assert err == (
        f"fairlead: cannot listen on 127.0.0.1:{port}: address already in use; "
        "stop what listens there, or choose another port\n"
    )


@pytest.mark.slow
def test_demo_runs_as_a_whole_and_ends_cleanly_with_ctrl_c() -> None:
    port, gateway_port, api_port = free_ports(3)
    ports = ["--port", str(port), "--gateway-port", str(gateway_port), "--api-port", str(api_port)]
    demo = process("demo", *ports)
    assert demo.stdout is not None and demo.stderr is not None
    try:
        assert any("listening" in line for line in demo.stderr)
        api = HTTPConnection("127.0.0.1", port, timeout=10)
        status, body, _ = ask(api, "POST", "/say", '{"room":"deck","text":"x"}', "ada")
        assert (status, body) == (200, b'{"delivered":0}')
        api.close()
    finally:
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert f"http://127.0.0.1:{port}/" in out
    assert "Traceback" not in err
