"""Rooms from every kind of code, and publications that wait for the commit."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import path
from tests.django.site import serving

from fairlead.django import publish_on_commit, require_websocket, room, trigger
from fairlead.errors import InvalidRoom, UsageError

pytestmark = pytest.mark.usefixtures("database")


@require_websocket
def joins(request: Any) -> None:
    request.websocket.join("news")
    request.websocket.send("in")
    request.websocket.wait()


@require_websocket
async def joins_async(request: Any) -> None:
    await request.websocket.join("news")
    await request.websocket.send("in")
    await request.websocket.receive()


def publishes(request: Any) -> HttpResponse:
    room("news").publish({"from": "a view"})
    return HttpResponse(len(room("news")))


async def publishes_async(request: Any) -> HttpResponse:
    await room("news").publish({"from": "an async view"})
    return HttpResponse(len(room("news")))


async def in_thread(call: Any) -> None:
    """As Django code runs: in a thread, with a connection of its own."""

    def calling() -> None:
        try:
            call()
        finally:
            connections.close_all()

    await sync_to_async(calling, thread_sensitive=False)()


async def test_every_kind_of_code_publishes_to_every_kind_of_view() -> None:
    urls = [path("a", joins), path("b", joins_async), path("p", publishes), path("q", publishes_async)]
    async with serving(*urls) as server:
        async with server.connect("/a") as one, server.connect("/b") as other:
            assert [await one.receive(), await other.receive()] == ["in", "in"]
            assert (await server.http("GET", "/p")).text == "2"
            assert (await server.http("GET", "/q")).text == "2"
            await in_thread(lambda: room("news").publish("from a thread"))
            for client in (one, other):
                assert await client.receive_json() == {"from": "a view"}
                assert await client.receive_json() == {"from": "an async view"}
                assert await client.receive() == "from a thread"


def test_without_a_server_in_this_process_publishing_says_so() -> None:
    with pytest.raises(UsageError, match="no server of this process"):
        room("news").publish("x")


def test_a_room_has_a_name_that_can_be_one() -> None:
    assert room({"order": 7}) == room({"order": 7}) != room({"order": 8})
    with pytest.raises(InvalidRoom):
        room("")


async def test_what_is_published_on_commit_comes_after_it_and_as_it_was_and_never_after_a_rollback() -> None:
    def work() -> None:
        with transaction.atomic():
            data = {"state": "paid"}
            publish_on_commit("news", data)
            data["state"] = "changed since"
            room("news").publish("before the commit")
        with transaction.atomic():
            publish_on_commit("news", "never")
            transaction.set_rollback(True)
        publish_on_commit(room("news"), b"at once")

    async with serving(path("", joins)) as server, server.connect("/") as client:
        assert await client.receive() == "in"
        await in_thread(work)
        assert await client.receive() == "before the commit"
        assert await client.receive_json() == {"state": "paid"}
        assert await client.receive() == b"at once"
        await client.assert_nothing()


async def test_in_an_async_view_there_is_no_transaction_to_wait_for() -> None:
    @require_websocket
    async def view(request: Any) -> None:
        await request.websocket.join("news")
        publish_on_commit("news", "at once")
        await request.websocket.receive()

    async with serving(path("", view)) as server, server.connect("/") as client:
        assert await client.receive() == "at once"


def endless() -> list[object]:
    """What holds itself."""
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("to", "data"), [("news", object()), ("", "x"), ("news", float), ("news", endless()), ("news", "no server here")]
)
def test_a_publication_that_fails_is_logged_and_breaks_nothing(
    to: str, data: object, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction.atomic():
        publish_on_commit(to, data)
    connections.close_all()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("fairlead.django.publishing", logging.ERROR)
    assert record.getMessage().startswith(f"cannot publish to {to!r}" if data != "no server here" else "cannot publish")


async def test_a_publication_that_fails_in_the_event_loop_is_logged_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairlead.brokers.memory import MemoryBroker
    from fairlead.errors import BrokerUnavailable

    async def fails(*arguments: object) -> None:
        raise BrokerUnavailable("the broker is gone")

    @require_websocket
    async def view(request: Any) -> None:
        publish_on_commit("news", "x")
        await request.websocket.send("still here")

    monkeypatch.setattr(MemoryBroker, "publish", fails)
    async with serving(path("", view)) as server, server.connect("/") as client:
        assert await client.receive() == "still here"
        await client.closed()
    assert "cannot publish to news: the broker is gone" in caplog.text


async def test_text_that_is_none_breaks_no_async_view(caplog: pytest.LogCaptureFixture) -> None:
    @require_websocket
    async def view(request: Any) -> None:
        publish_on_commit("news", "half a pair: \ud800")
        await request.websocket.send("still here")

    async with serving(path("", view)) as server, server.connect("/") as client:
        assert await client.receive() == "still here"
        await client.closed()
    assert "cannot publish to news: 'utf-8' codec" in caplog.text


def test_where_nobody_knows_when_it_is_committed_nothing_is_published_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transaction.set_autocommit(False)
    try:
        publish_on_commit("news", "x")
        trigger("news", "x")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
        connections.close_all()
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        "cannot publish to news",
        "cannot trigger ['news']",
    ]
    assert "manual transaction management" in caplog.text
