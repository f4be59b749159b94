"""Sessions at a socket: read at the handshake, written when the view says so, and never turned back."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections
from django.urls import path
from tests.django.site import serving

from fairlead.django import require_websocket


@require_websocket
def waits(request: Any) -> None:
    request.websocket.send(request.user.username)
    request.websocket.wait()


@require_websocket
async def waits_async(request: Any) -> None:
    await request.websocket.send(await sync_to_async(lambda: request.user.username)())
    await request.websocket.receive()


@require_websocket
def counts(request: Any) -> None:
    request.websocket.wait()
    request.session["count"] = 1


both = pytest.mark.parametrize("view", [waits, waits_async])


def stored(cookies: dict[str, str]) -> SessionStore:
    return SessionStore(cookies[settings.SESSION_COOKIE_NAME])


async def in_database(call: Any) -> Any:
    def calling() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    return await sync_to_async(calling)()


def put(cookies: dict[str, str], **values: object) -> None:
    session = stored(cookies)
    session.update(values)
    session.save()


@both
@pytest.mark.parametrize("always", [False, True])
async def test_the_end_of_a_socket_does_not_undo_what_others_changed_in_the_session(
    view: Any, always: bool, logged_in: dict[str, str]
) -> None:
    async with serving(path("", view), SESSION_SAVE_EVERY_REQUEST=always) as server:
        async with server.connect("/", cookies=logged_in) as client:
            assert await client.receive() == "ada"
            await in_database(lambda: put(logged_in, cart=["anchor"]))
            await client.send("done")
            await client.closed()
    assert (await in_database(lambda: stored(logged_in).load()))["cart"] == ["anchor"]


async def test_what_a_view_changes_in_the_session_is_saved_when_it_ends(logged_in: dict[str, str]) -> None:
    async with serving(path("", counts)) as server:
        async with server.connect("/", cookies=logged_in) as client:
            await client.send("go")
            await client.closed()
    assert (await in_database(lambda: stored(logged_in).load()))["count"] == 1


async def test_a_session_that_is_gone_by_then_does_not_come_back(logged_in: dict[str, str]) -> None:
    async with serving(path("", counts)) as server:
        async with server.connect("/", cookies=logged_in) as client:
            await in_database(lambda: stored(logged_in).delete())
            await client.send("go")
            assert await client.closed() == (1000, "")
    assert not await in_database(lambda: stored(logged_in).exists(stored(logged_in).session_key))
