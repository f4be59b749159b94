"""Writing to sockets past the event loop, for rooms and from threads: where that stands still, and where it writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop

from fairlead.limits import Limits
from fairlead.message import Message
from fairlead.transports import Transport
from fairlead.transports.direct import DirectTransport
from fairlead.transports.native import NativeTransport
from fairlead.transports.outward import HIGH_WATER
from fairlead.transports.shared import Shared, alone, take
from fairlead.transports.ticker import Ticker
from fairlead.wire.deflate import Agreement
from fairlead.wire.frames import PLAIN, Opcode, encode
from fairlead.wire.messages import Close, Event, MessageReader, Pong

PATIENCE = 5.0
LARGE = Message(bytes(8 * 2**20), binary=True)
"""More than the kernel takes at once."""

AMPLE = Limits(outbox_limit=2**26, message_burst=10**6)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that other tests have left are not there."""
    monkeypatch.setattr("fairlead.transports.outward.alone", lambda: True)


class Receiver:
    """Lets go of the way for threads as whoever uses it has to."""

    def __init__(self, *, threads: bool) -> None:
        self.direct: DirectTransport | None = None
        self.over = asyncio.Event()
        self.on_message: Callable[[], object] = lambda: None
        self._threads = threads

    def connected(self, transport: Transport) -> None:
        assert isinstance(transport, NativeTransport)
        if self._threads:
            self.direct = transport.direct()

    def received(self, payload: str | bytes) -> None:
        self.on_message()

    def closed(self, code: int, reason: str) -> None:
        if self.direct is not None:
            self.direct.release()
        self.over.set()


class Connection:
    """A native transport on a socket, and the client's end of that."""

    def __init__(
        self,
        client: socket.socket,
        transport: asyncio.Transport,
        deflate: Agreement | None = None,
        *,
        limits: Limits = AMPLE,
        threads: bool = True,
    ) -> None:
        self.client = client
        self.reader = MessageReader(message_size=2**30, fragment_count=10, client=True)
        self.receiver = Receiver(threads=threads)
        shared = Shared(asyncio.get_running_loop(), limits, Ticker())
        self.transport = NativeTransport(transport, self.receiver, shared, deflate)
        self.transport.start(b"", b"")

    @property
    def direct(self) -> DirectTransport:
        assert self.receiver.direct is not None
        return self.receiver.direct

    def write(self, message: Message) -> None:
        """As rooms do: the short way where there is one."""
        outlet, data = self.transport.outlet, message.wire(PLAIN)
        if outlet is None:
            self.transport.send(message)
            return
        try:
            taken = os.write(outlet, data)
        except BlockingIOError:
            taken = 0
        if taken < len(data):
            self.transport.write_rest(data, taken)

    def in_thread(self, message: Message) -> bool:
        """Send from a thread while the event loop stands still."""
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(self.direct.send(message)))
        thread.start()
        thread.join(PATIENCE)
        return results[0]

    async def read(self, until: Callable[[list[Event]], bool]) -> list[Event]:
        """What the client sees, until it has seen enough or the end."""
        events: list[Event] = []
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while not until(events) and (data := await loop.sock_recv(self.client, 2**16)):
                events += self.reader.feed(data)
        return events


@contextlib.asynccontextmanager
async def connected(deflate: Agreement | None = None, *, kernel: int = 4096, **how: Any) -> AsyncIterator[Connection]:
    ours, client = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel)
    client.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=ours)
    connection = Connection(client, transport, deflate, **how)
    with client:
        yield connection
        connection.transport.abort()
        async with asyncio.timeout(PATIENCE):
            await connection.receiver.over.wait()


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    async with connected() as made:
        yield made


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


# -- one thread, and a loop that stands still --------------------------------------------------------------------------


async def test_a_thread_sends_while_the_event_loop_stands_still(connection: Connection) -> None:
    assert connection.in_thread(Message(b"text")) and connection.in_thread(Message(b"bytes", binary=True))
    assert connection.client.recv(100) == b"\x81\x04text\x82\x05bytes"


async def test_what_the_kernel_does_not_take_goes_out_before_everything_else(connection: Connection) -> None:
    assert connection.in_thread(LARGE)
    assert connection.transport.buffered > 0
    assert not connection.in_thread(Message(b"overtaking"))
    connection.transport.send(Message(b"behind"))
    assert await connection.read(lambda events: len(events) == 2) == [LARGE.payload, "behind"]
    assert connection.in_thread(Message(b"again"))


