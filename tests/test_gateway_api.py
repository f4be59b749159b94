"""The admin listener, call by call."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from fairlead.brokers import Broker
from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import BrokerUnavailable
from fairlead.gateway.api import Api
from fairlead.gateway.metrics import Metrics
from fairlead.gateway.settings import ApiSettings
from fairlead.limits import Limits
from fairlead.rooms.names import room_key
from fairlead.rooms.node import Node
from fairlead.testing import FakeMember, RecordingTransport, ScriptedBroker

KEYS = ("first-key-0123456789", "other-key-0123456789")
BEARER = {"authorization": f"Bearer {KEYS[0]}"}


@dataclass(frozen=True, slots=True)
class View:
    id: str
    user: str | None = None
    subscriptions: int = 0


@dataclass
class Control:
    """A gateway that notes what it is told to do."""

    ready: bool = True
    views: list[View] = field(default_factory=list)
    told: list[tuple[object, ...]] = field(default_factory=list)
    failure: Exception | None = None

    def connections(self) -> Iterable[View]:
        return iter(self.views)

    async def disconnect(self, *, user: str | None, connection: str | None, code: int, reason: str) -> int:
        return self._note(user, connection, code, reason)

    async def refresh(self, user: str, allowed: bytes | None) -> int:
        return self._note(user, allowed)

    def _note(self, *order: object) -> int:
        if self.failure is not None:
            raise self.failure
        self.told.append(order)
        return 3


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Admin:
    """The application with its caller. ``request`` as HTTP would bring it, in one or several pieces of body."""

    def __init__(self, broker: Broker | None = None, *, limits: Limits | None = None, **settings: Any) -> None:
        self.node = Node(broker or MemoryBroker())
        self.control = Control()
        self.metrics = Metrics()
        given = ApiSettings(**{"keys": KEYS, **settings})
        self.api = Api(self.node, self.control, given, self.metrics, *([limits] if limits else []))

    async def __aenter__(self) -> Admin:
        await self.node.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.node.close()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | Sequence[bytes | asyncio.Event | None] = b"",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = BEARER,
    ) -> Response:
        """Pieces that are events are waited for; None is the caller leaving."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        path, _, query = target.partition("?")
        lines = headers.items() if isinstance(headers, Mapping) else headers
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in lines],
            "client": ("192.0.2.7", 5),
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            piece = pieces.pop(0)
            if isinstance(piece, asyncio.Event):
                await piece.wait()
                piece = b""
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(event: MutableMapping[str, Any]) -> None:
            sent.append(event)

        await self.api(scope, receive, send)
        if not sent:
            return Response(0, {}, b"")
        start, content = sent
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        assert names["content-length"] == str(len(content["body"])) or method == "HEAD"
        assert names["cache-control"] == "no-store"
        assert names["x-content-type-options"] == "nosniff"
        return Response(start["status"], names, content["body"])

    async def post(self, path: str, body: object, **headers: str) -> Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request("POST", path, raw, {**BEARER, **named})

    async def get(self, target: str) -> Response:
        return await self.request("GET", target)

    async def member(self, room: object) -> RecordingTransport:
        """Somebody in a room; returns what he receives."""
        transport = RecordingTransport()
        await self.node.join(FakeMember(transport), room_key(room))
        return transport


