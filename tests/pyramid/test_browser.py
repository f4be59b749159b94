"""The job board in real browsers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module

import pytest
from playwright.sync_api import expect
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.firefox import firefox, needs_firefox
from tests.pyramid.site import served
from tests.pyramid.test_jobs import EXAMPLE

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the board is."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    with served(import_module("jobs").main({})) as server:
        yield server.url
    for name in [name for name in sys.modules if name.partition(".")[0] == "jobs"]:
        del sys.modules[name]


@needs_chromium
def test_two_pages_see_what_a_third_one_changes(url: str) -> None:
    with chromium() as browser:
        errors: list[str] = []
        overview, job, other = (browser.new_context().new_page() for _ in range(3))
        for page, path in ((overview, "/"), (job, "/jobs/1/"), (other, "/jobs/")):
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url + path)
        expect(job.locator("#state")).to_have_text("wait")
        expect(overview.locator("#state-1")).to_have_text("wait")
        job.get_by_role("button", name="start").click()
        expect(job.locator("#problem")).to_have_text("Log in first.")
        other.get_by_placeholder("ada").fill("ada")
        other.get_by_placeholder("anchor").fill("anchor")
        expect(other.get_by_role("button", name="Log out")).to_be_hidden()
        other.get_by_role("button", name="Log in").click()
        expect(other.get_by_text("Logged in as ada")).to_be_visible()
        expect(other.get_by_role("button", name="Log in")).to_be_hidden()
        expect(other.locator("#jobs")).to_contain_text("Bury the treasure")
        other.get_by_role("link", name="Paint the hull").click()
        other.get_by_role("button", name="start").click()
        for page, state in ((job, "#state"), (other, "#state"), (overview, "#state-1")):
            expect(page.locator(state)).to_have_text("start")
        expect(overview.locator("#jobs")).not_to_contain_text("treasure")
        assert errors == []


@needs_firefox
def test_a_tab_of_firefox_sees_what_another_one_changes(url: str) -> None:
    with firefox() as browser:
        board, job = browser.page(f"{url}/"), browser.page(f"{url}/jobs/1/")
        board.shows("#state-1", "wait")
        job.shows("#state", "wait")
        job.click("#change [value=start]")
        job.shows("#problem", "Log in first.")
        board.fill("[name=name]", "ada")
        board.fill("[name=password]", "anchor")
        board.click("[action='/login'] button")
        board.shows("#jobs", "Bury the treasure")
        job.click("#change [value=start]")
        job.shows("#state", "start")
        board.shows("#state-1", "start")
