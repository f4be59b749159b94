"""The handshake above the protocol: the request as a guard sees it, the refusal it may raise, and who is asking.

Pure: it works on an ASGI scope and knows neither event loop nor socket.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import parse_qs

from fairlead.errors import PeerError

Network = IPv4Network | IPv6Network
Headers = Sequence[tuple[bytes, bytes]]

_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}

# RFC 6454, 7.1: scheme "://" host [":" port], and nothing else.
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@:\s\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_HOST = re.compile(r"([^/?#@:\s\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")


class Reject(PeerError):
    """Refuse the handshake with an HTTP status before the 101 is sent.

    Args:
        status: 400 to 599.
        body: Short text for whoever is connecting; never a reason that helps an attacker.
        headers: Further response headers.
    """

    def __init__(self, status: int, body: str | bytes = "", *, headers: Headers = ()) -> None:
        super().__init__(f"handshake refused with HTTP {status}")
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = headers


class Request:
    """The upgrade request.

    Args:
        scope: The ASGI connection scope; read once, not kept.
    """

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["path"]
        self.query_string: bytes = scope.get("query_string", b"")
        self.headers: Headers = scope["headers"]
        self.scheme: str = scope.get("scheme", "ws")
        client = scope.get("client")
        self.address: str = client[0] if client else ""

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, in order. ``name`` in lower case."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: bytes) -> str | None:
        """The header's only or first value, decoded as Latin-1; None without one. ``name`` in lower case."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)

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
