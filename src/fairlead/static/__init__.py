"""The browser client over HTTP: the one answer in which the gateway and applications serve fairlead.js."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from starlette.datastructures import Headers
from starlette.responses import Response


@cache
def _script() -> tuple[bytes, str]:
    """The module and its entity tag; read once per process."""
    script = (files("fairlead") / "static" / "fairlead.js").read_bytes()
    return script, f'"{hashlib.sha256(script).hexdigest()[:32]}"'


def browser_client(asked: Headers) -> Response:
    """Answer a GET for the browser client: 200 with the module, or 304 where the browser has it already.

    Any page may import it, and browsers ask again each time: a new server brings a new client at once.

    Args:
        asked: The request's headers; ``If-None-Match`` is looked at (RFC 9110, 13.1.2).
    """
    script, tag = _script()
    headers = {
        "access-control-allow-origin": "*",
        "cache-control": "no-cache",
        "etag": tag,
        "x-content-type-options": "nosniff",
    }
    known = {each.strip().removeprefix("W/") for each in asked.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(script, headers=headers, media_type="text/javascript; charset=utf-8")
