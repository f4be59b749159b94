"""The handshake above the protocol: the request as a guard sees it, the refusal it may raise, and who is asking.

Pure: it works on an ASGI scope and knows neither event loop nor socket.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import parse_qs

from fairlead.errors import PeerError, UsageError

Network = IPv4Network | IPv6Network
RawHeaders = Sequence[tuple[bytes, bytes]]

_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}

# RFC 6454, 7.1: scheme "://" host [":" port], and nothing else.
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@:\s\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_HOST = re.compile(r"([^/?#@:\s\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")


class Reject(PeerError):
    """Refuse the handshake with an HTTP status before the 101 is sent. A guard raises it or returns it.

    Args:
        status: 400 to 599.
        body: Short text for whoever is connecting; never a reason that helps an attacker.
        headers: Further response headers, by name or as pairs where a name stands twice.

    Raises:
        ValueError: The status is no refusal.
    """

    def __init__(
        self,
        status: int,
        body: str | bytes = "",
        headers: Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]] = (),
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"a handshake is refused with a status from 400 to 599, not {status}")
        super().__init__(f"handshake refused with HTTP {status}")
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self.headers: RawHeaders = [(_raw(name).lower(), _raw(value)) for name, value in pairs]


def _raw(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


class Headers(Mapping[str, str]):
    """Headers by name, in any case; of a repeated one the first value. Decoded as Latin-1, which loses nothing."""

    def __init__(self, raw: RawHeaders) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        for key, value in self._raw:
            if key == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._raw))

    def __len__(self) -> int:
        return len({name for name, _ in self._raw})

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self)}>"  # values are secrets


class Request:
    """The upgrade request, as guards and handlers see it.

    Attributes:
        subprotocol: The one to agree on: a guard may set it to one of ``subprotocols``. None: none, or the route's
            choice.
        accept_headers: Headers to send with the 101, such as a cookie; a guard may append to it.
        origin_checked: Whether the Origin has been found allowed.

    Args:
        scope: The ASGI connection scope.
    """

    __slots__ = ("__dict__", "accept_headers", "origin_checked", "scope", "subprotocol")  # the first for what is cached

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        self.scope = scope
        self.subprotocol: str | None = None
        self.accept_headers: list[tuple[bytes, bytes]] = []
        self.origin_checked = False

    @property
    def method(self) -> str:
        """GET, or CONNECT over HTTP/2 (RFC 8441)."""
        method: str = self.scope.get("method", "GET")
        return method

    @property
    def path(self) -> str:
        """The path, percent-decoded, without the query."""
        path: str = self.scope["path"]
        return path

    @property
    def query_string(self) -> bytes:
        """What stands behind the ``?``, as it came."""
        query: bytes = self.scope.get("query_string", b"")
        return query

    @property
    def scheme(self) -> str:
        """``ws`` or ``wss``, as the server saw it."""
        scheme: str = self.scope.get("scheme", "ws")
        return scheme

    @property
    def address(self) -> str:
        """The peer's IP address; "" on a Unix socket."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def params(self) -> dict[str, Any]:
        """The path's parameters, converted."""
        params: dict[str, Any] = self.scope.get("path_params", {})
        return params

    @property
    def state(self) -> dict[str, Any]:
        """What guards leave for the handler, and the lifespan for all; Starlette's ``request.state`` is the same."""
        state: dict[str, Any] = self.scope.setdefault("state", {})
        return state

    @property
    def subprotocols(self) -> Sequence[str]:
        """What the client offers, its favourite first (RFC 6455, 4.1)."""
        offered: Sequence[str] = self.scope.get("subprotocols", ())
        return offered

    @property
    def session(self) -> MutableMapping[str, Any]:
        """The login session, where a session middleware stands in front.

        Raises:
            UsageError: None does.
        """
        session: MutableMapping[str, Any] | None = self.scope.get("session")
        if session is None:
            raise UsageError("there is no session: put a session middleware in front of the application")
        return session

    @property
    def raw_headers(self) -> RawHeaders:
        """The headers as they came, names in lower case."""
        raw: RawHeaders = self.scope["headers"]
        return raw

    @property
    def headers(self) -> Headers:
        """The headers by name."""
        return Headers(self.raw_headers)

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, in order. ``name`` in lower case."""
        return [value for key, value in self.raw_headers if key == name]

    def header(self, name: bytes) -> str | None:
        """The header's only or first value, decoded as Latin-1; None without one. ``name`` in lower case."""
        return next((value.decode("latin-1") for key, value in self.raw_headers if key == name), None)

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies by name (RFC 6265, 4.2); of a repeated name the first, which is the most specific one."""
        cookies: dict[str, str] = {}
        for line in self.values(b"cookie"):
            for pair in line.decode("latin-1").split(";"):
                name, separator, value = pair.partition("=")
                if separator:
                    cookies.setdefault(name.strip(" \t"), value.strip(' \t"'))
        return cookies

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query parameters, percent-decoded; of a repeated name the first."""
        parsed = parse_qs(self.query_string.decode("latin-1"), keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}


