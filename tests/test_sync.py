"""Blocking code on a connection: in memory where its own rules count, on sockets where the client's reading does."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.connections import turns
from tests.e2e.servers import SANSIO, end
from tests.e2e.servers import running as serving_foreign

from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import BrokerUnavailable, Closed, UsageError
from fairlead.handshake import Request
from fairlead.limits import Limits
from fairlead.link import OVERHEAD, UNSENT
from fairlead.rooms.room import Rooms
from fairlead.sync import BlockingWebSocket, converse
from fairlead.testing import Client, Rejected, connect, running
from fairlead.threads import NoThread, Threads
from fairlead.transports.asgi import refuse
from fairlead.websocket import INBOX, INBOX_SIZE

PATIENCE = 5.0

Talk = Callable[[BlockingWebSocket], Any]


class Site:
    """An application whose every connection is talked to by one function, in a thread.

    Attributes:
        ws: The last connection.
        result: What the function returned for it.
        fault: What ``converse`` raised for it.
    """

    def __init__(
        self, talk: Talk, *, threads: Threads | None = None, rooms: Rooms | None = None, limits: Limits | None = None
    ) -> None:
        self.talk = talk
        self.threads = threads or Threads()
        self.rooms = rooms
        self.limits = limits or Limits()
        self.ws: BlockingWebSocket | None = None
        self.result: object = None
        self.fault: BaseException | None = None
        self.over = asyncio.Event()
        self.calls: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        task = asyncio.current_task()
        assert task is not None
        self.calls.add(task)
        request = Request(scope)
        request.accept_headers.append((b"x-from", b"thread"))
        try:
            self.ws, self.result = await converse(
                self._talk, request, receive, send, threads=self.threads, limits=self.limits, rooms=self.rooms
            )
            if not self.ws.accepted:
                await refuse(scope, send, 403, b"not today")
        except BaseException as exc:
            self.fault = exc
            raise
        finally:
            self.over.set()

    def _talk(self, ws: BlockingWebSocket) -> Any:
        self.ws = ws
        return self.talk(ws)

    async def ended(self) -> None:
        """Wait until the last thread has."""
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()


class Steps:
    """Holds a thread where the test wants it."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def __call__(self) -> None:
        """In the thread: stop here."""
        self.reached.release()
        assert self._go.acquire(timeout=PATIENCE)

    async def stopped(self) -> None:
        """In the test: the thread has come to a stop."""
        assert await asyncio.to_thread(self.reached.acquire, timeout=PATIENCE)

    def go(self) -> None:
        self._go.release()


def echo(ws: BlockingWebSocket) -> None:
    for message in ws:
        ws.send(message)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def outgoing(site: Site) -> int:
    """Bytes that the thread is ahead of its client, as they are counted."""
    return 0 if site.ws is None else site.ws._link._unsent


def blocked(site: Site, size: int) -> bool:
    """Whether a thread that sends messages of this size has to wait."""
    return outgoing(site) + size + OVERHEAD > UNSENT


# -- messages, under every kind of server ------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "socket", "uvicorn"])
def visit(request: pytest.FixtureRequest) -> Callable[[Site, Callable[[Any], Awaitable[None]]], Awaitable[None]]:
    """Connect a client and have it do something."""

    async def visiting(site: Site, act: Callable[[Any], Awaitable[None]]) -> None:
        if request.param == "memory":
            async with connect(site) as client:
                await act(client)
        elif request.param == "socket":
            async with running(site) as server, server.connect() as client:
                await act(client)
        else:
            async with serving_foreign(SANSIO, site, lifespan="off") as foreign, foreign.connect("/") as other:
                await act(Library(other))

    return visiting


class Library:
    """A client of the library with the names of ours."""

    def __init__(self, client: Any) -> None:
        self.send = client.send
        self.receive = client.recv
        self.headers = client.response.headers
        self._client = client

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._client.close(code, reason)

    async def closed(self) -> tuple[int, str]:
        return await end(self._client)


Visit = Callable[[Site, Callable[[Any], Awaitable[None]]], Awaitable[None]]


