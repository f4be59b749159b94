"""Which headers the ask to the API carries, compiled once from the defaults and ``[upstream.headers]``.

An allow-list: a header of the client's that no rule names goes nowhere, so nobody can forge what the gateway sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fairlead.errors import PeerError
from fairlead.gateway.settings import Header
from fairlead.handshake import Request

Seen = Mapping[bytes, bytes]
Source = Callable[[Request, Seen], bytes]
"""Gives a value, b"" for none. ``Seen`` holds the client's headers that some rule wants, and what the gateway knows."""

# What the gateway knows stands beside the client's headers under names that no header can have.
_ADDRESS: Final = b":address"
_SCHEME: Final = b":scheme"
_HOST: Final = b":host"
_REQUEST_ID: Final = b":request-id"

_CONTROLS: Final = bytes([*range(9), *range(10, 32), 127])  # RFC 9110, 5.5: of these only HTAB may be in a value


class BadHeader(PeerError, ValueError):
    """A value that the client sent cannot go into a header: refuse the handshake with 400. The text is safe to show."""


class HeaderMap:
    """The rules, ready to use.

    Forwarded: Cookie, Authorization, User-Agent, Accept-Language, Origin and traceparent. Set: X-Forwarded-For with
    exactly one address, X-Forwarded-Proto, X-Forwarded-Host, X-Request-ID, X-CSRFToken from the cookie ``csrftoken``,
    and ``Authorization: Token T`` from the query parameter ``token`` where the client sent no Authorization.

    Args:
        table: ``[upstream.headers]`` as the settings have checked it: by header name, in any case, either False,
            which drops a default, or a table that replaces it. A value that is absent or empty leaves the header out.
    """

    def __init__(self, table: Mapping[str, Header] | None = None) -> None:
        self._wanted: set[bytes] = set()
        rules = {name.lower(): (name, sources) for name, sources in self._defaults().items()}
        for name, entry in (table or {}).items():
            lower = name.lower()
            rules.pop(lower, None)
            if isinstance(entry, Mapping):
                rules[lower] = (name, [self._compile(entry)])
        self._rules = [(name.encode() + b": ", sources) for name, sources in rules.values()]

    def build(self, request: Request, *, client: str, scheme: str, host: str, request_id: str) -> bytes:
        """The header block of one ask: ``Name: value`` lines joined by CRLF, in UTF-8.

        Several Cookie lines are joined by ``"; "`` (RFC 9113, 8.2.3), others by ``", "`` (RFC 9110, 5.3).

        Args:
            request: The upgrade request.
            client: The client's address; "" leaves X-Forwarded-For out.
            scheme: What the client used, "http" or "https".
            host: The Host that the client asked for.
            request_id: Names this handshake in logs.

        Raises:
            BadHeader: A value holds a control character or is not UTF-8.
        """
        seen = {
            _ADDRESS: client.encode(),
            _SCHEME: scheme.encode(),
            _HOST: host.encode(),
            _REQUEST_ID: request_id.encode(),
        }
        for name, value in request.raw_headers:
            if name in self._wanted:
                known = seen.get(name)
                seen[name] = value if not known else known + (b"; " if name == b"cookie" else b", ") + value
        lines = []
        for prefix, sources in self._rules:
            for source in sources:
                value = source(request, seen)
                if value:
                    lines.append(prefix + value)
                    break
        return _checked(lines)

    def _defaults(self) -> dict[str, list[Source]]:
        return {
            "Cookie": [self._header("cookie")],
            "Authorization": [self._header("authorization"), _formatted(_query("token"), "Token {}")],
            "User-Agent": [self._header("user-agent")],
            "Accept-Language": [self._header("accept-language")],
            "Origin": [self._header("origin")],
            "traceparent": [self._header("traceparent")],
            "X-Forwarded-For": [_known(_ADDRESS)],
            "X-Forwarded-Proto": [_known(_SCHEME)],
            "X-Forwarded-Host": [_known(_HOST)],
            "X-Request-ID": [_known(_REQUEST_ID)],
            "X-CSRFToken": [_cookie("csrftoken")],
        }

    def _compile(self, entry: Mapping[str, str]) -> Source:
        kinds = {"header": self._header, "query": _query, "cookie": _cookie, "value": _fixed}
        (source,) = (make(entry[kind]) for kind, make in kinds.items() if kind in entry)
        return _formatted(source, entry.get("format", "{}"))

    def _header(self, name: str) -> Source:
        key = name.lower().encode()
        self._wanted.add(key)
        return _known(key)


def _known(key: bytes) -> Source:
    return lambda request, seen: seen.get(key, b"")


def _query(name: str) -> Source:
    return lambda request, seen: request.query.get(name, "").encode() if request.query_string else b""


def _cookie(name: str) -> Source:
    # Request decodes cookies as Latin-1: of the value, without blanks and quotes around it, the client's own bytes.
    return lambda request, seen: request.cookies.get(name, "").encode("latin-1") if b"cookie" in seen else b""


def _fixed(value: str) -> Source:
    encoded = value.encode()
    return lambda request, seen: encoded


def _formatted(source: Source, template: str) -> Source:
    before, _, after = template.partition("{}")
    if not before and not after:
        return source
    head, tail = before.encode(), after.encode()

    def formatted(request: Request, seen: Seen) -> bytes:
        value = source(request, seen)
        return head + value + tail if value else b""

    return formatted


def _checked(lines: list[bytes]) -> bytes:
    block = b"\r\n".join(lines)
    clean = len(block.translate(None, _CONTROLS)) == len(b"".join(lines))  # nothing went but the line ends
    try:
        if not clean:
            raise ValueError("a control character")
        if not block.isascii():
            block.decode()
    except ValueError as exc:
        fault = "bytes that are not UTF-8" if isinstance(exc, UnicodeDecodeError) else str(exc)
        raise BadHeader(f"{fault} in a header, a cookie or the query") from None
    return block
