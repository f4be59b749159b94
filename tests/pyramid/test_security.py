"""Who may connect: the application's own permissions, and the page that asks."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from pyramid.config import Configurator
from tests.pyramid.site import Echo, application, served

from fairlead.testing import RunningServer, rejects

EVIL = "https://evil.example"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with served(application(fairlead__allowed_origins="https://app.example\n  https://other.example")) as server:
        yield server


# -- permissions -------------------------------------------------------------------------------------------------------


async def test_the_acl_of_the_resource_decides_about_the_handshake(server: RunningServer) -> None:
    async with server.connect("/closed", headers={"X-User": "ada"}) as client:
        assert await client.receive() == "1 listening"
    for headers in ({}, {"X-User": "bob"}):
        with rejects(403):
            async with server.connect("/closed", headers=headers):
                pass


async def test_the_forbidden_view_is_the_refusal(server: RunningServer) -> None:
    with rejects(403, "ask the harbour master") as refusal:
        async with server.connect("/closed"):
            pass
    assert refusal.headers["x-reason"] == "rank"
    page = await server.http("GET", "/closed")
    assert (page.status, page.text) == (403, "ask the harbour master")


# -- origin ------------------------------------------------------------------------------------------------------------

PATHS = ["/routes/echo", "/routes/shout", "/routes/asynchronous", "/open", "/open/async"]


@pytest.mark.parametrize("path", PATHS)
async def test_another_sites_page_is_refused_whatever_the_view(server: RunningServer, path: str) -> None:
    with rejects(403, "origin not allowed"):
        async with server.connect(path, origin=EVIL):
            pass


@pytest.mark.parametrize("path", PATHS)
async def test_the_same_origin_and_those_of_the_settings_may_connect(server: RunningServer, path: str) -> None:
    for origin in (server.url, "https://app.example", "https://other.example"):
        async with server.connect(path, origin=origin):
            pass


async def test_a_views_own_rule_goes_first(server: RunningServer) -> None:
    async with server.connect("/routes/open", origin=EVIL) as client:
        assert await client.receive() == "welcome"
    async with server.connect("/routes/partner", origin="https://partner.example") as client:
        assert await client.receive() == "welcome"
    with rejects(403):
        async with server.connect("/routes/partner", origin="https://app.example"):
            pass


async def test_the_configuration_of_a_view_goes_before_its_class() -> None:
    def more(config: Configurator) -> None:
        config.add_route("own", "/own")
        config.add_view(Echo, route_name="own", allowed_origins=["https://partner.example"])

    async with served(application(more=more)) as server:
        async with server.connect("/own", origin="https://partner.example"):
            pass
        with rejects(403):
            async with server.connect("/own", origin=EVIL):
                pass


async def test_the_origin_is_checked_before_the_view_runs(server: RunningServer) -> None:
    with rejects(403):
        async with server.connect("/routes/raising", query={"what": "bug"}, origin=EVIL):
            pass


async def test_the_log_says_which_setting_would_let_them_in(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with rejects(403):
        async with server.connect("/routes/echo", origin=EVIL):
            pass
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "allowed_origins" in record.getMessage() and EVIL in record.getMessage()
