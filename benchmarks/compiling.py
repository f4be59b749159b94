"""The C files here, compiled when they are first needed. Any ``cc`` will do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"


class NotInstalled(Exception):
    """Something that is not part of Python's packages is missing; says how to get it."""


def compiled(source: str, *flags: str) -> Path:
    """Compile a C file of this folder, unless that was done since it was last changed.

    Raises:
        NotInstalled: There is no C compiler.
    """
    path = HERE / source
    binary = BUILD / path.stem
    if not binary.exists() or binary.stat().st_mtime < path.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        fresh = binary.with_suffix(f".{os.getpid()}")
        try:
            subprocess.run(["cc", "-O2", "-Wall", *flags, "-o", str(fresh), str(path)], check=True)
        except FileNotFoundError:
            raise NotInstalled("no C compiler (Debian: apt-get install gcc libc6-dev)") from None
        fresh.replace(binary)  # another benchmark may be running
    return binary
