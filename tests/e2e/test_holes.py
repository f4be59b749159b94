"""Every hole that was found in high-templar, each with the test that would catch it here (hole n).

At the end a few that it did not have, but that a gateway can have.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Mapping

import pytest
from tests.e2e.harness import KEY, PATIENCE, Site, Start, failure, key, publish, upgrade
from tests.fake_api import FakeApi, cut, hang, raw, reply
from websockets.frames import Close, Opcode

from fairlead.gateway.connection import Connection, Subscription
from fairlead.transports.outward import HIGH_WATER

OPEN = {"target": "open", "id": 1}
SECRET = {"target": "secret", "id": 1}


@pytest.fixture
def api(api: FakeApi) -> FakeApi:
    """Lets everybody, as user 7, into the open room."""
    api.default = reply(200, {"user": {"id": 7}, "allowed_rooms": [OPEN]})
    return api


def subscribe(room: object, request_id: object = "a") -> dict[str, object]:
    return {"type": "subscribe", "room": room, "requestId": request_id}


# -- holes 1 and 2: who may read, who may publish --------------------------------------------------------------------


async def test_a_refused_subscribe_gets_one_reply_and_never_any_data(site: Site) -> None:
    """Hole 1: the refusal was followed by a success and by the room's data."""
    client = await site.connect()
    assert await client.ask(subscribe(SECRET)) == failure("a", "room-not-found")
    await client.nothing()
    assert await site.trigger([SECRET], "TOPSECRET") == 0
    await client.nothing()
    assert await site.rooms() == {}


@pytest.mark.parametrize("kind", ["foobar", "Subscribe", "subscribe ", "publish", "status"])
async def test_an_unknown_type_does_not_subscribe(kind: str, site: Site) -> None:
    """Hole 1: unknown types fell through to subscribing."""
    client = await site.connect()
    message = {"type": kind, "room": OPEN, "requestId": "a"}
    assert await client.ask(message) == failure("a", "message-type-not-allowed")
    assert await site.trigger([OPEN], 1) == 0
    await client.nothing()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-key-of-good-length"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"X-API-Key": "wrong-key-of-good-length"},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong-key-of-good-length", "Authorization": f"Bearer {KEY}"},
        {"Cookie": f"key={KEY}"},
    ],
)
async def test_a_trigger_without_the_key_is_refused(headers: Mapping[str, str], site: Site) -> None:
    """Hole 2: anyone who reached the port could publish."""
    client = await site.connect()
    await client.subscribe(OPEN, "a")
    body = {"rooms": [OPEN], "data": "forged"}
    for path in ("/trigger/", "/trigger", "/publish", f"/trigger/?key={KEY}", f"/trigger/?api_key={KEY}"):
        answer = await site.call("POST", path, body, headers=headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    for method, path in (("GET", "/rooms"), ("GET", "/connections"), ("GET", "/metrics"), ("POST", "/disconnect")):
        assert (await site.call(method, path, b"{}", headers=headers)).status == 401
    await client.nothing()


async def test_the_clients_listener_takes_no_triggers(site: Site) -> None:
    """Hole 2: and it was the clients' own port."""
    client = await site.connect()
    await client.subscribe(OPEN, "a")
    for path in ("/trigger/", "/publish", "/disconnect", "/refresh", "/rooms", "/metrics"):
        answer = await site.call("POST", path, {"rooms": [OPEN], "data": "forged"}, host=site.public)
        assert answer.status == 404
    await client.nothing()


async def test_the_admin_listener_has_no_sockets(site: Site) -> None:
    """Hole 2: the two listeners have nothing in common."""
    reader, writer = await asyncio.open_connection(*site.admin.split(":"))
    writer.write(upgrade(site.admin))
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert site.api.requests == []


# -- hole 3: Origin --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origins",
    [
        ["https://evil.example"],
        ["null"],
        ["http://{public}.evil.example"],
        ["http://127.0.0.1"],
        ["{public}"],
        ["http://{public}/"],
        ["http://user@{public}"],
        ["https://app.example.evil.example"],
        ["http://app.example"],
        ["https://app.example:8443"],
        ["http://{public}", "https://evil.example"],
        ["http://{public}, https://evil.example"],
        [""],
    ],
)
async def test_a_foreign_page_is_refused_before_the_api_is_asked(origins: list[str], start: Start) -> None:
    """Hole 3: any page could use its visitors' cookies."""
    site = await start(server={"allowed_origins": ("https://app.example",)})
    client = await site.open()
    lines = [f"Origin: {origin.format(public=site.public)}" for origin in origins]
    client.send(upgrade(site.public, "/ws/", "Cookie: sid=1", *lines))
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert site.api.requests == []


