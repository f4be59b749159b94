"""The chat in examples/django_chat: its own tests, and two people in real browsers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import django
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.django.test_runserver import hear_interrupts
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.processes import exchange, until
from tests.serving import free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_chat"

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
        env=environ(CHAT_DATABASE=":memory:"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a copy of the example, which may be changed, as its README says."""
    settings = environ(CHAT_DATABASE=str(folder / "chat.sqlite3"), CHAT_SECRET_KEY="the same after a reload")
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
    folder = tmp_path / "chat"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.sqlite3", "__pycache__"))
    with served(folder) as url:
        ada, grace = sign_up(browser, url, "ada"), sign_up(browser, url, "grace")
        types_until_seen(ada, lambda: expect(grace.get_by_text("ada is typing…")).to_be_visible(timeout=2_500))
        say(ada, "ahoy <b>there</b>")
        for page in (ada, grace):
            expect(page.get_by_role("log").get_by_text("ahoy <b>there</b>")).to_be_visible()

        views = folder / "chat" / "views.py"
        views.write_text(views.read_text().replace("text=text.strip()", "text=text.strip().upper()"))
        until(lambda: (folder / "log").read_text().count("Serving HTTP") >= 2, "the example is served again")
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
