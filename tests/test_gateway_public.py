from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import pytest

from fairlead.gateway.public import PublicPages


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Pages:
    """The pages, asked in process."""

    def __init__(self) -> None:
        self.ready = True
        self._app = PublicPages({"/ws/", "/ws"}, lambda: self.ready)

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        events: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request"}

        async def send(event: MutableMapping[str, Any]) -> None:
            events.append(event)

        await self._app({"type": "http", "path": path, "method": method, "headers": lines}, receive, send)
        start, *rest = events
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(event.get("body", b"") for event in rest),
        )


@pytest.fixture
def pages() -> Pages:
    return Pages()


async def test_the_browser_client_may_be_imported_from_any_page_and_is_revalidated(pages: Pages) -> None:
    answer = await pages.ask("/fairlead.js")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"export" in answer.body
    tag = answer.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await pages.ask("/fairlead.js", if_none_match=known)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == tag
    assert (await pages.ask("/fairlead.js", if_none_match='"other"')).status == 200
    head = await pages.ask("/fairlead.js", "HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ["/ws/", "/ws"])
async def test_a_plain_request_to_the_sockets_is_told_to_upgrade(pages: Pages, path: str) -> None:
    answer = await pages.ask(path)
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"


async def test_health_and_readiness_tell_apart_alive_and_draining(pages: Pages) -> None:
    assert (await pages.ask("/healthz")).status == 200
    assert (await pages.ask("/readyz")).status == 200
    pages.ready = False
    assert (await pages.ask("/healthz")).status == 200
    assert (await pages.ask("/readyz")).status == 503


@pytest.mark.parametrize("path", ["/", "/trigger/", "/rooms", "/metrics", "/fairlead.js/", "/../fairlead.js"])
async def test_nothing_else_is_there(pages: Pages, path: str) -> None:
    assert (await pages.ask(path)).status == 404


async def test_other_methods_are_told_which_are_allowed(pages: Pages) -> None:
    answer = await pages.ask("/fairlead.js", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