async def test_the_same_origin_and_the_listed_ones_may_connect(start: Start) -> None:
    """Hole 3: and who is no browser, and sends no Origin, may, too. The API is told the Origin."""
    site = await start(server={"allowed_origins": ("https://app.example",)})
    origins = [f"http://{site.public}", "https://app.example", "https://app.example:443", "HTTPS://APP.EXAMPLE", None]
    for origin in origins:
        assert (await site.connect(origin=origin)).hello["is_authorized"] is True
    assert [ask.header("origin") for ask in site.api.requests] == origins


async def test_an_origin_can_be_required(start: Start) -> None:
    """Hole 3"""
    site = await start(server={"require_origin": True})
    assert (await site.refused()).status_code == 403
    assert site.api.requests == []
    assert (await site.connect(origin=f"http://{site.public}")).hello["is_authorized"] is True


# -- hole 4: rights that change --------------------------------------------------------------------------------------


async def test_a_logout_reaches_open_sockets(site: Site) -> None:
    """Hole 4: rights were read once and for all."""
    gone, other = await site.connect(), await site.connect()
    await gone.subscribe(OPEN, "a")
    answer = await site.call("POST", "/disconnect", {"connection": gone.hello["connection"]})
    assert answer.body == {"connections": 1}
    assert await gone.closed() == (4401, "")
    assert await site.rooms() == {}
    await other.nothing()


async def test_a_withdrawn_right_ends_its_subscriptions(site: Site) -> None:
    """Hole 4: by the API's answer when it is told to look again, and by the call itself."""
    site.api.script(reply(200, {"user_id": 7, "allowed_rooms": [OPEN, SECRET]}))
    client = await site.connect()
    await client.subscribe(OPEN, "open")
    await client.subscribe(SECRET, "secret")
    await site.call("POST", "/refresh", {"user": 7})
    assert await client.receive() == revoked("secret", SECRET)
    assert await client.ask(subscribe(SECRET)) == failure("a", "room-not-found")
    await site.call("POST", "/refresh", {"user": 7, "allowed_rooms": []})
    assert await client.receive() == revoked("open", OPEN)
    assert await site.trigger([OPEN, SECRET], 1) == 0
    await client.nothing()
    assert len(site.api.requests) == 2


def revoked(request_id: str, room: object) -> dict[str, object]:
    return {"type": "unsubscribed", "requestId": request_id, "room": room, "reason": "revoked"}


async def test_the_headers_for_asking_again_are_dropped_with_the_connection(site: Site) -> None:
    """Hole 4: the price of asking again is to keep a secret; no longer than needed."""
    client = await site.connect(headers={"Cookie": "sid=1"})
    (connection,) = site.gateway.connections()
    assert isinstance(connection, Connection) and b"sid=1" in connection.forwarded
    await client.close()
    await site.gone(client)
    assert connection.forwarded == b""


# -- hole 5: redirects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_no_login(status: int, site: Site) -> None:
    """Hole 5: a login page that answers 200 was taken for a login."""
    site.api.script(reply(status, b"", {"Location": site.api.url}))
    client = await site.connect()
    assert client.hello == {"is_authorized": False, "error": "unavailable", "retry": True}
    assert await client.closed() == (1013, "")
    assert len(site.api.requests) == 1