def at_once(admin: Admin, target: str, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes | None:
    """As the listener asks it."""
    lines = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return admin.api.at_once(target.encode(), lines, body)


def trigger(*rooms: object, data: object = 1) -> dict[str, object]:
    return {"rooms": rooms, "data": data}


# -- keys, paths, methods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {KEYS[0]}")],
        [("authorization", f"bEARER  {KEYS[1]}")],
        [("x-api-key", KEYS[1])],
        [("x-api-key", KEYS[0]), ("authorization", f"Bearer {KEYS[0]}")],
        [("x-api-key", KEYS[0]), ("authorization", "Basic eDp5")],
    ],
)
async def test_any_key_in_either_header_is_enough(headers: list[tuple[str, str]]) -> None:
    async with Admin() as admin:
        assert (await admin.request("GET", "/rooms", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer")],
        [("authorization", KEYS[0])],
        [("authorization", f"Basic {KEYS[0]}")],
        [("x-api-key", "")],
        [("x-api-key", KEYS[0][:-1])],
        [("x-api-key", KEYS[0] + "x")],
        [("x-api-key", KEYS[0].upper())],
        [("x-api-key", "\xff" * 20)],
        [("x-api-key", KEYS[0]), ("authorization", f"Bearer {KEYS[1]}")],
        [("x-api-key", KEYS[0]), ("x-api-key", "wrong")],
        [("cookie", f"key={KEYS[0]}")],
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/trigger/"),
        ("POST", "/publish"),
        ("POST", "/disconnect"),
        ("POST", "/refresh"),
        ("GET", "/rooms"),
        ("GET", "/connections"),
        ("GET", "/metrics"),
        ("PUT", "/trigger/"),
        ("GET", "/nowhere"),
    ],
)
async def test_without_one_valid_key_every_call_is_401(method: str, path: str, headers: list[tuple[str, str]]) -> None:
    async with Admin() as admin:
        response = await admin.request(method, path, headers=headers)
        assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
        assert admin.control.told == []


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([("x-api-key", "wrong-key-of-good-length")], "this API key is not one of api.keys"),
        ([("x-api-key", "wrong"), ("authorization", "Bearer wrong")], "this API key is not one of api.keys"),
        ([], "send one API key"),
        ([("authorization", "Bearer ")], "send one API key"),
        ([("x-api-key", "wrong"), ("x-api-key", KEYS[0])], "send one API key"),
    ],
)
async def test_a_caller_is_told_whether_it_showed_no_key_or_a_wrong_one(
    headers: list[tuple[str, str]], text: str
) -> None:
    async with Admin() as admin:
        response = await admin.request("POST", "/trigger/", headers=headers)
        assert (response.status, response.json["error"].startswith(text)) == (401, True)


async def test_a_key_in_the_url_is_no_key_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Admin() as admin:
        response = await admin.request("POST", f"/trigger/?key={KEYS[0]}&token={KEYS[0]}", b"{}", {})
        assert response.status == 401
        assert "never in the URL" in response.json["error"]
    assert "192.0.2.7" in caplog.text
    assert KEYS[0] not in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("", 404), ("/trigger/x", 404), ("/Trigger", 404)])
