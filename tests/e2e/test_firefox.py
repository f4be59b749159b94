"""Firefox: its handshake, and the page of a new project."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from tests.e2e.firefox import firefox, needs_firefox
from tests.e2e.test_project import fairlead, running

from fairlead import App, WebSocket, testing

pytestmark = [pytest.mark.slow, pytest.mark.browser, needs_firefox]

ASK = """
return new Promise((resolve) => {
  const socket = new WebSocket(location.href.replace("http", "ws") + "handshake");
  socket.onmessage = (event) => resolve(event.data);
  socket.onclose = (event) => resolve(`closed with ${event.code}`);
});
"""

app = App()


@app.get("/")
async def page(request: Request) -> Response:
    return HTMLResponse("<!doctype html><title>Handshake</title>")


@app.websocket("/handshake")
async def handshake(ws: WebSocket) -> None:
    await ws.send(ws.headers["connection"])


def test_its_handshake_is_let_in() -> None:
    with testing.running(app) as server, firefox() as browser:
        connection = browser.page(server.url + "/").run(ASK)
        # Firefox 153 asks as all others do, earlier ones ask to keep alive, too.
        assert connection in ("Upgrade", "keep-alive, Upgrade")


def test_the_page_of_a_new_project_is_live_in_two_tabs(tmp_path: Path) -> None:
    assert fairlead("new", "demo", folder=tmp_path).returncode == 0
    with running(tmp_path / "demo") as server, firefox() as browser:
        one, other = (browser.page(f"http://127.0.0.1:{server.port}/") for _ in range(2))
        for page in (one, other):
            page.shows("#status", "Live")
        one.shows("#wall", "Somebody opened the page.")
        other.fill("[aria-label='what to say']", "Ahoy, <b>you</b> ☸")
        other.click("#say button")
        one.shows("#wall", "Ahoy, <b>you</b> ☸")