# -- holes 6 to 8: request ids ---------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_request_id_can_be_used_again_and_again(start: Start) -> None:
    """Holes 6 and 7: ended subscriptions were mistaken for living ones, and stayed in memory for ever."""
    site = await start(limits={"message_rate": 1_000_000, "message_burst": 1_000_000})
    client = await site.connect()
    for _ in range(1000):
        await client.subscribe(OPEN, "a")
        await client.unsubscribe("a")
    assert await site.connections() == {client.hello["connection"]: 0}
    assert [each for each in gc.get_objects() if type(each) is Subscription] == []
    await client.subscribe(OPEN, "a")
    await site.trigger([OPEN], 1)
    assert await client.receive() == publish("a", OPEN, 1)
    await client.nothing()


async def test_a_request_id_in_use_is_refused_and_the_first_subscription_stays(site: Site) -> None:
    """Hole 8: the first subscription could not be ended any more."""
    site.api.default = reply(200, {"allowed_rooms": [OPEN, SECRET]})
    client = await site.connect()
    await client.subscribe(OPEN, "a")
    for room in (OPEN, SECRET):
        assert await client.ask(subscribe(room)) == failure("a", "request-id-in-use")
    await site.trigger([OPEN, SECRET], 1)
    assert await client.receive() == publish("a", OPEN, 1)
    await client.unsubscribe("a")
    assert await site.rooms() == {}
    await client.subscribe(SECRET, "a")


async def test_a_request_id_is_free_after_a_refusal(site: Site) -> None:
    """Hole 8"""
    client = await site.connect()
    assert await client.ask(subscribe(SECRET)) == failure("a", "room-not-found")
    await client.subscribe(OPEN, "a")


async def test_request_ids_are_told_apart_by_their_type(site: Site) -> None:
    """Hole 8: one room may be joined under several ids, and each of them ends on its own."""
    client = await site.connect()
    for request_id in (1, "1", -(2**63), ""):
        await client.subscribe(OPEN, request_id)
    await client.unsubscribe(1)
    assert await site.trigger([OPEN], 0) == 3
    got = [(await client.receive())["requestId"] for _ in range(3)]
    assert sorted(map(repr, got)) == sorted(map(repr, ["1", -(2**63), ""]))
    await client.nothing()


# -- hole 9: odd messages --------------------------------------------------------------------------------------------


