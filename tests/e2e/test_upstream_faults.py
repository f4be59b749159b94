"""The API at its worst: nobody is let in without a good answer, everybody is told in time, and who is in notices
nothing, as long as his rights hold.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from tests.e2e.harness import Client, Site, Start, failure, publish, upgrade
from tests.fake_api import Answer, FakeApi, cut, drip, half_close, hang, hold, raw, reply, reset

ROOM = {"id": 1}
OTHER = {"id": 2}
GOOD = b'{"user_id":7,"allowed_rooms":[{"id":1}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
IN_TIME = 3.2
"""Seconds: the 3 that the API has by default, and what it takes to tell the client."""


@pytest.fixture
def api(api: FakeApi) -> FakeApi:
    """Lets everybody, as user 7, into the room."""
    api.default = reply(200, GOOD)
    return api


class Outcome(NamedTuple):
    """How a client is refused: in words and close code, or by an HTTP status."""

    word: str
    retry: bool
    code: int
    status: int


UNAUTHORIZED = Outcome("unauthorized", False, 4401, 401)
FORBIDDEN = Outcome("forbidden", False, 4403, 403)
UNAVAILABLE = Outcome("unavailable", True, 1013, 503)

AT_ONCE: dict[str, tuple[Outcome, Answer]] = {
    **{str(status): (UNAVAILABLE, reply(status, GOOD)) for status in (201, 203, 206, 429, 500, 502, 503, 504, 599)},
    **{str(status): (UNAVAILABLE, raw(b"HTTP/1.1 %d X\r\n\r\n" % status)) for status in (204, 304)},
    **{str(status): (FORBIDDEN, reply(status, GOOD)) for status in (400, 402, 403, 404, 405, 407, 410, 451)},
    "401": (UNAUTHORIZED, reply(401, GOOD)),
    "302 without a place": (UNAVAILABLE, reply(302, GOOD)),
    "HTML": (UNAVAILABLE, reply(200, b"<!doctype html><p>Log in</p>", {"Content-Type": "text/html"})),
    "nothing": (UNAVAILABLE, reply(200, b"")),
    "half an object": (UNAVAILABLE, reply(200, GOOD[:-1])),
    "two objects": (UNAVAILABLE, reply(200, GOOD + GOOD)),
    "not UTF-8": (UNAVAILABLE, reply(200, b'{"user_id":7,"data":"\xff"}')),
    "a byte order mark": (UNAVAILABLE, reply(200, b"\xef\xbb\xbf" + GOOD)),
    "UTF-16": (UNAVAILABLE, reply(200, GOOD.decode().encode("utf-16"))),
    "gzip": (UNAVAILABLE, reply(200, gzip.compress(GOOD), {"Content-Encoding": "gzip"})),
    "very deep": (UNAVAILABLE, reply(200, b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "10 MB": (UNAVAILABLE, reply(200, b'{"data":"' + b"x" * 10_000_000 + b'"}')),
    "10 MB in chunks": (UNAVAILABLE, raw(CHUNKED, *[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 160, b"0\r\n\r\n")),
    "closed in the head": (UNAVAILABLE, cut(HEAD)),
    "closed in the body": (UNAVAILABLE, cut(LENGTH + GOOD[:-1])),
    "closed in a chunk": (UNAVAILABLE, cut(CHUNKED + b"%x\r\n" % len(GOOD) + GOOD)),
    "half closed in the body": (UNAVAILABLE, half_close(LENGTH + GOOD[:-1])),
    "not HTTP": (UNAVAILABLE, cut(b"SSH-2.0-OpenSSH_9.6\r\n")),
    "two lengths": (UNAVAILABLE, cut(HEAD + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n" + GOOD)),
    "an endless head": (UNAVAILABLE, raw(HEAD, *[b"X: " + b"x" * 60_000 + b"\r\n"] * 20)),
}
SHAPES = [
    *(b"null", b"true", b"7", b'"in"', b"[]", b'[{"allowed_rooms":[]}]'),
    *(b'{"allowed_rooms":%b}' % value for value in (b"null", b"{}", b'"x"', b"[1]", b"[null]", b'[""]', b'[{"a":[]}]')),
    *(b'{"allowed_prefixes":%b}' % value for value in (b"null", b'"x"', b"[1]", b"[{}]")),
    *(b'{"rooms":%b}' % value for value in (b"null", b'"x"', b"[1]", b'[{"a":1.5}]')),
    *(b'{"user":%b}' % value for value in (b'"x"', b"7", b"[]", b'{"id":{}}', b'{"id":1.5}', b'{"id":true}')),
    *(b'{"expires_in":%b}' % value for value in (b'"60"', b"0", b"-1", b"true", b"1e999", b"[]")),
    b'{"user_id":[]}',
]
AT_ONCE |= {shape.decode(): (UNAVAILABLE, reply(200, shape)) for shape in SHAPES}

# Not a byte of an answer: over a kept connection that may be the connection's end only, so it is tried over another.
LOST_CONNECTIONS = {"closed": cut(), "half closed": half_close(), "reset": reset}

NEVER: dict[str, Answer] = {
    "no answer": hang,
    "no body": raw(LENGTH),
    "half a body": raw(LENGTH + GOOD[:-1]),
    "a body, byte by byte": drip(HEAD + b"Content-Length: 1000\r\n\r\n", b" ", 0.05),
    "a head, byte by byte": drip(HEAD + b"X: ", b"x", 0.05),
    "only informational answers": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.05),
}


async def witness(site: Site) -> Client:
    """A client that was let in before the trouble begins."""
    client = await site.connect()
    await client.subscribe(ROOM, "a")
    return client


async def refused(site: Site, *, over_http: bool) -> Outcome:
    """Connect, and see how the client is refused."""
    if over_http:
        answer = await site.refused()
        assert ("Retry-After" in answer.headers) == (answer.status_code == 503)
        outcomes = {outcome.status: outcome for outcome in (UNAUTHORIZED, FORBIDDEN, UNAVAILABLE)}
        return outcomes[answer.status_code]
    client = await site.connect()
    assert client.hello.keys() == {"is_authorized", "error", "retry"}, "let in"
    assert client.hello["is_authorized"] is False
    code, _ = await client.closed()
    status = {4401: 401, 4403: 403, 1013: 503}[code]
    return Outcome(client.hello["error"], client.hello["retry"], code, status)


async def goes_wrong(site: Site, client: Client, *, over_http: bool) -> Outcome:
    """Have a second client refused, while the first one gets what is published."""
    before = len(site.api.requests)
    async with asyncio.timeout(IN_TIME), asyncio.TaskGroup() as group:
        second = group.create_task(refused(site, over_http=over_http))
        await site.api.asked(before + 1)
        assert await site.trigger([ROOM], "meanwhile") == 1
        assert await client.receive() == publish("a", ROOM, "meanwhile")
    assert len(site.api.requests) == before + 1
    await client.nothing()
    return second.result()


async def goes_on(site: Site, client: Client) -> None:
    """The trouble is over: nothing of it is in the next answer."""
    assert (await site.connect()).hello["user"] == 7
    assert await site.trigger([ROOM], "after") == 1
    assert await client.receive() == publish("a", ROOM, "after")
    await client.nothing()


# -- one client's answer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refuse", ["close", "http"])
@pytest.mark.parametrize("fault", AT_ONCE)
async def test_an_answer_that_is_not_good_lets_nobody_in(fault: str, refuse: str, start: Start) -> None:
    site = await start(server={"refuse": refuse})
    client = await witness(site)
    outcome, answer = AT_ONCE[fault]
    site.api.script(answer)
    assert await goes_wrong(site, client, over_http=refuse == "http") == outcome
    await goes_on(site, client)


@pytest.mark.parametrize("refuse", ["close", "http"])
@pytest.mark.parametrize("fault", LOST_CONNECTIONS)
async def test_a_connection_lost_twice_lets_nobody_in(fault: str, refuse: str, start: Start) -> None:
    """And is not tried a third time."""
    site = await start(server={"refuse": refuse})
    client = await witness(site)
    site.api.script(LOST_CONNECTIONS[fault], LOST_CONNECTIONS[fault])
    async with asyncio.timeout(IN_TIME):
        assert await refused(site, over_http=refuse == "http") == UNAVAILABLE
    assert len(site.api.requests) == 3
    await goes_on(site, client)


@pytest.mark.parametrize("fault", LOST_CONNECTIONS)
async def test_a_kept_connection_that_has_ended_costs_nobody_his_place(fault: str, site: Site) -> None:
    """The API closes idle connections when it likes."""
    client = await witness(site)
    site.api.script(LOST_CONNECTIONS[fault])
    await goes_on(site, client)
    assert len(site.api.requests) == 3


@pytest.mark.slow
@pytest.mark.parametrize("fault", NEVER)
async def test_an_answer_that_never_ends_is_given_up_in_time(fault: str, site: Site) -> None:
    """With the default times."""
    client = await witness(site)
    site.api.script(NEVER[fault])
    assert await goes_wrong(site, client, over_http=False) == UNAVAILABLE
    await goes_on(site, client)


@pytest.mark.parametrize("fault", NEVER)
async def test_an_answer_that_never_ends_is_a_503_where_http_is_wanted(fault: str, start: Start) -> None:
    site = await start(server={"refuse": "http"}, upstream={"timeout": 0.6})
    client = await witness(site)
    site.api.script(NEVER[fault])
    assert await goes_wrong(site, client, over_http=True) == UNAVAILABLE
    await goes_on(site, client)


@pytest.mark.parametrize("refuse", ["close", "http"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_good_answer_lets_nobody_in(status: int, refuse: str, start: Start) -> None:
    site = await start(server={"refuse": refuse})
    client = await witness(site)
    site.api.script(reply(status, b"", {"Location": site.api.url}))
    assert await goes_wrong(site, client, over_http=refuse == "http") == UNAVAILABLE


async def test_the_apis_retry_after_is_handed_on(start: Start) -> None:
    """Of a 429 as of a 503; where there is none, or nonsense, the gateway's own."""
    site = await start(server={"refuse": "http"})
    for given, told in (("7", "7"), ("Fri, 31 Dec 1999 23:59:59 GMT",) * 2, ("soon", "5"), ("-1", "5"), ("", "5")):
        site.api.script(reply(429, b"", {"Retry-After": given}), reply(503, b"", {"Retry-After": given}))
        assert [(await site.refused()).headers["Retry-After"] for _ in range(2)] == [told, told]


