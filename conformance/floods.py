"""Clients that send or hold too much: what it costs the server."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from conformance.client import BINARY, CONTINUATION, NO_CLOSE, PING, TEXT, Client, Ending, frame, request
from conformance.setups import Address, NotRun

KIB = 1024
MIB = 1024 * KIB
GIVE_UP = 20.0
"""Seconds after which a client stops waiting for its end."""

MESSAGE_SIZE = MIB
"""The server's limit for one message: its default, so that what is measured is what users get."""

MILLION = 1_000_000
ONE_READ = 2 * MIB
"""Bytes that one read of 256 KiB may become while it is looked at, before anything is refused."""

PIPELINE = 10 * MIB
"""Bytes that the requests of one connection may take: those in 16 KiB of input are objects at a time."""

TLS_SIZE = 56 * KIB
"""Bytes that OpenSSL and the event loop need for one connection, whatever goes over it."""

TLS_BUFFERS = 3 * MIB // 2
"""Bytes that the event loop's TLS layer fills for a busy connection: it reads 256 KiB at once, and holds them encrypted
and decrypted while nobody takes them."""

CROWD = 1000
"""Connections at once; far under any descriptor limit, and enough to tell kilobytes apart."""


@dataclass(frozen=True, slots=True)
class Flood:
    """One client, and what it may cost.

    Attributes:
        play: Be that client, or all of them.
        growth: Bytes by which the server process may grow at its worst moment.
        most: Seconds after its last byte in which it must be gone; None where it may stay.
        codes: How the connection may end; see ``Wait.codes``.
        options: More options of the echo server.
        clients: How many there are: over TLS each of them costs ``TLS_SIZE`` bytes more.
    """

    name: str
    play: Callable[[Address], Awaitable[Ending]]
    growth: int
    most: float | None
    codes: Sequence[int] = (NO_CLOSE,)
    options: Sequence[str] = ()
    clients: int = 1

    def bound(self, *, tls: bool) -> int:
        """Bytes by which the server may grow."""
        return self.growth + tls * (self.clients * TLS_SIZE + TLS_BUFFERS)


async def _flood(client: Client, data: bytes) -> Ending:
    """Send it all, reading the while, and wait for the end."""
    sending = asyncio.create_task(client.flood(data, seconds=GIVE_UP))
    ending = await client.ending(seconds=GIVE_UP)
    await sending
    return ending


async def fragments(address: Address) -> Ending:
    """One message of a million fragments of one byte."""
    return await _flood(await Client.open(address), frame(TEXT, b"a", fin=False) + _continued(b"a") * MILLION)


async def empty_fragments(address: Address) -> Ending:
    """One message of a million empty fragments."""
    return await _flood(await Client.open(address), frame(TEXT, fin=False) + _continued() * MILLION)


async def legal_fragments(address: Address) -> Ending:
    """A million fragments in messages of as many as are allowed, each message echoed."""
    client = await Client.open(address)
    message = frame(TEXT, b"a", fin=False) + _continued(b"a") * 4094 + frame(CONTINUATION, b"a")
    count = MILLION // 4096
    sending = asyncio.create_task(client.flood(message * count, seconds=GIVE_UP))
    async with asyncio.timeout(GIVE_UP):
        while len(client.received) < count * (4 + 4096) and not client.ended:
            await client.read()
    await sending
    client.abandon()
    return Ending(0.0, client.code())


def _continued(payload: bytes = b"") -> bytes:
    return frame(CONTINUATION, payload, fin=False)


async def pings_unread(address: Address) -> Ending:
    """As many pings of 125 bytes as the server takes in five seconds, up to a million, and no pong read."""
    client = await Client.open(address, receive_buffer=4096)
    client.stop_reading()
    await client.flood(frame(PING, b"p" * 125) * MILLION, seconds=5)
    client.abandon()
    return Ending(0.0)


async def declared(address: Address) -> Ending:
    """Frames that say they are huge, with 2 MB behind each: 2 GiB, 2^62 bytes, and one more than there can be."""
    endings = []
    for size in (2**31, 2**62, 2**63):
        client = await Client.open(address)
        endings.append(await _flood(client, b"\x82\xff" + size.to_bytes(8, "big") + bytes(4 + 2 * 10**6)))
    return max(endings, key=lambda ending: ending.seconds)


