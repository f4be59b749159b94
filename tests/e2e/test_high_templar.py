"""What high-templar, the gateway whose clients and APIs shall work unchanged here, was tested for.

Each test carries the numbers of its rules (HT-nn). Where its generations contradict each other or were wrong, the test
says what holds here.
"""

from __future__ import annotations

import pytest
from tests.e2e.harness import Client, Site, failure, key, publish
from tests.fake_api import FakeApi, reply

RIDE = {"target": "ride"}
CAR = {"target": "car", "car": 1}
ANY_CAR = {"target": "car", "car": "*"}
ANY_BICYCLE = {"target": "bicycle", "bicycle": "*"}


@pytest.fixture
def api(api: FakeApi) -> FakeApi:
    """Lets everybody into the ride, the car and all bicycles."""
    allow(api, RIDE, CAR, ANY_BICYCLE)
    return api


def allow(api: FakeApi, *rooms: object) -> None:
    """Grant exactly these to everybody who comes from now on."""
    api.default = reply(200, {"allowed_rooms": rooms})


def subscribe(room: object, request_id: object) -> dict[str, object]:
    return {"type": "subscribe", "room": room, "requestId": request_id}


async def riders(site: Site) -> tuple[Client, Client]:
    """One client in the ride, another in the ride and the car."""
    one, two = await site.connect(), await site.connect()
    await one.subscribe(RIDE, "a")
    await two.subscribe(RIDE, "a")
    await two.subscribe(CAR, "b")
    return one, two


# -- asking the API --------------------------------------------------------------------------------------------------


async def test_a_connection_asks_the_api_exactly_once(site: Site) -> None:
    """HT-01"""
    client = await site.connect()
    await client.nothing()
    assert [ask.line for ask in site.api.requests] == ["GET /api/bootstrap/ HTTP/1.1"]


async def test_a_client_that_the_api_forbids_is_closed(site: Site) -> None:
    """HT-02, HT-31: with 4403, where high-templar had 1000."""
    site.api.default = reply(403)
    client = await site.connect()
    assert client.hello == {"is_authorized": False, "error": "forbidden", "retry": False}
    assert await client.closed() == (4403, "")


async def test_the_first_message_lists_what_is_allowed(site: Site) -> None:
    """HT-03, in the API's order."""
    client = await site.connect()
    assert client.hello["is_authorized"] is True
    assert client.hello["allowed_rooms"] == [RIDE, CAR, ANY_BICYCLE]


async def test_nobody_in_particular_is_allowed_nothing(site: Site) -> None:
    """HT-04"""
    site.api.default = reply(200, {"user": None})
    client = await site.connect()
    assert (client.hello["allowed_rooms"], client.hello["user"]) == ([], None)
    await client.nothing()


async def test_a_token_in_the_query_becomes_an_authorization(site: Site) -> None:
    """HT-05"""
    await site.connect("?token=itsmeyourelookingfor")
    assert site.api.requests[0].header("authorization") == "Token itsmeyourelookingfor"


async def test_an_empty_answer_is_good(site: Site) -> None:
    """HT-30"""
    site.api.default = reply(200, {})
    client = await site.connect()
    assert client.hello["is_authorized"] is True
    assert client.hello["allowed_rooms"] == []


async def test_a_string_is_a_room(site: Site) -> None:
    """HT-32: high-templar knew objects only and refused this client."""
    allow(site.api, "foo")
    client = await site.connect()
    assert client.hello["is_authorized"] is True
    await client.subscribe("foo", "a")
    await site.trigger(["foo"], 1)
    assert await client.receive() == publish("a", "foo", 1)


@pytest.mark.parametrize("rooms", [[1], None])
async def test_rooms_of_a_wrong_shape_let_nobody_in(rooms: object, site: Site) -> None:
    """HT-32: the rest of it."""
    site.api.default = reply(200, {"allowed_rooms": rooms})
    client = await site.connect()
    assert client.hello == {"is_authorized": False, "error": "unavailable", "retry": True}
    assert await client.closed() == (1013, "")


# -- requests --------------------------------------------------------------------------------------------------------


async def test_ping_is_answered_by_pong(site: Site) -> None:
    """HT-07: in text, and next after the first message."""
    client = await site.connect()
    await client.socket.send("ping")
    assert await client.socket.recv() == "pong"


@pytest.mark.parametrize(
    ("allowed", "room"),
    [
        pytest.param(CAR, {"target": "car", "car": 1}, id="HT-08"),
        pytest.param(CAR, {"car": 1, "target": "car"}, id="HT-09"),
        pytest.param(ANY_CAR, {"target": "car", "car": 1}, id="HT-11"),
        pytest.param(
            {"target": "message", "allocation": "*", "driver": "*", "truck": "*"},
            {"target": "message", "allocation": 1, "driver": "*", "truck": "*"},
            id="HT-40",
        ),
    ],
)
async def test_what_is_allowed_can_be_subscribed_to(allowed: object, room: object, site: Site) -> None:
    allow(site.api, allowed)
    client = await site.connect()
    await client.subscribe(room, "a")
    assert await site.rooms() == {key(room): 1}


