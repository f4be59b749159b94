"""The benchmarks' work on this project's server, without rooms. ``python ours.py PORT``.

Paths: /echo, and any other, which accepts and keeps nothing. Messages are taken and given natively; the handshake is
plain ASGI, as for every application.
"""

from __future__ import annotations

import sys

from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.server import run
from fairlead.transports import Transport
from fairlead.transports.asgi import Receive, Scope, Send, accept

LIMITS = Limits(message_rate=10**8, message_burst=10**8, ping_after=3600.0, ping_timeout=7200.0)
"""The peers have neither a rate limit nor, here, pings. The budget is counted all the same."""


class Idle:
    """A receiver that keeps nothing."""

    __slots__ = ()

    def connected(self, transport: Transport) -> None:
        """The client is in."""

    def received(self, payload: str | bytes) -> None:
        """Whatever it says."""

    def closed(self, code: int, reason: str) -> None:
        """It left."""


class Echo(Idle):
    """Sends back each text."""

    __slots__ = ("_transport",)

    def connected(self, transport: Transport) -> None:
        self._transport = transport

    def received(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            self._transport.send(Message(payload.encode()))


IDLE = Idle()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept every client."""
    if scope["type"] != "websocket":
        raise NotImplementedError("there is nothing but sockets here")  # the server does without a lifespan then
    await accept(scope, receive, send, Echo() if scope["path"] == "/echo" else IDLE)


if __name__ == "__main__":
    run(app, port=int(sys.argv[1]), limits=LIMITS)
