"""The project beside a gateway: who may join what, and triggers that break nothing."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from django.urls import path
from tests.django.site import serving

from fairlead.django import bootstrap, gateway, require_websocket, trigger
from fairlead.django.gateway import Registry
from fairlead.errors import InvalidRoom, UsageError
from fairlead.gateway.app import Gateway
from fairlead.gateway.settings import ApiSettings, GatewaySettings, UpstreamSettings
from fairlead.testing import RunningServer, running

KEY = "the-key-of-these-tests"


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry of the test's own in the place of the project's."""
    registry = Registry()
    monkeypatch.setattr(gateway, "rooms", registry)
    yield registry


def ask(user: object) -> Any:
    request = RequestFactory().get("/")
    request.user = user
    answer = bootstrap(request)
    return answer.status_code, json.loads(answer.content)


def user(pk: object = 7) -> SimpleNamespace:
    return SimpleNamespace(pk=pk, is_authenticated=True)


# -- the registry and the bootstrap view -------------------------------------------------------------------------------


def test_the_answer_is_what_all_registered_functions_say(rooms: Registry) -> None:
    @rooms.allow
    def teams(user: Any) -> list[object]:
        return [{"team": user.pk}, "news"]

    @rooms.allow
    def everybody(user: Any) -> Iterator[str]:
        yield "lobby"

    @rooms.allow_prefixes
    def own(user: Any) -> list[str]:
        return [f"user/{user.pk}/"]

    @rooms.join
    def at_once(user: Any) -> list[object]:
        return [{"user": user.pk}]

    assert ask(user()) == (
        200,
        {
            "user": {"id": 7},
            "allowed_rooms": [{"team": 7}, "news", "lobby"],
            "allowed_prefixes": ["user/7/"],
            "rooms": [{"user": 7}],
            "expires_in": 300.0,
        },
    )
    assert teams(user()) == [{"team": 7}, "news"]  # still the function it was
    assert rooms.allows(user(), {"team": 7}) and rooms.allows(user(), "user/7/inbox")
    assert not rooms.allows(user(), {"team": 8}) and not rooms.allows(user(), "user/8/inbox")
    with pytest.raises(InvalidRoom):
        rooms.allows(user(), "")


@pytest.mark.parametrize("given", ["user/7/", b"user/7/", {"team": 7}, None])
@pytest.mark.parametrize("register", [Registry.allow, Registry.allow_prefixes, Registry.join])
def test_a_room_that_is_not_in_a_list_allows_nothing(
    given: Any, register: Callable[..., object], rooms: Registry
) -> None:
    def own(user: Any) -> Any:
        return given

    register(rooms, own)
    with pytest.raises(UsageError, match=f"own must return a list of rooms or prefixes, not {type(given).__name__}"):
        ask(user())
    with pytest.raises(UsageError):
        rooms.allows(user(), "umbrella")


def test_rights_last_as_long_as_the_setting_says(rooms: Registry) -> None:
    with override_settings(FAIRLEAD={"gateway": {"expires_in": 0}}):
        assert ask(user()) == (
            200,
            {"user": {"id": 7}, "allowed_rooms": [], "allowed_prefixes": [], "rooms": []},
        )


def test_a_key_that_is_no_number_is_text(rooms: Registry) -> None:
    key = uuid.uuid4()
    assert ask(user(key))[1]["user"] == {"id": str(key)}


def test_a_stranger_is_401_and_nothing_is_kept() -> None:
    assert ask(AnonymousUser())[0] == 401
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    assert "no-store" in bootstrap(request)["Cache-Control"]
    assert bootstrap(RequestFactory().post("/")).status_code == 405


# -- with a gateway ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def gateway_of(project: RunningServer) -> AsyncIterator[RunningServer]:
    settings = GatewaySettings(
        upstream=UpstreamSettings(url=f"{project.url}/api/bootstrap/"), api=ApiSettings(keys=(KEY,))
    )
    app = Gateway(settings)
    async with running(app, also=[app.admin]) as server:
        with override_settings(FAIRLEAD={"gateway": {"url": server.urls[1], "key": KEY}}):
            yield server