@pytest.mark.parametrize(
    ("allowed", "room"),
    [
        pytest.param(RIDE, {"foo": "bar"}, id="HT-10"),
        pytest.param({}, CAR, id="HT-12"),
        pytest.param({"target": "car", "foo": 1}, CAR, id="HT-13"),
        pytest.param({"target": "*"}, CAR, id="HT-13, fewer keys with an asterisk"),
        pytest.param({"target": "car", "foo": "*"}, CAR, id="HT-13, another key with an asterisk"),
        pytest.param(CAR, {"target": "car", "car": True}, id="HT-10, true is not 1"),
        pytest.param({"target": "*", "car": 1}, {"target": "car", "car": True}, id="HT-11, true is not 1"),
        pytest.param(CAR, {"target": "car", "car": "1"}, id="HT-10, a string is no number"),
        pytest.param(CAR, ANY_CAR, id="HT-10, an asterisk only where it is granted"),
    ],
)
async def test_what_is_not_allowed_gets_one_error_and_nothing_else(allowed: object, room: object, site: Site) -> None:
    allow(site.api, allowed)
    client = await site.connect()
    assert await client.ask(subscribe(room, "b")) == failure("b", "room-not-found")
    assert await site.trigger([room], "secret") == 0
    await client.nothing()
    assert await site.rooms() == {}


async def test_an_unknown_type_is_refused(site: Site) -> None:
    """HT-33"""
    client = await site.connect()
    assert await client.ask({"type": "foobar"}) == failure(None, "message-type-not-allowed")
    await client.nothing()


async def test_what_is_not_json_is_refused_and_the_connection_lives(site: Site) -> None:
    """HT-34"""
    client = await site.connect()
    assert await client.ask("geen json") == failure(None, "non-json-message")
    await client.subscribe(RIDE, "a")


async def test_an_unknown_subscription_cannot_be_ended(site: Site) -> None:
    """HT-24"""
    client = await site.connect()
    reply = await client.ask({"type": "unsubscribe", "requestId": "car"})
    assert reply == failure("car", "not-subscribed")


async def test_a_subscription_ends_once(site: Site) -> None:
    """HT-41: the reply carries the request id, which high-templar left out."""
    client = await site.connect()
    await client.subscribe(RIDE, "a")
    await client.unsubscribe("a")
    assert await client.ask({"type": "unsubscribe", "requestId": "a"}) == failure("a", "not-subscribed")
    await client.nothing()


# -- membership ------------------------------------------------------------------------------------------------------


async def test_the_first_subscription_makes_the_room(site: Site) -> None:
    """HT-14"""
    client = await site.connect()
    assert await site.rooms() == {}
    await client.subscribe(RIDE, "a")
    assert await site.rooms() == {key(RIDE): 1}
    assert await site.connections() == {client.hello["connection"]: 1}


async def test_the_second_subscription_is_in_the_same_room(site: Site) -> None:
    """HT-15"""
    for client in (await site.connect(), await site.connect()):
        await client.subscribe(RIDE, "a")
    assert await site.rooms() == {key(RIDE): 2}


async def test_the_last_one_to_leave_ends_the_room(site: Site) -> None:
    """HT-16"""
    client = await site.connect()
    await client.subscribe(RIDE, "a")
    await client.unsubscribe("a")
    assert await site.rooms() == {}


async def test_a_client_that_leaves_is_out_of_all_its_rooms(site: Site) -> None:
    """HT-17"""
    one, two = await riders(site)
    assert await site.rooms() == {key(RIDE): 2, key(CAR): 1}
    await two.close()
    await site.gone(two)
    assert await site.rooms() == {key(RIDE): 1}
    assert await site.connections() == {one.hello["connection"]: 1}


async def test_clients_leave_a_room_one_by_one(site: Site) -> None:
    """HT-23"""
    clients = [await site.connect(), await site.connect()]
    for client in clients:
        await client.subscribe(RIDE, "a")
    counts = [(await site.rooms()).get(key(RIDE))]
    for client in clients:
        await client.unsubscribe("a")
        counts.append((await site.rooms()).get(key(RIDE)))
    assert counts == [2, 1, None]


async def test_unsubscribing_needs_a_request_id(site: Site) -> None:
    """HT-44: without one nothing is ended, with one the room stays for the other; both replies carry what was sent."""
    one, two = await site.connect(), await site.connect()
    await one.subscribe(RIDE, "a")
    await two.subscribe(RIDE, "a")
    assert await one.ask({"type": "unsubscribe"}) == failure(None, "no-request-id")
    assert await site.rooms() == {key(RIDE): 2}
    assert await one.ask({"type": "unsubscribe", "requestId": "a"}) == {"requestId": "a", "code": "success"}
    assert await site.rooms() == {key(RIDE): 1}


