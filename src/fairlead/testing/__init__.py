"""Testing applications: clients in memory and on sockets, a clock turned by hand, an API that says what it is told.

    async with connect(app, "/chat") as client:     # in memory; or: with connect(app, "/chat") as client, without await
        await client.send("hello")
        assert await client.receive() == "hello"

    async with running(app) as server:              # on a socket of this machine
        async with server.connect("/chat") as client:
            ...

Every wait ends after five seconds with an error that says what was waited for, and none is a sleep.
"""

from __future__ import annotations

from fairlead.testing.api import FakeApi, reply
from fairlead.testing.client import Client, Closure, Connecting, SyncClient
from fairlead.testing.clock import FakeClock
from fairlead.testing.errors import Refusal, Rejected, TimedOut, Unexpected, rejects
from fairlead.testing.fakes import (
    BrokerCall,
    FakeConnection,
    FakeMember,
    RecordingTransport,
    ScriptedBroker,
)
from fairlead.testing.lifespan import lifespan
from fairlead.testing.memory import connect
from fairlead.testing.running import Response, RunningServer, SyncRunningServer, running

__all__ = [
    "BrokerCall",
    "Client",
    "Closure",
    "Connecting",
    "FakeApi",
    "FakeClock",
    "FakeConnection",
    "FakeMember",
    "RecordingTransport",
    "Refusal",
    "Rejected",
    "Response",
    "RunningServer",
    "ScriptedBroker",
    "SyncClient",
    "SyncRunningServer",
    "TimedOut",
    "Unexpected",
    "connect",
    "lifespan",
    "rejects",
    "reply",
    "running",
]
