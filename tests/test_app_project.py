"""A folder with settings and apps becomes one App, and everything that is wrong with it is said at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead.app.application import App
from fairlead.app.importing import import_from
from fairlead.app.project import ProjectFaults, load_project
from fairlead.app.proxies import TrustedProxies
from fairlead.errors import SettingsError, UsageError
from fairlead.testing import connect, rejects

KEY = "k" * 43

HELLO = """
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from fairlead import WebSocketRoute

async def home(request):
    last = request.session.get("last_visit")
    request.session["last_visit"] = "today"
    return PlainTextResponse(f"Last visit: {last}")

async def echo(ws):
    async for message in ws:
        await ws.send(message)

async def add(a: int, b: int) -> int:
    return a + b

PATH_PREFIX = "/hello"
routes = [Route("/", home)]
sockets = [WebSocketRoute("/echo", echo)]
calls = {"add": add}
"""

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has modules of its own called apps, and no settings of the one who runs it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("FAIRLEAD_PRODUCTION", raising=False)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("apps", "main", "broken")]:
        del sys.modules[name]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a project; ``make({"apps/a/routes.py": TEXT}, "settings")``."""

    def make(files: Mapping[str, str], settings: str = "apps: [hello]") -> Path:
        for name, text in {"server.yml": f"{settings}\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return tmp_path

    return make


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


async def get(app: ASGIApp, path: str, *, method: str = "GET", client: str = "127.0.0.1", **headers: str) -> Answer:
    """One request, straight into the application."""
    answer = Answer(0, {}, "")

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"").decode()

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"testserver"), *given],
        "client": (client, 1),
        "server": ("testserver", 80),
    }
    await app(scope, receive, send)
    return answer


def faults(root: Path) -> tuple[str, ...]:
    with pytest.raises(ProjectFaults) as caught:
        load_project(root)
    assert str(caught.value) == "; ".join(caught.value.faults)
    assert all("\n" not in fault for fault in caught.value.faults)
    return caught.value.faults


# -- what it serves ----------------------------------------------------------------------------------------------------


