"""The server's side of an application's ASGI conversation (ASGI WebSocket specification, 2.4): what may come when."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from enum import Enum, auto
from typing import Any

from fairlead.errors import CloseCode, Closed
from fairlead.transports import Receiver
from fairlead.websocket import Inbox
from fairlead.wire.heads import Field

Event = MutableMapping[str, Any]


_VERDICTS = ("websocket.accept", "websocket.close", "websocket.http.response.start")
_MESSAGES = ("websocket.send", "websocket.close")


class Stage(Enum):
    """Where the handshake is."""

    ASKED = auto()
    REFUSING = auto()  # a response of the application's own has begun
    ACCEPTED = auto()
    OVER = auto()


class Disconnected(OSError):
    """The client is gone (ASGI WebSocket specification, 2.4: sending then raises a subclass of OSError)."""


class Conversation:
    """One handshake, and the connection's messages unless the application has attached a receiver.

    Whoever has the connection makes a class of this one and carries out what the application says: the methods that
    raise NotImplementedError here.
    """

    __slots__ = ("_body", "_inbox", "_receiver", "_stage", "_told")

    def __init__(self) -> None:
        self._stage = Stage.ASKED
        self._inbox = Inbox()
        self._receiver: Receiver = self._inbox
        self._told = False  # the application, of the handshake
        self._body = b""  # of the application's own response

    def attach(self, receiver: Receiver) -> None:
        """The extension: from the accept on, messages go to the receiver and not to ``receive``."""
        if self._stage is Stage.OVER:
            raise Disconnected("the client left")
        if self._stage is not Stage.ASKED:
            raise RuntimeError("attach() comes before the verdict")
        self._receiver = receiver

    async def _receive(self) -> Event:
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        try:
            payload = await self._inbox.next()
        except Closed as closed:
            # 1006 comes of no Close frame (RFC 6455, 7.1.5), so there is no reason either.
            reason = {} if closed.code == CloseCode.ABNORMAL else {"reason": closed.reason}
            return {"type": "websocket.disconnect", "code": closed.code, **reason}
        return {"type": "websocket.receive", "text" if isinstance(payload, str) else "bytes": payload}

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        match self._stage:
            case Stage.ASKED if kind in _VERDICTS:
                self._verdict(kind, event)
            case Stage.REFUSING if kind == "websocket.http.response.body":
                self._body += event.get("body", b"")
                if not event.get("more_body", False):
                    self._refused(self._body)
            case Stage.ACCEPTED if self._receiver is self._inbox and kind in _MESSAGES:
                await self._forward(kind, event)
            case Stage.OVER:
                raise Disconnected("the connection is over")
            case _:
                raise RuntimeError(f"unexpected ASGI message {kind!r} while {self._stage.name.lower()}")

    def _verdict(self, kind: str, event: Event) -> None:
        if kind == "websocket.accept":
            self._accept(event.get("subprotocol"), event.get("headers") or [])
        elif kind == "websocket.close":
            self._refuse(403, b"")
        else:
            self._refusing(event["status"], event.get("headers") or [])
            self._stage = Stage.REFUSING

    # -- what is done about it ---------------------------------------------------------------------------------------

    def _accept(self, subprotocol: str | None, headers: Sequence[Field]) -> None:
        """Let the client in."""
        raise NotImplementedError

    def _refuse(self, status: int, body: bytes) -> None:
        """Refuse it, with a response of ours."""
        raise NotImplementedError

    def _refusing(self, status: int, headers: Sequence[Field]) -> None:
        """The head of the application's own response is here."""
        raise NotImplementedError

    def _refused(self, body: bytes) -> None:
        """The rest of it is here."""
        raise NotImplementedError

    async def _forward(self, kind: str, event: Event) -> None:
        """Send a message to the client, or close the connection."""
        raise NotImplementedError
