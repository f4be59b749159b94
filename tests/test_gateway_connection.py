from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fairlead.brokers import Broker
from fairlead.brokers.memory import MemoryBroker
from fairlead.gateway.connection import Connection, Subscription, Welcome
from fairlead.limits import Limits
from fairlead.message import Publication
from fairlead.rooms.names import Grants, RoomKey, room_key
from fairlead.rooms.node import Node
from fairlead.testing import RecordingTransport, ScriptedBroker


class Owner:
    """The gateway's part, recorded."""

    def __init__(self, broker: Broker | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.node = Node(broker or MemoryBroker(), limits=self.limits)
        self.tasks: list[asyncio.Task[None]] = []
        self.events: list[object] = []

    def opened(self, connection: Connection, expires_in: float | None) -> None:
        self.events.append(("opened", expires_in))

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        self.events.append(("closed", code))

    def expired(self, connection: Connection) -> None:
        self.events.append("expired")

    def join_later(self, connection: Connection, subscription: Subscription) -> None:
        self.tasks.append(asyncio.ensure_future(connection.join(subscription)))


class Client:
    """A connection as its client sees it."""

    def __init__(self, owner: Owner, *, rooms: list[object] | None = None, joined: tuple[str, ...] = ()) -> None:
        self.owner = owner
        self.transport = RecordingTransport()
        welcome = Welcome(b'{"is_authorized":true}', tuple(map(room_key, joined)), 60.0)
        grants = Grants(rooms if rooms is not None else ["a", "b", {"t": "*"}])
        self.connection = Connection(owner, "c1", welcome, user="7", grants=grants, forwarded=b"Cookie: secret")
        self.connection.connected(self.transport)

    def say(self, *messages: Any) -> list[Any]:
        """Send messages; return what came back to them."""
        self.news()
        for message in messages:
            self.connection.received(message if isinstance(message, str | bytes) else json.dumps(message))
        return self.news()

    def subscribe(self, room: object, request_id: object) -> Any:
        return self.say({"type": "subscribe", "room": room, "requestId": request_id})

    def news(self) -> list[Any]:
        payloads = self.transport.payloads
        self.transport.sent.clear()
        return [payload.decode() if payload == b"pong" else json.loads(payload) for payload in payloads]


def ok(request_id: object) -> dict[str, object]:
    return {"requestId": request_id, "code": "success"}


def no(request_id: object, word: str) -> dict[str, object]:
    return {"requestId": request_id, "code": "error", "message": word}


async def start(owner: Owner) -> Owner:
    await owner.node.start()
    return owner


async def settle(owner: Owner) -> None:
    await asyncio.gather(*owner.tasks)


async def publish(owner: Owner, room: object, data: bytes = b"1") -> None:
    await owner.node.publish(room_key(room), Publication(data=data))
    owner.node.flush()


async def test_the_first_message_is_the_hello_and_then_the_requests_are_answered_in_order() -> None:
    owner = await start(Owner())
    client = Client(owner)
    assert client.news() == [{"is_authorized": True}]
    assert owner.events == [("opened", 60.0)]
    first = client.subscribe("a", "x")
    await settle(owner)
    assert first + client.news() == [ok("x")]
    assert client.say("ping", {"type": "unsubscribe", "requestId": "x"}) == ["pong", ok("x")]


async def test_each_refusal_is_one_reply_and_no_membership() -> None:
    owner = await start(Owner(limits=Limits(subscriptions=2)))
    client = Client(owner)
    assert client.subscribe("a", 1) == [ok(1)]
    assert client.subscribe("secret", 2) == [no(2, "room-not-found")]
    assert client.subscribe("b", 1) == [no(1, "request-id-in-use")]
    assert client.say({"type": "unsubscribe", "requestId": "1"}) == [no("1", "not-subscribed")]
    assert client.say("[]") == [no(None, "message-type-not-allowed")]
    client.subscribe("a", 3)
    assert client.subscribe("a", 4) == [no(4, "too-many-subscriptions")]
    await publish(owner, "secret")
    await publish(owner, "b")
    assert client.news() == []
    assert owner.node.hub.count(RoomKey("a")) == 2


async def test_a_request_id_is_free_at_once_after_a_refusal_or_an_unsubscribe() -> None:
    owner = await start(Owner())
    client = Client(owner)
    client.subscribe("a", "held")
    await settle(owner)
    client.news()
    for _ in range(1000):
        assert client.subscribe("secret", 1) == [no(1, "room-not-found")]
        assert client.subscribe("a", 1) == [ok(1)]
        assert client.say({"type": "unsubscribe", "requestId": 1}) == [ok(1)]
    assert client.connection.subscriptions == 1


async def test_while_a_request_waits_for_the_broker_the_next_is_not_read() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner)
    assert client.subscribe("a", 1) == []
    assert not client.transport.reading
    await asyncio.sleep(0)
    broker.calls[-1].finish()
    await settle(owner)
    assert client.news() == [ok(1)]
    assert client.transport.reading


async def test_a_failing_broker_is_unavailable_and_frees_the_request_id() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner)
    client.subscribe("a", 1)
    await asyncio.sleep(0)
    broker.calls[-1].fail()
    await settle(owner)
    assert client.news() == [no(1, "unavailable")]
    assert client.transport.reading
    assert client.connection.subscriptions == 0