async def test_app_answers_under_its_prefix(make: Make) -> None:
    app = load_project(make({"apps/hello/routes.py": HELLO}))
    assert (await get(app, "/hello/")).body == "Last visit: None"
    assert (await get(app, "/")).status == 404
    async with connect(app, "/hello/echo") as client:
        await client.send("Ahoy")
        assert await client.receive() == "Ahoy"
    async with connect(app, "/ws/") as client:
        await client.send_json({"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]})
        assert (await client.receive_json())["result"] == 3


@pytest.mark.parametrize(("prefix", "path"), [('""', "/"), ('"/"', "/"), ('"/a/"', "/a/"), ('"/a/b"', "/a/b/")])
async def test_prefix_may_end_with_a_slash_or_be_nothing(make: Make, prefix: str, path: str) -> None:
    app = load_project(make({"apps/hello/routes.py": HELLO.replace('"/hello"', prefix)}))
    assert (await get(app, path)).status == 200


async def test_routes_py_may_leave_out_what_it_has_none_of(make: Make) -> None:
    app = load_project(make({"apps/hello/routes.py": "async def f() -> None: ...\ncalls = {'f': f}"}))
    assert list(app.calls.functions()) == ["f"]


async def test_project_without_apps_serves_what_is_common(make: Make) -> None:
    app = load_project(make({"common/static/a.txt": "A"}, settings=""))
    assert (await get(app, "/static/common/a.txt")).body == "A"


async def test_session_remembers_by_a_signed_cookie(make: Make) -> None:
    root = make({"apps/hello/routes.py": HELLO, "key": KEY}, "apps: [hello]\nsession: {key_file: key, cookie: sid}")
    first = await get(load_project(root), "/hello/")
    cookie, _, attributes = first.headers["set-cookie"].partition("; ")
    assert cookie.startswith("sid=")
    assert attributes == "path=/; Max-Age=1209600; httponly; samesite=lax"
    again = load_project(root)  # a restart logs nobody out
    assert (await get(again, "/hello/", cookie=cookie)).body == "Last visit: today"
    assert (await get(again, "/hello/", cookie=cookie[:-1])).body == "Last visit: None"


async def test_sockets_see_the_session(make: Make) -> None:
    text = HELLO.replace("async for message in ws:", "for message in [ws.request.session['last_visit']]:")
    app = load_project(make({"apps/hello/routes.py": text}))
    cookie = (await get(app, "/hello/")).headers["set-cookie"].partition(";")[0]
    async with connect(app, "/hello/echo", headers={"Cookie": cookie}) as client:
        assert await client.receive() == "today"


async def test_sockets_are_for_pages_of_the_same_origin_and_those_in_the_settings(make: Make) -> None:
    settings = "apps: [hello]\nserver: {allowed_origins: [https://app.example.org]}"
    app = load_project(make({"apps/hello/routes.py": HELLO}, settings))
    for origin in ("http://testserver", "https://app.example.org"):
        async with connect(app, "/hello/echo", origin=origin):
            pass
    for path in ("/hello/echo", "/ws/"):
        with rejects(403):
            async with connect(app, path, origin="https://other.example"):
                pass


class Counting:
    """Middleware that notes what passes."""

    seen: list[str] = []

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self.seen.append(f"{scope['type']} {scope['path']} {'session' in scope}")
        await self.app(scope, receive, send)


async def test_middleware_runs_for_each_request(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "seen", [])
    root = make({"apps/hello/routes.py": HELLO, "common/static/a.txt": "A"})
    app = load_project(root, middleware=[Middleware(Counting)])
    for path in ("/hello/", "/static/common/a.txt", "/none"):
        await get(app, path)
    async with connect(app, "/hello/echo"):
        pass
    assert Counting.seen == [
        "http /hello/ True",
        "http /static/common/a.txt True",
        "http /none True",
        "websocket /hello/echo True",
    ]


# -- static files ------------------------------------------------------------------------------------------------------


STATIC = {
    "apps/hello/routes.py": HELLO,
    "apps/hello/static/camel.html": "<!doctype html>",
    "common/static/tz.js": "export {};",
    "secret.txt": "secret",
    "common/secret.txt": "secret",
}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/common/tz.js", "text/javascript; charset=utf-8"),
        ("/static/hello/camel.html", "text/html; charset=utf-8"),
    ],
)
async def test_static_files_have_their_type_and_are_sent_once(make: Make, path: str, kind: str) -> None:
    app = load_project(make(STATIC))
    answer = await get(app, path)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert "last-modified" in answer.headers
    assert (await get(app, path, if_none_match=answer.headers["etag"])).status == 304


@pytest.mark.parametrize(
    "path",
    [
        "/static/common/../secret.txt",
        "/static/common/../../secret.txt",
        "/static/common/..\\secret.txt",
        "/static/common//etc/hostname",
        "/static/common/\0",
        "/static/common/",
        "/static/common/link.txt",
        "/static/hello/../routes.py",
        "/static/../server.yml",
        "/server.yml",
    ],
)
async def test_nothing_outside_of_static_folders_is_served(make: Make, path: str) -> None:
    root = make(STATIC)
    (root / "common/static/link.txt").symlink_to(root / "secret.txt")
    answer = await get(load_project(root), path)
    assert (answer.status, "secret" in answer.body) == (404, False)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_the_same_call_in_two_apps_names_both(make: Make) -> None:
    text = "async def ticks() -> None: ...\ncalls = {'ticks': ticks}"
    root = make({"apps/a/routes.py": text, "apps/b/routes.py": text}, "apps: [a, b]")
    assert faults(root) == (
        "apps/b/routes.py: two functions are called 'ticks': apps.a.routes.ticks and apps.b.routes.ticks",
    )


ROUTES = """
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Mount, Route
from fairlead import WebSocketRoute

async def f(request): ...

class View(HTTPEndpoint): ...
"""