async def test_disconnecting_ends_the_subscriptions(site: Site) -> None:
    """HT-45"""
    one, two = await site.connect(), await site.connect()
    await one.subscribe(RIDE, "a")
    await one.close()
    await site.gone(one)
    assert await site.rooms() == {}
    assert await site.connections() == {two.hello["connection"]: 0}


# -- publishing ------------------------------------------------------------------------------------------------------


async def test_a_trigger_reaches_every_subscription_once(site: Site) -> None:
    """HT-18"""
    one, two = await riders(site)
    assert await site.trigger([RIDE], [{"id": 1}]) == 2
    for client in (one, two):
        assert await client.receive() == publish("a", RIDE, [{"id": 1}])
        await client.nothing()


async def test_a_trigger_after_a_client_left_reaches_the_other(site: Site) -> None:
    """HT-19"""
    one, two = await riders(site)
    await two.close()
    await site.gone(two)
    assert await site.trigger([RIDE], 1) == 1
    assert await one.receive() == publish("a", RIDE, 1)


async def test_a_client_that_died_silently_disturbs_nobody(site: Site) -> None:
    """HT-20"""
    one, two = await riders(site)
    two.vanish()
    await site.trigger([RIDE], 1)
    assert await one.receive() == publish("a", RIDE, 1)
    await site.gone(two)
    assert await site.rooms() == {key(RIDE): 1}


async def test_a_trigger_on_the_asterisk_reaches_the_asterisk_room_only(site: Site) -> None:
    """HT-21"""
    rooms = [{"target": "bicycle", "bicycle": value} for value in (1, 2, "*")]
    clients = [await site.connect() for _ in rooms]
    for client, room in zip(clients, rooms, strict=True):
        await client.subscribe(room, "a")
    assert await site.trigger([ANY_BICYCLE], 1) == 1
    assert await clients[2].receive() == publish("a", ANY_BICYCLE, 1)
    for client in clients:
        await client.nothing()


async def test_nothing_is_published_to_who_has_unsubscribed(site: Site) -> None:
    """HT-22"""
    client = await site.connect()
    await client.subscribe(RIDE, "a")
    await site.trigger([RIDE], 1)
    assert await client.receive() == publish("a", RIDE, 1)
    await client.unsubscribe("a")
    assert await site.trigger([RIDE], 2) == 0
    await client.nothing()


async def test_a_publication_carries_data_type_and_request_id(site: Site) -> None:
    """HT-35: and the room, which high-templar left out."""
    room = {"target": "message", "customer": "1"}
    allow(site.api, room)
    client = await site.connect()
    await client.subscribe(room, "a")
    await site.trigger([room], {"id": 1})
    assert await client.receive() == {"type": "publish", "requestId": "a", "room": room, "data": {"id": 1}}


async def test_a_room_without_subscribers_does_not_stop_the_trigger(site: Site) -> None:
    """HT-36"""
    client = await site.connect()
    await client.subscribe(RIDE, "a")
    assert await site.trigger([CAR, RIDE, ANY_BICYCLE], 1) == 1
    assert await client.receive() == publish("a", RIDE, 1)


async def test_each_client_gets_its_own_request_id(site: Site) -> None:
    """HT-37"""
    one, two = await site.connect(), await site.connect()
    await one.subscribe(RIDE, "one")
    await two.subscribe(RIDE, "two")
    await site.trigger([RIDE], 1)
    assert await one.receive() == publish("one", RIDE, 1)
    assert await two.receive() == publish("two", RIDE, 1)


async def test_a_trigger_reaches_no_other_room(site: Site) -> None:
    """HT-38"""
    allow(site.api, {"target": "message", "customer": "*"})
    client = await site.connect()
    await client.subscribe({"target": "message", "customer": "2"}, "a")
    assert await site.trigger([{"target": "message", "customer": "1"}], 1) == 0
    await client.nothing()


@pytest.mark.slow
async def test_1500_rooms_on_one_connection(site: Site) -> None:
    """HT-46: under the default limits, so most of its time goes by while the client is held to its rate."""
    allow(site.api, ANY_CAR)
    client = await site.connect()
    rooms = [{"target": "car", "car": number} for number in range(1500)]
    for number, room in enumerate(rooms):
        await client.send(subscribe(room, number))
    for number in range(1500):
        assert await client.receive() == {"requestId": number, "code": "success"}
    assert await site.rooms() == {key(room): 1 for room in rooms}
    for number, room in enumerate(rooms):
        assert await site.trigger([room], number) == 1
        assert await client.receive() == publish(number, room, number)
    await client.close()
    await site.gone(client)
    assert await site.rooms() == {}