async def test_messages_go_both_ways_in_order_as_text_and_bytes(visit: Visit) -> None:
    messages = ["one", b"two", "", b"", "дрей 😀", b"\xff\x00", *map(str, range(50))]

    async def act(client: Any) -> None:
        for message in messages:
            await client.send(message)
        assert [await client.receive() for _ in messages] == messages
        assert client.headers["X-From"] == "thread"

    site = Site(echo)
    await visit(site, act)
    await site.ended()
    assert site.fault is None


async def test_the_clients_close_ends_the_loop_and_is_known(visit: Visit) -> None:
    async def act(client: Any) -> None:
        await client.send("last words")
        await client.close(3001, "bye")
        await site.ended()

    def talk(ws: BlockingWebSocket) -> object:
        return [list(ws), ws.wait(), ws.read("nothing"), ws.closed, ws.close_code, ws.close_reason]

    site = Site(talk)
    await visit(site, act)
    assert site.result == [["last words"], None, "nothing", True, 3001, "bye"]


async def test_its_end_closes_with_1000_behind_what_it_sent(visit: Visit) -> None:
    async def act(client: Any) -> None:
        assert [await client.receive() for _ in range(100)] == [str(n) for n in range(100)]
        assert await client.closed() == (1000, "")

    def talk(ws: BlockingWebSocket) -> None:
        for number in range(100):
            ws.send(str(number))

    await visit(Site(talk), act)


async def test_its_own_close_is_the_one_that_counts(visit: Visit) -> None:
    async def act(client: Any) -> None:
        assert await client.receive() == "before"
        assert await client.closed() == (4001, "enough")
        await site.ended()

    def talk(ws: BlockingWebSocket) -> object:
        ws.send("before")
        ws.close(4001, "enough")
        ws.close(4002, "more than enough")
        with pytest.raises(Closed) as caught:
            ws.send("after")
        return caught.value.code, ws.closed, ws.wait()

    site = Site(talk)
    await visit(site, act)
    assert site.result == (4001, True, None)


async def fails(visit: Visit, site: Site) -> None:
    """Its client gets what was sent before, and 1011."""

    async def act(client: Any) -> None:
        assert await client.receive() == "before"
        assert await client.closed() == (1011, "")
        await site.ended()

    await visit(site, act)