def normal_origin(origin: str) -> str | None:
    """``scheme://host:port`` in lower case, or None if it is not an origin.

    A port left out is spelled out where the scheme has a default. Others have none: the pages of a hybrid app or of a
    browser's extension come from origins such as ``capacitor://localhost``.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    port = port or _PORTS.get(scheme)
    return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"


def check_origin(value: str) -> None:
    """A rule for settings: an origin.

    Raises:
        ValueError: It is none, or all of them.
    """
    if value == "*":
        raise ValueError('"*" would let every web page act with its visitors\' cookies; list the origins')
    if normal_origin(value) is None:
        raise ValueError(f"must be an origin, scheme://host or scheme://host:port, and nothing after it: {value!r}")


def origin_fault(request: Request, *, allowed: Collection[str | None] = (), require: bool = False) -> str | None:
    """Why this request's Origin may not connect, in words for the log; None if it may.

    Browsers send cookies along from any page, so a socket that trusts cookies must look at who asks (RFC 6455, 10.2).
    The same origin always may: the Origin's host and port equal the Host's, where a port left out is the default of
    the Origin's scheme.

    Args:
        request: The upgrade request.
        allowed: Further origins, each as ``normal_origin`` gives it.
        require: Whether a request without an Origin, so not of a browser, is refused.
    """
    origins = request.values(b"origin")
    if not origins:
        return "no Origin header, and require_origin is set" if require else None
    if len(origins) > 1:
        return "more than one Origin header"
    origin = origins[0].decode("latin-1")
    normal = normal_origin(origin)
    if normal is None:
        return f"Origin {origin[:200]!r} is not a web origin"
    if normal in allowed:
        return None
    host = _HOST.fullmatch(request.header(b"host") or "")
    scheme, _, own = normal.partition("://")
    if host is not None and own == f"{host[1].lower()}:{host[2] or _PORTS.get(scheme)}":
        return None
    return f"Origin {origin[:200]!r} is neither the same origin nor in allowed_origins"


def client_address(peer: str, forwarded_for: Iterable[bytes], trusted: Collection[Network]) -> str:
    """Whose connection this is: the peer, or behind trusted proxies the first untrusted address from the right.

    A proxy appends the address it saw to ``X-Forwarded-For``, so what stands left of the last trusted proxy's entry
    is whatever the client wrote and is not believed.

    Args:
        peer: The socket's peer; "" on a Unix socket, which only a proxy of this machine reaches: trusted if any
            proxy is.
        forwarded_for: The values of the header, in order.
        trusted: Addresses of proxies whose header is believed.
    """
    address = peer
    chain = b",".join(forwarded_for).split(b",")
    while chain and from_trusted_proxy(address, trusted):
        entry = _parse_address(chain.pop().strip(b" \t").decode("latin-1"))
        if entry is None:
            break
        address = str(entry)
    return address


def from_trusted_proxy(peer: str, trusted: Collection[Network]) -> bool:
    """Whether the peer's ``X-Forwarded-*`` headers are believed. Without an address: if any proxy's are."""
    if not peer:
        return bool(trusted)
    parsed = _parse_address(peer)
    return parsed is not None and any(parsed in network for network in trusted)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