# -- an API that is not there ----------------------------------------------------------------------------------------


@pytest.fixture
async def second_api() -> AsyncIterator[FakeApi]:
    """One that a test may take down."""
    async with FakeApi() as api:
        api.default = reply(200, GOOD)
        yield api


@pytest.mark.parametrize("refuse", ["close", "http"])
async def test_an_api_that_is_down_lets_nobody_in(refuse: str, second_api: FakeApi, start: Start) -> None:
    site = await start(server={"refuse": refuse}, upstream={"url": second_api.url})
    client = await witness(site)
    await second_api.__aexit__(None, None, None)
    async with asyncio.timeout(IN_TIME):
        assert await refused(site, over_http=refuse == "http") == UNAVAILABLE
    await site.trigger([ROOM], "meanwhile")
    assert await client.receive() == publish("a", ROOM, "meanwhile")


@contextmanager
def blackhole() -> Iterator[str]:
    """An address where connecting takes for ever: a listener that accepts nobody, and whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        queue = [socket.socket() for _ in range(8)]
        for each in queue:
            each.setblocking(False)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/"
        for each in queue:
            each.close()


@pytest.mark.slow
@pytest.mark.parametrize("refuse", ["close", "http"])
async def test_an_api_that_takes_no_connection_lets_nobody_in(refuse: str, start: Start) -> None:
    with blackhole() as url:
        site = await start(server={"refuse": refuse}, upstream={"url": url})
        async with asyncio.timeout(IN_TIME):
            assert await refused(site, over_http=refuse == "http") == UNAVAILABLE


async def test_who_finds_no_place_in_line_is_told_at_once(start: Start) -> None:
    """The API has all that it may have at once, and as many wait as may."""
    site = await start(upstream={"in_flight": 1, "waiting": 1})
    released = asyncio.Event()
    site.api.script(hold(released, reply(200, GOOD)))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(site.connect())
        await site.api.asked(1)
        waiting = group.create_task(site.open())
        (await waiting).send(upgrade(site.public))
        await site.until(lambda: in_line(site) == 1)
        assert await refused(site, over_http=False) == UNAVAILABLE
        released.set()
    assert asked.result().hello["user"] == 7
    assert (await waiting.result().head()).startswith(b"HTTP/1.1 101 ")


def in_line(site: Site) -> int:
    """How many handshakes wait for a place."""
    return site.gateway._upstream.waiting


async def test_who_waits_too_long_for_a_place_is_told_so(start: Start) -> None:
    site = await start(upstream={"in_flight": 1, "wait": 0.1})
    released = asyncio.Event()
    site.api.script(hold(released, reply(200, GOOD)))
    async with asyncio.TaskGroup() as group:
        group.create_task(site.connect())
        await site.api.asked(1)
        assert await refused(site, over_http=False) == UNAVAILABLE
        released.set()
    assert len(site.api.requests) == 1


# -- what must not pass between clients ------------------------------------------------------------------------------


async def test_a_cookie_that_the_api_sets_reaches_no_other_ask(start: Start, api: FakeApi) -> None:
    """A name, because cookie jars do not keep cookies of an address."""
    site = await start(upstream={"url": api.url.replace("127.0.0.1", "localhost")})
    for status in (200, 401, 500):
        api.script(reply(status, GOOD, {"Set-Cookie": f"sid=ann{status}; Path=/; Max-Age=3600"}))
    for _ in range(3):
        await site.connect(headers={"Cookie": "sid=ann"})
    await site.connect(headers={"Cookie": "sid=bob"})
    await site.connect()
    assert [ask.header("cookie") for ask in api.requests] == ["sid=ann"] * 3 + ["sid=bob", None]


async def test_a_trigger_that_is_not_utf8_is_refused_and_closes_nobody(site: Site) -> None:
    """A browser fails the connection on such a message, so that one bad trigger would close every subscriber."""
    client = await witness(site)
    for body in (
        b'{"rooms":[{"id":1}],"data":"\xff"}',
        b'{"rooms":[{"id":1}],"data":1,"more":"\xed\xa0\x80"}',
        b'{"rooms":["\xc0\x80"],"data":1}',
        b'[{"rooms":[{"id":1}],"data":1},{"rooms":[{"id":1}],"data":["\xff"]}]',
    ):
        answer = await site.call("POST", "/trigger/", body)
        assert answer.status == 400
        assert "UTF-8" in answer.body["error"]
    await client.nothing()


async def test_a_broken_trigger_publishes_nothing(start: Start) -> None:
    """Each gets a text that says what is wrong."""
    site = await start(api_={"body_size": 200_000})
    client = await witness(site)
    for body, words in (
        (b"", "JSON"),
        (b'{"rooms":[{"id":1}],"data":1', "JSON"),
        (b'{"rooms":[{"id":1}]}', "data not specified"),
        (b'{"data":1}', "rooms not specified"),
        (b'{"rooms":{"id":1},"data":1}', "rooms must be a list"),
        (b'{"rooms":[{"id":1},1],"data":1}', "invalid room"),
        (b'{"rooms":[{"id":[]}],"data":1}', "invalid room"),
        (b'{"rooms":[{"id":1}],"data":nope}', "JSON"),
        (b'"x"', "expected"),
        (b"[" * 100_000, ""),
    ):
        answer = await site.call("POST", "/trigger/", body)
        assert answer.status == 400, body[:60]
        assert words.lower() in answer.body["error"].lower()
    assert (await site.call("POST", "/trigger/", b" " * 200_001)).status == 413
    await client.nothing()


# -- rights that live on ---------------------------------------------------------------------------------------------


async def refresh(site: Site, *answers: Answer) -> None:
    """Have the API asked again about user 7."""
    before = len(site.api.requests)
    site.api.script(*answers)
    assert (await site.call("POST", "/refresh", {"user": 7})).status == 200
    await site.api.asked(before + 1)


async def test_a_good_answer_replaces_the_rights(site: Site) -> None:
    """What is no longer allowed ends with a notice, what is newly allowed can be joined, the rest goes on."""
    site.api.script(reply(200, {"user_id": 7, "allowed_rooms": [ROOM, OTHER], "rooms": ["mine"]}))
    client = await site.connect(headers={"Cookie": "sid=1"})
    await client.subscribe(ROOM, "a")
    await client.subscribe(OTHER, "b")
    await refresh(site, reply(200, {"user_id": 7, "allowed_rooms": [ROOM, {"id": 3}], "rooms": ["yours"]}))
    notices = [await client.receive(), await client.receive()]
    assert {"type": "unsubscribed", "requestId": "b", "room": OTHER, "reason": "revoked"} in notices
    assert {"type": "unsubscribed", "requestId": None, "room": "mine", "reason": "revoked"} in notices
    reply_ = await client.ask({"type": "subscribe", "room": OTHER, "requestId": "b"})
    assert reply_ == failure("b", "room-not-found")
    await client.subscribe({"id": 3}, "b")
    assert await site.trigger([OTHER, "mine", ROOM, "yours"], 1) == 2
    assert [await client.receive(), await client.receive()] == [publish("a", ROOM, 1), publish(None, "yours", 1)]
    await client.nothing()
    assert [ask.header("cookie") for ask in site.api.requests] == ["sid=1", "sid=1"]


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        pytest.param(reply(401), 4401, "unauthorized", id="401"),
        pytest.param(reply(403), 4403, "forbidden", id="403"),
        pytest.param(reply(404), 4403, "forbidden", id="404"),
        pytest.param(reply(200, {"user_id": 8, "allowed_rooms": [ROOM]}), 4401, "another user", id="another user"),
        pytest.param(reply(200, {"allowed_rooms": [ROOM]}), 4401, "another user", id="nobody"),
    ],
)
async def test_an_answer_can_end_the_connection(answer: Answer, code: int, reason: str, site: Site) -> None:
    client = await witness(site)
    await refresh(site, answer)
    assert await client.closed() == (code, reason)
    await site.gone(client)
    assert await site.trigger([ROOM], 1) == 0


LOST: dict[str, Answer] = {
    "429": reply(429),
    "500": reply(500),
    "302": reply(302, b"", {"Location": "/login/"}),
    "HTML": reply(200, b"<p>Log in</p>"),
    "wrong shape": reply(200, {"allowed_rooms": None}),
    "half an answer": cut(LENGTH + GOOD[:-1]),
    "hang": hang,
}


@pytest.mark.parametrize("fault", LOST)
async def test_rights_stay_while_the_api_cannot_be_asked(fault: str, start: Start) -> None:
    """Both what is joined and what may be."""
    site = await start(upstream={"timeout": 0.6})
    site.api.script(reply(200, {"user_id": 7, "allowed_rooms": [ROOM, OTHER]}))
    client = await witness(site)
    (connection,) = site.gateway.connections()
    await refresh(site, LOST[fault])
    await site.until(lambda: connection.failing_since > 0)
    await client.subscribe(OTHER, "b")
    assert await site.trigger([ROOM, OTHER], 1) == 2
    assert await client.receive() == publish("a", ROOM, 1)
    assert await client.receive() == publish("b", OTHER, 1)
    await client.nothing()


async def test_without_grace_rights_end_with_the_api(start: Start) -> None:
    site = await start(upstream={"grace": 0.0})
    client = await witness(site)
    await refresh(site, reply(500))
    assert await client.closed() == (1013, "rights not renewed")


@pytest.mark.slow
async def test_after_the_grace_the_client_is_told_to_come_back(second_api: FakeApi, start: Start) -> None:
    """The API is down for good. Until the last moment everything works."""
    site = await start(upstream={"url": second_api.url, "grace": 2.0})
    client = await witness(site)
    await second_api.__aexit__(None, None, None)
    assert (await site.call("POST", "/refresh", {"user": 7})).body == {"connections": 1}
    began = asyncio.get_running_loop().time()
    await site.trigger([ROOM], 1)
    assert await client.receive() == publish("a", ROOM, 1)
    assert await client.closed() == (1013, "rights not renewed")
    assert 1.0 <= asyncio.get_running_loop().time() - began <= 4.0


@pytest.mark.slow
async def test_an_api_that_comes_back_in_time_renews_the_rights(start: Start) -> None:
    """The gateway asks again by itself; what was revoked meanwhile ends then."""
    site = await start(upstream={"grace": 60.0})
    client = await witness(site)
    await refresh(site, reply(503), reset, reply(200, {"user_id": 7, "allowed_rooms": []}))
    notice = {"type": "unsubscribed", "requestId": "a", "room": ROOM, "reason": "revoked"}
    assert await client.receive() == notice
    assert len(site.api.requests) == 4
    await client.nothing()


@pytest.mark.slow
async def test_rights_are_renewed_before_they_expire(site: Site) -> None:
    """Less than 5 seconds count as 5, and the API is asked again after 90 to 100 % of them."""
    site.api.script(
        reply(200, {"user_id": 7, "allowed_rooms": [ROOM], "expires_in": 0.5}),
        reply(200, {"user_id": 7, "allowed_rooms": [], "expires_in": 60}),
    )
    client = await site.connect(headers={"Authorization": "Bearer mine"})
    began = asyncio.get_running_loop().time()
    assert client.hello["expires_in"] == 5
    await client.subscribe(ROOM, "a")
    await site.api.asked(2, timeout=6.0)
    assert asyncio.get_running_loop().time() - began >= 3.4
    notice = {"type": "unsubscribed", "requestId": "a", "room": ROOM, "reason": "revoked"}
    assert await client.receive() == notice
    assert [ask.header("authorization") for ask in site.api.requests] == ["Bearer mine"] * 2


async def test_rights_are_renewed_ahead_of_new_handshakes(start: Start) -> None:
    """A rush of new clients must not cost the others their rights."""
    site = await start(upstream={"in_flight": 1})
    client = await site.connect(headers={"Cookie": "sid=living"})
    released = asyncio.Event()
    site.api.script(hold(released, reply(200, GOOD)))
    async with asyncio.TaskGroup() as group:
        group.create_task(site.connect(headers={"Cookie": "sid=asked"}))
        await site.api.asked(2)
        for number in range(3):
            group.create_task(site.connect(headers={"Cookie": f"sid=new{number}"}))
        await site.until(lambda: in_line(site) == 3)
        assert (await site.call("POST", "/refresh", {"connection": "", "user": 7})).status == 200
        await site.until(lambda: in_line(site) == 4)
        released.set()
    cookies = [ask.header("cookie") for ask in site.api.requests]
    assert cookies[:3] == ["sid=living", "sid=asked", "sid=living"]
    assert sorted(filter(None, cookies[3:])) == ["sid=new0", "sid=new1", "sid=new2"]
    await client.nothing()


@pytest.mark.parametrize("asked_again", [False, True])
async def test_a_client_that_leaves_is_not_asked_about_any_more(asked_again: bool, site: Site) -> None:
    """Neither when its rights would have expired nor when the API could not be asked the last time."""
    site.api.default = reply(200, {"user_id": 7, "expires_in": 3600})
    client = await site.connect()
    (connection,) = site.gateway.connections()
    if asked_again:
        await refresh(site, reply(503))
        await site.until(lambda: connection.failing_since > 0)
    assert connection.due
    await client.close()
    await site.gone(client)
    assert not connection.due
    assert not site.left_behind()


async def test_a_client_that_leaves_while_it_is_asked_about_leaves_nothing(site: Site) -> None:
    """Its answer comes for nobody."""
    client = await witness(site)
    released = asyncio.Event()
    await refresh(site, hold(released, reply(200, GOOD)))
    client.vanish()
    await site.gone(client)
    released.set()
    assert await site.rooms() == {}
