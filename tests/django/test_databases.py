"""Database connections and threads: who waits for a client has none that others could use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import path
from tests.django.site import descriptors, serving

from fairlead.django import accept_websocket, require_websocket
from fairlead.django.settings import current
from fairlead.testing import Rejected, RunningServer, rejects

pytestmark = pytest.mark.usefixtures("ada")


def count() -> int:
    found: int = User.objects.filter(username="ada").count()
    return found


@accept_websocket
def counting(request: Any) -> HttpResponse | None:
    if not request.is_websocket():
        return HttpResponse(count())
    for _ in request.websocket:
        request.websocket.send(f"{count()} {threading.active_count()}")
    return None


@require_websocket
async def counting_async(request: Any) -> None:
    async for _ in request.websocket:
        await request.websocket.send(f"{await User.objects.filter(username='ada').acount()} {threading.active_count()}")


@pytest.fixture
def file(database: Path) -> Iterator[Path]:
    """The database's file, which nobody has open before and after."""
    connections.close_all()
    assert descriptors(database) == 0
    yield database
    connections.close_all()
    assert descriptors(database) == 0


async def none_open(file: Path) -> None:
    """Nobody has the database open any more: views go on waiting a moment after they have answered."""
    async with asyncio.timeout(5):
        while descriptors(file):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("view", [counting, counting_async])
@pytest.mark.parametrize("age", [0, 600, None])
async def test_a_view_that_waits_keeps_no_connection_however_long_those_may_live(
    view: Any, age: int | None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", age)
    async with serving(path("", view)) as server, server.connect("/") as client:
        for _ in range(3):
            await client.send("count")
            assert str(await client.receive()).startswith("1 ")
            await none_open(file)


async def test_an_async_view_that_waits_has_no_thread_either(file: Path, logged_in: dict[str, str]) -> None:
    async with serving(path("", counting_async)) as server:
        async with server.connect("/") as client:
            await client.send("count")
            before = threading.active_count()
            await client.receive()
            async with asyncio.timeout(5):
                while any(each.name.startswith("fairlead-aside") for each in threading.enumerate()):
                    await asyncio.sleep(0.001)
            assert threading.active_count() <= before


async def test_an_async_view_that_waits_for_something_else_has_given_back_what_the_handshake_took(
    file: Path, logged_in: dict[str, str]
) -> None:
    over = asyncio.Event()

    @require_websocket
    async def view(request: Any) -> None:
        name = await sync_to_async(lambda: request.user.username)()
        await request.websocket.send(name)
        await over.wait()

    async with serving(path("", view)) as server, server.connect("/", cookies=logged_in) as client:
        assert await client.receive() == "ada"
        await none_open(file)
        over.set()


async def test_a_connection_in_the_middle_of_a_transaction_is_kept(file: Path) -> None:
    seen: list[object] = []

    @require_websocket
    def view(request: Any) -> None:
        with transaction.atomic():
            User.objects.create_user("grace")
            request.websocket.send("in a transaction")
            seen.append(request.websocket.wait())
            seen.append(User.objects.filter(username="grace").count())
            transaction.set_rollback(True)
        seen.append(User.objects.filter(username="grace").count())
        transaction.set_autocommit(False)
        User.objects.create_user("grace")
        request.websocket.send("without autocommit")
        seen.append(request.websocket.wait())
        seen.append(User.objects.filter(username="grace").count())

    async with serving(path("", view)) as server, server.connect("/") as client:
        for answer in ("one", "two"):
            await client.receive()
            await client.assert_nothing()  # so it waits
            await client.send(answer)
        await client.closed()
    assert seen == ["one", 1, 0, "two", 1]
    await none_open(file)  # and so what was not committed is gone
    assert await sync_to_async(User.objects.filter(username="grace").count)() == 0
    await sync_to_async(connections.close_all)()


async def test_atomic_requests_are_for_requests(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    seen: list[bool] = []

    @accept_websocket
    def view(request: Any) -> HttpResponse | None:
        seen.append(transaction.get_connection().in_atomic_block)
        if request.is_websocket():
            request.websocket.accept()
            return None
        return HttpResponse("page")

    async with serving(path("", view), path("async", counting_async)) as server:
        await server.http("GET", "/")
        async with server.connect("/") as client:
            await client.closed()
        async with server.connect("/async") as client:
            await client.send("count")
            assert str(await client.receive()).startswith("1 ")
    assert seen == [True, False]


async def test_behind_a_middleware_that_blocks_an_async_view_keeps_no_connection_either(file: Path) -> None:
    async with serving(path("", counting_async), MIDDLEWARE=[f"{__name__}.blocking"]) as server:
        async with server.connect("/") as client:
            for _ in range(2):
                await client.send("count")
                assert str(await client.receive()).startswith("1 ")
                await none_open(file)


def blocking(get_response: Any) -> Any:
    return lambda request: get_response(request)


@pytest.mark.slow
async def test_five_hundred_waiting_views_keep_no_connection_and_nobody_from_being_answered(file: Path) -> None:
    async with serving(path("", counting)) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.connect("/", timeout=30)) for _ in range(500)]
        for client in clients:
            await client.send("count")
        for client in clients:
            assert str(await client.receive()).startswith("1 ")
        await none_open(file)
        assert sum(each.name.startswith("fairlead-socket") for each in threading.enumerate()) == 500
        answer = await server.http("GET", "/", timeout=2)
        assert (answer.status, answer.text) == (200, "1")
        await none_open(file)


async def test_past_the_threads_that_there_may_be_a_handshake_is_503_until_one_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(path("", counting), path("async", counting_async), FAIRLEAD={"threads": 2}) as server:
        async with server.connect("/"):
            async with server.connect("/"):
                with rejects(503, "too many connections") as refusal:
                    async with server.connect("/"):
                        pass
                assert refusal.headers["retry-after"] == "5"
                async with server.connect("/async"):
                    pass
                assert (await server.http("GET", "/")).status == 200
            async with asyncio.timeout(5):
                while not await admitted(server):  # the thread ends a moment after its client
                    pass
    assert "all 2 threads" in caplog.text


async def admitted(server: RunningServer) -> bool:
    try:
        async with server.connect("/"):
            return True
    except Rejected:
        return False


def test_a_thousand_threads_are_the_default() -> None:
    assert current().threads == 1000
