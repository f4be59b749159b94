"""What can go wrong, and the close codes that say so on the wire.

    FairleadError
    ├── UsageError                ours: the program or its settings are wrong; mend them
    │   ├── SettingsError
    │   ├── CannotListen
    │   ├── in app: project.ProjectFaults
    │   └── TriggerRefused        carries the HTTP status of the gateway's refusal
    ├── PeerError                 theirs: what a client or the API sent is wrong; tell the sender
    │   ├── InvalidRoom
    │   ├── InvalidMessage        a client's message is not what the handler asked for
    │   ├── ProtocolError         RFC 6455 was broken; carries the close code to fail with
    │   ├── handshake.Reject      raise it to refuse a handshake; carries the HTTP status
    │   ├── dialects.codec.CallError  the other side's answer to a call
    │   ├── in gateway: headers.BadHeader, bodies.BadBody, idempotency.KeyReused, http.Problem
    │   ├── in pyramid: handshake.HandShakeFailed, handshake.InvalidOrigin
    │   └── in testing: errors.Rejected, errors.Unexpected
    └── NetworkError              nobody's: a link or a service is gone; try again later
        ├── Closed
        ├── BrokerUnavailable
        ├── GatewayUnavailable
        ├── threads.NoThread      as many connections have threads as may
        ├── in gateway: answer.Refused, places.NoPlace, exchange.NoAnswer and its Lost, http.ClientGone
        ├── in pyramid: views.Failed
        └── in testing: errors.TimedOut

An exception of a library is translated into one of these where that library is called.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Close codes used here (RFC 6455, 7.4.1; the IANA registry; 4000-4999 are this project's)."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005  # never on the wire: the peer's Close frame had no code
    ABNORMAL = 1006  # never on the wire: the connection was lost without a Close frame
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNMATCHED = 4040  # no route has the path, where an application prefers this to HTTP 404
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403


class FairleadError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(FairleadError):
    """The program or its settings are wrong."""


class SettingsError(UsageError):
    """A setting is unknown, missing or has a wrong value. The text names the key; one line."""


class CannotListen(UsageError):
    """An address is in use, not there or not allowed. The text names the address and the cause; one line."""


class TriggerRefused(UsageError):
    """The gateway refused what a publisher sent; nothing was published. Trying the same again would not help."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the gateway refuses the trigger with HTTP {status}: {text}")
        self.status = status
        self.text = text


class PeerError(FairleadError):
    """What the other side sent is wrong."""


class InvalidRoom(PeerError, ValueError):
    """Not a room or not a grant. The text says why and is safe to show to the sender."""


class InvalidMessage(PeerError):
    """A client's message is not what the handler asked for. The text says why and is safe to show to the sender."""


class ProtocolError(PeerError):
    """The peer broke RFC 6455. The connection is failed with ``close_code`` (RFC 6455, 7.1.7)."""

    def __init__(self, close_code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.close_code = close_code
        self.reason = reason


class NetworkError(FairleadError):
    """A link or a service is gone; trying again later can succeed."""


class Closed(NetworkError):
    """The connection is closed. ``code`` 1006 means lost without a Close frame (RFC 6455, 7.1.5)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"connection closed with code {code}" + (f" ({reason})" if reason else ""))
        self.code = code
        self.reason = reason


class BrokerUnavailable(NetworkError):
    """The broker did not take the call; nothing was published or subscribed. Try again later."""


class GatewayUnavailable(NetworkError):
    """A publisher got no usable answer from the gateway. Trying again is safe only with the same Idempotency-Key."""
