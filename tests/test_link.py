"""The link by itself: what a thread and the event loop do to it at the same moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue

import pytest

from fairlead.errors import Closed, UsageError
from fairlead.link import Link
from fairlead.message import Burst, Form, Message
from fairlead.threads import Bridge
from fairlead.websocket import INBOX, INBOX_SIZE
from fairlead.wire.frames import PLAIN

PATIENCE = 5.0


class Recorder:
    """A transport that keeps what it is given, and whether it may read."""

    form: Form = PLAIN
    buffered = 0
    outlet = None
    congested = outbox_full = False

    def __init__(self) -> None:
        self.open = True
        self.reading = True
        self.stops = 0
        self.sent: list[bytes] = []

    def send(self, outgoing: Message | Burst) -> bool:
        assert self.open
        self.sent += [message.payload for message in outgoing.messages]
        return not self.congested

    async def drained(self) -> None: ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.open = False

    def pause_reading(self) -> None:
        self.reading = False
        self.stops += 1

    def resume_reading(self) -> None:
        self.reading = True


@pytest.fixture
async def transport() -> Recorder:
    return Recorder()


@pytest.fixture
async def link(transport: Recorder) -> Link:
    made = Link(Bridge())
    made.connected(transport)
    return made


async def in_threads(*calls: Callable[[], None]) -> None:
    """Run calls, each in a thread, until all have ended."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(asyncio.to_thread(call) for call in calls))


def all_of(link: Link, into: list[str | bytes]) -> Callable[[], None]:
    """What takes messages until there are none any more."""

    def take() -> None:
        while (message := link.take()) is not None:
            into.append(message)

    return take


async def feed(link: Link, transport: Recorder, messages: Sequence[str], burst: int) -> None:
    """Deliver messages as a transport does: so many in one turn of the loop, and none while it is told to stop."""
    at = 0
    while at < len(messages):
        end = at + burst
        while at < min(end, len(messages)) and transport.reading:
            link.received(messages[at])
            at += 1
        await asyncio.sleep(0)
    link.closed(1000, "")


@pytest.mark.parametrize("burst", [1, INBOX - 1, INBOX, 4 * INBOX])
@pytest.mark.parametrize("takers", [1, 3])
async def test_nothing_is_lost_and_reading_goes_on_however_fast_the_thread_is(
    link: Link, transport: Recorder, burst: int, takers: int
) -> None:
    sent = [str(number) for number in range(20 * INBOX)]
    got: list[list[str | bytes]] = [[] for _ in range(takers)]
    feeding = asyncio.create_task(feed(link, transport, sent, burst))
    await in_threads(*(all_of(link, each) for each in got))
    await feeding
    assert sorted(sum(got, []), key=int) == sent
    assert all(each == sorted(each, key=int) for each in got)


@pytest.mark.parametrize(("size", "count"), [(1, INBOX), (INBOX_SIZE, 1)])
async def test_reading_stops_at_the_bound_and_goes_on_when_everything_was_taken(
    link: Link, transport: Recorder, size: int, count: int
) -> None:
    for _ in range(count):
        assert transport.reading
        link.received(bytes(size))
    assert not transport.reading and transport.stops == 1
    for left in reversed(range(count)):
        assert not transport.reading and link.waiting == left + 1
        link.take(0)
    async with asyncio.timeout(PATIENCE):
        while not transport.reading:
            await asyncio.sleep(0)


async def test_a_thread_that_took_everything_before_the_loop_said_stop_is_not_forgotten(
    link: Link, transport: Recorder
) -> None:
    """It finds nobody waiting for it, so it tells nobody; the event loop has to look again."""

    class Quick(SimpleQueue[str | bytes | None]):
        def qsize(self) -> int:
            count = super().qsize()
            while count >= INBOX and not self.empty():  # now, before the loop can do anything about the number
                link.take(0)
            return count

    link._arrived = Quick()
    for _ in range(INBOX):
        link.received("x")
    assert transport.stops == 1 and link._arrived.empty()
    async with asyncio.timeout(PATIENCE):
        while not transport.reading:
            await asyncio.sleep(0)


async def test_the_end_wakes_everybody_who_waits_and_is_no_message(link: Link) -> None:
    got: list[str | bytes] = []
    waiting = asyncio.create_task(in_threads(*[all_of(link, got)] * 4))
    await asyncio.sleep(0)
    link.received("last")
    link.closed(1000, "")
    link.closed(1006, "")
    await waiting
    assert got == ["last"] and link.waiting == 0 and link.take() is None and link.take(0) is None
    assert link.outcome == (1000, "")


async def test_what_came_before_the_end_is_counted_without_it(link: Link) -> None:
    link.received("one")
    link.closed(1000, "")
    assert link.waiting == 1 and link.take() == "one" and link.waiting == 0


@pytest.mark.parametrize("timeout", [0, -1])
async def test_who_does_not_wait_may_ask_in_the_event_loop(link: Link, timeout: float) -> None:
    with pytest.raises(Empty if timeout == 0 else UsageError):
        link.take(timeout)
    link.received("x")
    assert link.take(timeout) == "x"


async def test_the_event_loop_is_not_let_wait_for_itself(link: Link) -> None:
    with pytest.raises(UsageError, match="call it in a thread"):
        link.take()
    with pytest.raises(UsageError, match="call it in a thread"):
        while True:
            link.put(Message(bytes(1000)))


async def test_threads_that_send_at_once_keep_each_its_order(link: Link, transport: Recorder) -> None:
    def send(name: str) -> Callable[[], None]:
        def sending() -> None:
            for number in range(1000):
                link.put(Message(f"{name}{number:04}".encode()))

        return sending

    await in_threads(*(send(name) for name in "abc"))
    link.finish(1000, "")
    for name in b"abc":
        mine = [each for each in transport.sent if each[0] == name]
        assert len(mine) == 1000 and mine == sorted(mine)


async def test_its_close_goes_behind_what_was_sent_and_nothing_goes_behind_it(link: Link, transport: Recorder) -> None:
    refused = threading.Event()

    def talk() -> None:
        link.put(Message(b"before"))
        link.end(4000, "enough")
        with pytest.raises(Closed):
            link.put(Message(b"behind"))
        refused.set()

    await in_threads(talk)
    assert refused.is_set()
    async with asyncio.timeout(PATIENCE):
        while transport.open:
            await asyncio.sleep(0)
    assert transport.sent == [b"before"]


class Way:
    """A way past the event loop that says what it is told to."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, message: Message) -> bool:
        taken = self.answers.pop(0)
        if taken:
            self.sent.append(message.payload)
        return taken


class InNoRoom:
    memberships: Mapping[str, str] = {}

    def flush_rooms(self) -> None: ...


async def test_who_was_sent_to_the_loop_once_goes_there_until_that_has_everything(
    link: Link, transport: Recorder
) -> None:
    way = Way(True, False, True)
    link._direct, link.connection = way, InNoRoom()  # type: ignore[assignment]  # what it uses of them
    for payload in (b"past", b"through", b"behind it"):
        link.put(Message(payload))
    assert way.sent == [b"past"] and transport.sent == []
    await asyncio.sleep(0)
    assert transport.sent == [b"through", b"behind it"]
    link.put(Message(b"past again"))
    assert way.sent == [b"past", b"past again"]
