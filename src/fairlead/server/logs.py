"""What a process that is a server of ours says on stderr."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(level: str) -> None:
    """Write what is logged to stderr, unless the process has another place for it already.

    Args:
        level: From which on: "debug", "info", "warning" or "error".
    """
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    quiet_uvicorn()


def quiet_uvicorn() -> None:
    """Leave out uvicorn's lines on its start and end, which ours say as well; a level that is set stays."""
    lifecycle = logging.getLogger("uvicorn.error")
    if lifecycle.level == logging.NOTSET:
        lifecycle.setLevel(logging.WARNING)