async def test_rights_lost_while_the_broker_was_asked_are_lost() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner)
    client.subscribe("a", 1)
    await asyncio.sleep(0)
    client.connection.set_grants(Grants(["b"]))
    broker.calls[-1].finish()
    await settle(owner)
    assert client.news() == [no(1, "room-not-found")]
    assert owner.node.hub.count(RoomKey("a")) == 0


async def test_a_connection_lost_while_the_broker_was_asked_leaves_nothing() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner, joined=("mine",))
    await asyncio.sleep(0)
    client.transport.close(1006)
    client.connection.closed(1006, "")
    broker.calls[-1].finish()
    await settle(owner)
    assert len(owner.node.hub) == 0
    assert owner.events[-1] == ("closed", 1006)
    assert client.connection.forwarded == b""


async def test_withdrawn_rights_end_subscriptions_with_a_notice() -> None:
    owner = await start(Owner())
    client = Client(owner)
    client.subscribe("a", 1)
    client.subscribe({"t": 5}, "x")
    await settle(owner)
    client.news()
    await owner.node.publish(room_key({"t": 5}), Publication(data=b'"before"'))
    client.connection.set_grants(Grants(["a"]))
    assert client.news() == [
        {"type": "publish", "room": {"t": 5}, "data": "before", "requestId": "x"},
        {"type": "unsubscribed", "requestId": "x", "room": {"t": 5}, "reason": "revoked"},
    ]
    await publish(owner, {"t": 5})
    await publish(owner, "a")
    assert client.news() == [{"type": "publish", "room": "a", "data": 1, "requestId": 1}]
    assert client.subscribe({"t": 5}, "x") == [no("x", "room-not-found")]


async def test_rooms_joined_by_the_api_need_no_grant_and_only_the_api_ends_them() -> None:
    owner = await start(Owner())
    client = Client(owner, rooms=[], joined=("mine", "yours"))
    await settle(owner)
    client.news()
    await publish(owner, "mine")
    assert client.news() == [{"type": "publish", "room": "mine", "data": 1, "requestId": None}]
    assert client.say({"type": "unsubscribe", "requestId": None}) == [no(None, "no-request-id")]
    client.connection.set_grants(Grants([]))
    assert client.connection.subscriptions == 2
    client.connection.set_joined([RoomKey("yours"), RoomKey("new")])
    await settle(owner)
    assert client.news() == [{"type": "unsubscribed", "requestId": None, "room": "mine", "reason": "revoked"}]
    assert sorted(room for room, _ in owner.node.hub.rooms()) == ["new", "yours"]
    client.connection.set_joined([])
    assert len(owner.node.hub) == 0


async def test_a_room_that_the_api_withdraws_while_the_broker_is_asked_is_not_joined() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner, joined=("mine",))
    await asyncio.sleep(0)
    client.connection.set_joined([])
    broker.calls[-1].finish()
    await settle(owner)
    assert len(owner.node.hub) == 0
    assert client.connection.subscriptions == 0


async def test_closing_sends_what_waits_first_and_ends_every_subscription() -> None:
    owner = await start(Owner())
    client = Client(owner, joined=("mine",))
    client.subscribe("a", 1)
    await settle(owner)
    client.news()
    await owner.node.publish(RoomKey("a"), Publication(data=b"1"))
    client.connection.close(4401, "out")
    assert client.news() == [{"type": "publish", "room": "a", "data": 1, "requestId": 1}]
    assert (client.transport.code, client.transport.reason) == (4401, "out")
    assert len(owner.node.hub) == 0
    client.connection.closed(4401, "out")
    assert owner.events[-1] == ("closed", 4401)


async def test_a_room_of_the_api_that_cannot_be_joined_ends_the_connection_for_now() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner, joined=("mine",))
    await asyncio.sleep(0)
    broker.calls[-1].fail()
    await settle(owner)
    assert client.transport.code == 1013


async def test_a_room_that_the_api_withdraws_before_joining_it_fails_keeps_the_client() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner, joined=("mine",))
    await asyncio.sleep(0)
    client.connection.set_joined([])
    broker.calls[-1].fail()
    await settle(owner)
    assert client.transport.open
    assert client.connection.subscriptions == 0


async def test_a_request_whose_right_is_lost_before_the_broker_fails_is_refused_for_good() -> None:
    broker = ScriptedBroker(held=True)
    owner = await start(Owner(broker))
    client = Client(owner)
    client.subscribe("a", 1)
    await asyncio.sleep(0)
    client.connection.set_grants(Grants(["b"]))
    broker.calls[-1].fail()
    await settle(owner)
    assert client.news() == [no(1, "room-not-found")]


class BrokenBroker(ScriptedBroker):
    async def subscribe(self, room: RoomKey) -> None:
        raise KeyError("a fault")


async def test_a_fault_while_joining_is_answered_logged_once_and_reading_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = await start(Owner(BrokenBroker()))
    client = Client(owner)
    client.subscribe("a", 1)
    await settle(owner)
    assert client.news() == [no(1, "unavailable")]
    assert client.transport.reading
    assert client.connection.subscriptions == 0
    assert [record.getMessage() for record in caplog.records] == ["c1: joining a room failed"]


async def test_a_join_that_is_cancelled_leaves_nobody_unheard() -> None:
    owner = await start(Owner(ScriptedBroker(held=True)))
    client = Client(owner)
    client.subscribe("a", 1)
    await asyncio.sleep(0)
    owner.tasks[0].cancel()
    await asyncio.wait(owner.tasks)
    assert client.transport.reading
