"""The seam between whoever carries an open connection and whoever talks over it."""

from __future__ import annotations

from typing import Protocol

from fairlead.message import Burst, Form, Message


class Transport(Protocol):
    """An open connection, outward. Everything but ``drained()`` is synchronous and never waits."""

    @property
    def form(self) -> Form:
        """The wire form of this connection; equal for all connections that can share encoded bytes."""
        ...

    @property
    def outlet(self) -> int | None:
        """The short way: the descriptor of the client's socket, which takes bytes in the connection's form.

        None: not now, or never, so ``send()`` is the way; so it is for a transport without this attribute. To be asked
        for anew before each write; what one of them leaves is for ``SocketTransport.write_rest``.
        """
        ...

    @property
    def open(self) -> bool:
        """False from the moment either side began to close."""
        ...

    def send(self, outgoing: Message | Burst) -> bool:
        """Queue for the client, in order.

        A client whose outbox would pass ``outbox_limit`` bytes is closed with 1013 (it may reconnect) and what waits
        for it is dropped. On a connection that is closing nothing happens.

        Returns:
            True while the client takes more at once: it is open and not congested. False: await ``drained()``.
        """
        ...

    async def drained(self) -> None:
        """While the client is congested, wait until fewer than ``outbox_low`` bytes wait for it; many may wait at once.

        Raises:
            Closed: The connection is closed, or was closed meanwhile.
        """
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the close handshake (RFC 6455, 7.1.2). The first call counts, later ones do nothing."""
        ...

    def pause_reading(self) -> None:
        """Deliver nothing to the receiver until ``resume_reading()``, also of what has arrived already."""
        ...

    def resume_reading(self) -> None:
        """Go on where ``pause_reading()`` stopped; nothing was lost and the order holds."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        ...

    @property
    def congested(self) -> bool:
        """Whether ``drained()`` would wait: so much is queued that a polite sender pauses."""
        ...

    @property
    def outbox_full(self) -> bool:
        """Whether it was closed because its outbox was full; what a client says in a Close of its own is not it."""
        ...


class SocketTransport(Transport, Protocol):
    """A Transport that has an ``outlet`` at times."""

    def write_rest(self, data: bytes, taken: int) -> None:
        """Go on with what was written to the outlet, which took so many bytes of it; to be called before all else."""
        ...


class Receiver(Protocol):
    """The same connection, inward: ``connected``, ``received`` any number of times, ``closed`` exactly once.

    Each is called from the event loop, never from inside ``send()`` or ``close()``. After ``closed`` nothing follows.
    """

    def connected(self, transport: Transport) -> None:
        """The client is in; ``transport`` takes messages from now on."""
        ...

    def received(self, payload: str | bytes) -> None:
        """One whole message: ``str`` for text, ``bytes`` for binary."""
        ...

    def closed(self, code: int, reason: str) -> None:
        """The connection is over. 1005: closed without a code; 1006: lost without a Close frame."""
        ...
