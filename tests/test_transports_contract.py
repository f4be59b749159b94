"""The transports that need a server: what they promise, over sockets of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import pytest
import uvicorn
from tests.contracts.transport import Carrier, RecordingReceiver, TransportContract

from fairlead.limits import Limits
from fairlead.testing import Client, connect, running
from fairlead.testing.request import asking
from fairlead.testing.sockets import connected


@asynccontextmanager
async def over_a_socket(receiver: RecordingReceiver, limits: Limits, *, foreign: bool) -> AsyncIterator[Client]:
    async with running(Carrier(receiver, limits, foreign=foreign), limits=limits) as server, server.connect() as client:
        yield client


class TestNativeTransport(TransportContract):
    def open(self, receiver: RecordingReceiver, limits: Limits) -> AbstractAsyncContextManager[Client]:
        return over_a_socket(receiver, limits, foreign=False)


class TestAsgiTransport(TransportContract):
    """Under our own server, which hides that it is ours."""

    left = (1006, "")

    def open(self, receiver: RecordingReceiver, limits: Limits) -> AbstractAsyncContextManager[Client]:
        return over_a_socket(receiver, limits, foreign=True)


class TestAsgiTransportInMemory(TransportContract):
    def open(self, receiver: RecordingReceiver, limits: Limits) -> AbstractAsyncContextManager[Client]:
        return connect(Carrier(receiver, limits, foreign=True), limits=limits)


class Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        self.ready.set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"


@asynccontextmanager
async def under_uvicorn(receiver: RecordingReceiver, limits: Limits) -> AsyncIterator[Client]:
    app = Carrier(receiver, limits, foreign=True)
    server = Uvicorn(uvicorn.Config(app, port=0, ws="websockets-sansio", lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    await server.ready.wait()
    try:
        async with connected(server.url, asking("/"), timeout=5, compression=False) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


@pytest.mark.slow
class TestAsgiTransportUnderUvicorn(TransportContract):
    vanished = (1005, "")

    def open(self, receiver: RecordingReceiver, limits: Limits) -> AbstractAsyncContextManager[Client]:
        return under_uvicorn(receiver, limits)
