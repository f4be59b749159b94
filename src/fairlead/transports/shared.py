"""What the connections of one listener have in common: limits, deadlines, and how many there may be."""

from __future__ import annotations

import asyncio
import logging
import resource
import threading
from dataclasses import dataclass, field
from typing import Protocol

from fairlead.limits import Limits
from fairlead.transports.ticker import Ticker
from fairlead.transports.turns import Turns

logger = logging.getLogger(__name__)

SPARE_DESCRIPTORS = 128
"""Descriptors kept for the listeners, the upstream pool, the broker and files."""

NEWCOMERS = 32
"""New connections whose first bytes are looked at in one turn of the loop, some 60 µs each. Of ten thousand that come
in one moment the others wait, and not those who are in."""

Address = tuple[str, int | None]


class Held(Protocol):
    """A connection that a listener holds, whatever it speaks."""

    def shutdown(self) -> None:
        """The server is going: end in good order."""
        ...

    def abort(self) -> None:
        """Drop the connection."""
        ...


@dataclass(slots=True, eq=False)
class Shared:
    """What all connections of one listener have in common.

    Attributes:
        connections: Every connection of the listener, plain HTTP included.
        websockets: How many of them are WebSockets or on the way to one.
        connection_limit: How many of these there may be (see ``Limits.connections``).
        descriptors: How many connections of any kind there may be: past it they are dropped unheard, so that silent
            ones never take the last descriptor.
        full: The limit was reached and has been logged; until a tenth of them has left.
        local: The address that connections came to, once there was one.
        newcomers: Whose turn it is of those that just came.
    """

    loop: asyncio.AbstractEventLoop
    limits: Limits
    ticker: Ticker
    connections: set[Held] = field(default_factory=set)
    full: bool = False
    local: Address | None = None
    websockets: int = 0
    connection_limit: int = field(init=False)
    descriptors: int = field(init=False)
    newcomers: Turns = field(init=False)

    def __post_init__(self) -> None:
        self.newcomers = Turns(self.loop, NEWCOMERS)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        allowed = self.limits.connections
        self.connection_limit = allowed if allowed is not None else descriptors - SPARE_DESCRIPTORS
        self.descriptors = descriptors - SPARE_DESCRIPTORS // 2

    def enter(self) -> bool:
        """Count one more WebSocket, handshakes included; False if there are as many as there may be."""
        if self.websockets >= self.connection_limit:
            if not self.full:
                logger.warning("there are %d connections, no more are let in", self.websockets)
            self.full = True
            return False
        self.websockets += 1
        return True

    def leave(self) -> None:
        """One that was counted is over."""
        self.websockets -= 1
        if self.websockets < self.connection_limit * 0.9:
            self.full = False

    def address(self, transport: asyncio.Transport) -> Address | None:
        """Where the listener listens, as ASGI writes it. Looked up once: each look costs uvloop memory for good."""
        if self.local is None:
            name = transport.get_extra_info("sockname")
            self.local = (name, None) if isinstance(name, str) else _pair(name)
        return self.local


def take(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    """Give a socket to another protocol, and have that know whether its client is behind.

    The event loop says it once, and may have said it of an earlier answer to whoever had the socket then: uvloop takes
    it back when the last byte of that is written, however little is left. Who is not told holds back nothing and counts
    nothing. So where anything is left the new one is told, and told again when it is written.
    """
    unread = transport.get_write_buffer_size()
    if unread:
        low, high = transport.get_write_buffer_limits()
        transport.set_write_buffer_limits(high=0)  # whether it was said or not, it is now; the old one is not asked
    transport.set_protocol(protocol)
    if unread:
        protocol.pause_writing()
        transport.set_write_buffer_limits(high=high, low=low)


def peer(transport: asyncio.Transport) -> tuple[str, int] | None:
    """The client's address and port; None on a Unix socket."""
    return _pair(transport.get_extra_info("peername"))


def alone() -> bool:
    """Whether no other thread can want the interpreter's lock.

    ``os.write`` lets it go, and whoever computes takes it then and keeps it for 5 ms; uvloop's ``write`` holds it.
    Beside two such threads 500 clients have a publication after 38 ms by the one, and after 13 by the other.
    """
    return threading.active_count() == 1


def _pair(name: object) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple | list) and len(name) >= 2 else None
