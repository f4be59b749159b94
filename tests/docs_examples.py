"""The examples in the documentation, and the files that a reader makes of them.

A fenced block whose first line is a comment with nothing but a file's name belongs into that file: it takes its place,
or with ", continued" behind the name goes to its end. All other Python blocks of a page make one test module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

MODULE = "test_examples.py"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:#|//|<!--) ([\w./-]+\.\w+)(, continued)?(?: -->)?\n")


class Example(NamedTuple):
    """A fenced block.

    Attributes:
        language: As the fence has it.
        line: Of the page, on which the text begins.
        text: What stands between the fences.
        file: Where it belongs; "": nowhere in particular.
        continues: Whether it goes to the end of what that file has already.
    """

    language: str
    line: int
    text: str
    file: str
    continues: bool


def examples(page: Path) -> Iterator[Example]:
    """Every fenced block of a page that names its language, in order."""
    source = page.read_text("utf-8")
    for found in _FENCE.finditer(source):
        language, text = found.groups()
        line = source.count("\n", 0, found.start(2)) + 1
        name = _NAME.match(text)
        if name is not None:
            yield Example(language, line, text, name[1], name[2] is not None)
        else:
            yield Example(language, line, text, MODULE if language == "python" else "", True)


def write(examples: Iterable[Example], folder: Path) -> None:
    """Make the files. In the module of examples without a name each stands on its line of the page."""
    for example in examples:
        if not example.file:
            continue
        path = folder / example.file
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text("utf-8") if example.continues and path.exists() else ""
        if example.file == MODULE:
            before += "\n" * (example.line - 1 - before.count("\n"))
        path.write_text(before + example.text, "utf-8")