async def dripping_message(address: Address) -> Ending:
    """A message as large as allowed of which single bytes come, twenty thousand of them."""
    client = await Client.open(address)
    client.send(frame(BINARY, bytes(MESSAGE_SIZE))[:14])
    for _ in range(20_000):
        client.send(b"\x00")
        await asyncio.sleep(0)
    client.abandon()
    return Ending(0.0)


async def echo_unread(address: Address) -> Ending:
    """Sends 64 KiB again and again, gets it all back, and reads nothing of it for three seconds."""
    client = await Client.open(address, receive_buffer=4096)
    client.stop_reading()
    await client.flood(frame(BINARY, bytes(64 * KIB)) * 400, seconds=3)
    client.read_again()
    return await client.ending(seconds=GIVE_UP)


async def push_unread(address: Address) -> Ending:
    """Is sent 8 MB a second and reads nothing of it for three seconds."""
    client = await Client.open(address, "/push", receive_buffer=4096)
    client.stop_reading()
    await asyncio.sleep(3)
    client.read_again()
    return await client.ending(seconds=GIVE_UP)


async def endless_line(address: Address) -> Ending:
    """A header line of 64 MB."""
    return await _flood(await Client.connect(address), b"GET /echo HTTP/1.1\r\nX: " + b"y" * 64 * MIB)


async def endless_target(address: Address) -> Ending:
    """A request line of 64 MB."""
    return await _flood(await Client.connect(address), b"GET /" + b"y" * 64 * MIB)


async def endless_lines(address: Address) -> Ending:
    """A million header lines of one name."""
    return await _flood(await Client.connect(address), b"GET /echo HTTP/1.1\r\n" + b"X: y\r\n" * MILLION)


async def endless_body(address: Address) -> Ending:
    """A body of 64 MB for an application that does not read it."""
    head = b"POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % 2**40
    return await _flood(await Client.connect(address), head + bytes(64 * MIB))


async def endless_chunk(address: Address) -> Ending:
    """The same in chunks of one byte."""
    head = b"POST /page HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return await _flood(await Client.connect(address), head + b"1\r\na\r\n" * MILLION)


async def pipelined(address: Address) -> Ending:
    """A hundred thousand requests at once, and none of their answers read for three seconds."""
    client = await Client.connect(address, receive_buffer=4096)
    client.stop_reading()
    await client.flood(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100_000, seconds=3)
    client.abandon()
    return Ending(0.0)


async def early(address: Address) -> Ending:
    """Sends 64 MB before there is a verdict."""
    client = await Client.connect(address)
    return await _flood(client, request("/undecided") + frame(BINARY, bytes(64 * MIB)))


async def silent_crowd(address: Address) -> Ending:
    """A thousand connections that say nothing."""
    clients = [await Client.connect(address) for _ in range(CROWD)]
    endings = await asyncio.gather(*(client.ending(seconds=GIVE_UP) for client in clients))
    return max(endings, key=lambda ending: ending.seconds)


async def half_message_crowd(address: Address) -> Ending:
    """A thousand WebSockets with nothing but half a frame's head each."""
    clients = [await Client.open(address) for _ in range(CROWD)]
    for client in clients:
        client.send(b"\x82")
    await asyncio.sleep(0.5)
    for client in clients:
        client.abandon()
    return Ending(0.0)


async def all_descriptors(address: Address) -> Ending:
    """More silent connections than the server may have descriptors; a good client must get in when they are gone."""
    crowd = [asyncio.create_task(_patient(address)) for _ in range(200)]
    await asyncio.sleep(1)
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(GIVE_UP):
        while not await _gets_in(address):
            await asyncio.sleep(0.5)
    waited = asyncio.get_running_loop().time() - started
    await asyncio.gather(*crowd)
    return Ending(waited)


async def _gets_in(address: Address) -> bool:
    client = await Client.connect(address)
    client.send(request())
    with contextlib.suppress(OSError):
        await client.read()
    client.abandon()
    return client.received.startswith(b"HTTP/1.1 101 ")


