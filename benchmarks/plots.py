"""Bar charts as SVG, with nothing but text: readable on a light page and on a dark one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 760
NAMES = 210
FIGURES = 90
ROW = 24
LONGEST = 8.0
"""A bar is cut at so many times the shortest one that is ours, or the short ones would all look alike."""

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.ours{fill:#1f6feb}.theirs{fill:#8c959f}"
    ".spread{stroke:#24292f}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.spread{stroke:#e6edf3}}"
)


def bars(title: str, unit: str, systems: Mapping[str, Sequence[float]], *, ours: str) -> str:
    """An SVG document: a bar for each system's median, a line from its smallest figure to its largest.

    Args:
        title: Stands above.
        unit: Of the figures.
        systems: Their figures; one without any is left out.
        ours: What the names begin with that are set off.
    """
    figures = {name: sorted(each) for name, each in systems.items() if each}
    medians = {name: statistics.median(each) for name, each in figures.items()}
    shortest = min((each for name, each in medians.items() if name.startswith(ours) and each > 0), default=1.0)
    end = min(max(each[-1] for each in figures.values()), max(LONGEST * shortest, *_ours(medians, ours)))
    room = WIDTH - NAMES - FIGURES
    rows = [
        _row(index, name, each, room / end, limit=room, kind="ours" if name.startswith(ours) else "theirs")
        for index, (name, each) in enumerate(figures.items())
    ]
    height = ROW * (len(rows) + 1) + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f'<style>{_STYLE}</style><text class="title" x="4" y="17">{escape(title)}: {escape(unit)}</text>'
        + "".join(rows)
        + "</svg>\n"
    )


def _ours(medians: Mapping[str, float], ours: str) -> list[float]:
    return [each for name, each in medians.items() if name.startswith(ours)] or [0.0]


def _row(index: int, name: str, figures: Sequence[float], scale: float, *, limit: float, kind: str) -> str:
    top = ROW * (index + 1) + 4
    median = statistics.median(figures)
    length = min(limit, max(1.0, median * scale))
    low, high = (NAMES + min(limit, each * scale) for each in (figures[0], figures[-1]))
    cut = " »" if median * scale > limit else ""
    line = f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{top + 8}" y2="{top + 8}"/>' if not cut else ""
    return (
        f'<text x="{NAMES - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{kind}" x="{NAMES}" y="{top}" width="{length:.1f}" height="16" rx="2"/>{line}'
        f'<text x="{max(NAMES + length, high) + 6:.1f}" y="{top + 13}">{median:.3g}{cut}</text>'
    )