@pytest.mark.parametrize(
    ("one", "other", "fault"),
    [
        ("Route('/x', f)", "Route('/x', f)", "GET /x (apps.b.routes.f) is there already: /x (apps.a.routes.f)"),
        (
            "Route('/x/{id}', f)",
            "Route('/x/{name}', f)",
            "GET /x/{name} (apps.b.routes.f) is there already: /x/{id} (apps.a.routes.f)",
        ),
        (
            "Route('/x', f, methods=['POST'])",
            "Route('/x', View)",
            "POST /x (apps.b.routes.View) is there already: /x (apps.a.routes.f)",
        ),
        (
            "Route('/x', View)",
            "Route('/x', View)",
            "DELETE /x (apps.b.routes.View) is there already: /x (apps.a.routes.View)",
        ),
        (
            "WebSocketRoute('/x/{id:int}', f)",
            "WebSocketRoute('/x/{n:int}', f)",
            "socket /x/{n:int} (apps.b.routes.f) is there already: /x/{id:int} (apps.a.routes.f)",
        ),
        (
            "Route('/y', f)",
            "Route('/fairlead.js', f)",
            "GET /fairlead.js (apps.b.routes.f) is there already: /fairlead.js (fairlead.app.application._client)",
        ),
    ],
)
def test_the_same_path_in_two_apps_names_both(make: Make, one: str, other: str, fault: str) -> None:
    files = {
        f"apps/{name}/routes.py": f"{ROUTES}\nroutes = [{route}]" for name, route in {"a": one, "b": other}.items()
    }
    assert faults(make(files, "apps: [a, b]")) == (f"apps/b/routes.py: {fault}",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Route('/x', f)", "Route('/x', f, methods=['POST'])"),
        ("Route('/x/{id:int}', f)", "Route('/x/{name}', f)"),
        ("Mount('/x', f)", "Mount('/y', f)"),
        ("WebSocketRoute('/x', f)", "WebSocketRoute('/x/', f)"),
    ],
)
def test_paths_that_only_look_alike_are_no_fault(make: Make, one: str, other: str) -> None:
    files = {
        f"apps/{name}/routes.py": f"{ROUTES}\nroutes = [{route}]" for name, route in {"a": one, "b": other}.items()
    }
    load_project(make(files, "apps: [a, b]"))


def test_route_that_has_no_path_needs_an_app_without_prefix(make: Make) -> None:
    text = "from starlette.routing import Host, Router\nroutes = [Host('api.example.org', Router())]"
    load_project(make({"apps/hello/routes.py": text}))
    del sys.modules["apps.hello.routes"]
    (fault,) = faults(make({"apps/hello/routes.py": f"{text}\nPATH_PREFIX = '/hello'"}))
    assert fault.startswith("apps/hello/routes.py: route ")


def test_prefixes_keep_equal_paths_apart(make: Make) -> None:
    files = {f"apps/{name}/routes.py": HELLO.replace("/hello", f"/{name}") for name in "ab"}
    files["apps/b/routes.py"] = files["apps/b/routes.py"].replace('{"add"', '{"sum"')
    assert list(load_project(make(files, "apps: [a, b]")).calls.functions()) == ["add", "sum"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it has none of routes, sockets and calls"),
        ("routes = 5", "routes must be a list of Route objects"),
        ("routes = ['/']", "routes must be a list of Route objects"),
        ("sockets = [5]", "sockets must be a list of WebSocketRoute objects"),
        ("calls = [5]", "calls must be a dict of names and functions"),
        ("calls = {1: print}", "calls must be a dict of names and functions"),
        (
            "from starlette.routing import Route\nPATH_PREFIX = '/{x'\nroutes = [Route('/', print)]",
            "path '/{x/': a brace is missing",
        ),
        ("PATH_PREFIX = 'hello'\nroutes = []", "PATH_PREFIX must be a text that begins with \"/\", not 'hello'"),
        ("def f(): ...\ncalls = {'f': f}", "apps.hello.routes.f must be an async def: a plain one would block"),
        ("async def f(): ...\ncalls = {'rpc.f': f}", "apps.hello.routes.f cannot be called 'rpc.f'"),
        (
            "from fairlead import WebSocketRoute\ndef f(ws): ...\nsockets = [WebSocketRoute('/', f)]",
            "handler apps.hello.routes.f must be an async def: a plain one would block the event loop",
        ),
        ("raise SystemExit(0)", "cannot import apps.hello.routes: SystemExit: 0 (apps/hello/routes.py, line 1)"),
        ("import nothing_such", "cannot import apps.hello.routes: ModuleNotFoundError: No module named 'nothing_such'"),
        (
            "routes = [\n",
            "cannot import apps.hello.routes: SyntaxError: '[' was never closed (apps/hello/routes.py, line 1)",
        ),
        (
            "from apps.hello import views",
            "cannot import apps.hello.routes: ZeroDivisionError: division by zero (apps/hello/views.py, line 2)",
        ),
        (
            "raise ValueError('two\\nlines')",
            "cannot import apps.hello.routes: ValueError: two lines (apps/hello/routes.py, line 1)",
        ),
    ],
)
def test_fault_names_the_file(make: Make, text: str, fault: str) -> None:
    (found,) = faults(make({"apps/hello/routes.py": text, "apps/hello/views.py": "\n1 / 0"}))
    assert found.startswith(f"apps/hello/routes.py: {fault}")


