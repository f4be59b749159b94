"""What a connection holds back for a while: made when it is needed, so that a connection at rest has nothing of it."""

from __future__ import annotations

import asyncio

from fairlead.wire.messages import Event


class Waiting:
    """What waits in either direction, and who.

    Attributes:
        outbox: Encoded messages for the client, which can still be dropped.
        queued: Their bytes.
        writing: The size of the writes that the socket's transport is in the middle of: an event loop may keep all of
            one until its last byte is taken, so all of it counts.
        pong: The answer to the newest ping, to be written when the client reads again.
        drained: Done when it does.
        events: What the client said and nobody was told yet.
        data: What came behind that, not parsed yet.
    """

    __slots__ = ("data", "drained", "events", "outbox", "pong", "queued", "writing")

    def __init__(self) -> None:
        self.outbox: list[bytes] = []
        self.queued = 0
        self.writing = 0
        self.pong: bytes | None = None
        self.drained: asyncio.Future[None] | None = None
        self.events: list[Event] = []
        self.data = b""

    @property
    def empty(self) -> bool:
        """Whether it is of no use any more."""
        out = self.outbox or self.writing or self.pong is not None or self.drained is not None
        return not (out or self.events or self.data)

    def put(self, data: bytes) -> None:
        """Queue one message."""
        self.outbox.append(data)
        self.queued += len(data)

    def write(self, transport: asyncio.Transport, size: int) -> None:
        """Write whole messages, the oldest first and no more of them than it takes to make ``size`` bytes."""
        count = total = 0
        for data in self.outbox:
            if total >= size:
                break
            count += 1
            total += len(data)
        self.writing = total  # of what was begun before only a little is left, which may keep a message in memory
        transport.write(b"".join(self.outbox[:count]))
        del self.outbox[:count]
        self.queued -= total  # not sooner: a thread that sees nothing waiting writes its own

    def drop(self) -> None:
        """Forget the messages."""
        self.outbox.clear()
        self.queued = 0

    def wake(self) -> None:
        """Let those go on that wait in ``drained``."""
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)
        self.drained = None
