"""``wsgi.input``: a request's body, read by a thread as it comes."""

from __future__ import annotations

import io
from collections.abc import Callable


class ClientLeft(ConnectionResetError):
    """The client is gone: nothing of its body will come, and nothing can be sent to it."""


class ClientStalled(TimeoutError):
    """The client has promised a body, and sends nothing."""


class BodyReader(io.RawIOBase):
    """The body of a request that is not all here yet.

    Args:
        fetch: The next piece; it blocks, and after the last one gives nothing.
    """

    def __init__(self, fetch: Callable[[], bytes]) -> None:
        self._fetch = fetch
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # of bytes, as io calls it
        """Fill the buffer with what is here, or what comes next.

        Raises:
            ClientLeft: The rest will not come.
            ClientStalled: Nothing has come for too long.
        """
        if not self._piece:
            self._piece = memoryview(self._fetch())
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size


def body_stream(fetch: Callable[[], bytes], buffer_size: int) -> io.BufferedReader:
    """``wsgi.input`` with all that files have; ``read1`` gives what is here without waiting for more."""
    return io.BufferedReader(BodyReader(fetch), buffer_size)
