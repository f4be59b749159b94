"""The seam for how clients talk inside messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.message import Kind, Publication
from fairlead.rooms.names import RoomKey


class Dialect(Protocol):
    """One language in one wire format. Stateless: what a connection remembers lives with the connection."""

    def head(self, room: RoomKey, publication: Publication) -> bytes:
        """What all members of a room get alike; made once per publication and dialect."""
        ...

    def join(self, head: bytes, tail: bytes) -> bytes:
        """One member's payload. ``tail`` is b"" where all members' payloads are alike.

        Cheapest is one that puts the same around every tail: the hub then makes the frames by itself.
        """
        ...

    def binary(self, kind: Kind) -> bool:
        """Whether publications of this kind travel as binary messages."""
        ...

    def pack(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """The same payloads, two or more, as messages; a dialect may merge several into one message."""
        ...