def saves(request: Any) -> HttpResponse:
    with transaction.atomic():
        trigger([{"team": 7}, "news"], {"saved": request.GET["what"]})
        transaction.set_rollback(request.GET["what"] == "nothing")
    return HttpResponse("saved")


async def saves_async(request: Any) -> HttpResponse:
    trigger({"team": 7}, {"saved": "async"})
    return HttpResponse("saved")


async def test_what_a_view_saves_reaches_those_whom_the_bootstrap_view_lets_in(
    rooms: Registry, ada: Any, logged_in: dict[str, str]
) -> None:
    rooms.allow(lambda user: [{"team": 7}])
    urls = [path("api/bootstrap/", bootstrap), path("save", saves), path("save-async", saves_async)]
    async with serving(*urls) as project, gateway_of(project) as server:
        async with server.connect("/ws/") as stranger:
            assert (await stranger.receive_json())["error"] == "unauthorized"
        async with server.connect("/ws/", cookies=logged_in) as client:
            hello = await client.receive_json()
            assert (hello["allowed_rooms"], hello["user"], hello["expires_in"]) == ([{"team": 7}], ada.pk, 300)
            await client.send_json({"type": "subscribe", "room": {"team": 7}, "requestId": 1})
            assert (await client.receive_json())["code"] == "success"
            for call in ("/save?what=nothing", "/save?what=it", "/save-async"):
                assert (await project.http("GET", call)).text == "saved"
            assert (await client.receive_json())["data"] == {"saved": "it"}
            assert (await client.receive_json())["data"] == {"saved": "async"}


async def test_a_blocking_socket_may_trigger_too(rooms: Registry, logged_in: dict[str, str]) -> None:
    @require_websocket
    def view(request: Any) -> None:
        for text in request.websocket:
            trigger("news", text)
            request.websocket.send("triggered")

    rooms.join(lambda user: ["news"])
    async with serving(path("api/bootstrap/", bootstrap), path("talk", view)) as project, gateway_of(project) as server:
        async with server.connect("/ws/", cookies=logged_in) as listener, project.connect("/talk") as client:
            assert (await listener.receive_json())["rooms"] == ["news"]
            await client.send("ahoy")
            assert await client.receive() == "triggered"
            assert (await listener.receive_json())["data"] == "ahoy"


# -- that break nothing ------------------------------------------------------------------------------------------------


def refused(data: object = "x", to: Any = "news") -> None:
    try:
        with transaction.atomic():
            trigger(to, data)
    finally:
        connections.close_all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "has no gateway.key"),
        ({"key": KEY, "url": "http://127.0.0.1:1"}, "cannot reach the gateway"),
        ({"key": KEY, "url": "nonsense"}, "must be an http or https URL"),
    ],
)
def test_a_gateway_that_cannot_be_reached_is_logged(
    settings: dict[str, object], said: str, caplog: pytest.LogCaptureFixture, database: object
) -> None:
    with override_settings(FAIRLEAD={"gateway": settings}):
        refused()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and said in record.getMessage()
    assert record.getMessage().startswith("cannot trigger ['news']: ")


def test_data_without_a_form_in_json_is_logged(caplog: pytest.LogCaptureFixture, database: object) -> None:
    refused(object())
    assert "cannot trigger ['news']" in caplog.text


async def test_a_trigger_that_the_gateway_refuses_is_logged(
    caplog: pytest.LogCaptureFixture, logged_in: dict[str, str]
) -> None:
    async with serving(path("api/bootstrap/", bootstrap)) as project, gateway_of(project):
        await sync_to_async(lambda: refused(to=[{"a": {"b": 1}}]), thread_sensitive=False)()
    assert "refuses the trigger with HTTP 400" in caplog.text


async def test_an_async_view_does_not_wait_for_a_gateway_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    unreachable = {"gateway": {"key": KEY, "url": "http://127.0.0.1:1"}}
    async with serving(path("save", saves_async), FAIRLEAD=unreachable) as project:
        assert (await project.http("GET", "/save")).text == "saved"
        from fairlead.django import publishing

        while publishing._tasks:
            await next(iter(publishing._tasks))
    assert "cannot trigger [{'team': 7}]: cannot reach the gateway" in caplog.text