async def test_rooms_have_no_short_way_beside_threads(connection: Connection) -> None:
    assert connection.transport.outlet is None
    assert connection.in_thread(LARGE)
    connection.transport.expired()
    connection.write(Message(b"behind"))
    assert await connection.read(lambda events: len(events) == 2) == [LARGE.payload, "behind"]


async def test_what_the_kernel_does_not_take_goes_out_by_itself(connection: Connection) -> None:
    assert connection.in_thread(LARGE)
    assert await connection.read(lambda events: len(events) == 1) == [LARGE.payload]


async def test_what_the_kernel_does_not_take_goes_out_before_the_close(connection: Connection) -> None:
    assert connection.in_thread(LARGE)
    connection.transport.close(4000, "enough")
    assert await connection.read(lambda events: len(events) == 2) == [LARGE.payload, Close(4000, "enough")]


async def test_a_thread_writes_nothing_where_the_event_loop_has_something_to_write(connection: Connection) -> None:
    connection.transport.send(LARGE)
    assert not connection.in_thread(Message(b"overtaking"))
    assert await connection.read(lambda events: len(events) == 1) == [LARGE.payload]


async def test_a_thread_overtakes_nothing_that_waits_for_the_end_of_a_read(connection: Connection) -> None:
    connection.transport.data_received(encode(Opcode.TEXT, b"", mask=b"mask") * 2)  # held back for one turn
    connection.transport.send(Message(b"first"))
    assert not connection.in_thread(Message(b"overtaking"))
    assert await connection.read(lambda events: len(events) == 1) == ["first"]


