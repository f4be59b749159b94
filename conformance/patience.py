"""Clients that keep the server waiting: how long it lets them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from conformance.client import CLOSE, NO_CLOSE, Client, Ending, frame, request
from conformance.setups import Address, trusting

GIVE_UP = 55.0
"""Seconds after which a client stops waiting for its end."""

CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(32)
"""How a TLS handshake begins (RFC 8446, 5.1 and 4.1.2); 517 bytes would make it whole."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One client, and when it must be gone.

    Attributes:
        play: Be that client.
        least: Seconds that the server must give it.
        most: Seconds after which it must be gone.
        codes: How the connection may end: close codes, or HTTP statuses of a refusal.
        tls: Only where there is TLS (True), only where there is none (False).
    """

    name: str
    play: Callable[[Address], Awaitable[Ending]]
    least: float
    most: float
    codes: Sequence[int] = (NO_CLOSE,)
    tls: bool | None = None


async def silent(address: Address) -> Ending:
    """Connects, and that is all; over TLS after its handshake."""
    return await (await Client.connect(address)).ending(seconds=GIVE_UP)


async def bare(address: Address, first: bytes = b"") -> Ending:
    """Connects to a TLS port and does not finish, or begin, its handshake."""
    connection = await address.connect_socket()
    client = Client(*await asyncio.open_connection(sock=connection))
    client.send(first)
    return await client.ending(seconds=GIVE_UP)


async def half_hello(address: Address) -> Ending:
    """Sends the beginning of a TLS handshake."""
    return await bare(address, CLIENT_HELLO)


async def slow_tls(address: Address) -> Ending:
    """Takes four seconds for its TLS handshake and then says nothing. The time is that of the whole."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing)
    reader, writer = await asyncio.open_connection(sock=await address.connect_socket())
    started = asyncio.get_running_loop().time()
    client = Client(reader, writer)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    client.send(outgoing.read())
    while True:
        incoming.write(await reader.read(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
            break
    await asyncio.sleep(4.0)
    client.send(outgoing.read())
    await client.ending(seconds=GIVE_UP)  # its code says nothing: what came are encrypted tickets
    return Ending(asyncio.get_running_loop().time() - started, NO_CLOSE)


async def half_head(address: Address) -> Ending:
    """Sends a request up to the last line end."""
    client = await Client.connect(address)
    client.send(request()[:-2])
    return await client.ending(seconds=GIVE_UP)


async def dripping_head(address: Address) -> Ending:
    """Sends a byte of a head every half second. The time is that of the whole."""
    return await _drip(address, [bytes([byte]) for byte in request()])


async def dripping_lines(address: Address) -> Ending:
    """Sends a header line every half second, without end."""
    return await _drip(address, [b"GET /echo HTTP/1.1\r\n", *(b"X-%d: y\r\n" % number for number in range(99))])


async def _drip(address: Address, pieces: Sequence[bytes]) -> Ending:
    client = await Client.connect(address)
    started = asyncio.get_running_loop().time()
    ending = asyncio.create_task(client.ending(seconds=GIVE_UP))
    for piece in pieces:
        if ending.done():
            break
        client.send(piece)
        await asyncio.wait((ending,), timeout=0.5)
    code = (await ending).code
    return Ending(asyncio.get_running_loop().time() - started, code)


async def idle_http(address: Address) -> Ending:
    """Asks for a page, keeps the connection, and asks for nothing more."""
    client = await Client.connect(address)
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return await client.ending(seconds=GIVE_UP)


async def half_closed_head(address: Address) -> Ending:
    """Closes its side in the middle of the head."""
    client = await Client.connect(address)
    client.send(b"GET /echo HTTP/1.1\r\n")
    client.end_writing()
    return await client.ending(seconds=GIVE_UP)


async def half_closed(address: Address) -> Ending:
    """Closes its side of the TCP connection without a Close frame."""
    client = await Client.open(address)
    client.end_writing()
    return await client.ending(seconds=GIVE_UP)


async def undecided(address: Address) -> Ending:
    """Waits for a verdict that does not come, sending more than it may meanwhile."""
    client = await Client.connect(address)
    client.send(request("/undecided"))
    await client.flood(frame(0x2, bytes(60000)) * 4, seconds=5)
    return await client.ending(seconds=GIVE_UP)


async def refused(address: Address) -> Ending:
    """Is refused, and goes on sending instead of leaving."""
    client = await Client.connect(address)
    client.send(request().replace(b" 13", b" 99"))
    return await client.refused_bytes(seconds=GIVE_UP)


async def no_pong(address: Address) -> Ending:
    """Opens a WebSocket and never says a word again, not even to a ping."""
    return await (await Client.open(address)).ending(seconds=GIVE_UP)


async def half_frame(address: Address) -> Ending:
    """Sends half a message and never the rest."""
    client = await Client.open(address)
    client.send(frame(0x1, b"half")[:-2])
    return await client.ending(seconds=GIVE_UP)


async def pong(address: Address) -> Ending:
    """Answers pings and does nothing else: it may stay."""
    return await (await Client.open(address)).ending(seconds=50.0, pongs=True)


async def no_close(address: Address) -> Ending:
    """Gets a Close frame and answers with anything but one."""
    return await (await Client.open(address, "/leave")).refused_bytes(seconds=GIVE_UP)


async def no_end(address: Address) -> Ending:
    """Finishes the close handshake and does not leave."""
    client = await Client.open(address)
    client.send(frame(CLOSE, b"\x03\xe8"))
    return await client.refused_bytes(seconds=GIVE_UP)


async def failed(address: Address) -> Ending:
    """Breaks the protocol, does not read why, and does not leave."""
    client = await Client.open(address)
    client.stop_reading()
    client.send(frame(0x3))
    await asyncio.sleep(1)
    client.read_again()
    return await client.refused_bytes(seconds=GIVE_UP)


async def mute_close(address: Address) -> Ending:
    """Gets a Close frame and does nothing at all."""
    client = await Client.open(address, "/leave")
    return await client.ending(seconds=GIVE_UP)


FOREVER = float("inf")
PATIENCE: tuple[Wait, ...] = (
    Wait("silent connection", silent, 4.5, 5.5),
    Wait("silent before TLS", bare, 4.5, 5.5, tls=True),
    Wait("silent during TLS", half_hello, 4.5, 5.5, tls=True),
    Wait("slow TLS, then silent", slow_tls, 8.5, 9.9, tls=True),  # each of the two has five seconds
    Wait("head that does not end", half_head, 4.5, 5.5),
    Wait("head dripping by bytes", dripping_head, 4.5, 5.5),
    Wait("head dripping by lines", dripping_lines, 4.5, 5.5),
    Wait("HTTP kept alive for nothing", idle_http, 4.5, 5.5, (200,)),
    Wait("half-closed in the head", half_closed_head, 0.0, 1.0, tls=False),
    Wait("half-closed WebSocket", half_closed, 0.0, 1.0, tls=False),
    Wait("too much before the verdict", undecided, 0.0, 1.0),
    Wait("refused and still there", refused, 0.0, 3.0, (426,)),
    Wait("no pong", no_pong, 45.0, 47.0, (1011,)),
    Wait("half a frame", half_frame, 45.0, 47.0, (1011,)),
    Wait("pongs and nothing else", pong, FOREVER, FOREVER),
    Wait("Close never answered", mute_close, 5.0, 7.5, (1000,)),
    Wait("Close answered with other bytes", no_close, 0.0, 7.5, (1000,)),
    Wait("close handshake without an end", no_end, 0.0, 7.5, (1000,)),
    Wait("protocol broken, no end", failed, 0.0, 7.5, (1002,)),
)
"""All of them may run at once: a client that waits disturbs nobody."""
