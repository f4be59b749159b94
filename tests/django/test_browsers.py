"""The chat in examples/django_chat, by two people: one has Chromium, the other one Firefox."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.django.test_example import copied, say, served, sign_up
from tests.e2e.chromium import chromium, needs_chromium
from tests.e2e.firefox import Firefox, Page, firefox, needs_firefox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    needs_chromium,
    needs_firefox,
]


def sign_up_in_firefox(browser: Firefox, url: str, name: str) -> Page:
    """A page of somebody who is in the first room."""
    page = browser.page(f"{url}/signup/")
    page.fill("[name=username]", name)
    page.fill("[name=password1]", "clarke-1917-")
    page.fill("[name=password2]", "clarke-1917-")
    page.click("main button")
    page.shows("[role=status]", "Live")
    return page


def test_chromium_and_firefox_talk_and_see_each_other_typing(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    with served(folder) as url, chromium() as one, firefox() as other:
        ada, grace = sign_up(one, url, "ada"), sign_up_in_firefox(other, url, "grace")
        ada.get_by_label("Message").press_sequentially("ah")
        grace.shows("#typing", "ada is typing…")
        say(ada, "ahoy <b>there</b> ☸")
        grace.shows("#log", "ahoy <b>there</b> ☸")

        grace.fill("#text", "aye <i>aye</i>")
        expect(ada.get_by_text("grace is typing…")).to_be_visible()
        grace.click("#compose button")
        expect(ada.get_by_role("log")).to_contain_text("aye <i>aye</i>")
        grace.shows("#log", "aye <i>aye</i>")
