"""The commands for projects: what ``new`` writes, what ``routes`` and ``check`` say, what ``--reload`` looks at."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from fairlead import Limits, WebSocket, testing
from fairlead.app.application import App
from fairlead.app.settings import ServerSettings
from fairlead.cli import main
from fairlead.cli.new import KEY_FILE, write_project
from fairlead.cli.reloading import watched
from fairlead.cli.routes import Row, rows, table
from fairlead.cli.run import _behind, _overlaid, is_reachable
from fairlead.cli.target import Target
from fairlead.errors import UsageError
from fairlead.routing import Endpoint, Router, WebSocketRoute

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Run a command in this process and in an empty folder; modules that it imports are forgotten afterwards."""
    for name in [name for name in os.environ if name.startswith("FAIRLEAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run
    for name in [name for name in sys.modules if name.partition(".")[0] in ("apps", "main", "other")]:
        del sys.modules[name]


@pytest.fixture
def demo(run: Run, tmp_path: Path) -> Path:
    """A new project."""
    assert run("new", "demo")[0] == 0
    return tmp_path / "demo"


# -- new ---------------------------------------------------------------------------------------------------------------


def test_new_writes_a_project_and_says_how_to_run_it(run: Run, tmp_path: Path) -> None:
    status, out, err = run("new", "demo", "--directory", str(tmp_path))
    assert (status, err) == (0, "")
    assert out == f"Created {tmp_path}/demo. Now:\n\n    cd {tmp_path}/demo\n    fairlead run --reload\n"
    files = {str(path.relative_to(tmp_path / "demo")) for path in (tmp_path / "demo").rglob("*") if path.is_file()}
    assert files == {
        ".gitignore",
        "README.md",
        "apps/__init__.py",
        "apps/hello/__init__.py",
        "apps/hello/home.html",
        "apps/hello/routes.py",
        "apps/hello/static/hello.js",
        "apps/hello/views.py",
        "common/static/style.css",
        "main.py",
        "pyproject.toml",
        "server.yml",
        "session.key",
        "tests/test_hello.py",
    }


def test_new_fills_in_the_name_and_leaves_no_mark(demo: Path) -> None:
    for path in demo.rglob("*"):
        if path.is_file():
            assert "{{" not in path.read_text()
    assert (demo / "README.md").read_text().startswith("# demo\n")
    assert yaml.safe_load((demo / "server.yml").read_text())["apps"] == ["hello"]


def test_session_key_is_random_kept_from_others_and_out_of_the_repository(demo: Path, tmp_path: Path) -> None:
    path = demo / KEY_FILE
    assert re.fullmatch(r"[\w-]{43}\n", path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"/{KEY_FILE}" in (demo / ".gitignore").read_text().splitlines()
    (tmp_path / "other").mkdir()
    write_project(tmp_path / "other", "other")
    assert (tmp_path / "other" / KEY_FILE).read_text() != path.read_text()


def test_new_project_is_formatted_and_linted(demo: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--check"], ["check", "--select", "E,F,W,I,UP,B"]):
        ended = subprocess.run([ruff, *command, "--isolated", "--no-cache"], cwd=demo, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout


def test_new_onto_something_that_is_there_changes_nothing(run: Run, demo: Path) -> None:
    (demo / "server.yml").write_text("mine")
    status, out, err = run("new", "demo")
    assert (status, out) == (1, "")
    assert err == "fairlead: demo is there already; choose another name, or another place with --directory\n"
    assert (demo / "server.yml").read_text() == "mine"


def test_new_needs_a_place(run: Run) -> None:
    assert run("new", "demo", "--directory", "none") == (
        1,
        "",
        "fairlead: cannot make none/demo: No such file or directory\n",
    )


def test_new_that_cannot_be_finished_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, err = run("new", "demo")
    assert (status, "No space left on device" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/x", "Demo", "1x", "a b", "-x", "x" * 65, "a\nb", "ä", "{{x}}"]
)
def test_name_that_could_be_something_else_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    status, out, err = run("new", "--", name)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"fairlead: .* cannot be a project's name: [^\n]+\n", err)
    assert list(tmp_path.iterdir()) == []


# -- targets -----------------------------------------------------------------------------------------------------------


def test_target_is_a_project_or_a_name_in_a_module(demo: Path) -> None:
    assert Target.parse(str(demo)) == Target(demo, "main", "app", True)
    assert Target.parse("package.module:name") == Target(Path.cwd(), "package.module", "name", False)


@pytest.mark.parametrize("text", ["none", "main", "main:", ":app", "a b:app", "main:app()", "a/b:app", "main.py"])
def test_target_that_is_neither_is_refused(run: Run, text: str) -> None:
    with pytest.raises(UsageError, match="is neither a folder nor MODULE:NAME, such as main:app"):
        Target.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"), [("chat", "chat:app"), ("./chat.py", "chat:app"), ("site/chat.py", "site.chat:app")]
)
def test_target_that_names_a_file_is_told_what_it_may_have_meant(
    run: Run, tmp_path: Path, text: str, meant: str
) -> None:
    (tmp_path / "site").mkdir()
    for folder in (tmp_path, tmp_path / "site"):
        (folder / "chat.py").touch()
    assert run("run", text) == (1, "", f"fairlead: {text} is neither a folder nor MODULE:NAME: did you mean {meant}?\n")


@pytest.mark.parametrize("command", ["run", "routes"])
def test_folder_without_settings_is_no_project(run: Run, tmp_path: Path, command: str) -> None:
    status, out, err = run(command)
    assert (status, out) == (1, "")
    assert err == f"fairlead: there is no server.yml in {tmp_path}: give a project's folder, or MODULE:NAME\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "fairlead: {}/other.py has no app\n"),
        ("app = 5", "fairlead: app in other is no fairlead.App, but int\n"),
        ("1 / 0", "fairlead: cannot import other: ZeroDivisionError: division by zero (other.py, line 1)\n"),
    ],
)
def test_module_without_what_is_asked_for_is_one_line(run: Run, tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "other.py").write_text(text)
    assert run("routes", "other:app") == (1, "", fault.format(tmp_path))


def test_project_needs_no_main(run: Run, demo: Path) -> None:
    (demo / "main.py").unlink()
    assert isinstance(Target.parse(str(demo)).load(), App)


# -- routes ------------------------------------------------------------------------------------------------------------


def test_routes_of_the_new_project(run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    status, out, err = run("routes")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["KIND", "PATH", "OR", "NAME", "METHODS", "ENDPOINT", "GUARDS"],
        ["http", "/fairlead.js", "GET", "HEAD", "fairlead.app.application._client"],
        ["static", "/static/common/", "GET", "HEAD", "common/static"],
        ["static", "/static/hello/", "GET", "HEAD", "apps/hello/static"],
        ["http", "/", "GET", "HEAD", "apps.hello.views.home"],
        ["socket", "/wall", "apps.hello.views.wall"],
        ["socket", "/ws/", "fairlead.dialects.calls.Calls.serve"],
        ["call", "add", "apps.hello.views.add"],
        ["call", "clock", "apps.hello.views.clock"],
    ]


async def one(request: object) -> None: ...


async def two(request: object) -> None: ...


class Guarded(Endpoint):
    async def authorize(self, request: object) -> None: ...

    async def handle(self, ws: object) -> None: ...


def test_routes_shows_every_guard_on_the_way() -> None:
    inner = Router([WebSocketRoute("/in", Guarded, guards=[two])], guards=[one])
    app = App(guards=[one], client_path="")
    app.mount("/mounted", inner)
    app.mount("/elsewhere", one)  # type: ignore[arg-type]  # any callable will do
    app.websocket("/out/{id:int}")(two)
    name = f"{__name__}."
    assert list(rows(app)) == [
        Row(
            "socket",
            "/mounted/in",
            "",
            f"{name}Guarded",
            ", ".join([f"{name}one", f"{name}one", f"{name}two", f"{name}Guarded.authorize"]),
        ),
        Row("mount", "/elsewhere/", "", f"{name}one"),
        Row("socket", "/out/{id:int}", "", f"{name}two", f"{name}one"),
    ]


def test_table_has_columns_as_wide_as_they_need_to_be() -> None:
    assert list(table([Row("http", "/a/long/path", "GET"), Row("call", "x", "", "y", "z")])) == [
        "KIND  PATH OR NAME  METHODS  ENDPOINT  GUARDS",
        "http  /a/long/path  GET",
        "call  x                      y         z",
    ]


# -- check -------------------------------------------------------------------------------------------------------------


def test_check_says_what_a_project_serves_and_where(run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (0, f"{demo}: 2 http, 2 static, 2 socket, 2 call on http://127.0.0.1:8000\n", "")
    assert run("check", "demo") == expected
    assert run("check", "demo/server.yml") == expected
    monkeypatch.chdir(demo)
    assert run("check") == expected
    assert run("check", FAIRLEAD_SERVER__PORT="80")[1].endswith(" on http://127.0.0.1:80\n")


def test_check_tells_every_fault_of_a_project_in_a_line_of_its_own(run: Run, demo: Path) -> None:
    (demo / "server.yml").write_text("apps: [none, a, hello]")
    (demo / "apps" / "a").mkdir()
    (demo / "apps" / "a" / "routes.py").write_text("from apps.hello.routes import calls, routes")
    assert run("check", "demo") == (
        1,
        "",
        "fairlead: apps: there is no apps/none/routes.py\n"
        "fairlead: apps/hello/routes.py: GET / (apps.hello.views.home) is there already: / (apps.hello.views.home)\n"
        "fairlead: apps/hello/routes.py: two functions are called 'add': apps.hello.views.add and "
        "apps.hello.views.add\n"
        "fairlead: apps/hello/routes.py: two functions are called 'clock': apps.hello.views.clock and "
        "apps.hello.views.clock\n",
    )


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("prodution: true", "demo/server.yml: unknown key prodution; the nearest known one is production"),
        ("server: {certfile: none.pem}", "server.certfile: cannot use none.pem: No such file or directory"),
        ("apps: [", "demo/server.yml: expected the node content, but found '<stream end>' (at line 1, column 8)"),
        ("production: true", "session.key: production needs one: set FAIRLEAD_SESSION__KEY"),
    ],
)
def test_check_names_a_wrong_setting_of_a_project(run: Run, demo: Path, settings: str, fault: str) -> None:
    (demo / "server.yml").write_text(settings)
    status, out, err = run("check", "demo")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"fairlead: [^\n]+\n", err)
    assert fault in err