async def test_an_unknown_path_is_404(path: str, status: int) -> None:
    async with Admin() as admin:
        response = await admin.request("POST", path)
        assert (response.status, response.json) == (404, {"error": "no such path"})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/trigger/", "POST"),
        ("OPTIONS", "/publish", "POST"),
        ("DELETE", "/disconnect", "POST"),
        ("HEAD", "/refresh/", "POST"),
        ("POST", "/rooms", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_405_and_says_which_is_right(method: str, path: str, allow: str) -> None:
    async with Admin() as admin:
        response = await admin.request(method, path)
        assert (response.status, response.headers["allow"]) == (405, allow)


async def test_head_is_get_without_the_body() -> None:
    async with Admin() as admin:
        full, head = await admin.get("/rooms"), await admin.request("HEAD", "/rooms")
        assert (head.status, head.body, head.headers) == (200, b"", full.headers)


async def test_only_http_is_spoken() -> None:
    async with Admin() as admin:
        with pytest.raises(RuntimeError, match="lifespan"):
            await admin.api({"type": "lifespan"}, _never, _never)


async def _never(*args: object) -> Any:
    raise AssertionError("not to be called")


# -- trigger ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/trigger/", "/trigger", "/publish", "/publish/"])
async def test_a_trigger_publishes_under_every_name_and_any_content_type(path: str) -> None:
    async with Admin() as admin:
        ann, bob = await admin.member("a"), await admin.member({"x": 1})
        body = b'{"rooms":["a",{"x":1},"empty","a"],"data":{"n": 1.10}}'
        response = await admin.post(path, body, content_type="application/x-www-form-urlencoded")
        assert (response.status, response.json) == (200, {"published": 3, "delivered": 2})
        await asyncio.sleep(0)
        assert (ann.payloads, bob.payloads) == ([b'{"n": 1.10}'], [b'{"n": 1.10}'])
        assert response.headers["content-type"] == "application/json"


async def test_a_trigger_nobody_listens_to_is_no_error() -> None:
    async with Admin() as admin:
        assert (await admin.post("/trigger/", trigger("a"))).json == {"published": 1, "delivered": 0}
        assert (await admin.post("/trigger/", trigger())).json == {"published": 0, "delivered": 0}


async def test_delivered_counts_subscriptions() -> None:
    async with Admin() as admin:
        for _ in range(3):
            await admin.member("a")
        await admin.member("b")
        assert (await admin.post("/trigger/", trigger("a", "b"))).json == {"published": 2, "delivered": 4}


async def test_a_batch_is_published_in_order_and_answered_one_by_one() -> None:
    async with Admin() as admin:
        ann = await admin.member("a")
        batch = [trigger("a", "b", data="1"), trigger("b", data="2"), trigger("a", data="3")]
        response = await admin.post("/trigger/", batch)
        assert response.json == [
            {"published": 2, "delivered": 1},
            {"published": 1, "delivered": 0},
            {"published": 1, "delivered": 1},
        ]
        await asyncio.sleep(0)
        assert ann.payloads == [b'"1"', b'"3"']
        assert (await admin.post("/trigger/", [])).json == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"data":1}', "rooms not specified"),
        (b'{"rooms":["a"]}', "data not specified"),
        (b"", "the body is not JSON"),
        (b'{"rooms":["a"],"data":"\xff"}', "the body is not UTF-8"),
        (b'{"rooms":["a"],"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "the body is nested too deep"),
    ],
)
async def test_a_bad_trigger_is_400_with_its_reason(body: bytes, text: str) -> None:
    async with Admin() as admin:
        response = await admin.post("/trigger/", body)
        assert response.status == 400
        assert response.json["error"].startswith(text)


async def test_of_a_batch_with_a_fault_nothing_is_published() -> None:
    async with Admin() as admin:
        ann = await admin.member("a")
        response = await admin.post("/trigger/", [trigger("a"), trigger("b", "")])
        assert response.status == 400
        assert response.json["error"].endswith(" - at `$[1].rooms[1]`")
        await asyncio.sleep(0)
        assert ann.payloads == []


async def test_room_size_is_the_limits() -> None:
    async with Admin(limits=Limits(room_size=4)) as admin:
        assert (await admin.post("/trigger/", trigger("abcd"))).status == 200
        assert (await admin.post("/trigger/", trigger("abcde"))).status == 400


async def test_room_size_is_the_limit_of_new_rights_too() -> None:
    async with Admin(limits=Limits(room_size=600)) as admin:
        call = {"user": "ann", "allowed_rooms": ["x" * 600]}
        assert (await admin.post("/refresh", call)).status == 200
        assert (await admin.post("/refresh", call | {"allowed_prefixes": ["x" * 601]})).status == 400


async def test_a_broker_that_fails_midway_is_503_with_what_was_published() -> None:
    broker = ScriptedBroker(held=True)
    async with Admin(broker) as admin:
        call = asyncio.create_task(admin.post("/trigger/", [trigger("a", "b"), trigger("c", "d")]))
        for _ in range(3):
            await _until(lambda: bool(broker.calls))
            if len(broker.log) < 3:
                broker.calls[0].finish()
            else:
                broker.calls[0].fail()
            await asyncio.sleep(0)
        response = await call
        assert (response.status, response.json["published"]) == (503, 2)
        assert "error" in response.json
        assert [room for _, room in broker.log] == ["a", "b", "c"]
        assert admin.metrics.registry.get_sample_value("fairlead_publications_total") == 2


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


