"""The chat in examples/django_chat: its own tests, and two people in real browsers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import django
import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.django.test_runserver import hear_interrupts
from tests.docs_examples import examples
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.processes import PATIENCE, exchange, until
from tests.e2e.test_docs_commands import nginx, started
from tests.serving import free_port
from websockets.sync.client import connect
from websockets.typing import Origin

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_chat"
KEY = "of these tests alone, and as long as Django wants it to be: 50 characters"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(django.VERSION < (5, 2), reason="the example is written for Django 5.2"),
]


def environ(**values: str) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **values}


@pytest.mark.parametrize("arguments", [["test"], ["makemigrations", "--check", "--dry-run"], ["check"]])
def test_the_example_is_sound(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=EXAMPLE,
        env=environ(CHAT_DATABASE=":memory:", CHAT_SECRET_KEY=KEY),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def copied(folder: Path) -> Path:
    """A copy of the example as a clone has it."""
    made = shutil.ignore_patterns("*.sqlite3", "*.key", "build", "__pycache__")
    return Path(shutil.copytree(EXAMPLE, folder / "chat", ignore=made))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a copy of the example, which may be changed, as its README says."""
    settings = environ(CHAT_DATABASE=str(folder / "chat.sqlite3"))
    port = free_port()
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=folder, env=settings, check=True, timeout=120)
    with open(folder / "log", "wb") as log:
        command = [*manage, "runserver", str(port)]
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdout=log, stderr=log, process_group=0, preexec_fn=hear_interrupts
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return exchange(port, "GET", "/login/").status == 200
        except OSError:
            return False

    try:
        until(answers, "the example answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 2)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def is_served_again(folder: Path) -> None:
    until(lambda: (folder / "log").read_text().count("Serving HTTP") >= 2, "the example is served again")


def form_of(page: httpx2.Response, **values: str) -> dict[str, str]:
    """What the browser sends of a page's form."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    return {"csrfmiddlewaretoken": token[1], **values}


PASSWORDS = dict.fromkeys(("password1", "password2"), "clarke-1917-")


def test_a_reload_keeps_the_session(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    with served(folder) as url, httpx2.Client(base_url=url, trust_env=False, follow_redirects=True) as browser:
        room = browser.post("/signup/", data=form_of(browser.get("/signup/"), username="joan", **PASSWORDS))
        assert "Log out" in room.text
        (folder / "chat" / "views.py").touch()
        is_served_again(folder)
        assert "Log out" in browser.get("/").text
        assert (folder / "chat.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_the_readmes_commands_serve_it_behind_nginx(tmp_path: Path) -> None:
    folder, port, front = copied(tmp_path), free_port(), free_port()
    blocks = list(examples(EXAMPLE / "README.md"))
    commands = next(each.text for each in blocks if each.text.startswith("export"))
    commands = "\n".join(line.partition("  #")[0] for line in commands.strip().splitlines())
    (static,) = (each.text for each in blocks if each.language == "nginx")
    site = static.replace("/srv/chat/", f"{folder}/")
    with (
        started(commands.replace("chat.example.org", "127.0.0.1"), folder, port),
        nginx(tmp_path, port, front, site),
        httpx2.Client(base_url=f"http://127.0.0.1:{front}", trust_env=False, follow_redirects=True) as browser,
    ):
        room = browser.post("/signup/", data=form_of(browser.get("/signup/"), username="joan", **PASSWORDS))
        assert "Log out" in room.text
        for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', room.text):
            assert browser.get(path).status_code == 200
        assert "/static/chat/chat.js" in room.text
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        talk = f"ws://127.0.0.1:{front}/rooms/harbour/talk/"
        origin = Origin(f"http://127.0.0.1:{front}")
        with connect(talk, origin=origin, additional_headers={"Cookie": cookie}, proxy=None) as client:
            client.send("ahoy")
            assert "ahoy" in client.recv(PATIENCE)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def sign_up(browser: Browser, url: str, name: str) -> Page:
    """A page of somebody who is in the first room, in a browser of his own."""
    page = browser.new_context().new_page()
    page.goto(f"{url}/signup/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=False).first.fill("clarke-1917-")
    page.get_by_label("Password confirmation").fill("clarke-1917-")
    page.get_by_role("button", name="Sign up").click()
    is_live(page)
    return page


def is_live(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("Live", timeout=20_000)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def types_until_seen(page: Page, seen: Callable[[], object]) -> None:
    """Type until others see it: what nobody has heard is not repeated by itself."""
    for _ in range(8):
        page.get_by_label("Message").press_sequentially("a")
        try:
            seen()
        except AssertionError:
            continue
        return
    seen()


@pytest.mark.browser
@needs_chromium
def test_two_people_talk_see_each_other_typing_and_go_on_after_a_reload(tmp_path: Path, browser: Browser) -> None:
    folder = copied(tmp_path)
    with served(folder) as url:
        ada, grace = sign_up(browser, url, "ada"), sign_up(browser, url, "grace")
        types_until_seen(ada, lambda: expect(grace.get_by_text("ada is typing…")).to_be_visible(timeout=2_500))
        say(ada, "ahoy <b>there</b>")
        for page in (ada, grace):
            expect(page.get_by_role("log").get_by_text("ahoy <b>there</b>")).to_be_visible()

        views = folder / "chat" / "views.py"
        views.write_text(views.read_text().replace("text=text.strip()", "text=text.strip().upper()"))
        is_served_again(folder)
        for page in (ada, grace):
            is_live(page)
        say(grace, "again")
        for page in (ada, grace):
            expect(page.get_by_role("log").get_by_role("listitem")).to_have_count(2)
            expect(page.get_by_role("log")).to_contain_text("AGAIN")

        grace.get_by_role("link", name="Bridge").click()
        is_live(grace)
        expect(grace.get_by_role("log").get_by_role("listitem")).to_have_count(0)
        grace.get_by_role("button", name="Log out").click()
        expect(grace.get_by_role("heading", name="Log in")).to_be_visible()
