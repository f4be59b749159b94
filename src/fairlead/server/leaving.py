"""The end of a process whose server is gone: threads that hang do not keep it."""

from __future__ import annotations

import logging
import os
import threading

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that threads have when the server has drained; as long as the requests that started them had before."""


def leave_soon(status: int, *, patience: float = PATIENCE) -> None:
    """End the process with this status also if threads hang, for which Python would wait without end.

    Executors have such threads: ``asyncio.to_thread``, Django's blocking views. Whoever calls this is about to leave.

    Args:
        status: The process's exit status.
        patience: Seconds in which the process may end by itself.
    """
    leaving = threading.Timer(patience, _leave, [status])
    leaving.daemon = True
    leaving.start()


def _leave(status: int) -> None:
    names = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    logger.warning("left although threads are still at work: %s", ", ".join(names))
    logging.shutdown()
    os._exit(status)