async def test_nothing_of_a_trigger_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker = ScriptedBroker()
    async with Admin(broker) as admin:
        await admin.post("/trigger/", trigger("a", data="SECRET"))
        await admin.post("/trigger/", b'{"rooms":["a"],"data":"SECRET"')
        broker.failing = True
        assert (await admin.post("/trigger/", trigger("a", data="SECRET"))).status == 503
    assert "the broker failed" in caplog.text
    assert "SECRET" not in caplog.text


# -- the idempotency key ---------------------------------------------------------------------------------------------


async def test_a_trigger_sent_twice_is_published_once() -> None:
    async with Admin() as admin:
        ann = await admin.member("a")
        first = await admin.post("/trigger/", trigger("a"), idempotency_key="k1")
        await admin.member("a")
        again = await admin.post("/publish", trigger("a"), idempotency_key="k1")
        assert (first.body, again.body) == (b'{"published":1,"delivered":1}', first.body)
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        await asyncio.sleep(0)
        assert ann.payloads == [b"1"]


async def test_another_body_under_the_same_key_is_409() -> None:
    async with Admin() as admin:
        await admin.post("/trigger/", trigger("a"), idempotency_key="k1")
        assert (await admin.post("/trigger/", trigger("b"), idempotency_key="k1")).status == 409


async def test_callers_do_not_meet_in_their_idempotency_keys() -> None:
    async with Admin() as admin:
        await admin.post("/trigger/", trigger("a"), idempotency_key="k1")
        other = await admin.post("/trigger/", trigger("b"), idempotency_key="k1", authorization=f"Bearer {KEYS[1]}")
        assert (other.status, "idempotency-replayed" in other.headers) == (200, False)


async def test_one_in_flight_is_waited_for_and_errors_are_not_kept() -> None:
    broker = ScriptedBroker(held=True)
    async with Admin(broker) as admin:
        calls = [asyncio.create_task(admin.post("/trigger/", trigger("a"), idempotency_key="k")) for _ in range(3)]
        await _until(lambda: bool(broker.calls))
        broker.calls[0].fail()
        await _until(lambda: len(broker.log) == 2)
        broker.calls[0].finish()
        assert [call.status for call in await asyncio.gather(*calls)] == [503, 200, 200]
        assert len(broker.log) == 2
    async with Admin() as admin:
        assert (await admin.post("/trigger/", b"{}", idempotency_key="k")).status == 400
        assert (await admin.post("/trigger/", trigger("a"), idempotency_key="k")).status == 200


@pytest.mark.parametrize("keys", [[""], ["k" * 256], ["a", "b"], ["a", "a"]])
async def test_an_idempotency_key_is_one_and_not_too_long(keys: list[str]) -> None:
    async with Admin() as admin:
        headers = [*BEARER.items(), *(("idempotency-key", key) for key in keys)]
        response = await admin.request("POST", "/trigger/", json.dumps(trigger("a")).encode(), headers)
        assert response.status == 400
        assert (await admin.post("/trigger/", trigger("a"), idempotency_key="k" * 255)).status == 200


# -- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_body_may_come_in_pieces() -> None:
    async with Admin() as admin:
        response = await admin.request("POST", "/trigger/", [b'{"rooms":["a"]', b"", b',"data":1}', b""])
        assert response.status == 200


async def test_body_size_is_the_bound_to_the_byte() -> None:
    body = json.dumps(trigger("a")).encode()
    async with Admin(body_size=len(body)) as admin:
        assert (await admin.request("POST", "/trigger/", [body[:5], body[5:]])).status == 200
        for pieces in ([body + b" "], [body, b" "], [body[:5], body[5:], b" ", None]):
            response = await admin.request("POST", "/trigger/", pieces)
            assert response.status == 413


@pytest.mark.parametrize("length", ["101", "9" * 30])
async def test_an_announced_size_is_refused_before_the_body(length: str) -> None:
    async with Admin(body_size=100) as admin:
        response = await admin.request("POST", "/trigger/", [], {**BEARER, "content-length": length})
        assert response.status == 413


async def test_a_body_that_does_not_come_is_408() -> None:
    async with Admin(body_timeout=0.02) as admin:
        response = await admin.request("POST", "/trigger/", [b'{"rooms":', asyncio.Event(), b""])
        assert response.status == 408