async def test_a_thread_overtakes_nothing_in_the_moment_in_which_it_is_written(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken: list[bool] = []

    def write(self: DirectTransport, data: bytes) -> None:
        if data:
            overtaken.append(connection.in_thread(Message(b"overtaking")))
        proper(self, data)

    proper = DirectTransport.write
    native = connection.transport
    monkeypatch.setattr(DirectTransport, "write", write)
    native.data_received(encode(Opcode.PING, b"", mask=b"mask") * 2)  # the pongs are written together
    await asyncio.sleep(0)
    native.pause_writing()
    native.send(Message(b"one"))
    native.resume_writing()
    monkeypatch.undo()
    assert overtaken == [False, False]
    assert await connection.read(lambda events: len(events) == 3) == [Pong(b""), Pong(b""), "one"]


async def test_nothing_goes_behind_a_close_frame(connection: Connection) -> None:
    connection.transport.close()
    assert not connection.in_thread(Message(b"behind"))
    assert await connection.read(lambda events: len(events) == 1) == [Close(1000, "")]


@pytest.mark.parametrize(
    "end",
    [
        lambda transport: transport.close(),
        lambda transport: transport.data_received(encode(Opcode.CLOSE, b"", mask=b"mask")),
        lambda transport: transport.data_received(b"\xff\xff"),
    ],
    ids=["close", "answer", "failure"],
)
async def test_it_is_over_for_threads_from_the_moment_a_close_frame_is_written(
    connection: Connection, end: Callable[[NativeTransport], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bool] = []

    def write(self: DirectTransport, data: bytes) -> None:
        proper(self, data)
        sent.append(connection.in_thread(Message(b"behind")))

    proper = DirectTransport.write
    monkeypatch.setattr(DirectTransport, "write", write)
    end(connection.transport)
    monkeypatch.undo()
    assert sent == [False]


async def test_a_kernel_that_takes_nothing_leaves_it_to_the_event_loop(connection: Connection) -> None:
    descriptor = connection.direct._descriptor
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)
    assert not connection.in_thread(Message(b"one too many"))


def test_a_socket_that_is_gone_takes_nothing_also_where_its_number_is_anothers(runner: asyncio.Runner) -> None:
    async def act() -> None:
        async with connected() as connection:
            number = connection.direct._descriptor
            connection.transport.abort()
            assert not connection.in_thread(Message(b"too late"))
            await connection.receiver.over.wait()
            await asyncio.sleep(0)
            with contextlib.ExitStack() as others:
                ends: list[socket.socket] = []
                while number not in [each.fileno() for each in ends]:  # the lowest one that is free comes next
                    ends += [others.enter_context(each) for each in socket.socketpair()]
                assert not connection.in_thread(Message(b"for somebody else"))
                for each in ends:
                    each.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        each.recv(1)

    runner.run(act())


async def test_there_is_no_way_past_what_compresses() -> None:
    async with connected(Agreement(12, 15, server_takeover=False, client_takeover=False)) as connection:
        assert connection.receiver.direct is None
        connection.transport.send(Message(b"text"))
        assert connection.client.recv(1)


async def test_there_is_no_way_past_what_encrypts(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    class Encrypted(asyncio.Transport):
        def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

        def get_write_buffer_size(self) -> int:
            return 0

        def get_write_buffer_limits(self) -> tuple[int, int]:
            return HIGH_WATER // 4, HIGH_WATER

        def is_closing(self) -> bool:
            return False

    for known in ({}, {"socket": connection.client, "sslcontext": object()}):
        assert Connection(connection.client, Encrypted(known)).receiver.direct is None


# -- rooms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_short_way_and_the_long_one_keep_one_order(runner: asyncio.Runner, seed: int) -> None:
    rng = random.Random(seed)
    sent: list[str] = []

    async def act() -> None:
        async with connected(threads=False) as connection:

            def some() -> None:
                for _ in range(rng.randrange(4)):
                    sent.append(f"{len(sent)} ".ljust(rng.choice((1, 100, 5000, 30_000, 100_000)), "x"))
                    rng.choice((connection.write, connection.transport.send))(Message(sent[-1].encode()))

            connection.receiver.on_message = some

            def all_sent(events: list[Event]) -> bool:
                return len(seen) + len(events) == len(sent)

            seen: list[Event] = []
            for _ in range(60):
                some()
                step = rng.randrange(4)
                if step == 0:
                    seen += await connection.read(all_sent)
                elif step == 1:
                    connection.transport.expired()
                elif step == 2:
                    connection.transport.data_received(encode(Opcode.TEXT, b"", mask=b"mask") * rng.randrange(3))
                await asyncio.sleep(0)
            seen += await connection.read(all_sent)
            assert seen == sent

    runner.run(act())


@pytest.mark.parametrize("size", [30_000, len(LARGE.payload)], ids=["some", "too much"])
def test_the_way_is_long_while_the_event_loop_has_something_to_write(runner: asyncio.Runner, size: int) -> None:
    async def act() -> None:
        async with connected(threads=False) as connection:
            transport = connection.transport
            short = transport.outlet
            assert short is not None
            transport.send(Message(bytes(size), binary=True))
            assert transport.outlet is None
            transport.expired()
            assert transport.outlet is None
            assert await connection.read(lambda events: len(events) == 1) == [bytes(size)]
            assert transport.outlet is None, "nobody has looked"
            transport.expired()
            assert transport.outlet == short

    runner.run(act())


def test_the_way_is_long_while_threads_could_compute_beside_the_event_loop(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with connected(threads=False) as early:
            short = early.transport.outlet
            assert short is not None
            monkeypatch.setattr("fairlead.transports.outward.alone", lambda: False)
            early.transport.expired()
            async with connected(threads=False) as late:
                assert early.transport.outlet is late.transport.outlet is None
                early.transport.send(Message(b"x"))
                assert await early.read(lambda events: len(events) == 1) == ["x"]
            monkeypatch.setattr("fairlead.transports.outward.alone", lambda: True)
            early.transport.expired()
            assert early.transport.outlet == short

    runner.run(act())


def test_whoever_has_another_thread_is_not_alone() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert not alone()
    over.set()
    thread.join()


def test_what_the_kernel_does_not_take_of_a_short_write_goes_out_first(runner: asyncio.Runner) -> None:
    async def act() -> None:
        async with connected(threads=False) as connection:
            for message in (LARGE, Message(b"behind")):
                connection.write(message)
            assert connection.transport.outlet is None
            assert await connection.read(lambda events: len(events) == 2) == [LARGE.payload, "behind"]
            connection.receiver.on_message = lambda: connection.transport.send(LARGE)
            connection.transport.expired()
            assert connection.transport.outlet is not None
            connection.transport.data_received(encode(Opcode.TEXT, b"", mask=b"mask"))
            connection.write(Message(b"behind"))
            assert await connection.read(lambda events: len(events) == 2) == [LARGE.payload, "behind"]

    runner.run(act())


async def test_the_way_is_long_while_one_read_is_processed() -> None:
    async with connected(threads=False) as connection:
        outlets: list[int | None] = []
        connection.receiver.on_message = lambda: outlets.append(connection.transport.outlet)
        before = connection.transport.outlet
        connection.transport.data_received(encode(Opcode.TEXT, b"", mask=b"mask"))
        assert outlets == [None]
        assert connection.transport.outlet == before
        connection.transport.send(LARGE)
        await connection.read(lambda events: len(events) == 1)
        connection.receiver.on_message = lambda: connection.transport.send(Message(b"second"))
        connection.transport.data_received(encode(Opcode.TEXT, b"", mask=b"mask") * 2)  # held back for one turn
        connection.transport.expired()
        connection.write(Message(b"third"))
        assert await connection.read(lambda events: len(events) == 3) == ["second", "second", "third"]


def test_who_takes_nothing_the_short_way_is_closed_as_well(runner: asyncio.Runner) -> None:
    async def act() -> None:
        async with connected(threads=False, limits=Limits(outbox_limit=200_000, burst_size=200_000)) as connection:
            wrote = 0
            while connection.transport.open:
                connection.write(Message(b"x" * 10_000))
                wrote += 1
            assert connection.transport.outbox_full and connection.transport.outlet is None
            seen = await connection.read(lambda events: Close(1013, "outbox full") in events)
            assert seen == ["x" * 10_000] * (len(seen) - 1) + [Close(1013, "outbox full")]
            assert 1 < len(seen) < wrote

    runner.run(act())


def test_a_write_counts_whole_as_long_as_some_of_it_waits(runner: asyncio.Runner) -> None:
    async def act(short: bool) -> None:
        limits = Limits(outbox_limit=1_000_000, burst_size=1000)
        async with connected(threads=False, limits=limits, kernel=200_000) as connection:
            (connection.write if short else connection.transport.send)(Message(b"x" * 900_000))
            connection.transport.send(Message(b"x" * 90_000))
            assert connection.transport.open and connection.transport.buffered < 900_000
            connection.transport.send(Message(b"x" * 20_000))
            assert connection.transport.outbox_full

    runner.run(act(True))
    runner.run(act(False))


@pytest.mark.parametrize("size", [900_000, 60_000])
def test_of_a_write_that_is_kept_in_part_no_copy_is_made_but_of_a_little(size: int) -> None:
    """With uvloop: asyncio's own loop copies what it keeps, before Python 3.12."""

    async def act() -> None:
        async with connected(threads=False) as connection:
            data = encode(Opcode.BINARY, bytes(size))
            held = sys.getrefcount(data)
            assert connection.transport.outlet is not None
            connection.transport.write_rest(data, os.write(connection.transport.outlet, data))
            assert connection.transport.buffered
            assert (sys.getrefcount(data) > held) is (size > HIGH_WATER)
            assert await connection.read(lambda events: len(events) == 1) == [bytes(size)]

    uvloop.run(act())


def test_the_way_is_long_until_the_connection_knows_that_its_client_has_caught_up(runner: asyncio.Runner) -> None:
    async def act() -> None:
        async with connected(threads=False) as connection:
            transport = connection.transport
            transport.pause_writing()
            transport.send(Message(b"first"))
            transport.expired()  # between the kernel's taking the last byte and the event loop's telling of it
            connection.write(Message(b"second"))
            transport.resume_writing()
            assert await connection.read(lambda events: len(events) == 2) == ["first", "second"]

    runner.run(act())


async def with_an_answer_half_read() -> tuple[socket.socket, asyncio.Transport, int]:
    """A client, its socket's transport, and how many bytes it has read of 200,000: less is left than asyncio's lower
    mark, in the middle of one write."""
    ours, client = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=ours)
    transport.write(bytes(200_000))
    read = 0
    while transport.get_write_buffer_size() > 10_000:
        with contextlib.suppress(BlockingIOError):
            read += len(client.recv(2048))
        await asyncio.sleep(0)
    assert transport.get_write_buffer_size()
    return client, transport, read


def test_who_takes_a_socket_is_told_once_that_its_client_is_behind(runner: asyncio.Runner) -> None:
    told: list[str] = []

    class Next(asyncio.Protocol):
        def pause_writing(self) -> None:
            told.append("behind")

        def resume_writing(self) -> None:
            told.append("not any more")

    async def act() -> None:
        client, transport, _ = await with_an_answer_half_read()
        limits = transport.get_write_buffer_limits()
        take(transport, Next())
        assert told == ["behind"]
        assert transport.get_write_buffer_limits() == limits
        with client:
            async with asyncio.timeout(PATIENCE):
                while transport.get_write_buffer_size() or len(told) < 2:
                    await asyncio.get_running_loop().sock_recv(client, 2**16)
        assert told == ["behind", "not any more"]
        transport.abort()
        await asyncio.sleep(0)

    runner.run(act())


def test_of_a_client_that_was_behind_before_what_it_is_sent_counts(runner: asyncio.Runner) -> None:
    async def act() -> None:
        client, socket_transport, read = await with_an_answer_half_read()
        loop = asyncio.get_running_loop()
        shared = Shared(loop, Limits(outbox_limit=100_000, burst_size=1000), Ticker())
        receiver = Receiver(threads=False)
        transport = NativeTransport(socket_transport, receiver, shared)
        transport.start(b"101", b"")
        for _ in range(9):
            transport.send(Message(b"x" * 9_000))
        assert transport.open
        for _ in range(3):
            transport.send(Message(b"x" * 9_000))
        assert transport.outbox_full
        with client:
            async with asyncio.timeout(PATIENCE):
                seen = b""
                expected = bytes(200_000 - read) + b"101" + encode(Opcode.CLOSE, b"\x03\xf5outbox full")
                while len(seen) < len(expected):
                    seen += await loop.sock_recv(client, 2**16)
            assert seen == expected
            transport.abort()
            await receiver.over.wait()

    runner.run(act())


@pytest.mark.parametrize("end", [NativeTransport.close, NativeTransport.abort, NativeTransport.shutdown])
def test_there_is_no_short_way_at_the_end(runner: asyncio.Runner, end: Callable[[NativeTransport], None]) -> None:
    async def act() -> None:
        async with connected(threads=False) as connection:
            transport = connection.transport
            end(transport)
            assert transport.outlet is None
            transport.data_received(encode(Opcode.TEXT, b"", mask=b"mask"))
            connection.write(Message(b"too late"))
            await asyncio.sleep(0)
            assert transport.outlet is None
            transport.abort()
            await connection.receiver.over.wait()
            assert transport.outlet is None

    runner.run(act())


# -- threads and the event loop against each other ---------------------------------------------------------------------


def test_every_message_is_whole_and_in_its_senders_order(runner: asyncio.Runner) -> None:
    count, senders = 100, "abcd"
    padding = [0, 10, 300, 6000]

    def from_thread(connection: Connection, name: str, loop: asyncio.AbstractEventLoop) -> None:
        for number in range(count):
            message = Message(f"{name}{number:05}".encode() + b"x" * padding[number % 4])
            if not connection.direct.send(message):
                sent = threading.Event()
                loop.call_soon_threadsafe(connection.transport.send, message)
                loop.call_soon_threadsafe(sent.set)
                assert sent.wait(PATIENCE)

    async def act() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as connection:
            sending = [asyncio.to_thread(from_thread, connection, name, loop) for name in senders]
            working = asyncio.gather(*sending, from_loop(connection, count))
            everything = count * (len(senders) + 2)
            seen = await connection.read(lambda events: len(events) == everything)
            await working
        texts = [each for each in seen if isinstance(each, str)]
        for name in senders + "z":
            assert [int(each[1:6]) for each in texts if each[0] == name] == list(range(count)), name
        assert [each.payload for each in seen if isinstance(each, Pong)] == [b"ping"] * count

    runner.run(act())


async def from_loop(connection: Connection, count: int) -> None:
    """Send and answer pings, where the client is not behind: then only the newest is answered."""
    for number in range(count):
        await connection.transport.drained()
        connection.transport.data_received(encode(Opcode.PING, b"ping", mask=b"mask"))
        connection.transport.send(Message(f"z{number:05}".encode()))
        await asyncio.sleep(0)


def test_a_close_frame_is_the_last_however_many_threads_send(runner: asyncio.Runner) -> None:
    def flood(connection: Connection, stopped: threading.Event) -> None:
        while not stopped.is_set():
            connection.direct.send(Message(b"x"))

    async def act() -> None:
        for _ in range(20):
            async with connected() as connection:
                stopped = threading.Event()
                working = asyncio.gather(*(asyncio.to_thread(flood, connection, stopped) for _ in range(2)))
                await connection.read(lambda events: len(events) > 10)
                connection.transport.close(4000, "enough")
                seen: list[Any] = await connection.read(lambda events: Close(4000, "enough") in events)
                stopped.set()
                await working
                assert seen[-1] == Close(4000, "enough")
                connection.client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    connection.client.recv(1)

    runner.run(act())
