"""The tutorial, step by step as a reader takes them: the files grow while the server runs and pages are open."""

from __future__ import annotations

import itertools
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.docs_examples import ROOT, Example, examples, write
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.processes import PATIENCE
from tests.e2e.test_project import Running, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    needs_chromium,
]

EXAMPLES = list(examples(ROOT / "docs" / "tutorial.md"))
FILES = [each for each in EXAMPLES if each.file]
COMMANDS = [line for each in EXAMPLES if each.language == "sh" for line in each.text.splitlines()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def visit(browser: Browser, server: Running) -> Page:
    """A page in a window of its own, with its own cookies."""
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    return page


def enter(page: Page, name: str) -> None:
    page.locator("[name=name]").fill(name)
    page.get_by_role("button", name="Enter").click()
    expect(page.locator("#status")).to_have_text("Connected")


def say(page: Page, text: str) -> None:
    page.locator("[name=text]").fill(text)
    page.get_by_role("button", name="Say").click()


def hears(page: Page, text: str) -> None:
    expect(page.locator("#said li").first).to_have_text(text, timeout=PATIENCE * 1000)


def test_each_step_works(browser: Browser, tmp_path: Path) -> None:
    assert "fairlead run chat:app --reload" in COMMANDS
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write(FILES[:2], tmp_path)
    with running(tmp_path, "chat:app", "--reload", f"--port={port}") as server:
        lives = itertools.count(2)

        def edit(*changes: Example) -> None:
            for change in changes:
                write([change], tmp_path)
                server.listening(next(lives))

        one, other = visit(browser, server), visit(browser, server)
        for page in (one, other):
            expect(page.locator("#status")).to_have_text("Connected")
        say(one, "Ahoy")
        hears(one, "Ahoy")
        hears(other, "Ahoy")

        edit(*FILES[2:4])
        ann, bob = visit(browser, server), visit(browser, server)
        enter(ann, "Ann")
        enter(bob, "Bob")
        say(ann, "Ahoy")
        hears(bob, "Ann: Ahoy")

        edit(*FILES[4:7])
        expect(bob.locator("#status")).to_have_text("Connected", timeout=PATIENCE * 1000)
        (curl,) = [line for line in COMMANDS if line.startswith("curl ")]
        subprocess.run(shlex.split(curl.replace(":8000/", f":{port}/")), check=True, timeout=PATIENCE)
        hears(bob, "the kitchen: Lunch is ready")
        ann.reload()
        enter(ann, "Ann")
        ann.get_by_role("button", name="Who is here?").click()
        expect(ann.locator("#here")).to_have_text("Ann, Bob")