async def test_a_caller_that_leaves_is_not_answered_and_publishes_nothing() -> None:
    async with Admin() as admin:
        ann = await admin.member("a")
        response = await admin.request("POST", "/trigger/", [json.dumps(trigger("a")).encode(), None])
        await asyncio.sleep(0)
        assert (response.status, ann.payloads) == (0, [])


async def test_without_a_key_no_body_is_read() -> None:
    async with Admin() as admin:
        assert (await admin.request("POST", "/trigger/", [], {})).status == 401


# -- disconnect and refresh ------------------------------------------------------------------------------------------


async def test_disconnect_is_passed_on() -> None:
    async with Admin() as admin:
        response = await admin.post("/disconnect", {"user": 5, "code": 4000, "reason": "bye"})
        assert (response.status, response.json) == (200, {"connections": 3})
        await admin.post("/disconnect/", {"connection": "c1"})
        assert admin.control.told == [("5", None, 4000, "bye"), (None, "c1", 4401, "")]


async def test_refresh_is_passed_on() -> None:
    async with Admin() as admin:
        assert (await admin.post("/refresh", {"user": "ann"})).json == {"connections": 3}
        await admin.post("/refresh", {"user": 5, "allowed_rooms": ["a"]})
        assert admin.control.told == [("ann", None), ("5", b'{"allowed_rooms":["a"],"allowed_prefixes":[]}')]


@pytest.mark.parametrize("path", ["/disconnect", "/refresh"])
async def test_commands_that_are_wrong_or_reach_nobody(path: str) -> None:
    async with Admin() as admin:
        assert (await admin.post(path, {})).status == 400
        admin.control.failure = BrokerUnavailable("link down")
        response = await admin.post(path, {"user": "a"})
        assert (response.status, "link down" in response.json["error"]) == (503, False)


async def test_a_bug_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with Admin() as admin:
        admin.control.failure = KeyError("inner")
        response = await admin.post("/disconnect", {"user": "a"})
        assert (response.status, "inner" in response.json["error"]) == (500, False)
        assert "POST /disconnect failed" in caplog.text


# -- looking around --------------------------------------------------------------------------------------------------


async def test_rooms_are_listed_in_pages_that_miss_nothing() -> None:
    async with Admin() as admin:
        for room in ("b", {"x": 1}, "a", "a", "\u00fc &?"):
            await admin.member(room)
        assert (await admin.get("/rooms")).json == {
            "rooms": [
                {"room": "a", "subscriptions": 2},
                {"room": "b", "subscriptions": 1},
                {"room": {"x": 1}, "subscriptions": 1},
                {"room": "\u00fc &?", "subscriptions": 1},
            ],
            "total": 4,
            "next": None,
        }
        seen, target = [], "/rooms?limit=1"
        while True:
            page = (await admin.get(target)).json
            seen += [entry["room"] for entry in page["rooms"]]
            if page["next"] is None:
                break
            if len(seen) == 3:
                await admin.member("aa")  # it comes before what is still to be listed
            target = f"/rooms?limit=1&after={quote(page['next'])}"
        assert seen == ["a", "b", {"x": 1}, "\u00fc &?"]


async def test_connections_are_listed_in_pages_and_by_user() -> None:
    async with Admin() as admin:
        admin.control.views = [View("c3", "ann", 2), View("c1"), View("c2", "ann")]
        assert (await admin.get("/connections?limit=2")).json == {
            "connections": [
                {"connection": "c1", "user": None, "subscriptions": 0},
                {"connection": "c2", "user": "ann", "subscriptions": 0},
            ],
            "total": 3,
            "next": "c2",
        }
        rest = (await admin.get("/connections?limit=2&after=c2")).json
        assert ([each["connection"] for each in rest["connections"]], rest["next"]) == (["c3"], None)
        anns = (await admin.get("/connections?user=ann")).json
        assert ([each["connection"] for each in anns["connections"]], anns["total"]) == (["c2", "c3"], 2)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=%FF", "after=%FF", "limit=\u0663"]
)
async def test_a_page_that_cannot_be_is_400(query: str) -> None:
    async with Admin() as admin:
        assert (await admin.get(f"/rooms?{query}")).status == 400


