"""One case of the handshake table: a request, the statuses that the standards allow in answer, and Fairlead's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, 1.3
NO_ANSWER = 0
"""A status: the connection was ended without an answer."""

ACCEPT = frozenset({101})
REFUSE = frozenset(range(400, 600))
PLAIN = frozenset(range(200, 600))
"""Not a WebSocket: refused, or answered as the plain HTTP request that it also is."""
ANY = ACCEPT | REFUSE
BAD = frozenset({400})
"""The standards name the status."""
DROP = REFUSE | {NO_ANSWER}
"""Not HTTP, so an answer is a courtesy (RFC 9112, 2.2: SHOULD be a 400 and the end of the connection)."""
LENIENT = ANY | DROP
"""Not HTTP either, but a reader may make allowances."""

NAMES = {
    ACCEPT: "101",
    REFUSE: "4xx 5xx",
    PLAIN: "2xx-5xx",
    ANY: "101 4xx 5xx",
    BAD: "400",
    DROP: "4xx 5xx or none",
    LENIENT: "101 4xx 5xx or none",
    PLAIN | DROP: "2xx-5xx or none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and its answers.

    Attributes:
        name: Unique.
        rule: Where it is laid down: RFC and section, or what the policy guards against.
        legal: Statuses that the standards allow.
        ours: The one that Fairlead answers with.
        request: The head with what belongs to it, with its two placeholders.
        wants: Header names that the answer must have, a 101 if it is Fairlead's.
        lacks: Header names that a 101 must not have.
        proxied: Whether the request reaches a server behind a reverse proxy as it is.
    """

    name: str
    rule: str
    legal: frozenset[int]
    ours: int
    request: str
    wants: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    proxied: bool = False

    @property
    def must(self) -> bool:
        """Whether the standards decide between acceptance and refusal."""
        return not (self.legal & ACCEPT and self.legal & REFUSE)


Changes = Mapping[str, str | Sequence[str] | None]


def ask(changes: Changes | None = None, *, line: str = "GET {path} HTTP/1.1", extra: str = "", body: str = "") -> str:
    """A good request with changes.

    Args:
        changes: Values by header name: in place of the good one, or behind it all; a list makes several lines, None
            takes the header away.
        line: The request line.
        extra: More lines as they stand, each with its end.
        body: What follows the head.
    """
    fields: dict[str, str | Sequence[str] | None] = {
        "Host": "{host}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    fields.update(changes or {})
    lines = [line]
    for name, value in fields.items():
        values = [value] if isinstance(value, str) else value or []
        lines += [f"{name}: {each}" for each in values]
    return "\r\n".join(lines) + "\r\n" + extra + "\r\n" + body


SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"
"""What must never be executed."""
