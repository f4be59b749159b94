"""How threads write to a client's socket by themselves, past the event loop, where nothing else waits to be written.

Otherwise each message wakes the event loop: that way an echo in a thread costs 33 µs where it comes alone, this way 20;
17 and 15 where 20 come together and the event loop is woken once for all of them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress

from fairlead.message import Message
from fairlead.transports import Transport
from fairlead.wire.frames import PLAIN


class DirectTransport(asyncio.Transport):
    """A socket's transport that threads write to, too: in its place for whoever carries the connection on it.

    The event loop writes to the socket only what it was given here, and nothing while a thread does; a thread writes
    only while the event loop has nothing to write. So no message is ever within another one or before an earlier one.
    It names its socket to nobody (``get_extra_info``): its owner shall not write past it.

    Args:
        owner: Who carries the connection, over this from now on.
        transport: The socket's.
        descriptor: The socket's; nothing in between changes a byte.
        loop: Its event loop.
    """

    __slots__ = ("_descriptor", "_lock", "_loop", "_owner", "_rest", "_transport")

    def __init__(
        self, owner: Transport, transport: asyncio.Transport, descriptor: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self._owner: Transport | None = owner
        self._transport = transport
        self._loop = loop
        self._descriptor = descriptor
        self._rest = b""  # of what a thread wrote and the kernel did not take
        self._lock = threading.RLock()  # asyncio may tell the owner from within a write that it may write again

    # -- from any thread ---------------------------------------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """Write a message at once. Never waits.

        Returns:
            False: nothing was written, since something else waits to be, or the kernel takes nothing, or it is over.
        """
        with self._lock:
            owner = self._owner
            if owner is None or not owner.open or owner.buffered or self._loop.is_closed():
                return False
            data = message.wire(PLAIN)
            try:
                written = os.write(self._descriptor, data)
            except OSError:  # if it is broken, the event loop finds out by itself
                return False
            if written < len(data):
                self._rest = data[written:]
                with suppress(RuntimeError):  # the loop is closed, and so is the connection
                    self._loop.call_soon_threadsafe(self.write, b"")
            return True

    # -- from the event loop -----------------------------------------------------------------------------------------

    def release(self) -> None:
        """No thread writes any more; to be called before the socket is closed, whose number another one may get."""
        with self._lock:
            self._owner = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._lock:
            if self._rest:
                data, self._rest = self._rest + data, b""
            if data:
                self._transport.write(data)

    def write_eof(self) -> None:
        self.write(b"")
        self._transport.write_eof()

    def close(self) -> None:
        self.write(b"")
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return len(self._rest) + self._transport.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
