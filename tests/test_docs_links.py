"""Links between the pages of the documentation lead somewhere, and every page is reached from the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs_examples import PAGES, ROOT

CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    return CODE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(page)))
    return {heading.strip().replace(" ", "-") for heading in kept}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, and where in them."""
    for link in LINK.findall(prose(page)):
        if not link.startswith(("http:", "https:")):
            name, _, anchor = link.partition("#")
            yield (page.parent / name).resolve() if name else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"there is no {target.relative_to(ROOT)}"
        assert not anchor or anchor in anchors(target), f"{target.relative_to(ROOT)} has no heading for #{anchor}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {target for target, _ in links(ROOT / "README.md")}
    assert [page.name for page in PAGES[1:] if page not in linked] == []