def written(**values: str) -> str:
    """An object of values that are JSON text, or nearly."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}"


def too_long(size: int) -> str:
    return json.dumps("x" * (size + 1))


NO_REQUEST = ["[]", "[1]", "1", "-1.5", "true", "null", '"x"', '"ping"', "{}", " {} ", "[{}]"]
NO_TYPE = ["null", "1", "{}", '["subscribe"]', '"Subscribe"', '"subscribe "', '"publish"']
NO_JSON: list[str | bytes] = [
    "",
    " ",
    "{",
    "}",
    "pong",
    "PING",
    "ping ",
    "NaN",
    "'a'",
    "\0",
    "{,}",
    "{}{}",
    b"",
    b"ping",
]
NO_JSON += [
    "[" * 60_000,
    '{"x":' * 10_000,
    b"\xff\xfe",
    b'{"requestId":"\xff"}',
    written(room='"\\ud800"', requestId="1"),
]
NO_ID = ["null", "true", "{}", "[]", "1.5", "1e3", "1e999", str(2**63), too_long(128), '["a"]']
NO_ROOM = ["null", "1", "1.5", "true", "[]", '""', '"\\u0000"', too_long(512), '"{\\"a\\":[]}"', '{"":1}']
NO_ROOM += [written(a=value) for value in ("{}", "[]", "1.0", "1e999", str(2**64), too_long(504))]

ODD: list[tuple[str | bytes, object, str]] = [
    *((message, None, "message-type-not-allowed") for message in NO_REQUEST),
    *((written(type=kind, requestId='"a"'), "a", "message-type-not-allowed") for kind in NO_TYPE),
    (written(TYPE='"subscribe"', requestId="1"), 1, "message-type-not-allowed"),
    (b"null", None, "message-type-not-allowed"),
    *((message, None, "non-json-message") for message in NO_JSON),
    *((written(type='"subscribe"', room='"x"', requestId=id), None, "no-request-id") for id in NO_ID),
    *((written(type='"unsubscribe"', requestId=id), None, "no-request-id") for id in NO_ID),
    (written(type='"subscribe"', room='"x"'), None, "no-request-id"),
    *((written(type='"subscribe"', room=room, requestId='"a"'), "a", "invalid-room") for room in NO_ROOM),
    (written(type='"subscribe"', requestId='"a"'), "a", "invalid-room"),
    (written(type='"unsubscribe"', requestId='"a"'), "a", "not-subscribed"),
]


async def test_odd_messages_get_one_error_each_and_harm_nothing(start: Start) -> None:
    """Hole 9: a list, a number, a room of a wrong type and many more killed the connection, and called it normal."""
    site = await start(limits={"message_burst": 1000})
    client = await site.connect()
    for message, _, _ in ODD:
        await client.send(message)
    for message, request_id, word in ODD:
        assert await client.receive() == failure(request_id, word), message[:80]
    await client.nothing()
    assert await site.rooms() == {}
    await client.subscribe(OPEN, "a")


async def test_a_request_in_a_binary_message_is_understood(site: Site) -> None:
    """Hole 9: the other way round: what is not odd is not refused. Keys that are not known are ignored."""
    client = await site.connect()
    message = json.dumps({**subscribe(OPEN), "scope": {"deep": [None]}}).encode()
    assert await client.ask(message) == {"requestId": "a", "code": "success"}


# -- holes 10 and 11: clients that go or do not read -----------------------------------------------------------------


@pytest.mark.parametrize("politely", [True, False])
async def test_a_lost_connection_is_out_of_its_rooms_without_a_trigger(politely: bool, site: Site) -> None:
    """Hole 10: it stayed a member until a trigger met the dead socket."""
    client = await site.connect()
    await client.subscribe(OPEN, "a")
    if politely:
        await client.close()
    else:
        client.vanish()
    await site.gone(client)
    assert await site.rooms() == {}
    assert await site.trigger([OPEN], 1) == 0


async def test_a_client_that_does_not_read_costs_a_bounded_outbox_and_then_its_connection(site: Site) -> None:
    """Hole 11: it lost messages from the middle, or took all of the server's memory; the others must not notice."""
    fast, slow = await site.connect(), await site.handshake()
    await fast.subscribe(OPEN, "fast")
    slow.send_frame(Opcode.TEXT, json.dumps(subscribe(OPEN, "slow")).encode())
    await slow.frame()
    slow.pause()
    (connection,) = (each for each in site.gateway.connections() if each.id != fast.hello["connection"])
    transport = connection.transport
    assert transport is not None
    bound = site.gateway.limits.outbox_limit + HIGH_WATER
    sent = 0
    while transport.open:
        assert sent < 400
        await site.trigger([OPEN], [sent, "x" * 200_000])
        assert (await fast.receive())["data"][0] == sent
        assert transport.buffered <= bound + 200_000
        sent += 1
    await site.trigger([OPEN], [sent, ""])
    assert (await fast.receive())["data"][0] == sent
    slow.resume()
    got = []
    while (message := await slow.frame())[0] is Opcode.TEXT:
        got.append(json.loads(message[1])["data"][0])
    assert message == (Opcode.CLOSE, Close(1013, "outbox full").serialize())
    assert got == list(range(len(got)))
    slow.send_frame(Opcode.CLOSE, Close(1013, "").serialize())
    assert await slow.rest() == b""
    slow.vanish()
    await site.until(lambda: len(list(site.gateway.connections())) == 1)
    assert "fairlead_slow_closes_total 1.0" in (await site.call("GET", "/metrics")).text


# -- hole 12: replies ------------------------------------------------------------------------------------------------


