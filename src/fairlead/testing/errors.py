"""What a test is told when something else happens than it says.

``fairlead.Closed``, which a client's methods raise too, is the application's doing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from fairlead.errors import NetworkError, PeerError, UsageError
from fairlead.handshake import Headers


class Rejected(PeerError):
    """The handshake was refused.

    Attributes:
        status: The HTTP status.
        headers: Those of the answer, by name in any case.
        body: The answer's body.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"the handshake was refused with HTTP {status}: {shortened(body)}")
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The JSON in the body."""
        return msgspec.json.decode(self.body)


class Unexpected(PeerError, AssertionError):
    """Something came, or happened, that the test did not ask for. The text says what."""


class TimedOut(NetworkError, TimeoutError):
    """A wait was over before what it was for. The text says what was waited for and what came last."""


class Refusal:
    """The refusal that ``rejects`` caught; its attributes are there after the block."""

    def __init__(self) -> None:
        self._caught: Rejected | None = None

    def caught(self, rejected: Rejected) -> None:
        """Note it."""
        self._caught = rejected

    @property
    def value(self) -> Rejected:
        """All of it."""
        if self._caught is None:
            raise UsageError("nothing was refused yet: look at the refusal after the block")
        return self._caught

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value.status

    @property
    def headers(self) -> Headers:
        """The answer's headers."""
        return self.value.headers

    @property
    def text(self) -> str:
        """The answer's body as text."""
        return self.value.text


@contextmanager
def rejects(status: int | None = None, text: str | None = None) -> Iterator[Refusal]:
    """The block must try to connect and be refused; in tests of both kinds.

        with rejects(401) as refusal:
            async with connect(app, "/private"):
                pass
        assert refusal.headers["www-authenticate"] == "Bearer"

    Args:
        status: The HTTP status that it must be.
        text: What the body must contain.

    Raises:
        Unexpected: The client was let in, or refused in another way.
    """
    refusal = Refusal()
    try:
        yield refusal
    except Rejected as rejected:
        refusal.caught(rejected)
    else:
        raise Unexpected("the client was let in")
    if status is not None and refusal.status != status:
        raise Unexpected(f"refused with HTTP {refusal.status}, not {status}: {shortened(refusal.value.body)}")
    if text is not None and text not in refusal.text:
        raise Unexpected(f"refused without {text!r} in the answer: {shortened(refusal.value.body)}")


def shortened(message: object) -> str:
    """It as an error's text shows it."""
    text = repr(message)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"
