"""The gateway's settings: every key of ``fairlead.toml``, with its unit, its default and its rule.

Sizes are bytes, times are seconds. How the file, the environment and flags come together: ``fairlead.settings``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from fairlead.errors import SettingsError
from fairlead.handshake import check_origin
from fairlead.limits import KIB, MIB, Limits
from fairlead.settings import (
    SECRET,
    BrokerSettings,
    File,
    ListenerSettings,
    LogSettings,
    Port,
    PublicListenerSettings,
    Section,
    check_host,
    each,
    within,
)

Header = Mapping[str, str] | bool
"""One entry of ``[upstream.headers]``: False, or ``{header|query|cookie|value = "...", format = "... {} ..."}``."""

KEY_LENGTH: Final = 16
"""Characters that a key or a secret has at least; 16 random letters and digits are 95 bits, past any guessing."""

MAKE_A_KEY: Final = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'

_DAY: Final = 86_400.0
_VISIBLE: Final = re.compile(r"[!-~]*")  # visible ASCII, RFC 5234, B.1
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_OWN_PATHS: Final = frozenset({"/healthz", "/readyz", "/fairlead.js"})
NOT_SETTABLE: Final = frozenset(
    {
        "accept-encoding",  # always identity: an answer is never inflated
        "connection",
        "content-length",
        "expect",
        "host",  # from the URL; the client's goes into X-Forwarded-Host
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-fairlead-signature",
    }
)
"""Headers of an ask that belong to its connection or to the gateway itself, in lower case; with them all that begin
with ``sec-websocket-``."""


def _url(value: str) -> None:
    if not value:
        raise ValueError("missing; set it in the file, as FAIRLEAD_UPSTREAM__URL or with --upstream")
    if not _VISIBLE.fullmatch(value):
        raise ValueError("must be visible ASCII: percent-encode the path, write the host in punycode")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if "@" in parts.netloc:  # before any text that would show the value
        raise ValueError("must have no user name or password")
    if not value.startswith(("http://", "https://")) or not parts.hostname or port == 0:
        raise ValueError(f"must be an http:// or https:// URL with a host, not {value!r}")
    if "#" in value:
        raise ValueError(f"must have no fragment: {value!r}")
    check_host(parts.hostname)


def _path(value: str) -> None:
    if not value.startswith("/") or not _VISIBLE.fullmatch(value) or "?" in value or "#" in value:
        raise ValueError(f'must begin with "/" and be visible ASCII without "?" and "#", not {value!r}')
    if value.rstrip("/") in _OWN_PATHS:
        raise ValueError(f"{value} is taken by the gateway itself")


def _keys(values: tuple[str, ...]) -> None:
    if not values:
        raise ValueError(
            f"no key, and without one nobody may trigger; {MAKE_A_KEY}, "
            "and set it as FAIRLEAD_API__KEYS or in [api] keys"
        )
    for number, value in enumerate(values, 1):
        if len(value) < KEY_LENGTH or not _VISIBLE.fullmatch(value):
            raise ValueError(f"key {number} is not {KEY_LENGTH} or more characters of visible ASCII; {MAKE_A_KEY}")


def _secret(value: str) -> None:
    if value and (len(value) < KEY_LENGTH or not _VISIBLE.fullmatch(value)):
        raise ValueError(f"must be {KEY_LENGTH} or more characters of visible ASCII; {MAKE_A_KEY}")


def _headers(table: Mapping[str, Header]) -> None:
    seen = set()
    for name, entry in table.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in NOT_SETTABLE or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"{name} belongs to the connection or to the gateway and cannot be set")
        if name.lower() in seen:
            raise ValueError(f"{name} is there twice; upper and lower case are alike")
        seen.add(name.lower())
        if isinstance(entry, Mapping):
            _header(name, entry)
        elif entry:
            raise ValueError(f"{name} must be a table, or false to leave it out")


def _header(name: str, entry: Mapping[str, str]) -> None:
    sources = entry.keys() - {"format"}
    if len(sources) != 1 or not sources <= {"header", "query", "cookie", "value"}:
        raise ValueError(f"{name} must have exactly one of header, query, cookie and value, and maybe format")
    if entry.get("format", "{}").count("{}") != 1:
        raise ValueError(f'the format of {name} must hold "{{}}" once, where the value goes')
    if any(not text.isprintable() for text in entry.values()):
        raise ValueError(f"{name} holds control characters")
    (source,) = sources
    if not entry[source]:
        raise ValueError(f"the {source} of {name} is empty")
    if source in ("header", "cookie") and not _TOKEN.fullmatch(entry[source]):
        raise ValueError(f"the {source} of {name} is not a {source} name")


Url = Annotated[str, _url]


class ServerSettings(PublicListenerSettings, frozen=True, kw_only=True):
    """``[server]``: the public listener.

    Attributes:
        path: Where clients open their socket.
        allowed_origins: Origins of web pages that may connect, besides the gateway's own.
        require_origin: Refuse a client that sends no Origin, as programs that are no browsers do.
        refuse: How a client learns that the API refused it: "close", a message and a close code, which a browser's
            script can see, or "http", an HTTP status in the handshake, which it cannot.
    """

    port: Port = 8100
    path: Annotated[str, _path] = "/ws/"
    allowed_origins: Annotated[tuple[str, ...], each(check_origin)] = ()
    require_origin: bool = False
    refuse: Literal["close", "http"] = "close"


class UpstreamSettings(Section, frozen=True):
    """``[upstream]``: the API that knows the users.

    Attributes:
        url: What is asked, with GET, about each client.
        uds: Connect to this Unix socket instead of the URL's host.
        connect_timeout: For a connection to the API.
        timeout: From sending the request to the end of the answer. A page waits for it, so it is short.
        answer_size: Past it the answer counts as none; 1 MiB holds some 20,000 rooms.
        in_flight: Requests to the API at once: what a common API with a few workers can queue without harm.
        wait: How long a client waits for one of these places before it is told to come back.
        waiting: Clients that wait at once; those past it are told to come back at once.
        secret: Signs the requests, so that the API can tell the gateway's from others; "" does not.
        ca_file: Certificates, in PEM, that the API's is checked against; "" takes the system's.
        cert_file: A client certificate to show to the API.
        key_file: Its private key; not needed if cert_file holds it.
        grace: How long clients keep their rights while the API cannot be asked again.
        headers: Changes to what is forwarded: a header's name with where its value comes from, or false.
    """

    url: Url = ""
    uds: File = ""
    connect_timeout: Annotated[float, within(0.01, _DAY)] = 1.0
    timeout: Annotated[float, within(0.01, _DAY)] = 3.0
    answer_size: Annotated[int, within(1, 1024 * MIB)] = 1 * MIB
    in_flight: Annotated[int, within(1, 10_000)] = 64
    wait: Annotated[float, within(0, _DAY)] = 10.0
    waiting: Annotated[int, within(0, 1_000_000)] = 20_000
    secret: Annotated[str, _secret, SECRET] = ""
    ca_file: File = ""
    cert_file: File = ""
    key_file: File = ""
    grace: Annotated[float, within(0, 30 * _DAY)] = 300.0
    headers: Annotated[Mapping[str, Header], _headers, SECRET] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_file and not self.cert_file:
            raise SettingsError("key_file: of no use without upstream.cert_file")


class ApiSettings(ListenerSettings, frozen=True, kw_only=True):
    """``[api]``: the admin listener, where the API triggers.

    Attributes:
        keys: A caller shows one of them, and rules the gateway. Several, so that one can be changed without a gap.
        body_size: Past it 413.
        body_timeout: For the body of a request to arrive.
        idempotency_time: How long the answer to an Idempotency-Key is remembered.
        idempotency_keys: How many are remembered at most.
    """

    port: Port = 8101
    keys: Annotated[tuple[str, ...], _keys, SECRET] = ()
    body_size: Annotated[int, within(1, 1024 * MIB)] = 1 * MIB
    body_timeout: Annotated[float, within(0.01, _DAY)] = 10.0
    idempotency_time: Annotated[float, within(1, 30 * _DAY)] = 300.0
    idempotency_keys: Annotated[int, within(1, 100_000_000)] = 100_000


class GatewaySettings(Section, frozen=True, kw_only=True):
    """All of it. ``limits`` are those of ``fairlead.limits``; a client of the gateway only subscribes and
    unsubscribes, so that its messages may have 64 KiB instead of 1 MiB.

    Raises:
        SettingsError: A key is wrong by itself or beside another one; the text names it.
    """

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings
    api: ApiSettings
    broker: BrokerSettings = BrokerSettings()
    limits: Limits = Limits(message_size=64 * KIB)
    log: LogSettings = LogSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        server, api = self.server, self.api
        if (server.uds or server.port) and (server.uds, server.host, server.port) == (api.uds, api.host, api.port):
            raise SettingsError("api.port: the same as server.port; the admin listener needs its own")
        if server.uds and server.uds == api.uds:
            raise SettingsError("api.uds: the same as server.uds; the admin listener needs its own")
