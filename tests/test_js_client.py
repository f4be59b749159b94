"""The browser client, tested on Node.js: with a scripted WebSocket and its own clock, and with a server of ours."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.serving import port, serving

from fairlead.app.application import App
from fairlead.dialects.calls import CallError, CallSocket
from fairlead.websocket import WebSocket

TESTS = Path(__file__).parent / "js"
NODE = shutil.which("node")


def node_version() -> tuple[int, ...]:
    """(0,) without Node.js."""
    if NODE is None:
        return (0,)
    output = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in output.strip().removeprefix("v").split("."))


needs_node = pytest.mark.skipif(
    node_version() < (20, 19), reason="needs Node.js 20.19 or newer, which takes .js files for modules"
)


@pytest.mark.slow
@needs_node
def test_the_browser_client_keeps_its_rules() -> None:
    assert NODE is not None
    files = [str(path) for path in sorted(TESTS.glob("*.test.js"))]
    run = subprocess.run([NODE, "--test", *files], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert files


def application() -> App:
    """What tests/js/against_server.js calls."""
    app = App()
    seen: list[int] = []
    cancelled: list[str] = []
    changed = asyncio.Event()

    @app.call()
    async def add(a: int, b: int) -> int:
        return a + b

    @app.call()
    async def later(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    @app.call()
    async def fail() -> None:
        raise CallError(7, "no", {"why": "so"})

    @app.call()
    async def ticks(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @app.call()
    async def forever() -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.001)
        finally:
            cancelled.append("forever")
            changed.set()

    @app.call()
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("hang")
            changed.set()

    @app.call("cancelled")
    async def number_of_cancelled() -> int:
        while len(cancelled) < 3:
            changed.clear()
            await changed.wait()
        return len(cancelled)

    @app.call()
    async def back(ws: CallSocket) -> list[object]:
        answers = [await ws.call("double", 21), await ws.call("greet", name="Ada")]
        for method in ("refuse", "unknown"):
            try:
                await ws.call(method)
            except CallError as error:
                answers.append([error.code, error.message, error.data] if method == "refuse" else error.code)
        await ws.notify("moved", 1, 2)
        return answers

    @app.call()
    async def remember(number: int) -> None:
        seen.append(number)
        changed.set()

    @app.call()
    async def remembered() -> int:
        while not seen:
            changed.clear()
            await changed.wait()
        return seen[-1]

    @app.call()
    async def enter(ws: CallSocket, room: str) -> None:
        await ws.join(room)
        await app.room(room).publish({"text": "Ahoy"})

    @app.call()
    async def leave(ws: CallSocket) -> None:
        await ws.close(1012)

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    return app


@pytest.mark.slow
@needs_node
async def test_the_browser_client_and_a_server_call_each_other() -> None:
    assert NODE is not None
    async with serving(application()) as server:
        script = await asyncio.create_subprocess_exec(
            NODE,
            "--experimental-websocket",  # there by itself since Node.js 22
            TESTS / "against_server.js",
            f"ws://127.0.0.1:{port(server)}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await script.communicate()
    assert script.returncode == 0, output.decode()
