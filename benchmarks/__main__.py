"""Run the benchmarks one after the other and make a page of what they found. ``python benchmarks [--only NAME]``.

With ``--full`` the page and the figures go to ``results``, otherwise to ``build``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from report import ORDER, write

HERE = Path(__file__).parent
BY_REQUEST = ("compression", "mixed")
"""Only with ``--only``: the first compares us with ourselves, the second lasts a quarter of an hour."""

LONGER = ("blocking", "django_views", "routes")
"""Only so, or with ``--full``."""


def main() -> int:
    """Run them all; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"names, with commas: {', '.join(ORDER)}")
    known, others = parser.parse_known_args()
    full = "--full" in others
    left_out = BY_REQUEST if full else BY_REQUEST + LONGER
    names = known.only.split(",") if known.only else [each for each in ORDER if each not in left_out]
    if unknown := [each for each in names if each not in ORDER]:
        parser.error(f"there is no benchmark {unknown[0]!r}, only {', '.join(ORDER)}")
    folder = HERE / ("results" if full else "build")
    failed = []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(folder / f"{name}.json"), *others]
        if subprocess.run(command).returncode:
            failed.append(name)
    print(f"written: {write(folder)}")
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