async def _patient(address: Address) -> None:
    with contextlib.suppress(OSError):
        await (await Client.connect(address)).ending(seconds=GIVE_UP)


async def bomb(address: Address) -> Ending:
    """A message of half a megabyte that inflates to 512 MiB."""
    return await _explode(address, 1)


async def fragmented_bomb(address: Address) -> Ending:
    """The same in 500 fragments."""
    return await _explode(address, 500)


async def legal_bombs(address: Address) -> Ending:
    """Fifty messages that inflate to the limit and not a byte more, each echoed."""
    client = await _compressing(address)
    data = _deflated(MESSAGE_SIZE // MIB)
    await client.flood(frame(BINARY, data, rsv1=True) * 50, seconds=GIVE_UP)
    await asyncio.sleep(1)
    client.abandon()
    return Ending(0.0, client.code())


async def _explode(address: Address, count: int) -> Ending:
    client = await _compressing(address)
    data = _deflated(512)
    step = -(-len(data) // count)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    wire = b"".join(
        frame(CONTINUATION if index else BINARY, piece, fin=index == len(pieces) - 1, rsv1=not index)
        for index, piece in enumerate(pieces)
    )
    return await _flood(client, wire)


async def _compressing(address: Address) -> Client:
    """Open a connection with permessage-deflate.

    Raises:
        NotRun: The server has none.
    """
    client = await Client.open(address, headers="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    if b"permessage-deflate" not in client.response:
        client.abandon()
        raise NotRun("the server does not compress")
    return client


def _deflated(mebibytes: int) -> bytes:
    """Zeros, deflated (RFC 7692, 7.2.1) with the smallest window, a thousandth of their size."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -9)
    block = compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return (block * mebibytes).removesuffix(b"\x00\x00\xff\xff")


COMPRESSION = ("--limit", 'compression="own"')
FLOODS: tuple[Flood, ...] = (
    Flood("a million fragments of a byte", fragments, MIB, 6.0, (1008,)),
    Flood("a million empty fragments", empty_fragments, MIB, 6.0, (1008,)),
    Flood("a million fragments, all legal", legal_fragments, MIB, None),
    Flood("a million pings, no pong read", pings_unread, MIB, None),
    Flood("huge declared lengths", declared, MIB, 6.0, (1009, 1002)),
    Flood("a message dripping by bytes", dripping_message, MIB, None),
    Flood("echo never read", echo_unread, 4 * MIB, 9.0, (1013,)),
    Flood("pushed messages never read", push_unread, 4 * MIB, 9.0, (1013,)),
    Flood("a header line without end", endless_line, ONE_READ, 3.0, (431,)),
    Flood("a request line without end", endless_target, ONE_READ, 3.0, (431,)),
    Flood("header lines without end", endless_lines, ONE_READ, 3.0, (431,)),
    Flood("a body without end", endless_body, ONE_READ, 3.0, (200,)),
    Flood("chunks without end", endless_chunk, ONE_READ, 3.0, (200,)),
    Flood("pipelined requests, no answer read", pipelined, PIPELINE, None),
    Flood("messages before the verdict", early, MIB, 1.0),
    Flood("a thousand silent connections", silent_crowd, CROWD * 8 * KIB, 5.5, clients=CROWD),
    Flood("a thousand half heads of frames", half_message_crowd, CROWD * 4 * KIB, None, clients=CROWD),
    Flood("every descriptor taken", all_descriptors, 2 * MIB, 12.0, options=("--descriptors", "160"), clients=160),
    Flood("a compression bomb", bomb, 2 * MESSAGE_SIZE, 6.0, (1009,), COMPRESSION),
    Flood("a compression bomb in fragments", fragmented_bomb, 2 * MESSAGE_SIZE, 6.0, (1009,), COMPRESSION),
    Flood("fifty bombs of the largest legal size", legal_bombs, 6 * MESSAGE_SIZE, None, (NO_CLOSE, 1013), COMPRESSION),
)
"""Each runs against a server of its own, one after the other, so that each figure is its own."""
