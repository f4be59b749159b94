"""The environ of a request (PEP 3333), made from its ASGI scope."""

from __future__ import annotations

import sys
from collections.abc import Iterable, MutableMapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from fairlead import __version__

Environ = dict[str, Any]

SOCKET_KEY = "fairlead.websocket"
"""Where a handshake's environ has the connection."""

ROOMS_KEY = "fairlead.rooms"
"""Where every environ has the rooms of the process. Other servers put nothing there."""

_PLAIN = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})  # PEP 3333: without the prefix
_SEPARATORS = {"HTTP_COOKIE": "; "}  # RFC 6265, 4.2.1; all others are lists with commas (RFC 9110, 5.3)
_PORTS = {"http": "80", "https": "443"}


def make_environ(scope: MutableMapping[str, Any], body: object = None) -> Environ:
    """A new environ.

    Args:
        scope: Of a plain request or of a handshake, which is a GET to WSGI.
        body: ``wsgi.input``; None: an empty one.
    """
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "http"), scope.get("scheme", "http"))
    script_name, path_info = _split_path(scope)
    host, port = _server(scope, scheme)
    address, remote_port = scope.get("client") or ("", "")
    return {
        "REQUEST_METHOD": scope["method"] if scope["type"] == "http" else "GET",
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path_info,
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "SERVER_SOFTWARE": f"fairlead/{__version__}",
        "REMOTE_ADDR": address,
        "REMOTE_PORT": str(remote_port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": BytesIO() if body is None else body,
        "wsgi.input_terminated": True,  # reading ends at the body's end, also where nobody knows its length before
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        **_headers(scope["headers"]),
    }


def _split_path(scope: MutableMapping[str, Any]) -> tuple[str, str]:
    """SCRIPT_NAME and PATH_INFO: the percent-decoded bytes, each as a character of Latin-1.

    The path of a scope is text already, in which bytes that are not UTF-8 are lost; so it is made from the raw one,
    unless somebody has changed only the other.
    """
    path: str = scope["path"]
    decoded = path.encode("utf-8", "surrogateescape")
    raw = unquote_to_bytes(scope.get("raw_path") or b"")
    if raw.decode("utf-8", "replace") == path:
        decoded = raw
    root = scope.get("root_path", "").encode()
    if decoded == root or decoded.startswith(root + b"/"):
        decoded = decoded[len(root) :]
    return root.decode("latin-1"), decoded.decode("latin-1")


def _server(scope: MutableMapping[str, Any], scheme: str) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT; on a Unix socket there are none, and they must not be empty."""
    host, port = scope.get("server") or ("localhost", None)
    return ("localhost", _PORTS[scheme]) if port is None else (host, str(port))


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers by their names in the environ.

    One with an underscore is dropped: ``X_Forwarded_For`` would pass for ``X-Forwarded-For``, which only a proxy sets.
    """
    found: dict[str, str] = {}
    for raw, value in headers:
        if b"_" in raw:
            continue
        name = raw.decode("latin-1").upper().replace("-", "_")
        if name in _PLAIN:
            found.setdefault(name, value.decode("latin-1"))
            continue
        name = f"HTTP_{name}"
        text = value.decode("latin-1")
        found[name] = f"{found[name]}{_SEPARATORS.get(name, ',')}{text}" if name in found else text
    return found
