"""What ``conformance.uvicorn_suite`` puts beside uvicorn's own tests as their ``conftest.py``: our class for theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fairlead.server import WebSocketProtocol


@pytest.fixture(params=["fairlead"])
def ws_protocol_cls(request: pytest.FixtureRequest) -> type[object]:
    """Nearer than uvicorn's fixture of this name. A test that takes no port has no socket and no server either."""
    return WebSocketProtocol if "unused_tcp_port" in request.fixturenames else InProcess


@pytest.fixture(autouse=True)
def by_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tests name one of uvicorn's classes instead of taking the fixture."""
    monkeypatch.setattr(request.module, "WebSocketsSansIOProtocol", WebSocketProtocol)


class InProcess:
    """A connection without a socket. What an event loop does, and these tests leave out, is done here: events go to the
    protocol that has the transport now, every read has a turn of the loop, and the connection is lost once."""

    def __init__(self, **arguments: Any) -> None:
        self.loop = Turns(asyncio.get_running_loop())
        self._lost = False
        self.protocol: Any = WebSocketProtocol(**arguments, _loop=self.loop)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.protocol, name)

    @property
    def close_timer(self) -> int | None:
        """What uvicorn's classes have while they wait for the client's Close frame."""
        return self.protocol.due or None

    def connection_made(self, transport: Any) -> None:
        self.protocol.connection_made(Transport(self, transport))

    def data_received(self, data: bytes) -> None:
        self.protocol.data_received(data)
        self.loop.turn()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self.protocol.connection_lost(exc)


class Turns:
    """An event loop whose next turn can be had at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self._next.append(partial(callback, *arguments))
        self._loop.call_soon(self.turn)

    def turn(self) -> None:
        """Have it."""
        while self._next:
            self._next.pop(0)()


class Transport(asyncio.Transport):
    """All that an event loop offers, on the tests' own transport, which offers what uvicorn's classes call."""

    def __init__(self, connection: InProcess, inner: Any) -> None:
        super().__init__()
        self._connection = connection
        self._inner = inner
        for name in ("get_extra_info", "is_closing", "pause_reading", "resume_reading", "write"):
            setattr(self, name, getattr(inner, name))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._connection.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The tests say when writing pauses."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16 * 1024, 64 * 1024

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._inner.close()
        self._connection.loop.call_soon(self._connection.connection_lost, None)

    abort = close