def test_check_of_an_application_that_is_no_project(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("async def app(scope, receive, send): ...")
    status, out, _ = run("check", "other:app", FAIRLEAD_SERVER__UDS="/run/x.sock")
    assert (status, out) == (0, "other:app: an application on http+unix:///run/x.sock:\n")


# -- run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--port", "70000"], "command line: server.port: must be from 0 to 65535, not 70000"),
        (["--host", "a b"], "command line: server.host: neither an address nor the name of a host: 'a b'"),
        (["--keyfile", "x"], "command line: server.keyfile: of no use without certfile"),
        (["--certfile", "none.pem"], "server.certfile: cannot use none.pem: No such file or directory"),
    ],
)
def test_run_checks_flags_like_the_file(run: Run, demo: Path, arguments: list[str], fault: str) -> None:
    assert run("run", "demo", *arguments) == (1, "", f"fairlead: {fault}\n")


def test_reload_and_production_do_not_go_together(run: Run, demo: Path) -> None:
    status, _, err = run("run", "demo", "--reload", FAIRLEAD_PRODUCTION="true")
    assert (status, err) == (1, "fairlead: --reload is for development, and the setting production is on\n")


@pytest.mark.parametrize(
    ("host", "uds", "expected"),
    [
        ("127.0.0.1", "", False),
        ("127.8.8.8", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("web.example.org", "", True),
        ("0.0.0.0", "/run/s", False),
    ],
)
def test_server_that_others_can_reach_is_known(host: str, uds: str, expected: bool) -> None:
    assert is_reachable(ServerSettings(host=host, uds=uds)) is expected


# -- what --reload looks at --------------------------------------------------------------------------------------------


def test_code_settings_pages_and_static_files_are_looked_at(demo: Path) -> None:
    for name in ("node_modules/x.py", ".git/x.py", "venv/pyvenv.cfg", "venv/lib/x.py", "__pycache__/x.py", "db.sqlite"):
        (demo / name).parent.mkdir(parents=True, exist_ok=True)
        (demo / name).touch()
    (demo / "apps" / ".#views.py").symlink_to("nobody@nowhere")  # as Emacs locks a file
    assert {os.path.relpath(path, demo) for path in watched(demo)} == {
        "apps/__init__.py",
        "apps/hello/__init__.py",
        "apps/hello/home.html",
        "apps/hello/routes.py",
        "apps/hello/static/hello.js",
        "apps/hello/views.py",
        "common/static/style.css",
        "main.py",
        "server.yml",
        "tests/test_hello.py",
    }


def test_every_change_is_seen(demo: Path) -> None:
    before = watched(demo)
    os.utime(demo / "main.py", ns=(1, 1))
    changed = watched(demo)
    (demo / "new.py").touch()
    more = watched(demo)
    (demo / "new.py").unlink()
    assert before != changed != more
    assert watched(demo) == changed


def test_limits_of_the_environment_overlay_those_of_an_application() -> None:
    app = App(limits=Limits(message_size=1000, subscriptions=7))
    limits = _overlaid(app, Limits(subscriptions=9))
    assert (limits.message_size, limits.subscriptions) == (1000, 9)
    assert _overlaid(object(), Limits(subscriptions=9)) == Limits(subscriptions=9)


async def test_an_application_that_is_no_project_believes_the_proxies_of_the_environment() -> None:
    seen: list[object] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.request.address)

    app = App()
    app.websocket("/")(handler)
    forwarded = {"x-forwarded-for": "192.0.2.7"}
    for target in (app, handler):
        served = _behind(target, ["127.0.0.0/8"])
        async with testing.connect(served, headers=forwarded) as client:
            assert await client.closed() == (1000, "")
    assert seen == ["192.0.2.7", "192.0.2.7"]
    assert _behind(app, []) is app
