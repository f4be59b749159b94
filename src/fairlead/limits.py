"""Limits: everything that can grow is bounded, and every bound stands here with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal, get_args

from fairlead.errors import SettingsError

KIB = 1024
MIB = 1024 * KIB

_DAY: Final = 86_400.0
_MAY_BE_ZERO: Final = frozenset({"early_size", "drain_window", "drain_grace"})

Compression = Literal["off", "shared", "own"]
"""Which form of permessage-deflate (RFC 7692) is agreed on; see ``Limits``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server. Sizes are bytes, times seconds, rates per second and connection.

    Sizes, counts and rates are at least 1, times from 0.1 to a day; ``early_size`` and the drain's times may be 0.

    Raises:
        SettingsError: One is out of its range, or two do not go together. The text begins with the limit's name.

    Attributes:
        head_size: Request line and headers together; past it 431. 16 KiB holds every cookie a browser sends to one
            host and is what node and tomcat allow.
        head_count: Header lines; past it 431. Browsers send about 20.
        head_timeout: For the TLS handshake, and again from there to the end of a request head; then the connection is
            closed without a word. Real clients need one round trip for each.
        early_size: Bytes a client may send after its upgrade request and before the answer (RFC 6455, 4.1 lets it
            send none); past it the connection is dropped.
        message_size: One message from a client, its fragments together; past it close 1009.
        fragment_count: Fragments of one message; past it close 1008. Honest libraries send a handful; a million
            one-byte fragments cost other servers up to 147 MB.
        compression: Of messages to and from clients that offer it. "shared": each message by itself, so that a room has
            one compressed frame for all its members, and a connection at rest takes 0.1 KiB more. "own": with the
            connection's earlier messages in mind, which makes small ones a third as long, for 43 KiB and 9 to 30 µs
            for each message to each client. "off" by default, since the length of a compressed message tells strangers
            about secrets that stand in it beside their own text.
        outbox_limit: Bytes waiting for one client that reads too slowly; past it close 1013.
        outbox_low: Below so many waiting bytes ``drained()`` returns: enough to keep a link busy for a round trip.
        close_timeout: From our Close frame to the client's, then the connection is dropped (RFC 6455, 7.1.1).
        ping_after: A ping is sent so long after the last byte from a client; under the 60 s after which many
            proxies cut a silent connection.
        ping_timeout: So long after the last byte from a client it counts as gone: close 1011. A plain HTTP client that
            takes nothing of its answer has as long.
        message_rate: Messages from one client, sustained. Past it and its burst the server stops reading until the
            budget is back: nothing is refused and nothing lost.
        message_burst: Messages at once, then the rate: a page that subscribes to many rooms after a reconnect. Not
            below the rate: no more than a burst is ever let through within a second, so it would be the real rate.
        control_rate: Pings and pongs from one client; past it the server stops reading until the budget is back.
        connections: WebSockets of one listener, handshakes included; None: the descriptor limit less 128, which are
            kept for plain HTTP, the upstream pool, the broker and files. Past it 503.
        subscriptions: Rooms one connection may subscribe to; those that the API joins it to come on top.
        room_size: One room key, encoded.
        request_id_size: One ``requestId``, encoded.
        calls: Named calls of one client that run at once, and of the server's that wait for the client's answer; past
            it they are refused. A page that loads does not make more requests at once.
        burst_size: A joined write of several publications is cut here, so that one busy room cannot push a healthy
            client over its outbox at once.
        handler_grace: So long after its client left a handler that neither receives nor sends is cancelled; enough
            to finish what it was at.
        drain_window: On shutdown, clients are told to come back spread over so many seconds: a reconnect storm is
            the next outage.
        drain_grace: Clients that do not finish their close handshake are dropped so long after the window.
    """

    head_size: int = 16 * KIB
    head_count: int = 100
    head_timeout: float = 5.0
    early_size: int = 64 * KIB
    message_size: int = 1 * MIB
    fragment_count: int = 4096
    compression: Compression = "off"
    outbox_limit: int = 1 * MIB
    outbox_low: int = 16 * KIB
    close_timeout: float = 5.0
    ping_after: float = 25.0
    ping_timeout: float = 45.0
    message_rate: int = 100
    message_burst: int = 200
    control_rate: int = 100
    connections: int | None = None
    subscriptions: int = 2000
    room_size: int = 512
    request_id_size: int = 128
    calls: int = 32
    burst_size: int = 256 * KIB
    handler_grace: float = 5.0
    drain_window: float = 10.0
    drain_grace: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value: float | str | None = getattr(self, field.name)
            if isinstance(value, str):
                if value not in get_args(Compression):
                    raise SettingsError(f"{field.name}: must be {' or '.join(map(repr, get_args(Compression)))}")
            elif value is not None:
                # By the default's type: a time may be given as a whole number.
                low, high = (0.1, _DAY) if isinstance(field.default, float) else (1, 2**31)
                _check(field.name, value, 0 if field.name in _MAY_BE_ZERO else low, high)
        if self.ping_timeout <= self.ping_after:
            raise SettingsError("ping_timeout: must be longer than limits.ping_after, or no ping is ever sent")
        if self.message_burst < self.message_rate:
            raise SettingsError("message_burst: must not be less than limits.message_rate, or it is the real rate")
        for name in ("outbox_low", "burst_size"):
            if getattr(self, name) > self.outbox_limit:
                raise SettingsError(f"{name}: must not be more than limits.outbox_limit")


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is not, either
        raise SettingsError(f"{name}: must be from {low} to {high}, not {value!r}")