async def test_metrics_are_prometheus_text() -> None:
    async with Admin() as admin:
        await admin.post("/trigger/", trigger("a", "b"))
        response = await admin.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b"\nfairlead_publications_total 2.0\n" in response.body


async def test_health_needs_no_key() -> None:
    async with Admin() as admin:
        assert (await admin.request("GET", "/healthz", headers={})).status == 200
        assert (await admin.request("GET", "/readyz", headers={})).status == 200
        admin.control.ready = False
        assert (await admin.request("GET", "/healthz", headers={})).status == 200
        assert (await admin.request("HEAD", "/readyz/", headers={})).status == 503
        assert (await admin.post("/trigger/", trigger("a"))).status == 200


# -- at once ---------------------------------------------------------------------------------------------------------


MINE = [("authorization", f"Bearer {KEYS[0]}")]
TRIGGER = b'{"rooms":["lobby","lobby",{"car":1}],"data":[1, 2]}'


@pytest.mark.parametrize(
    ("target", "body", "headers"),
    [
        ("/trigger/", TRIGGER, MINE),
        ("/publish", TRIGGER, [("x-api-key", KEYS[1])]),
        ("/trigger", b'{"rooms":[],"data":null}', MINE),
        ("/trigger", b'{"rooms":["nobody"],"data":"' + b"x" * 10_000 + b'"}', MINE),
    ],
)
async def test_at_once_it_is_the_same_answer_and_the_same_publication(
    target: str, body: bytes, headers: list[tuple[str, str]]
) -> None:
    async with Admin() as admin, Admin() as other:
        transport, expected = await admin.member("lobby"), await other.member("lobby")
        answer = at_once(admin, target, body, headers)
        response = await other.request("POST", target, body, headers)
        assert answer is not None
        lines, _, told = answer.partition(b"\r\n\r\n")
        assert dict(line.split(": ") for line in lines.decode().split("\r\n")) == response.headers
        assert (response.status, told) == (200, response.body)
        await asyncio.sleep(0)
        assert transport.payloads == expected.payloads
        assert admin.metrics.publications == other.metrics.publications


@pytest.mark.parametrize(
    ("target", "body", "headers"),
    [
        ("/trigger", TRIGGER, []),
        ("/trigger", TRIGGER, [("x-api-key", "wrong")]),
        ("/trigger", TRIGGER, [*MINE, ("x-api-key", KEYS[1])]),
        ("/trigger", TRIGGER, [*MINE, ("idempotency-key", "1")]),
        ("/trigger?a=b", TRIGGER, MINE),
        ("/disconnect", b'{"user":"1"}', MINE),
        ("/trigger", b"[%b]" % TRIGGER, MINE),
        ("/trigger", b'{"rooms":["lobby"]}', MINE),
        ("/trigger", b'{"rooms":["lobby",1],"data":1}', MINE),
        ("/trigger", json.dumps(trigger(*map(str, range(101)))).encode(), MINE),
        ("/trigger", b'{"rooms":["lobby"],"data":"' + b"x" * 2000 + b'"}', MINE),
    ],
)
async def test_everything_else_is_left_to_the_application(
    target: str, body: bytes, headers: list[tuple[str, str]]
) -> None:
    async with Admin(body_size=2000) as admin:
        transport = await admin.member("lobby")
        assert at_once(admin, target, body, headers) is None
        await asyncio.sleep(0)
        assert (transport.payloads, admin.metrics.publications, admin.control.told) == ([], 0, [])


@pytest.mark.parametrize("started", [True, False])
async def test_a_broker_that_has_to_be_waited_for_or_is_not_there_is_left_to_the_application(started: bool) -> None:
    admin = Admin(ScriptedBroker() if started else MemoryBroker())
    assert at_once(admin, "/trigger", TRIGGER, MINE) is None
    assert admin.metrics.publications == 0