def test_all_faults_are_told_at_once(make: Make) -> None:
    files = {"apps/a/routes.py": "1 / 0", "apps/b/routes.py": "calls = {'x': 1, '': 2}"}
    assert [fault.partition(":")[0] for fault in faults(make(files, "apps: [none, a, b]"))] == [
        "apps",
        "apps/a/routes.py",
        "apps/b/routes.py",
        "apps/b/routes.py",
    ]


def test_app_that_is_not_there_is_named(make: Make) -> None:
    assert faults(make({}, "apps: [hello]")) == ("apps: there is no apps/hello/routes.py",)


def test_another_module_of_the_same_name_is_not_taken_for_the_projects(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    (other / "apps" / "hello").mkdir(parents=True)
    (other / "apps" / "hello" / "routes.py").write_text("routes = []")
    monkeypatch.syspath_prepend(str(other))
    import_from(other, "apps.hello.routes")
    (found,) = faults(make({"apps/hello/routes.py": HELLO}))
    assert found.endswith(f"and not {tmp_path}/apps/hello/routes.py: something else has its name")


def test_traceback_of_a_failed_import_is_logged_for_whoever_wants_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with caplog.at_level(logging.DEBUG, "fairlead"), pytest.raises(UsageError):
        import_from(tmp_path, "broken")
    assert "ZeroDivisionError" in caplog.text


def test_broker_that_is_not_known_names_its_key(make: Make) -> None:
    root = make({}, "broker: {url: 'pigeon://:hunter2@loft'}")
    with pytest.raises(SettingsError, match=r"^broker.url: the broker's URL begins with none") as caught:
        load_project(root)
    assert "hunter2" not in str(caught.value)


def test_settings_are_needed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="^cannot read .*server.yml: No such file or directory$"):
        load_project(tmp_path)


# -- production --------------------------------------------------------------------------------------------------------


def test_production_needs_a_session_key(make: Make) -> None:
    for settings in ("production: true", "production: true\nsession: {key_file: none}"):
        with pytest.raises(SettingsError, match=r"^session.key: production needs one: set FAIRLEAD_SESSION__KEY, or "):
            load_project(make({}, settings))


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (b"changeme", "session.key_file: the key in {} must be 32 or more characters of visible ASCII; make one with"),
        (b"k" * 40 + b" " + b"k", "session.key_file: the key in {} must be 32 or more characters of visible ASCII"),
        ("ü".encode() * 40, "session.key_file: {} holds more than ASCII"),
    ],
)
@pytest.mark.parametrize("production", ["true", "false"])
def test_key_that_can_be_guessed_is_refused(make: Make, production: str, key: bytes, fault: str) -> None:
    root = make({}, f"production: {production}\nsession: {{key_file: key}}")
    (root / "key").write_bytes(key)
    with pytest.raises(SettingsError) as caught:
        load_project(root)
    assert str(caught.value).startswith(fault.format(root / "key"))