async def test_what_it_raises_closes_with_1011_and_only_the_log_says_why(
    visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    def talk(ws: BlockingWebSocket) -> None:
        ws.send("before")
        raise ValueError("secret")

    site = Site(talk)
    await fails(visit, site)
    assert site.ws is not None and site.fault is None
    (record,) = [each for each in caplog.records if each.name == "fairlead.sync" and each.levelno == logging.ERROR]
    assert site.ws.id in record.getMessage() and record.exc_info is not None


async def test_that_another_ones_client_left_is_a_failure(visit: Visit, caplog: pytest.LogCaptureFixture) -> None:
    def talk(ws: BlockingWebSocket) -> None:
        ws.send("before")
        raise Closed(1006)  # as sending to a connection raises that is over; this one is not

    site = Site(talk)
    await fails(visit, site)
    assert site.fault is None and "connection closed with code 1006" in caplog.text


async def test_whoever_never_uses_it_has_to_refuse(visit: Visit, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(lambda ws: (ws.path, ws.closed, ws.close_code, ws.subprotocol))
    with pytest.raises(Exception, match="403"):
        await visit(site, lambda client: asyncio.sleep(0))
    assert site.ws is not None and not site.ws.accepted and site.result == ("/", False, None, None)
    assert "ended after" not in caplog.text


# -- receiving ---------------------------------------------------------------------------------------------------------


async def test_wait_gives_up_after_its_timeout_and_nothing_is_lost() -> None:
    step = Steps()

    def talk(ws: BlockingWebSocket) -> object:
        with pytest.raises(TimeoutError, match=r"no message within 0\.01 s"):
            ws.wait(0.01)
        with pytest.raises(TimeoutError):
            ws.wait(timeout=0)
        step()
        return ws.wait(timeout=60)

    site = Site(talk)
    async with connect(site) as client:
        await step.stopped()
        await client.send("late")
        step.go()
        await site.ended()
    assert site.result == "late"


async def test_what_has_arrived_can_be_looked_at_without_waiting() -> None:
    step = Steps()

    def talk(ws: BlockingWebSocket) -> object:
        seen: list[object] = [ws.has_messages(), ws.count_messages(), ws.read(), ws.read("nothing")]
        step()
        seen += [ws.has_messages(), ws.count_messages(), ws.read(), ws.read("nothing"), ws.has_messages()]
        return seen

    site = Site(talk)
    async with connect(site) as client:
        await step.stopped()
        await client.send("one")
        await client.send("two")
        await turns()
        step.go()
        await site.ended()
    assert site.result == [False, 0, None, "nothing", True, 2, "one", "two", False]


async def test_two_threads_that_wait_get_each_message_once() -> None:
    got: list[str | bytes] = []

    def talk(ws: BlockingWebSocket) -> None:
        ws.accept()
        readers = [threading.Thread(target=lambda: got.extend(ws)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(PATIENCE)

    site = Site(talk)
    async with connect(site) as client:
        for number in range(200):
            await client.send(str(number))
        await client.close()
        await site.ended()
    assert sorted(got, key=int) == [str(number) for number in range(200)]


async def test_a_client_that_sends_more_than_is_read_is_slowed_down_and_nothing_is_lost() -> None:
    step = Steps()
    held: list[int] = []

    def talk(ws: BlockingWebSocket) -> object:
        ws.accept()
        step()
        held.append(ws.count_messages())
        return list(ws)

    site = Site(talk)
    sent = [f"{number:05}" for number in range(5_000)]
    async with running(site, limits=Limits(message_rate=2**20, message_burst=2**20)) as server:
        async with server.connect() as client:
            await step.stopped()

            async def send() -> None:
                for message in sent:
                    await client.send(message)
                await client.close()

            sending = asyncio.create_task(send())
            await until(lambda: site.ws is not None and site.ws.count_messages() >= INBOX)
            await turns(100)
            step.go()
            await sending
            await site.ended()
    assert site.result == sent and held[0] < 4 * INBOX


async def test_large_messages_stop_the_reading_by_their_size() -> None:
    step = Steps()

    def talk(ws: BlockingWebSocket) -> object:
        ws.accept()
        step()
        held = ws.count_messages()
        return held, [len(message) for message in ws]

    site = Site(talk)
    async with connect(site) as client:
        await step.stopped()
        for _ in range(8):
            await client.send(bytes(INBOX_SIZE // 2))
        await turns()
        step.go()
        await client.close()
        await site.ended()
    assert site.result == (2, [INBOX_SIZE // 2] * 8)


async def test_the_hook_is_called_when_it_is_about_to_wait_and_only_then() -> None:
    calls: list[str] = []
    step = Steps()

    def talk(ws: BlockingWebSocket) -> None:
        ws.on_wait = lambda: calls.append("waits")
        ws.accept()
        step()
        ws.wait()
        ws.wait()
        assert calls == []
        ws.wait()
        assert calls == ["waits"]
        ws.wait()
        ws.wait()

    site = Site(talk)
    async with connect(site) as client:
        await step.stopped()
        await client.send("one")
        await client.send("two")
        await turns()
        step.go()
        await until(lambda: calls)
        await client.close()
        await site.ended()
    assert site.fault is None and calls[0] == "waits"


# -- the handshake -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        BlockingWebSocket.accept,
        lambda ws: ws.wait(0) if not ws.accepted else None,
        BlockingWebSocket.read,
        BlockingWebSocket.has_messages,
        BlockingWebSocket.count_messages,
        lambda ws: ws.send("x"),
        lambda ws: ws.send_json({}),
        BlockingWebSocket.close,
        lambda ws: ws.join("room"),
    ],
)
async def test_it_is_accepted_when_it_is_first_used(use: Callable[[BlockingWebSocket], object]) -> None:
    before: list[bool] = []

    def talk(ws: BlockingWebSocket) -> None:
        before.append(ws.accepted)
        try:
            use(ws)
        except TimeoutError:
            pass
        assert ws.accepted

    site = Site(talk, rooms=Rooms(MemoryBroker()))
    async with connect(site) as client:
        assert (await client.closed()).code == 1000
    assert before == [False] and site.fault is None


async def test_a_subprotocol_is_agreed_on_in_the_thread() -> None:
    def talk(ws: BlockingWebSocket) -> object:
        ws.accept(subprotocol="b")
        ws.accept(subprotocol="a")
        return ws.subprotocol

    site = Site(talk)
    async with connect(site, subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"
    assert site.result == "b"


async def test_one_that_was_not_offered_leaves_the_handshake_undecided() -> None:
    def talk(ws: BlockingWebSocket) -> None:
        with pytest.raises(ValueError, match="did not offer"):
            ws.accept(subprotocol="c")
        assert not ws.accepted

    with pytest.raises(Rejected) as rejected:
        async with connect(Site(talk), subprotocols=["a"]):
            pass
    assert (rejected.value.status, rejected.value.body) == (403, b"not today")


async def test_what_is_raised_before_the_accept_is_the_callers() -> None:
    def talk(ws: BlockingWebSocket) -> None:
        raise LookupError("nobody is in yet")

    site = Site(talk)
    with pytest.raises(Rejected) as rejected:
        async with connect(site):
            pass
    assert rejected.value.status == 500 and isinstance(site.fault, LookupError)


async def test_a_client_that_left_before_the_accept_is_gone_for_every_call() -> None:
    step, rooms = Steps(), Rooms(MemoryBroker())

    def talk(ws: BlockingWebSocket) -> object:
        step()
        assert ws.wait() is None and ws.read("nothing") == "nothing" and list(ws) == []
        with pytest.raises(Closed):
            ws.send("x")
        with pytest.raises(Closed):
            ws.join("room")
        ws.close()
        ws.leave("room")
        return ws.accepted, ws.closed, ws.close_code

    site = Site(talk, rooms=rooms)
    async with running(site) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await step.stopped()
        writer.transport.abort()
        await until(lambda: not server._server.shared.connections)
        step.go()
        await site.ended()
    assert site.fault is None and site.result == (True, True, 1006)


async def test_an_explicit_accept_says_that_the_client_left() -> None:
    step = Steps()

    def talk(ws: BlockingWebSocket) -> None:
        step()
        ws.accept()

    site = Site(talk)
    async with running(site) as server:
        dialing = asyncio.create_task(server.connect().__aenter__())
        await step.stopped()
        dialing.cancel()
        await asyncio.wait((dialing,))
        await until(lambda: not server._server.shared.connections)
        step.go()
        await site.ended()
    assert site.fault is None and site.ws is not None and site.ws.close_code == 1006


async def test_threads_that_use_it_at_once_accept_it_once_and_send_whole_messages() -> None:
    def talk(ws: BlockingWebSocket) -> None:
        together = threading.Barrier(4)

        def send(name: str) -> None:
            together.wait(PATIENCE)
            for number in range(50):
                ws.send(f"{name}{number}")

        threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    site = Site(talk)
    async with connect(site) as client:
        got = [str(message) async for message in client]
    assert site.fault is None
    for name in "abcd":
        assert [message for message in got if message[0] == name] == [f"{name}{number}" for number in range(50)]


async def test_past_the_limit_of_threads_the_handshake_stays_undecided() -> None:
    threads = Threads(1)
    site = Site(echo, threads=threads)
    async with connect(site) as client:
        await client.send("x")
        assert await client.receive() == "x"
        with pytest.raises(Rejected):
            async with connect(site):
                pass
        assert isinstance(site.fault, NoThread)
    async with connect(site) as client:
        await client.send("y")
        assert await client.receive() == "y"


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [1, None, ["list"]])
async def test_only_text_and_bytes_are_messages(data: Any) -> None:
    def talk(ws: BlockingWebSocket) -> None:
        for view in (bytearray(b"array"), memoryview(b"view")):
            ws.send(view)  # type: ignore[arg-type]  # taken, but not promised
        ws.send_json({"a": [1, "ü"]})
        with pytest.raises(TypeError, match="send_json"):
            ws.send(data)
        with pytest.raises(UnicodeEncodeError):
            ws.send("\ud800")
        ws.send("on")

    site = Site(talk)
    async with connect(site) as client:
        assert [message async for message in client] == [b"array", b"view", '{"a":[1,"ü"]}', "on"]
    assert site.fault is None


@pytest.mark.parametrize("code", [999, 1005, 1006, 1015, 5000])
async def test_a_close_code_that_must_not_be_sent_is_the_threads_mistake(code: int) -> None:
    def talk(ws: BlockingWebSocket) -> None:
        with pytest.raises(ValueError, match="must not be sent"):
            ws.close(code, "x")
        ws.send("goes on")

    async with connect(Site(talk)) as client:
        assert await client.receive() == "goes on"
        assert (await client.closed()).code == 1000


@pytest.mark.parametrize("size", [10_000, 3 * UNSENT])
async def test_a_thread_waits_for_a_client_that_does_not_read_until_it_is_cut(size: int) -> None:
    step = Steps()

    def talk(ws: BlockingWebSocket) -> None:
        step()
        while True:
            ws.send(bytes(size))

    site = Site(talk)
    async with running(site) as server:
        dialing = server.connect()
        opening = asyncio.create_task(dialing.__aenter__())
        await step.stopped()
        step.go()
        client = await opening
        client.pause_reading()
        await until(lambda: blocked(site, size) and site.ws is not None and site.ws.transport.congested)
        assert site.ws is not None and not site.ws.closed and not site.over.is_set()
        assert outgoing(site) <= UNSENT + size + OVERHEAD
        client.abort()
        await site.ended()
        await dialing.__aexit__(None, None, None)
    assert site.fault is None and site.ws.close_code == 1006


@pytest.mark.parametrize("size", [0, 1, 1_000])
async def test_a_thread_that_is_faster_than_the_loop_waits_for_it(size: int) -> None:
    sent: list[int] = []

    def talk(ws: BlockingWebSocket) -> None:
        ws.accept()
        step()
        for number in range(2_000):
            ws.send(bytes(size))
            sent.append(number)

    step = Steps()
    site = Site(talk)
    async with connect(site) as client:
        await step.stopped()
        step.go()
        end = time.monotonic() + PATIENCE
        while not blocked(site, size) and time.monotonic() < end:
            time.sleep(0.001)  # the loop stands still
        assert len(sent) <= UNSENT // OVERHEAD
        assert [message async for message in client] == [bytes(size)] * 2_000


async def test_a_slow_client_that_reads_again_gets_everything() -> None:
    def talk(ws: BlockingWebSocket) -> None:
        for number in range(2_000):
            ws.send(f"{number:04}" * 50)

    site = Site(talk)
    async with connect(site) as client:
        client.pause_reading()
        await until(lambda: blocked(site, 200))
        client.resume_reading()
        assert [str(message)[:4] async for message in client] == [f"{number:04}" for number in range(2_000)]


async def test_a_blocked_send_ends_when_another_thread_closes() -> None:
    def talk(ws: BlockingWebSocket) -> object:
        ws.accept()
        stuck = threading.Event()

        def send() -> None:
            with pytest.raises(Closed) as caught:
                while True:
                    ws.send(bytes(1_000))
            assert caught.value.code == 4000
            stuck.set()

        threading.Thread(target=send).start()
        closing.wait(PATIENCE)
        ws.close(4000)
        return stuck.wait(PATIENCE)

    closing = threading.Event()
    site = Site(talk)
    async with connect(site) as client:
        client.pause_reading()
        await until(lambda: blocked(site, 1_000))
        closing.set()
        await site.ended()
        client.resume_reading()
    assert site.result is True


# -- the event loop ----------------------------------------------------------------------------------------------------


async def test_the_event_loop_may_do_what_does_not_block_and_nothing_else() -> None:
    step = Steps()

    def talk(ws: BlockingWebSocket) -> None:
        ws.accept()
        step()

    site = Site(talk)
    async with connect(site) as client:
        await step.stopped()
        ws = site.ws
        assert ws is not None
        with pytest.raises(UsageError):
            ws.wait()
        with pytest.raises(UsageError):
            ws.join("room")
        ws.send("from the loop")
        assert await client.receive() == "from the loop"
        assert ws.read("nothing") == "nothing"
        client.pause_reading()
        with pytest.raises(UsageError, match="in a thread"):
            for _ in range(2 * UNSENT // 1_000):
                ws.send(bytes(1_000))
        client.resume_reading()
        step.go()


async def test_the_event_loop_cannot_accept() -> None:
    step = Steps()
    held: list[BlockingWebSocket] = []

    def talk(ws: BlockingWebSocket) -> None:
        held.append(ws)
        step()

    site = Site(talk)
    dialing = connect(site)
    opening = asyncio.create_task(dialing.__aenter__())
    await step.stopped()
    with pytest.raises(UsageError):
        held[0].send("x")
    assert not held[0].accepted
    step.go()
    with pytest.raises(Rejected):
        await opening


async def test_a_draining_server_lets_threads_know() -> None:
    def talk(ws: BlockingWebSocket) -> object:
        ws.send("in")
        return ws.wait(), ws.close_code, ws.close_reason

    site = Site(talk)
    async with running(site) as server, server.connect() as client:
        assert await client.receive() == "in"
        await server.drain()
        assert await client.closed() == (1012, "service restart")
    assert site.fault is None and site.result == (None, 1012, "service restart")


async def test_a_thread_learns_at_once_that_the_server_gave_it_up() -> None:
    said: list[object] = []
    gone = threading.Event()

    def talk(ws: BlockingWebSocket) -> None:
        said.append(ws.wait())
        try:
            ws.send("x")
        except Closed as closed:
            said.append(closed.code)
        gone.set()

    site = Site(talk)
    async with connect(site) as client:
        await client.send("first")
        await until(lambda: said)
        said.clear()
    said.clear()
    gone.clear()
    async with connect(site) as client:
        await until(lambda: site.ws is not None and site.ws.accepted)
        client.pause_reading()
        (call,) = [each for each in site.calls if not each.done()]
        call.cancel()
        assert await asyncio.to_thread(gone.wait, PATIENCE)
        client.resume_reading()
        assert await client.closed() == (1012, "service restart")
    assert said == [None, 1012] and isinstance(site.fault, asyncio.CancelledError)


def test_a_loop_that_closes_ends_what_waits() -> None:
    ended = threading.Event()
    said: list[object] = []

    def talk(ws: BlockingWebSocket) -> None:
        ws.send("in")
        said.append(ws.wait())
        with pytest.raises(Closed):
            ws.send("x")
        with pytest.raises(Closed):
            ws.join("room")
        ws.close()
        ended.set()

    async def main() -> None:
        site = Site(talk, rooms=Rooms(MemoryBroker()))
        dialing.append(connect(site))
        client: Client = await dialing[0].__aenter__()
        await client.receive()

    dialing: list[Any] = []
    asyncio.run(main())
    assert ended.wait(PATIENCE) and said == [None]


def test_a_loop_that_is_gone_without_a_word_is_noticed_by_the_next_call() -> None:
    """Nothing told the thread: its connection was never dropped, nor its application cancelled."""
    step = Steps()
    done = threading.Event()
    site: list[Site] = []

    def talk(ws: BlockingWebSocket) -> None:
        ws.send("in")
        ws.wait()
        step()
        for _ in range(3):
            with pytest.raises(Closed):
                ws.send(bytes(UNSENT))
        assert ws.wait() == "two" and ws.wait() is None and ws.closed
        done.set()

    async def main() -> None:
        site.append(Site(talk))
        dialing.append(connect(site[0]))
        client: Client = await dialing[0].__aenter__()
        await client.receive()
        await client.send("one")
        await step.stopped()
        await client.send("two")
        await turns()

    dialing: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    step.go()
    assert done.wait(PATIENCE)
    for task in site[0].calls:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.slow
async def test_waiting_takes_no_time() -> None:
    def talk(ws: BlockingWebSocket) -> None:
        ws.send("in")
        ws.wait(timeout=60)

    site = Site(talk)
    clients = [connect(site) for _ in range(100)]
    entered = [await client.__aenter__() for client in clients]
    for client in entered:
        await client.receive()
    before = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - before < 0.02
    for client in entered:
        client.abort()
    for each in clients:
        await each.__aexit__(None, None, None)


# -- rooms -------------------------------------------------------------------------------------------------------------


async def test_threads_join_publish_and_leave() -> None:
    rooms = Rooms(MemoryBroker())

    def talk(ws: BlockingWebSocket) -> None:
        ws.join("news")
        ws.join(rooms["news"])
        ws.send("in")
        for message in ws:
            if message == "leave":
                ws.leave("news")
                ws.leave("news")
                ws.send("out")
            else:
                rooms["news"].publish(message, exclude=ws)

    site = Site(talk, rooms=rooms)
    async with connect(site) as one, connect(site) as two:
        assert [await one.receive(), await two.receive()] == ["in", "in"]
        assert len(rooms["news"]) == 2
        await one.send("hello")
        assert await two.receive() == "hello"
        await two.send(b"hi")
        assert await one.receive() == b"hi"
        await two.send("leave")
        assert await two.receive() == "out"
        assert len(rooms["news"]) == 1
        await rooms["news"].publish({"to": "one"})
        assert await one.receive() == '{"to":"one"}'
    assert len(rooms["news"]) == 0
    await rooms.close()


async def test_what_was_published_goes_ahead_of_what_is_sent_afterwards(visit: Visit) -> None:
    rooms = Rooms(MemoryBroker())
    sent = [f"{kind}{number}" for number in range(100) for kind in "npsa"]

    def talk(ws: BlockingWebSocket) -> None:
        for number in range(100):
            ws.send(f"n{number}")  # in no room: past the event loop where that can be
            ws.join("news")
            rooms["news"].publish(f"p{number}")
            ws.send(f"s{number}")
            ws.leave("news")
            ws.send(f"a{number}")

    async def act(client: Any) -> None:
        assert [await client.receive() for _ in sent] == sent
        await client.closed()

    site = Site(talk, rooms=rooms)
    await visit(site, act)
    assert site.fault is None
    await rooms.close()


async def test_a_thread_overtakes_no_publication_that_waits_for_the_loops_turn_to_end() -> None:
    rooms, step, sent = Rooms(MemoryBroker()), Steps(), threading.Event()

    def talk(ws: BlockingWebSocket) -> None:
        ws.join("news")
        step()
        ws.send("afterwards")
        sent.set()

    async with running(Site(talk, rooms=rooms)) as server:
        dialing = server.connect()
        opening = asyncio.create_task(dialing.__aenter__())
        await step.stopped()
        client = await opening
        await rooms["news"].publish("before")
        step.go()
        assert sent.wait(PATIENCE)  # the loop stands still
        assert [await client.receive(), await client.receive()] == ["before", "afterwards"]
        await dialing.__aexit__(None, None, None)
    await rooms.close()


async def test_messages_of_threads_and_publications_are_whole_and_each_in_its_order() -> None:
    """One thread goes past the event loop whenever the connection is in no room, which changes all the time."""
    rooms = Rooms(MemoryBroker())

    def talk(ws: BlockingWebSocket) -> None:
        def send() -> None:
            for number in range(500):
                ws.send(f"t{number:05}" + "x" * (number % 7 * 1000))

        thread = threading.Thread(target=send)
        thread.start()
        for number in range(100):
            ws.join("news")
            rooms["news"].publish(f"p{number:05}")
            ws.leave("news")
        thread.join(PATIENCE)

    site = Site(talk, rooms=rooms)
    async with running(site) as server, server.connect() as client:
        got = [str(message) async for message in client]
    assert [int(each[1:6]) for each in got if each[0] == "t"] == list(range(500))
    assert [int(each[1:6]) for each in got if each[0] == "p"] == list(range(100))
    await rooms.close()


async def test_a_client_that_left_is_out_of_its_rooms_however_long_the_thread_goes_on() -> None:
    rooms, step = Rooms(MemoryBroker()), Steps()

    def talk(ws: BlockingWebSocket) -> object:
        ws.join("news")
        step()
        with pytest.raises(Closed):
            ws.join("other")
        return ws.rooms

    site = Site(talk, rooms=rooms)
    async with connect(site) as client:
        await step.stopped()
        client.abort()
        await until(lambda: len(rooms["news"]) == 0)
        assert not site.over.is_set()
        step.go()
        await site.ended()
    assert site.result == []
    await rooms.close()


async def test_rooms_that_cannot_be_joined_say_so() -> None:
    class Down(MemoryBroker):
        async def subscribe(self, room: Any) -> None:
            raise BrokerUnavailable("no link")

    rooms = Rooms(Down())

    def talk(ws: BlockingWebSocket) -> None:
        with pytest.raises(UsageError, match="no rooms"):
            ws.join("news")
        with pytest.raises(BrokerUnavailable):
            ws.join(rooms["news"])
        assert ws.rooms == []

    site = Site(talk)
    async with connect(site) as client:
        assert (await client.closed()).code == 1000
    assert site.fault is None
    await rooms.close()