async def test_replies_carry_their_request_id_in_the_order_of_the_requests(site: Site) -> None:
    """Hole 12: with several requests under way nobody could tell which one had failed."""
    client = await site.connect()
    ids = [f"r{number}" for number in range(40)]
    for number, request_id in enumerate(ids):
        await client.send(subscribe(SECRET if number % 3 else OPEN, request_id))
    for number, request_id in enumerate(ids):
        expected = failure(request_id, "room-not-found") if number % 3 else {"requestId": request_id, "code": "success"}
        assert await client.receive() == expected


# -- hole 13: limits -------------------------------------------------------------------------------------------------


async def test_a_message_that_is_too_large_ends_the_connection(site: Site) -> None:
    """Hole 13"""
    client = await site.connect()
    assert await client.ask("x" * 65_536) == failure(None, "non-json-message")
    await client.send("x" * 65_537)
    code, _ = await client.closed()
    assert code == 1009


async def test_a_message_in_very_many_fragments_ends_the_connection(start: Start) -> None:
    """Hole 13"""
    site = await start(limits={"fragment_count": 10})
    client = await site.handshake()
    client.send_frame(Opcode.TEXT, b"p", fin=False)
    for _ in range(10):
        client.send_frame(Opcode.CONT, b"", fin=False)
    opcode, payload = await client.frame()
    assert (opcode, Close.parse(payload).code) == (Opcode.CLOSE, 1008)


async def test_subscriptions_of_a_connection_are_counted(start: Start) -> None:
    """Hole 13: one permission with an asterisk was enough for any number of rooms."""
    site = await start(limits={"subscriptions": 3})
    site.api.default = reply(200, {"allowed_rooms": [{"id": "*"}]})
    client = await site.connect()
    for number in range(3):
        await client.subscribe({"id": number}, number)
    assert await client.ask(subscribe({"id": 3}, 3)) == failure(3, "too-many-subscriptions")
    assert await site.rooms() == {key({"id": number}): 1 for number in range(3)}
    await client.unsubscribe(0)
    await client.subscribe({"id": 3}, 3)


async def test_an_asterisk_grants_no_nested_value(site: Site) -> None:
    """Hole 13"""
    site.api.default = reply(200, {"allowed_rooms": [{"id": "*"}]})
    client = await site.connect()
    for value in ({"id": 1}, [1], [], 1.5):
        assert await client.ask(subscribe({"id": value})) == failure("a", "invalid-room")


@pytest.mark.slow
async def test_a_fast_client_is_slowed_down_and_loses_nothing(start: Start) -> None:
    """Hole 13: the server stops reading until the budget is back, for that client alone."""
    site = await start(limits={"message_rate": 20, "message_burst": 20})
    fast, other = await site.connect(), await site.connect()
    began = asyncio.get_running_loop().time()
    await fast.send(*("ping" for _ in range(15)), *(subscribe(SECRET, number) for number in range(35)))
    for _ in range(15):
        assert await fast.receive() == "pong"
    await other.nothing()
    for number in range(35):
        assert await fast.receive() == failure(number, "room-not-found")
    assert asyncio.get_running_loop().time() - began >= 1


async def test_connections_are_counted(start: Start) -> None:
    """Hole 13: the one too many is refused before the API is asked."""
    site = await start(limits={"connections": 1})
    await site.connect()
    answer = await site.refused()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert len(site.api.requests) == 1


# -- hole 14: refused clients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("refuse", ["close", "http"])
async def test_a_refused_client_causes_one_ask_and_nothing_else(refuse: str, start: Start) -> None:
    """Hole 14: hooks ran for clients that were not let in. What they sent meanwhile is not looked at."""
    site = await start(server={"refuse": refuse})
    site.api.default = reply(403, {"allowed_rooms": [OPEN]})
    client = await site.open()
    client.send(upgrade(site.public))
    client.send_frame(Opcode.TEXT, json.dumps(subscribe(OPEN)).encode())
    client.send_frame(Opcode.TEXT, b"ping")
    head = await client.head()
    if refuse == "http":
        assert head.startswith(b"HTTP/1.1 403 ")
        assert await client.rest() == b"forbidden\n"
    else:
        assert head.startswith(b"HTTP/1.1 101 ")
        opcode, payload = await client.frame()
        assert json.loads(payload) == {"is_authorized": False, "error": "forbidden", "retry": False}
        assert await client.frame() == (Opcode.CLOSE, Close(4403, "").serialize())
    assert (await site.rooms(), await site.connections()) == ({}, {})
    assert len(site.api.requests) == 1


