"""``fairlead run --reload``: a parent that looks at the files and starts its child, the server, again.

Files are looked at instead of being told about by the kernel: that works in every container and on every network drive,
needs no further package, and takes a millisecond for a project.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

PAUSE: Final = 0.25
"""Seconds between two looks; longer where one takes long, so that they cost a tenth of a processor at most."""

PATIENCE: Final = 2.0
"""Seconds that a server has to say goodbye to its clients, and then again to end."""

_SUFFIXES: Final = (".py", ".yml", ".yaml", ".html")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

Files = Mapping[str, tuple[int, int]]
"""When each file was changed, in nanoseconds, and its size."""


def watched(folder: Path) -> Files:
    """The files whose change needs a new server: code, settings, pages, and everything in folders called static.

    Hidden folders, ``__pycache__``, ``node_modules`` and virtual environments are left out.
    """
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not _skipped(path, each)]
        everything = "static" in Path(path).relative_to(folder).parts
        for name in names:
            if everything or name.endswith(_SUFFIXES):
                with suppress(OSError):  # gone meanwhile, or a link to nothing, as editors make them
                    status = os.stat(full := os.path.join(path, name))
                    found[full] = (status.st_mtime_ns, status.st_size)
    return found


def _skipped(path: str, folder: str) -> bool:
    if folder.startswith((".", "__")) or folder == "node_modules":
        return True
    return os.path.exists(os.path.join(path, folder, "pyvenv.cfg"))


def supervise(command: Sequence[str], folder: Path) -> int:
    """Run a server until a signal comes, and start it again whenever something in the folder changes.

    A server that ends by itself has said why; the next change gives it another chance.

    Args:
        command: Starts the server; SIGTERM ends it, a second one at once.
        folder: What is looked at.

    Returns:
        The process's exit status: 0.
    """
    files = watched(folder)
    with _stopping() as stopped:
        child = subprocess.Popen(command)
        try:
            reported, pause = False, PAUSE
            while not stopped.wait(pause):
                started = time.monotonic()
                now = watched(folder)
                pause = max(PAUSE, 10 * (time.monotonic() - started))
                if now != files:
                    _say(f"{_first_change(files, now, folder)} changed: starting again")
                    files, reported = now, False
                    _end(child)
                    child = subprocess.Popen(command)
                elif child.poll() is not None and not reported:
                    _say("it has ended; waiting for a change")
                    reported = True
        finally:
            # After Ctrl-C the terminal has told the child, too: twice would be "at once".
            _end(child, told=stopped.number == signal.SIGINT)
    return 0


class _Stop(threading.Event):
    """Set by a signal."""

    number = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.set()


@contextmanager
def _stopping() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: subprocess.Popen[bytes], *, told: bool = False) -> None:
    """Let a server end, sooner than its clients would like if need be."""
    if not told:
        child.terminate()
    for more in (child.terminate, child.kill):
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
            return
        more()
    child.wait()


def _first_change(before: Files, now: Files, folder: Path) -> str:
    path = min(path for path, _ in before.items() ^ now.items())
    return os.path.relpath(path, folder)


def _say(text: str) -> None:
    print("fairlead:", text, file=sys.stderr, flush=True)
