"""All suites in all set-ups.

    python -m conformance --ci

Without an option it takes about a quarter of an hour, nearly all of it Autobahn's own; with --ci three minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from conformance import abuse, autobahn, handshake, uvicorn_suite
from conformance.setups import SETUPS

FULL: Sequence[tuple[Callable[[Sequence[str]], int], Sequence[str]]] = (
    (handshake.main, ()),
    (uvicorn_suite.main, ()),
    (abuse.main, [word for setup in abuse.CHOICES for word in ("--setup", setup)]),
    (autobahn.main, ["--fast", *(word for setup in SETUPS for word in ("--setup", setup))]),
    (autobahn.main, ["--setup", "uvloop", "--compression", "own"]),
    (autobahn.main, ["--setup", "uvloop", "--compression", "shared"]),
)
CI: Sequence[tuple[Callable[[Sequence[str]], int], Sequence[str]]] = (
    (handshake.main, ()),
    (uvicorn_suite.main, ()),
    (abuse.main, ["--setup", "uvloop", "--setup", "tls"]),
    (autobahn.main, ["--fast", "--setup", "uvloop", "--setup", "tls"]),
)


def main() -> int:
    """The command line; returns 0 if everything passed."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ci", action="store_true", help="leave out what takes long, and Autobahn without a Python 2.7"
    )
    arguments = parser.parse_args()
    failed = []
    for suite, options in CI if arguments.ci else FULL:
        name = " ".join((suite.__module__.rpartition(".")[2], *options))
        print(f"== {name}", flush=True)
        started = time.monotonic()
        status = suite(options)
        print(f"-- {time.monotonic() - started:.0f} s\n", flush=True)
        if status and not (arguments.ci and status == autobahn.CANNOT_RUN):
            failed.append(name)
    print("FAILED: " + "; ".join(failed) if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
