"""The API behind the gateway, as small as it can be: every GET gets ten grants of its own. ``python api.py PORT``.

A request whose Cookie holds ``n=000123`` may join ``room-000123-0`` to ``room-000123-8``, and everybody ``lobby``; when
/lobbies is asked for, everything whose name begins with ``lobby``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

_NUMBER = re.compile(rb"[; ]n=(\d+)")


def answer(number: str, grants: dict[str, list[str]]) -> bytes:
    """The HTTP response for one client."""
    body = json.dumps({**grants, "user_id": number, "expires_in": 3600}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Api(asyncio.Protocol):
    """One connection of the gateway's pool; requests have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._pending = (self._pending + data).split(b"\r\n\r\n")
        for head in heads:
            found = _NUMBER.search(head)
            number = found[1].decode() if found else "000000"
            rooms = ["lobby", *(f"room-{number}-{index}" for index in range(9))]
            lobbies = head.startswith(b"GET /lobbies ")
            self._transport.write(
                answer(number, {"allowed_prefixes": ["lobby"]} if lobbies else {"allowed_rooms": rooms})
            )


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Api, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