# -- holes 15 and 16: secrets ----------------------------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that anybody logs, at every level."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    return caplog


async def test_no_secret_is_ever_logged(log: pytest.LogCaptureFixture, start: Start) -> None:
    """Holes 15 and 16: at DEBUG all headers and messages were logged, and the token of the URL everywhere."""
    site = await start(server={"refuse": "http"})
    query = "?token=SECRET-query&x=SECRET-other"
    headers = {"Cookie": "sid=SECRET-cookie; csrftoken=SECRET-csrf", "Authorization": "Bearer SECRET-authorization"}
    client = await site.connect(query, headers=headers)
    await client.subscribe(OPEN, "SECRET-id")
    for message in ("SECRET-text", b"SECRET-\xff", '{"type":"SECRET-type"}', subscribe("SECRET-room", "b")):
        assert (await client.ask(message))["code"] == "error"
    await site.trigger([OPEN], "SECRET-data")
    assert (await client.receive())["data"] == "SECRET-data"
    site.api.script(reply(500, b"SECRET-body"))
    await site.call("POST", "/refresh", {"user": 7})
    await site.api.asked(2)
    await refuse_everything(site, query, headers)
    await client.close()
    await break_the_protocol(site, query, headers)
    text = "\n".join(map(logging.Formatter("%(name)s %(message)s %(args)s").format, log.records))
    assert "unavailable" in text and "origin" in text.lower() and "closed with 1000" in text
    assert "SECRET" not in text
    assert KEY not in text
    assert "SECRET" not in (await site.call("GET", "/metrics")).text


MALFORMED = [
    b"SECRET",
    b"HTTP/1.1 SECRET\r\n\r\n",
    *(
        b"HTTP/1.1 200 OK\r\n" + rest
        for rest in (
            b"Set-Cookie: sid=SECRET\r\n",
            b"Set-Cookie: sid=SECRET\x01\r\n\r\n",
            b"Set-Cookie: sid=SECRET\r\nContent-Length: 10\r\n\r\nSECRET",
            b"SECRET name: 1\r\n\r\n",
            b"Content-Length: SECRET\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n1\r\nSECRET\r\n",
        )
    ),
]


async def refuse_everything(site: Site, query: str, headers: Mapping[str, str]) -> None:
    """Have handshakes and triggers refused in every way."""
    for answer in (
        reply(401, b"SECRET-body"),
        reply(500, b"SECRET-body"),
        reply(200, b'{"allowed_rooms": ["SECRET-room", 1.5]}'),
        reply(200, b'{"user": "SECRET-user"}'),
        reply(200, b"SECRET-text", {"Set-Cookie": "sid=SECRET-session"}),
        reply(302, b"", {"Location": "/SECRET-location"}),
        *map(cut, MALFORMED),
    ):
        site.api.script(answer)
        await site.refused(query, headers=headers)
    assert (await site.refused(query, headers=headers, origin="https://evil.example")).status_code == 403
    assert (await site.refused("?token=SECRET%0d%0aX-Evil:1")).status_code == 400
    assert (await site.refused("nowhere" + query, headers=headers)).status_code == 404
    for body in (
        b"SECRET",
        b'{"rooms":["SECRET"]}',
        b'{"rooms":[1.5],"data":"SECRET"}',
        b'["SECRET"]',
        b'"SECRET\xff"',
    ):
        assert (await site.call("POST", "/trigger/?key=SECRET-key", body)).status == 400
    for wrong in ({"X-API-Key": "SECRET-key"}, {"Authorization": "Bearer SECRET-key"}):
        assert (await site.call("POST", "/trigger/?SECRET", b"SECRET", headers=wrong)).status == 401


