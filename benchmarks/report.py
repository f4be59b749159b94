"""Write what the benchmarks found as a page: a table and a plot for each comparison, and the targets.

``python report.py FOLDER`` reads the JSON files of FOLDER and writes README.md and one SVG for each comparison there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import spread
from plots import bars

ORDER = (
    "fanout",
    "trigger",
    "echo",
    "calls",
    "blocking",
    "django_views",
    "handshake",
    "routes",
    "storm",
    "idle_memory",
    "compression",
    "mixed",
)
"""Of the files on the page."""

METHOD = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class System:
    """One line of a table."""

    name: str
    versions: Sequence[str]
    not_run: str | None
    samples: Sequence[Mapping[str, float]]

    def figures(self, column: str) -> list[float]:
        """All that it has in one column."""
        return [each[column] for each in self.samples if column in each]


@dataclass(frozen=True)
class Comparison:
    """One table."""

    title: str
    unit: str
    date: str
    machine: str
    full: bool
    systems: Sequence[System]
    targets: Sequence[str]

    def columns(self) -> list[str]:
        """The titles of its columns, the unit first."""
        return list(dict.fromkeys(column for each in self.systems for sample in each.samples for column in sample))

    def table(self) -> str:
        """As Markdown."""
        columns = self.columns()
        lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for each in self.systems:
            cells = [spread(each.figures(column)) for column in columns]
            lines.append(
                f"| {each.name} | " + (f"not run: {each.not_run} |" if each.not_run else " | ".join(cells) + " |")
            )
        return "\n".join(lines)

    def file(self) -> str:
        """What its plot is called."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") + ".svg"

    def plot(self) -> str:
        """As SVG."""
        systems = {each.name: each.figures(self.unit) for each in self.systems}
        return bars(self.title, self.unit, systems, ours="fairlead")


def read(path: Path) -> list[Comparison]:
    """The comparisons that one benchmark wrote down."""
    found = json.loads(path.read_text())
    return [Comparison(**{**each, "systems": [System(**system) for system in each["systems"]]}) for each in found]


def write(folder: Path) -> Path:
    """Make the page of everything in a folder."""
    method = os.path.relpath(METHOD, folder)
    parts = [
        "# What the benchmarks found\n\n"
        f"Made by `make bench`; what is measured and how stands [here]({method}). The median, and in parentheses the\n"
        "smallest and the largest figure of all repeats. A plot cuts bars that are far longer than ours.\n"
    ]
    for name in ORDER:
        path = folder / f"{name}.json"
        for each in read(path) if path.exists() else ():
            (folder / each.file()).write_text(each.plot())
            parts.append(_part(each))
    page = folder / "README.md"
    page.write_text("\n".join(parts))
    return page


def _part(each: Comparison) -> str:
    versions = ", ".join(dict.fromkeys(version for system in each.systems for version in system.versions))
    repeats = max((len(system.samples) for system in each.systems), default=0)
    brief = "" if each.full else ", brief"
    targets = "".join(f"* {target}\n" for target in each.targets)
    return (
        f"## {each.title[0].upper()}{each.title[1:]}\n\n{each.table()}\n\n![{each.title}]({each.file()})\n\n{targets}"
        f"{chr(10) if targets else ''}{each.date}, n={repeats}{brief}; {versions}; {each.machine}\n"
    )


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
