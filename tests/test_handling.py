"""A handler at work: how it ends is how its connection ends, and the other way round."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from tests.connections import Connection, turns

from fairlead.errors import Closed
from fairlead.handling import handle
from fairlead.websocket import WebSocket

Handler = Callable[[WebSocket], Awaitable[None]]

LONG = 60.0
AT_ONCE = 0.0


class Case:
    """A handler that runs on a connection."""

    def __init__(self, handler: Handler, *, grace: float = LONG, connection: Connection | None = None) -> None:
        self.connection = connection or Connection()
        ws = self.connection.ws
        self.running = asyncio.create_task(handle(ws, self.connection.inbox, handler(ws), grace=grace))

    @property
    def closure(self) -> tuple[int, str] | None:
        return self.connection.client.closure

    async def end(self) -> None:
        """Its end, which must come."""
        async with asyncio.timeout(5):
            await self.running
        await turns()


async def never(ws: WebSocket) -> None:
    """Neither receives nor sends."""
    await asyncio.Event().wait()


# -- the handler's end is the connection's -----------------------------------------------------------------------------


async def test_a_handler_that_returns_closes_with_1000(caplog: pytest.LogCaptureFixture) -> None:
    async def greet(ws: WebSocket) -> None:
        await ws.send("hello")

    with caplog.at_level(logging.INFO, "fairlead"):
        case = Case(greet)
        await case.end()
    assert (case.connection.client.messages, case.closure) == (["hello"], (1000, ""))
    (record,) = caplog.records
    assert record.levelname == "INFO" and case.connection.ws.id in record.message and "ended after" in record.message


async def test_a_handler_that_fails_closes_with_1011_and_only_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(ws: WebSocket) -> None:
        await ws.send("before")
        raise ValueError("secret")

    case = Case(fail)
    await case.end()
    assert (case.connection.client.messages, case.closure) == (["before"], (1011, ""))
    assert case.connection.ws.id in caplog.text and "/thing/7" in caplog.text and "ValueError: secret" in caplog.text


async def test_what_a_handler_closed_with_stays() -> None:
    async def close(ws: WebSocket) -> None:
        await ws.close(4001, "enough")
        raise ValueError

    case = Case(close)
    await case.end()
    assert case.closure == (4001, "enough")


@pytest.mark.parametrize("fault", [Closed(1006), ExceptionGroup("", [Closed(1006), ExceptionGroup("", [Closed(1)])])])
async def test_that_the_client_left_is_no_failure(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def leave(ws: WebSocket) -> None:
        raise fault

    case = Case(leave)
    await case.end()
    assert case.closure == (1000, "") and caplog.text == ""


async def test_readers_and_writers_in_a_task_group_end_with_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(ws: WebSocket) -> None:
        async def read() -> None:
            async for _ in ws:
                pass

        async def write() -> None:
            while True:
                await ws.send("tick")
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(write())

    case = Case(talk)
    await turns()
    await case.connection.leave()
    await case.end()
    assert caplog.text == ""


async def test_a_failure_beside_a_closed_connection_is_one(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(ws: WebSocket) -> None:
        raise ExceptionGroup("", [Closed(1006), ValueError("secret")])

    case = Case(fail)
    await case.end()
    assert case.closure == (1011, "") and "secret" in caplog.text


async def test_a_message_that_was_not_asked_for_closes_with_1007(caplog: pytest.LogCaptureFixture) -> None:
    async def strict(ws: WebSocket) -> None:
        await ws.receive_json(type=int, invalid="raise")

    case = Case(strict)
    await case.connection.arrive('"no number"')
    await case.end()
    assert case.closure == (1007, "invalid message") and caplog.text == ""


async def test_a_handler_that_the_server_cancels_closes_with_1012() -> None:
    case = Case(never)
    await turns()
    case.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await case.running
    assert case.closure == (1012, "service restart")


async def test_tasks_beside_it_end_with_it() -> None:
    tasks: list[asyncio.Task[object]] = []

    async def spawn(ws: WebSocket) -> None:
        tasks.append(ws.spawn(asyncio.Event().wait()))
        await asyncio.sleep(0)

    await Case(spawn).end()
    assert tasks[0].cancelled()


# -- the connection's end is not kept from the handler -----------------------------------------------------------------


async def test_a_handler_that_neither_receives_nor_sends_is_cancelled_when_its_client_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case(never, grace=AT_ONCE)
    await turns()
    assert not case.running.done()
    await case.connection.leave(3001)
    await case.end()
    assert not case.running.cancelled() and case.running.cancelling() == 0
    assert case.closure == (3001, "") and caplog.text == ""


async def test_it_has_the_grace_to_finish_what_it_is_at() -> None:
    finished = asyncio.Event()

    async def finish(ws: WebSocket) -> None:
        await finished.wait()

    case = Case(finish, grace=LONG)
    await turns()
    await case.connection.leave()
    assert not case.running.done()
    finished.set()
    await case.end()


async def test_a_client_that_left_before_the_handler_began_counts_too() -> None:
    connection = Connection()
    await connection.leave()
    await Case(never, grace=AT_ONCE, connection=connection).end()


async def test_whoever_runs_the_handler_is_not_cancelled_after_it() -> None:
    async def server() -> str:
        connection = Connection()
        connection.transport.client_leaves()
        await turns()
        await handle(connection.ws, connection.inbox, asyncio.sleep(0), grace=AT_ONCE)
        await turns(20)
        return "goes on"

    assert await server() == "goes on"


async def by_receiving(ws: WebSocket) -> None:
    with pytest.raises(Closed):
        await ws.receive()


async def by_polling(ws: WebSocket) -> None:
    with pytest.raises(Closed):
        while ws.receive_nowait() is None:
            await asyncio.sleep(0)


async def by_the_end_of_its_loop(ws: WebSocket) -> None:
    async for _ in ws:
        pass


async def by_the_end_of_its_json_loop(ws: WebSocket) -> None:
    async for _ in ws.iter_json():
        pass


async def by_sending(ws: WebSocket) -> None:
    with pytest.raises(Closed):
        while True:
            await ws.send("x")
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "told", [by_receiving, by_polling, by_the_end_of_its_loop, by_the_end_of_its_json_loop, by_sending]
)
async def test_a_handler_that_was_told_takes_its_time(told: Handler) -> None:
    cleaned = asyncio.Event()

    async def clean_up(ws: WebSocket) -> None:
        await told(ws)
        await cleaned.wait()

    case = Case(clean_up, grace=AT_ONCE)
    await turns()
    await case.connection.leave()
    await turns(20)
    assert not case.running.done()
    cleaned.set()
    await case.end()


async def test_a_handler_that_works_through_what_came_before_is_not_cancelled() -> None:
    received: list[str | bytes] = []

    async def work(ws: WebSocket) -> None:
        async for message in ws:
            await asyncio.sleep(0)
            received.append(message)

    connection = Connection()
    sent = [str(number) for number in range(50)]
    await connection.arrive(*sent)
    await connection.leave()
    await Case(work, grace=AT_ONCE, connection=connection).end()
    assert received == sent


async def test_one_that_stops_halfway_is() -> None:
    received: list[str | bytes] = []

    async def work(ws: WebSocket) -> None:
        received.append(await ws.receive())
        await never(ws)

    connection = Connection()
    await connection.arrive("one", "two")
    await connection.leave()
    await Case(work, grace=AT_ONCE, connection=connection).end()
    assert received == ["one"]


async def test_what_a_task_beside_it_was_told_does_not_save_it() -> None:
    async def wait_beside(ws: WebSocket) -> None:
        ws.spawn(by_sending(ws))
        await never(ws)

    case = Case(wait_beside, grace=AT_ONCE)
    await turns()
    await case.connection.leave()
    await case.end()


async def test_a_handler_may_clean_up_when_it_is_cancelled() -> None:
    cleaned: list[str] = []

    async def stubborn(ws: WebSocket) -> None:
        try:
            await never(ws)
        except asyncio.CancelledError:
            await turns()
            cleaned.append("cleaned")

    case = Case(stubborn, grace=AT_ONCE)
    await turns()
    await case.connection.leave()
    await case.end()
    assert cleaned == ["cleaned"] and case.running.cancelling() == 0