async def break_the_protocol(site: Site, query: str, headers: Mapping[str, str]) -> None:
    """Send what is not HTTP, not WebSocket, and nothing more."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    for request in (
        b"SECRET\r\n\r\n",
        b"GET /ws/?SECRET HTTP/1.1\r\nCookie: SECRET\r\n bad\r\n\r\n",
        upgrade(site.public, "/ws/" + query, *lines, "Sec-WebSocket-Version: 12"),
        upgrade(site.public, "/ws/" + query, *lines, "X: " + "SECRET" * 10_000),
    ):
        client = await site.open()
        client.send(request)
        assert not (await client.rest()).startswith(b"HTTP/1.1 101")
    for message in (b"\x81\x06SECRET", b"\x8f\x86\0\0\0\0SECRET"):
        client = await site.handshake("/ws/" + query, *lines)
        client.send(message)
        assert (await client.frame())[0] is Opcode.CLOSE


# -- hole 17: shutdown -----------------------------------------------------------------------------------------------


async def test_clients_are_told_to_come_back_after_what_was_published(site: Site) -> None:
    """Hole 17: there was no shutdown but being killed."""
    client = await site.connect()
    await client.subscribe(OPEN, "a")
    await site.trigger([OPEN], 1)
    site.drain()
    assert await client.receive() == publish("a", OPEN, 1)
    assert await client.closed() == (1012, "service restart")
    await site.drained()
    assert site.server.force_exit is False


async def test_while_draining_triggers_are_taken_and_clients_are_not(site: Site) -> None:
    """Hole 17: the API must not notice that its gateway restarts; the load balancer must."""
    client = await site.handshake()
    assert (await site.call("GET", "/readyz")).status == 200
    site.drain()
    assert await client.frame() == (Opcode.CLOSE, Close(1012, "service restart").serialize())
    assert (await site.call("GET", "/readyz", headers={})).status == 503
    assert (await site.call("GET", "/healthz", headers={})).status == 200
    assert await site.trigger([OPEN], 1) == 0
    with pytest.raises(ConnectionRefusedError):
        await site.open()
    client.send_frame(Opcode.CLOSE, Close(1012, "").serialize())
    assert await client.rest() == b""
    client.vanish()
    await site.drained()


async def test_a_handshake_under_way_is_told_to_come_back(site: Site) -> None:
    """Hole 17: it is not let into a gateway that goes."""
    site.api.default = hang
    client = await site.open()
    client.send(upgrade(site.public))
    await site.api.asked(1)
    site.drain()
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after:" in answer.lower()
    client.vanish()
    await site.drained()


async def test_a_client_that_ignores_the_shutdown_does_not_stop_it(start: Start) -> None:
    """Hole 17"""
    site = await start(limits={"drain_window": 0.0, "drain_grace": 0.1})
    client = await site.handshake()
    site.drain()
    await site.drained()
    assert await client.frame() == (Opcode.CLOSE, Close(1012, "service restart").serialize())


# -- hole 18: presence -----------------------------------------------------------------------------------------------


async def test_a_user_is_there_as_long_as_one_of_his_connections(site: Site) -> None:
    """Hole 18: a user with two windows was offline when he closed one."""
    one, two = await site.connect(), await site.connect()
    site.api.script(reply(200, {"user": {"id": 8}}))
    await site.connect()
    assert (await site.call("GET", "/connections?user=7")).body["total"] == 2
    await one.close()
    await site.gone(one)
    page = (await site.call("GET", "/connections?user=7")).body
    assert [entry["connection"] for entry in page["connections"]] == [two.hello["connection"]]


# -- hole 19: both ends know when to give up -------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_client_that_answers_no_ping_is_given_up(start: Start) -> None:
    """Hole 19: a connection whose other end was gone stayed for ever; one that only listens must stay."""
    site = await start(limits={"ping_after": 1.0, "ping_timeout": 2.0})
    mute, listener = await site.handshake(), await site.connect()
    assert listener.hello["ping"] == 1
    assert await mute.frame() == (Opcode.PING, b"")
    assert await mute.frame() == (Opcode.CLOSE, Close(1011, "ping timeout").serialize())
    await site.until(lambda: len(list(site.gateway.connections())) == 1)
    await listener.nothing()


@pytest.mark.parametrize(
    ("status", "word", "retry", "code"),
    [(401, "unauthorized", False, 4401), (403, "forbidden", False, 4403), (503, "unavailable", True, 1013)],
)
async def test_a_refusal_says_whether_to_come_back(status: int, word: str, retry: bool, code: int, site: Site) -> None:
    """Hole 19: clients came back every two seconds, also when they were not welcome."""
    site.api.default = reply(status)
    client = await site.connect()
    assert client.hello == {"is_authorized": False, "error": word, "retry": retry}
    assert await client.closed() == (code, "")


# -- what a gateway can have besides ---------------------------------------------------------------------------------


@pytest.mark.parametrize("refuse", ["close", "http"])
async def test_nothing_of_the_apis_failure_is_told(refuse: str, start: Start) -> None:
    """The client learns neither the API's address nor what went wrong in it."""
    site = await start(server={"refuse": refuse})
    for answer in (reply(500, b"Traceback: SECRET", {"Content-Type": "text/plain"}), raw(b"SECRET\r\n\r\n")):
        site.api.script(answer)
        client = await site.open()
        client.send(upgrade(site.public))
        told = await client.head()
        if refuse == "http":
            told += await client.rest()
            assert told.endswith(b"\r\n\r\nunavailable\n")
        else:
            told += (await client.frame())[1] + (await client.frame())[1]
        assert b"SECRET" not in told
        assert site.api.url.split("/")[2].encode() not in told


