"""The benchmarks' work on picows, a frame library in Cython. ``python with_picows.py PORT BUFFER``.

BUFFER: bytes of each connection's read buffer; the default, 16 KiB, would be three quarters of its memory.

Paths: /echo, /idle (keeps nothing), /room (gets what is published), /publish (each message goes to the room).
"""

from __future__ import annotations

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

room: set[WSTransport] = set()


class Idle(WSListener):
    """Keeps nothing."""


class Echo(WSListener):
    """Sends back each text."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())


class Join(WSListener):
    """Gets what is published."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        room.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        room.discard(transport)


class Publish(WSListener):
    """Sends each text to everybody in the room."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        for member in room:
            member.send(WSMsgType.TEXT, payload)


LISTENERS = {b"/echo": Echo, b"/idle": Idle, b"/room": Join, b"/publish": Publish}


def listener(request: WSUpgradeRequest) -> WSListener:
    """The listener for a path."""
    return LISTENERS[bytes(request.path)]()


async def main() -> None:
    """Serve until killed."""
    server = await ws_create_server(
        listener, "127.0.0.1", int(sys.argv[1]), backlog=4096, read_buffer_init_size=int(sys.argv[2])
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
