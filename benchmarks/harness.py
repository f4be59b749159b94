"""What every benchmark here shares: its command line, and how systems are compared fairly.

* Every repeat runs on a freshly started server, and the systems take turns (A B C A B C ...), so that a noisy minute
  hurts all of them. Ratios are taken within each turn, and their median is printed.
* A repeat in which one message is missing, doubled or wrong ends the benchmark with an error.
* A system that is not installed is reported as not run, with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from compiling import NotInstalled
from servers import LOAD_CORES

REPEATS = 5

BUSY = 0.1
"""The share of the machine's CPU from which on other work visibly moves the figures."""


@dataclass(frozen=True)
class Sample:
    """What one repeat found.

    Attributes:
        cost: What is compared.
        further: Other figures by the titles of their columns.
    """

    cost: float
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One system in a comparison.

    Args:
        name: How it is called in the output.
        packages: The distributions whose versions are printed with it; without one of them it is not run.
        measure: Runs one repeat on a fresh server. Raises NotInstalled where anything else is missing.
    """

    name: str
    packages: Sequence[str]
    measure: Callable[[], Sample]


@dataclass(frozen=True)
class Target:
    """What is promised: ``name`` needs at most ``factor`` times as much as ``reference``; without one, ``factor``.

    Attributes:
        column: What is looked at: a title in ``Sample.further``, or "" for the cost.
        least: It is at least that, and not at most.
    """

    name: str
    factor: float
    reference: str = ""
    column: str = ""
    least: bool = False

    def __str__(self) -> str:
        bound = f"{self.factor:g} x {self.reference}" if self.reference else f"{self.factor:g}"
        return f"{self.name}{', ' + self.column if self.column else ''} {'>=' if self.least else '<='} {bound}"


@dataclass
class _Measured:
    subject: Subject
    versions: list[str]
    missing: str = ""
    samples: list[Sample] = field(default_factory=list)


class Bench:
    """A benchmark's run: reads its command line, compares, prints, and writes its figures down.

    Args:
        description: The first lines of ``--help``.
        repeats: How many there are unless told otherwise.
        seconds: How long one repeat lasts, without ``--full`` and with it, where that can be chosen.

    Attributes:
        full: Whether it shall be larger, and all there is.
        repeats: How many there shall be.
        seconds: How long each shall last.
    """

    def __init__(
        self, description: str | None, *, repeats: int = REPEATS, seconds: tuple[int, int] | None = None
    ) -> None:
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--full", action="store_true", help="longer, with more work that is compared")
        parser.add_argument("--repeats", type=int, default=repeats, help=f"turns (default {repeats})")
        parser.add_argument("--systems", default="", help="only those whose names contain one of these, as in: a,b")
        parser.add_argument("--json", type=Path, help="write all figures into this file")
        if seconds is not None:
            parser.add_argument("--seconds", type=int, help="of a repeat (default {}, full {})".format(*seconds))
        arguments = parser.parse_args()
        self.full: bool = arguments.full
        self.repeats: int = arguments.repeats
        self.seconds: int = seconds and (arguments.seconds or seconds[self.full]) or 0
        self._wanted = [each for each in arguments.systems.split(",") if each]
        self._json: Path | None = arguments.json
        self._found: list[dict[str, object]] = []
        os.sched_setaffinity(0, LOAD_CORES)

    def share(self, count: int) -> int:
        """How often something is to be done that is done so often with ``--full``: otherwise a quarter."""
        return count if self.full else count // 4

    def compare(
        self, title: str, unit: str, subjects: Sequence[Subject], targets: Sequence[Target] = (), *, often: int = 1
    ) -> None:
        """Measure the subjects in turns; print a table, with the ratio of each to the first, and the targets.

        Args:
            title: What is done.
            unit: Of the cost.
            subjects: The systems; ours first.
            targets: What is promised.
            often: Times as many turns with ``--full``, for ratios close to their targets.
        """
        if (busy := _others()) > BUSY:
            print(f"  other work takes {busy:.0%} of this machine: trust the ratios, not the figures", file=sys.stderr)
        measured = [_Measured(each, *_versions(each)) for each in subjects if self._wants(each)]
        if not measured:
            return
        turns = self.repeats * (often if self.full else 1)
        for turn in range(turns):
            for each in measured:
                if not each.missing:
                    self._measure(each, f"{turn + 1}/{turns}")
        verdicts = [_judge(target, {each.subject.name: each.samples for each in measured}) for target in targets]
        print(_table(title, unit, measured), *verdicts, sep="\n", end="\n\n", flush=True)
        self._write(title, unit, measured, verdicts)

    def _wants(self, subject: Subject) -> bool:
        return not self._wanted or any(each in subject.name for each in self._wanted)

    def _measure(self, each: _Measured, turn: str) -> None:
        try:
            sample = each.subject.measure()
        except NotInstalled as exc:
            each.missing = str(exc)
            return
        each.samples.append(sample)
        figures = ", ".join(f"{figure:.2f} {title}" for title, figure in sample.further.items())
        print(f"  {turn} {each.subject.name}: {sample.cost:.2f} {figures}", file=sys.stderr, flush=True)

    def _write(self, title: str, unit: str, measured: Sequence[_Measured], verdicts: Sequence[str]) -> None:
        systems = [
            {
                "name": each.subject.name,
                "versions": each.versions,
                "not_run": each.missing or None,
                "samples": [{unit: sample.cost, **sample.further} for sample in each.samples],
            }
            for each in measured
        ]
        day = time.strftime("%Y-%m-%d", time.gmtime())
        found = {"title": title, "unit": unit, "date": day, "machine": machine(), "full": self.full}
        self._found.append({**found, "systems": systems, "targets": verdicts})
        if self._json is not None:
            self._json.parent.mkdir(parents=True, exist_ok=True)
            self._json.write_text(json.dumps(self._found, indent=1) + "\n")


def _versions(subject: Subject) -> tuple[list[str], str]:
    """What is installed of it, and what is missing."""
    try:
        return [f"{package} {version(package)}" for package in subject.packages], ""
    except PackageNotFoundError as exc:
        return [], f"{exc.name} is not installed"


def _others() -> float:
    """The share of the CPUs that is in use while this process sleeps for a second."""
    before = _cpu_times()
    time.sleep(1.0)
    spent = [after - earlier for after, earlier in zip(_cpu_times(), before, strict=True)]
    return 1 - (spent[3] + spent[4]) / sum(spent)  # idle, and waiting for a disk


def _cpu_times() -> list[int]:
    return [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _table(title: str, unit: str, measured: Sequence[_Measured]) -> str:
    first = measured[0]
    columns = list(dict.fromkeys(column for each in measured for sample in each.samples for column in sample.further))
    rows = [["", unit, f"/ {first.subject.name}", *columns]]
    for each in measured:
        name = each.subject.name
        if each.missing:
            rows.append([name, f"not run: {each.missing}"])
            continue
        ratio = spread(_ratios(each.samples, first.samples)) if first.samples else ""
        further = [[sample.further[c] for sample in each.samples if c in sample.further] for c in columns]
        rows.append([name, spread([sample.cost for sample in each.samples]), ratio, *map(spread, further)])
    widths = [max(len(row[at]) for row in rows if len(row) == len(rows[0])) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    versions = dict.fromkeys(each for one in measured for each in one.versions)
    return "\n".join([f"{title} (n={len(first.samples)})", *lines, f"{', '.join(versions)}; {machine()}"])


def _judge(target: Target, samples: Mapping[str, Sequence[Sample]]) -> str:
    ours, theirs = samples.get(target.name, ()), samples.get(target.reference, ())
    if not ours or (target.reference and not theirs):
        return f"target {target}: not run"
    figures = _ratios(ours, theirs, target.column) if target.reference else [_figure(e, target.column) for e in ours]
    figure = statistics.median(figures)
    met = figure >= target.factor if target.least else figure <= target.factor
    return f"target {target}: {figure:.3g}, {'met' if met else 'MISSED'}"


def _figure(sample: Sample, column: str) -> float:
    return sample.further[column] if column else sample.cost


def _ratios(samples: Sequence[Sample], others: Sequence[Sample], column: str = "") -> list[float]:
    pairs = zip(samples, others, strict=True)
    return [_figure(one, column) / _figure(other, column) for one, other in pairs]


def spread(figures: Sequence[float]) -> str:
    """The median, and where there are several the smallest and the largest."""
    if not figures:
        return ""
    median = _short(statistics.median(figures))
    return median if len(figures) == 1 else f"{median} ({_short(min(figures))}-{_short(max(figures))})"


def _short(figure: float) -> str:
    return f"{figure:.3g}" if figure < 1000 else f"{figure:.0f}"


def machine() -> str:
    """What the figures were found on."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} CPUs"