async def test_the_apis_own_words_go_with_a_refusal(start: Start) -> None:
    """Short ones of a 4xx, for the program at the other end."""
    site = await start(server={"refuse": "http"})
    site.api.default = reply(401, {"reason": "expired"}, {"Content-Type": "application/json"})
    answer = await site.refused()
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/json")
    assert answer.body == b'{"reason": "expired"}'


async def test_a_client_cannot_forge_its_address(start: Start) -> None:
    """Only a trusted proxy is believed, and only what it saw itself."""
    forged = {"X-Forwarded-For": "1.2.3.4, 5.6.7.8", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    site = await start()
    await site.connect(headers=forged)
    assert told(site) == ("127.0.0.1", "http", site.public)
    behind = await start(server={"trusted_proxies": ("127.0.0.1",)})
    await behind.connect(headers=forged)
    assert told(behind) == ("5.6.7.8", "https", "evil.example")


def told(site: Site) -> tuple[str | None, ...]:
    """What the API was told last about where the client is."""
    return tuple(site.api.requests[-1].header(f"x-forwarded-{name}") for name in ("for", "proto", "host"))


@pytest.mark.parametrize("token", ["a%0d%0aX-Evil:%201", "a%0aX-Evil:%201", "a%00", "a%7f"])
async def test_a_header_cannot_be_smuggled_to_the_api(token: str, site: Site) -> None:
    """Control characters in a forwarded value refuse the handshake."""
    assert (await site.refused(f"?token={token}")).status_code == 400
    assert site.api.requests == []


async def test_what_follows_a_refused_handshake_is_not_a_request(site: Site) -> None:
    """Nor are the bytes of a WebSocket client."""
    client = await site.open()
    client.send(upgrade(site.public, "/nowhere/"))
    client.send(f"GET /healthz HTTP/1.1\r\nHost: {site.public}\r\n\r\n".encode())
    answer = await client.rest()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_a_client_that_leaves_takes_its_ask_with_it(site: Site) -> None:
    """The API is not left with requests that nobody waits for."""
    site.api.default = hang
    client = await site.open()
    client.send(upgrade(site.public))
    await site.api.asked(1)
    client.vanish()
    async with asyncio.timeout(PATIENCE):
        await site.api.left(0)
