"""Run targets one after the other, each in a process of its own, and say how often each ran.

    python -m fuzzing --seconds 60
    python -m fuzzing messages deflate --runs 10000000
    python -m fuzzing --keep

What is found is under .fuzzing/TARGET, with the log: inputs that reach something new in ``found``, and beside it the
one that ended the run. The next run begins with them, with the corpus and with the target's seeds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from fuzzing.harness import CORPUS, TARGETS, load

WORK = Path(".fuzzing")

LIMITS = ("-timeout=5", "-rss_limit_mb=512", "-entropic_scale_per_exec_time=1")
"""Seconds for an input that hangs in earnest, memory in MiB, and quick inputs are changed more often than slow ones."""


def main() -> int:
    """The command line; returns 0 if nothing was found."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzzing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="of " + ", ".join(TARGETS) + "; all if none is named"
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--seconds", type=int, help="for each target")
    how.add_argument("--runs", type=int, help="executions of each target")
    how.add_argument("--keep", action="store_true", help="add to the corpus what earlier runs found and it lacks")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    targets = arguments.targets or TARGETS
    if arguments.keep:
        return max([keep(target) for target in targets])
    bound = f"-max_total_time={arguments.seconds}" if arguments.runs is None else f"-runs={arguments.runs}"
    return max([run(target, bound) for target in targets])


def run(target: str, bound: str) -> int:
    """Run one target; returns 0 if nothing was found."""
    work = _prepare(target)
    started = time.monotonic()
    options = [bound, f"-artifact_prefix={work}/", "-print_final_stats=1"]
    status, log = _drive(target, work / "log", [*options, f"{work}/found", f"{work}/seeds", str(CORPUS / target)])
    seconds = time.monotonic() - started
    count = re.search(r"number_of_executed_units: (\d+)", log)
    executions = int(count[1]) if count else 0
    verdict = "nothing found" if not status else f"STOPPED by a finding or a signal, see {work}/log"
    print(
        f"{target}: {executions:,} executions in {seconds:.0f} s, {executions / seconds:,.0f}/s: {verdict}", flush=True
    )
    return status


def keep(target: str) -> int:
    """Add to a target's corpus those inputs, seeds and found ones, that reach what it does not reach yet."""
    work = _prepare(target)
    status, _ = _drive(target, work / "keep.log", ["-merge=1", str(CORPUS / target), f"{work}/found", f"{work}/seeds"])
    files = [file.stat().st_size for file in (CORPUS / target).iterdir()]
    print(f"{target}: {len(files)} inputs of {sum(files):,} bytes together")
    return status


def _prepare(target: str) -> Path:
    work = WORK / target
    for directory in (work / "found", work / "seeds", CORPUS / target):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in load(target).seeds():
        (work / "seeds" / sha1(seed).hexdigest()).write_bytes(seed)
    return work


def _drive(target: str, log: Path, options: Sequence[str]) -> tuple[int, str]:
    """Run a process to its end; return 1 if that was not a good one, and all it said, which is in the log too."""
    command = [sys.executable, "-m", "fuzzing.drive", target, f"-max_len={load(target).LENGTH}", *LIMITS, *options]
    with log.open("wb") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    return min(abs(status), 1), log.read_text(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
