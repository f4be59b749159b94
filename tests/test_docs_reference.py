"""The reference is what the docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_reference_is_up_to_date() -> None:
    reference = runpy.run_path(str(DOCS / "reference.py"))["reference"]
    assert (DOCS / "reference.md").read_text("utf-8") == reference(), "run `make docs`"
