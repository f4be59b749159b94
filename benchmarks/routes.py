"""What many routes cost a handshake: server CPU with 1 and with 1,000 of them, to the one that was added last.

Starlette's router, on uvicorn, tries one after the other; ours looks up each segment of the path.
"""

from __future__ import annotations

import functools

from handshake import CLIENTS, window
from harness import Bench, Sample, Subject, Target
from servers import script

COUNTS = (1, 1000)
SYSTEMS = {
    "fairlead": ("handlers.py", ("fairlead",)),
    "uvicorn+starlette": ("peers/with_starlette.py", ("uvicorn", "starlette")),
}


def measure(name: str, routes: int) -> Sample:
    """One repeat on a fresh server."""
    with script(f"{name} {routes}") as server:
        return window(server, f"/thing{routes - 1}/7")


def title(system: str, routes: int) -> str:
    """A subject's name."""
    return f"{system}, {routes} route{'s' if routes > 1 else ''}"


def main() -> None:
    """Compare both counts on both."""
    bench = Bench(__doc__)
    few, many = COUNTS
    subjects = [
        Subject(title(system, routes), packages, functools.partial(measure, path, routes))
        for system, (path, packages) in SYSTEMS.items()
        for routes in COUNTS
    ]
    targets = [Target(title("fairlead", many), 2.0, title("fairlead", few))]
    bench.compare(f"routes, {CLIENTS} handshakes to the last of them", "us CPU/handshake", subjects, targets)


if __name__ == "__main__":
    main()
