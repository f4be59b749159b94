"""The job board of the examples."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.pyramid.site import served

from fairlead.testing import Response, RunningServer, rejects

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "pyramid_jobs"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield import_module("jobs").main({})
    for name in [name for name in sys.modules if name.partition(".")[0] == "jobs"]:
        del sys.modules[name]


@pytest.fixture
async def server(board: Any) -> AsyncIterator[RunningServer]:
    async with served(board) as server:
        yield server


async def post(server: RunningServer, path: str, form: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return await server.http("POST", path, body=form, headers=FORM | dict(headers or {}))


async def ada(server: RunningServer) -> dict[str, str]:
    """Her cookie."""
    answer = await post(server, "/login", b"name=ada&password=anchor")
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


async def test_a_post_changes_the_job_and_everybody_who_looks_sees_it(server: RunningServer) -> None:
    cookie = await ada(server)
    async with (
        server.connect("/jobs/1/", origin=server.url) as first,
        server.connect("/jobs/1/", origin=server.url) as second,
        server.connect("/jobs/", origin=server.url) as board,
        server.connect("/jobs/2/", origin=server.url) as other,
    ):
        assert [await each.receive() for each in (first, second, other)] == ["wait"] * 3
        assert [job["state"] for job in await board.receive_json()] == ["wait", "wait"]
        answer = await post(server, "/jobs/1/", b"state=start", cookie)
        assert (answer.status, answer.json()) == (200, {"id": "1", "state": "start"})
        assert [await first.receive(), await second.receive()] == ["start", "start"]
        assert await board.receive_json() == {"id": "1", "state": "start"}
        await other.assert_nothing()
    async with server.connect("/jobs/1/") as late:
        assert await late.receive() == "start"


async def test_one_url_has_the_page_and_the_socket(server: RunningServer) -> None:
    page = await server.http("GET", "/jobs/1/")
    assert page.headers["content-type"].startswith("text/html") and "new WebSocket(location.href" in page.text
    assert "new WebSocket(location.href" in (await server.http("GET", "/jobs/")).text


async def test_the_board_says_who_is_logged_in(server: RunningServer) -> None:
    assert '<b id="user"></b>' in (await server.http("GET", "/jobs/")).text
    assert '<b id="user">ada</b>' in (await server.http("GET", "/jobs/", headers=await ada(server))).text


async def test_only_who_is_logged_in_changes_a_job(server: RunningServer) -> None:
    assert (await post(server, "/jobs/1/", b"state=start")).status == 403
    assert (await post(server, "/login", b"name=ada&password=bilge")).status == 403
    assert (await post(server, "/jobs/1/", b"state=flying", await ada(server))).status == 400


async def test_a_job_for_some_eyes_only_has_neither_page_nor_socket_for_others(server: RunningServer) -> None:
    cookie = await ada(server)
    assert (await server.http("GET", "/jobs/3/")).status == 403
    with rejects(403):
        async with server.connect("/jobs/3/"):
            pass
    async with server.connect("/jobs/3/", headers=cookie) as follower, server.connect("/jobs/") as stranger:
        assert await follower.receive() == "wait"
        assert [job["id"] for job in await stranger.receive_json()] == ["1", "2"]
        await post(server, "/jobs/3/", b"state=done", cookie)
        assert await follower.receive() == "done"
        await stranger.assert_nothing()
    async with server.connect("/jobs/", headers=cookie) as board:
        assert [job["id"] for job in await board.receive_json()] == ["1", "2", "3"]


async def test_another_sites_page_follows_nothing(server: RunningServer) -> None:
    for path in ("/jobs/", "/jobs/1/"):
        with rejects(403):
            async with server.connect(path, origin="https://evil.example"):
                pass
