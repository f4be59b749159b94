"""Publications as they are: text as text, bytes as bytes, JSON as text. What the framework's handlers speak."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.dialects import Dialect
from fairlead.message import Kind, Publication
from fairlead.rooms.names import RoomKey


class PlainDialect:
    """No envelope; all members of a room get the same bytes."""

    def head(self, room: RoomKey, publication: Publication) -> bytes:
        return publication.data

    def join(self, head: bytes, tail: bytes) -> bytes:
        return head + tail

    def binary(self, kind: Kind) -> bool:
        return kind == "binary"

    def pack(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        return payloads


PLAIN: Dialect = PlainDialect()