def test_key_file_that_cannot_be_read_is_a_fault(make: Make) -> None:
    root = make({"key/x": ""}, "session: {key_file: key}")
    with pytest.raises(SettingsError, match="^session.key_file: cannot read .*/key: Is a directory$"):
        load_project(root)


def test_without_a_key_sessions_end_with_the_process_and_that_is_said(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    load_project(make({}, "session: {key_file: none}"))
    assert "there is no session key" in caplog.text


async def test_production_sends_its_cookie_over_https_only(make: Make) -> None:
    root = make({"apps/hello/routes.py": HELLO}, f"apps: [hello]\nproduction: true\nsession: {{key: {KEY}}}")
    answer = await get(load_project(root), "/hello/")
    assert answer.headers["set-cookie"].endswith("; httponly; samesite=lax; secure")


@pytest.mark.parametrize(("production", "shown"), [("true", False), ("false", True)])
async def test_tracebacks_are_for_developers(make: Make, production: str, shown: bool) -> None:
    text = HELLO.replace("last = ", "raise ValueError('the cause')\n    last = ")
    root = make({"apps/hello/routes.py": text}, f"apps: [hello]\nproduction: {production}\nsession: {{key: {KEY}}}")
    app = load_project(root)
    with pytest.raises(ValueError, match="the cause"):  # it goes on to the server, which logs it
        await get(app, "/hello/")
    answer = Answer(0, {}, "")

    async def send(message: Message) -> None:
        answer.status = message.get("status", answer.status)
        answer.body += message.get("body", b"").decode()

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/hello/", "query_string": b"", "headers": []}
    with pytest.raises(ValueError):
        await app(scope, _never, send)
    assert (answer.status, "the cause" in answer.body) == (500, shown)


async def _never() -> Message:
    raise AssertionError("it has no body")


# -- proxies -----------------------------------------------------------------------------------------------------------


class Seen:
    """An application that notes whom it sees."""

    def __init__(self) -> None:
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope

    @property
    def client(self) -> tuple[str, str]:
        """The address and the scheme."""
        return (self.scope["client"] or ("",))[0], self.scope["scheme"]


async def seen(kind: str, client: str, *, scheme: str = "http", **headers: str) -> tuple[str, str]:
    inner = Seen()
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    peer = (client, 5) if client else None
    scope = {"type": kind, "path": "/", "headers": given, "client": peer, "scheme": scheme}
    before = dict(scope)

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    await TrustedProxies(inner, ["10.0.0.0/8"])(scope, _never, send)
    assert scope == before
    return inner.client


@pytest.mark.parametrize(
    ("kind", "peer", "expected"),
    [
        ("http", "10.0.0.1", ("192.0.2.7", "https")),
        ("websocket", "10.0.0.1", ("192.0.2.7", "wss")),
        ("http", "", ("192.0.2.7", "https")),
        ("http", "192.0.2.1", ("192.0.2.1", "http")),
    ],
)
async def test_forwarded_headers_are_believed_of_trusted_proxies_alone(
    kind: str, peer: str, expected: tuple[str, str]
) -> None:
    chain = "203.0.113.9, 192.0.2.7, 10.0.0.2"  # the first is what the client claims
    assert await seen(kind, peer, x_forwarded_for=chain, x_forwarded_proto="https") == expected


async def test_proxy_that_says_nothing_changes_nothing() -> None:
    assert await seen("http", "10.0.0.1") == ("10.0.0.1", "http")
    assert await seen("websocket", "10.0.0.1", scheme="ws", x_forwarded_proto="gopher") == ("10.0.0.1", "ws")
    assert await seen("http", "") == ("", "http")


async def test_project_sees_clients_behind_its_trusted_proxies(make: Make) -> None:
    text = HELLO.replace('f"Last visit: {last}"', 'f"{request.client.host} {request.url.scheme}"')
    settings = "apps: [hello]\nserver: {trusted_proxies: [127.0.0.1]}"
    app: App = load_project(make({"apps/hello/routes.py": text}, settings))
    answer = await get(app, "/hello/", x_forwarded_for="192.0.2.7", x_forwarded_proto="https")
    assert answer.body == "192.0.2.7 https"
