"""The Django example from end to end: real processes, real sockets, a real browser."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.e2e.chromium import chromium, needs_chromium
from tests.serving import free_ports

RUN = Path(__file__).parents[2] / "examples" / "django_api" / "run.py"
PASSWORDS = {"ada": "lovelace", "grace": "hopper"}
HARBOUR, CABIN = 1, 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    needs_chromium,
]

SPY = """async (rooms) => {
    const { connect } = await import("fairlead");
    window.heard = [];
    window.ends = [];
    const connection = connect();
    connection.addEventListener("closed", ({ detail }) => window.ends.push([detail.code, detail.final]));
    const subscriptions = rooms.map((room) => connection.subscribe({ room }, ({ text }) => window.heard.push(text)));
    return Promise.all(subscriptions.map(({ ready }) => ready.then(() => "in", (error) => error.message)));
}"""
"""A second connection of the page's, whose ends and publications a test can look at."""


@dataclass(frozen=True)
class Demo:
    """The running example."""

    page: str
    gateway: str
    process: subprocess.Popen[str]


def start(ports: list[int], database: Path) -> subprocess.Popen[str]:
    flags = [f"--port={ports[0]}", f"--gateway-port={ports[1]}", f"--api-port={ports[2]}", f"--database={database}"]
    return subprocess.Popen(
        [sys.executable, str(RUN), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
    )


@contextmanager
def running(database: Path) -> Iterator[Demo]:
    ports = free_ports(3)
    process = start(ports, database)
    assert process.stdout is not None and process.stderr is not None
    log: list[str] = []
    reader = Thread(target=log.extend, args=[process.stderr])
    reader.start()
    try:
        for line in process.stdout:
            if line.startswith("Open http"):
                break
        else:
            pytest.fail(f"the demo did not start:\n{''.join(log)}")
        yield Demo(f"http://127.0.0.1:{ports[0]}/", f"ws://127.0.0.1:{ports[1]}/ws/", process)
    finally:
        process.terminate()
        process.wait(30)
        reader.join()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo") / "demo.sqlite3") as demo:
        yield demo


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def log_in(demo: Demo, browser: Browser) -> Iterator[partial[Page]]:
    """Open the page as a user, in a browser of his own, and wait until it is in its first room."""
    with ExitStack() as stack:

        def log_in(name: str) -> Page:
            context = browser.new_context()
            stack.callback(context.close)
            page = context.new_page()
            page.goto(demo.page)
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORDS[name])
            page.get_by_role("button", name="Log in").click()
            is_live(page)
            return page

        yield partial(log_in)


def is_live(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("log").get_by_text(text)).to_be_visible()


def test_users_see_each_others_messages_at_once(log_in: partial[Page]) -> None:
    ada, grace = log_in("ada"), log_in("grace")
    for page in (ada, grace):  # no history from here on: what is shown came through the socket
        page.route("**/messages/", lambda route: route.abort() if route.request.method == "GET" else route.continue_())
    say(ada, "Ahoy, Grace")
    expect(grace.get_by_role("log").get_by_text("Ahoy, Grace")).to_be_visible()
    say(grace, "Ahoy, <b>Ada</b>")
    expect(ada.get_by_role("log").get_by_text("Ahoy, <b>Ada</b>")).to_be_visible()
    expect(ada.locator("#log .mine .text")).to_have_text(["Ahoy, Grace"])


def test_a_message_in_another_room_is_counted(log_in: partial[Page]) -> None:
    ada, grace = log_in("ada"), log_in("grace")
    grace.get_by_role("link", name="Chart room").click()
    say(grace, "Where are we?")
    expect(ada.get_by_role("link", name="Chart room, 1 unread")).to_be_visible()
    ada.get_by_role("link", name="Chart room").click()
    expect(ada.get_by_role("log").get_by_text("Where are we?")).to_be_visible()


def test_history_comes_over_http_after_a_reload(log_in: partial[Page]) -> None:
    ada = log_in("ada")
    say(ada, "For the record")
    ada.reload()
    expect(ada.get_by_role("log").get_by_text("For the record")).to_be_visible()


def test_who_is_no_member_is_refused_the_room_and_hears_nothing_of_it(log_in: partial[Page]) -> None:
    ada, grace = log_in("ada"), log_in("grace")
    expect(grace.get_by_role("link", name="Captain's cabin")).to_have_count(0)
    assert grace.evaluate(SPY, [CABIN, HARBOUR]) == ["room-not-found", "in"]
    assert ada.evaluate(SPY, [CABIN]) == ["in"]
    ada.get_by_role("link", name="Captain's cabin").click()
    say(ada, "A secret")
    ada.get_by_role("link", name="Harbour").click()
    say(ada, "No secret")
    ada.wait_for_function("window.heard.includes('A secret')")
    grace.wait_for_function("window.heard.includes('No secret')")
    assert "A secret" not in grace.evaluate("window.heard")
    assert "A secret" not in grace.content()


def test_logging_out_closes_the_sockets_of_every_page_of_that_session(log_in: partial[Page]) -> None:
    ada = log_in("ada")
    other_tab = ada.context.new_page()
    other_tab.goto(ada.url)
    is_live(other_tab)
    assert other_tab.evaluate(SPY, [HARBOUR]) == ["in"]
    ada.get_by_role("button", name="Log out").click()
    expect(other_tab.get_by_role("status")).to_have_text("Logged out. Log in again")
    other_tab.wait_for_function("window.ends.length === 2")
    assert other_tab.evaluate("window.ends") == [[4401, False], [4401, True]]
    other_tab.get_by_role("link", name="Log in again").click()
    expect(other_tab.get_by_role("button", name="Log in")).to_be_visible()


def test_another_session_of_the_same_user_comes_back_by_itself(log_in: partial[Page]) -> None:
    here, elsewhere = log_in("ada"), log_in("ada")
    assert elsewhere.evaluate(SPY, [HARBOUR]) == ["in"]
    with elsewhere.expect_websocket():
        here.get_by_role("button", name="Log out").click()
    is_live(elsewhere)
    elsewhere.wait_for_function("window.ends.length === 1")
    assert elsewhere.evaluate("window.ends") == [[4401, False]]


def test_a_page_of_another_origin_is_refused_although_it_has_the_cookie(
    demo: Demo, log_in: partial[Page], tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>Elsewhere</title>")
    open_socket = """(url) => new Promise((resolve) => {
        const socket = new WebSocket(url);
        socket.onmessage = () => resolve("in");
        socket.onclose = ({ code }) => resolve(code);
    })"""
    ada = log_in("ada")
    assert ada.evaluate(open_socket, demo.gateway) == "in"
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        Thread(target=elsewhere.serve_forever, kwargs={"poll_interval": 0.01}).start()
        page = ada.context.new_page()
        page.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
        with page.expect_console_message(lambda message: "403" in message.text):
            assert page.evaluate(open_socket, demo.gateway) == 1006
        elsewhere.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(number: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path / "demo.sqlite3") as demo:
        demo.process.send_signal(number)
        assert demo.process.wait(30) == 0
        for url in (demo.page, demo.gateway):
            port = int(url.split(":")[2].partition("/")[0])
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0, f"something still listens on {port}"


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start([port, *free_ports(2)], tmp_path / "demo.sqlite3")
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, len(errors.splitlines())) == (1, "", 1)
    assert f"port {port} cannot be used" in errors
