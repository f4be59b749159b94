"""The server that the conformance suites run against: this project's, with an application that echoes.

    python -m conformance.echo_server --port 9001 --limit message_size=33554432

Every WebSocket path echoes natively, but for /push, which sends without being asked, /leave, which closes at once, and
/undecided, which never answers the handshake; a page of another origin gets a 403. Over HTTP, /scope tells what the
server made of the request, /executed how often /smuggled was asked for, and any other path answers with its own name
without reading a body.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import resource
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from fairlead.handshake import Request, origin_fault
from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.server import run
from fairlead.transports import Transport
from fairlead.transports.asgi import Receive, Scope, Send, accept, refuse

PUSH_SIZE = 8192
PUSH_INTERVAL = 0.001
"""Seconds between two messages of /push: 8 MB a second, which any client on this machine can read."""


class Echo:
    """Sends back each message as it came."""

    __slots__ = ("_transport",)

    def connected(self, transport: Transport) -> None:
        self._transport = transport

    def received(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            self._transport.send(Message(payload.encode()))
        else:
            self._transport.send(Message(payload, binary=True))

    def closed(self, code: int, reason: str) -> None:
        """It left; nothing was kept."""


class Push(Echo):
    """Sends until the client is gone."""

    __slots__ = ()

    def connected(self, transport: Transport) -> None:
        super().connected(transport)
        self._push()

    def _push(self) -> None:
        if self._transport.open:
            self._transport.send(Message(b"x" * PUSH_SIZE))  # bytes of its own, as in life
            asyncio.get_running_loop().call_later(PUSH_INTERVAL, self._push)


class Leave(Echo):
    """Closes as soon as the client is in."""

    __slots__ = ()

    def connected(self, transport: Transport) -> None:
        transport.close(1000)


ROUTES: dict[str, type[Echo]] = {"/push": Push, "/leave": Leave}


class Application:
    """See the module; ``executed`` counts the requests for /smuggled, which no case of any suite may bring about."""

    def __init__(self) -> None:
        self.executed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError("nothing to start")  # the server does without a lifespan then
        self.executed += scope["path"] == "/smuggled"
        if scope["type"] == "http":
            await self._answer(scope, send)
            return
        await receive()
        if scope["path"] == "/undecided":
            await receive()
        elif origin_fault(Request(scope)):
            await refuse(scope, send, 403, b"origin not allowed\n")
        else:
            await accept(scope, receive, send, ROUTES.get(scope["path"], Echo)())

    async def _answer(self, scope: Scope, send: Send) -> None:
        body = scope["path"].encode()
        if body == b"/executed":
            body = b"%d" % self.executed
        elif body == b"/scope":
            body = json.dumps({"client": scope["client"], "scheme": scope["scheme"]}).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def limit(text: str) -> tuple[str, Any]:
    """Read ``name=value``; the value is JSON.

    Raises:
        argparse.ArgumentTypeError: There is no such limit.
    """
    name, _, value = text.partition("=")
    if name not in {field.name for field in fields(Limits)}:
        raise argparse.ArgumentTypeError(f"there is no limit {name!r}")
    return name, json.loads(value)


def announce(addresses: Sequence[str]) -> None:
    """Tell whoever started this process where it listens, in one line."""
    # What the start left free would hide the first megabyte of any growth.
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc's
        ctypes.CDLL(None).malloc_trim(0)
    print(addresses[0], flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.echo_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0, the default, lets the system choose; it is printed")
    parser.add_argument("--uds", default="", help="path of a Unix socket to listen on instead")
    parser.add_argument("--certfile", default="", help="PEM file with certificate and key: speak TLS")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--limit", type=limit, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--descriptors", type=int, help="file descriptors that this process may have")
    options = parser.parse_args()
    if options.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.descriptors, options.descriptors))
    run(
        Application(),
        port=options.port,
        uds=options.uds,
        certfile=options.certfile,
        loop=options.loop,
        limits=Limits(**dict(options.limit)),
        ready=announce,
    )


if __name__ == "__main__":
    main()
