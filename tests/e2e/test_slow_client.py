"""A client that never reads costs its outbox and nothing else, and nobody else notices it."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import processes
from tests.e2e.clients import CLOSE, TEXT, Client, frame
from tests.e2e.processes import KEY, cheap_api, gateway, until
from tests.serving import port, serving

from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings
from fairlead.limits import Limits
from fairlead.message import Message, Publication
from fairlead.rooms.names import room_key
from fairlead.server.run import loop_factory
from fairlead.transports import Transport
from fairlead.transports.native import NativeTransport
from fairlead.transports.shared import Shared
from fairlead.transports.ticker import Ticker

pytestmark = pytest.mark.slow

COUNT = 400
SIZE = 200_000
OUTBOX = Limits().outbox_limit
ALLOWED = OUTBOX * 11 // 10
READERS = 3

# A large block is given back to the system as soon as it is free, so that what is measured is what the gateway holds
# and not what its allocator keeps for later.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def publish_all(running: processes.Gateway, readers: list[Client]) -> int:
    """Publish everything, each reader getting every message in order; the gateway's memory at its highest.

    It is looked at between two publications, when all readers have the last one and the gateway has answered another
    question: what it holds then, it holds for somebody who does not read. Each has a request id of its own, so nobody
    shares a byte with another.
    """
    highest = 0
    for number in range(COUNT):
        running.publish(["r"], f"{number:06d}".ljust(SIZE, "x"))
        for place, reader in enumerate(readers):
            message = reader.message()
            assert message["requestId"] == f"s{place}"
            assert str(message["data"]).startswith(f"{number:06d}x")
        readers[0].socket.sendall(frame(b"ping"))
        assert readers[0].next() == (TEXT, b"pong")
        highest = max(highest, running.memory("Private_Dirty"))
    return highest


def everything(client: Client) -> Iterator[tuple[int, bytes]]:
    """All frames up to the Close frame, and that."""
    opcode = 0
    while opcode != CLOSE:
        opcode, payload = client.next()
        yield opcode, payload


def test_a_client_that_never_reads_costs_at_most_its_outbox_and_is_closed_with_1013(
    tmp_path: Path, clients: ExitStack
) -> None:
    # The close handshake has more time than by default: the slow client shall be able to read what it was told when
    # everything is published, on a slow machine too.
    limits = {"close_timeout": 60.0}
    api = clients.enter_context(cheap_api())
    running = clients.enter_context(gateway(tmp_path, api.url, environ=EXACT, limits=limits))
    readers = [clients.enter_context(Client(running.port)) for _ in range(READERS)]
    for place, reader in enumerate(readers):
        reader.subscribe("r", f"s{place}")
    publish_all(running, readers)
    without = publish_all(running, readers)

    slow = clients.enter_context(Client(running.port, buffer=4096))
    slow.subscribe("r")
    cost = publish_all(running, readers) - without

    assert OUTBOX // 2 < cost <= ALLOWED
    received = list(everything(slow))
    assert received[-1] == (CLOSE, (1013).to_bytes(2, "big") + b"outbox full")
    numbers = [int(json.loads(payload)["data"][:6]) for opcode, payload in received[:-1] if opcode == TEXT]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < COUNT // 2
    slow.socket.sendall(frame((1013).to_bytes(2, "big"), CLOSE))
    with pytest.raises(EOFError):
        slow.next()
    slow.close()

    running.line(r" closed with 1013 after \d+ s")
    assert running.metric("fairlead_slow_closes_total") == 1
    assert running.total("connections") == READERS
    print(f"\na client that never reads: {cost} bytes, after {len(numbers)} messages in the kernel's buffers")


def test_a_slow_client_that_never_finishes_its_close_is_dropped_after_the_close_timeout(
    tmp_path: Path, clients: ExitStack
) -> None:
    api = clients.enter_context(cheap_api())
    running = clients.enter_context(gateway(tmp_path, api.url, limits={"close_timeout": 1.0}))
    before = running.descriptors()
    slow = clients.enter_context(Client(running.port, buffer=4096))
    slow.subscribe("r")
    while running.publish(["r"], "x" * SIZE):
        if running.metric("fairlead_slow_closes_total"):
            break
    running.line(r" closed with 1013 after \d+ s")
    api.hang_up()
    until(lambda: running.descriptors() == before, "its descriptor is closed")


@pytest.mark.parametrize("size", [SIZE, 70_000, 2_000])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_waits_for_one_client_is_never_more_than_its_outbox(loop: str, size: int) -> None:
    with cheap_api() as api, asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        buffered, held = runner.run(fill(api.url, size))
    print(f"\n{loop}, {size}: {buffered} bytes buffered, {held} held")
    assert OUTBOX // 2 < buffered <= OUTBOX
    assert held <= ALLOWED


async def fill(url: str, size: int) -> tuple[int, int]:
    """Publish to one client that never reads until it is closed; the highest count of bytes that waited for it, and
    of bytes that the interpreter had allocated meanwhile."""
    settings = GatewaySettings(upstream=UpstreamSettings(url=url), api=ApiSettings(keys=(KEY,)))
    app = Gateway(settings)
    async with serving(app) as server:
        slow = await asyncio.to_thread(Client, port(server), buffer=4096)
        await asyncio.to_thread(slow.subscribe, "r")
        (connection,) = app.connections()
        transport = connection.transport
        assert transport is not None
        buffered = held = 0
        tracemalloc.start(1)
        try:
            base, _ = tracemalloc.get_traced_memory()
            while transport.open:
                await app.node.publish(room_key("r"), Publication(data=b'"%b"' % (b"x" * size)))
                for _ in range(3):  # turns of the loop: the flush, what the loop writes at a turn's end
                    await asyncio.sleep(0)
                if transport.open:
                    buffered = max(buffered, transport.buffered)
                    held = max(held, tracemalloc.get_traced_memory()[0] - base)
        finally:
            tracemalloc.stop()
            slow.close()
    return buffered, held


class Stuck(asyncio.Transport):
    """A socket that took all but 20 kB of what was written first, and then nothing: the loop keeps the whole write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.protocol: asyncio.Protocol | None = None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        if self.protocol is not None:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return 20_000 * bool(self.written)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16 * 1024, 64 * 1024

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def resume_reading(self) -> None:
        """It reads."""


class Nobody:
    """A Receiver that does nothing."""

    def connected(self, transport: Transport) -> None: ...

    def received(self, payload: str | bytes) -> None: ...

    def closed(self, code: int, reason: str) -> None: ...


async def test_of_a_write_that_is_half_taken_all_counts() -> None:
    loop = asyncio.get_running_loop()
    socket = Stuck()
    ticker = Ticker()
    native = NativeTransport(socket, Nobody(), Shared(loop, Limits(), ticker))
    native.start(b"", b"")
    for _ in range(OUTBOX // SIZE):
        assert native.open
        native.send(Message(b"x" * SIZE))
    native.send(Message(b"x" * SIZE))
    assert not native.open
    assert len(socket.written) == 2  # the first message, and the Close frame behind it
    ticker.cancel(native)
