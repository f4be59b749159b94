"""What the API says: its answer to an ask, and the bodies of its calls to the admin listener.

The first byte chooses the call. For a refusal the next two are its status, and its content type, Retry-After and body
are separated by line feeds; everywhere else all that follows is the body.

Documented are ``BadBody`` for the calls and ``Refused`` for the answer, both with a text that can be shown on one line.
What is handed on as it came is JSON for another parser too, on one line where it travels so; rooms are their own keys;
numbers are within their ranges.
"""

from __future__ import annotations

from random import Random

from fuzzing.harness import Finding, Mutation, require
from fuzzing.json_texts import is_json, mutate_json, require_json

from fairlead.gateway.answer import Answer, Refused, Verdict, judge
from fairlead.gateway.bodies import BadBody, Trigger, read_disconnect, read_refresh, read_trigger
from fairlead.rooms.names import room_key

LENGTH = 600
SIZE = 512


def check(data: bytes) -> None:
    """One body."""
    if not data:
        return
    call = (_trigger, _disconnect, _refresh, _answer, _refusal)[data[0] % 5]
    try:
        call(data[1:])
    except (BadBody, Refused) as exc:
        text = str(exc)
        require(bool(text) and text.encode().decode().isprintable(), f"a fault that cannot be shown: {text!r}")


def _trigger(body: bytes) -> None:
    triggers = read_trigger(body, room_size=SIZE)
    require(is_json(body), "a body that is not JSON")
    for trigger in triggers if isinstance(triggers, list) else (triggers,):
        require(
            type(trigger) is Trigger and len(set(trigger.rooms)) == len(trigger.rooms) <= 1000,
            "rooms twice or too many",
        )
        require(all(room_key(room, size=SIZE) == room for room in trigger.rooms), "a room that is not its own key")
        require_json(trigger.data, "the data")


def _disconnect(body: bytes) -> None:
    call = read_disconnect(body)
    require(is_json(body), "a body that is not JSON")
    require((call.user is None) is not (call.connection is None), "both or none")
    require(3000 <= call.code <= 4999 and len(call.reason.encode()) <= 123, "a close that cannot be sent")


def _refresh(body: bytes) -> None:
    call = read_refresh(body, room_size=SIZE)
    require(is_json(body), "a body that is not JSON")
    if call.allowed is not None:
        require_json(call.allowed, "the rights")
        try:
            judge(200, {}, call.allowed, room_size=SIZE)
        except Refused as exc:
            raise Finding("rights that are none") from exc


def _answer(body: bytes) -> None:
    answer = judge(200, {}, body, room_size=SIZE)
    require(type(answer) is Answer and is_json(body), "an answer that is not JSON")
    require(
        answer.user is None or isinstance(answer.user, str) or -(2**63) <= answer.user < 2**63, "a user that is none"
    )
    require(answer.expires_in is None or answer.expires_in >= 5, "an expiry of under 5 seconds")
    require(all(room_key(room, size=SIZE) == room for room in answer.rooms), "a room that is not its own key")
    for text in (answer.allowed_rooms, answer.allowed_prefixes, answer.data):
        require(text is None or is_json(text), "what is handed on is not JSON")


def _refusal(data: bytes) -> None:
    status = int.from_bytes(data[:2], "big")
    content_type, _, rest = data[2:].decode("latin-1").partition("\n")
    retry_after, _, body = rest.partition("\n")
    status = status if status != 200 else 500
    try:
        judge(
            status, {"Content-Type": content_type, "Retry-After": retry_after}, body.encode("latin-1"), room_size=SIZE
        )
    except Refused as refused:
        require(refused.status == status, "another status")
        require(len(refused.body) <= 4096 and (not refused.body or 400 <= status < 500), "a body that is not handed on")
        for header in (refused.content_type, refused.retry_after or ""):
            require(header.isascii() and header.isprintable(), "a header that cannot be sent")
        require((refused.verdict is Verdict.UNAUTHORIZED) is (status == 401), "another verdict")
        raise
    raise Finding("an answer other than 200 lets a client in")


_KEYS = (
    *("rooms", "data", "user", "connection", "code", "reason", "allowed_rooms", "allowed_prefixes"),
    *("user_id", "id", "expires_in", "a", "*"),
)


def seeds() -> list[bytes]:
    """Each call, good and bad."""
    bodies = {
        0: (
            b'{"rooms":["a","a",{"b":1}],"data":{"n":[1,"\\u20ac"]}}',
            b'[{"rooms":["a"],"data":1},{"rooms":[],"data":"x\xe2\x82\xac"}]',
            b'{"rooms":["a"],\r\n"data":{"n":\n[1, 2]}}',
            b'{"rooms":"a","data":1}',
            b'{"rooms":["a"]}',
            b'{"data":1}',
            b'{"rooms":["a",1.5],"data":1}',
            b'{"rooms":["\\ud800"],"data":"\\ud800"}',
            b'{"rooms":["a"],"data":01}',
            b'{"rooms":["a"],"data":[tru]}',
            b'{"rooms":["a"],"data":"\xff"}',
            b"[" * 300,
            b"",
        ),
        1: (
            b'{"user":"u"}',
            b'{"user":7,"code":4999,"reason":"bye"}',
            b'{"connection":"c","code":2999}',
            b'{"user":1,"connection":"c"}',
            b'{"user":9223372036854775808}',
            b'{"user":1,"reason":"' + b"r" * 124 + b'"}',
        ),
        2: (
            b'{"user":"u"}',
            b'{"user":1,"allowed_rooms":["a",{"b":"*"}],"allowed_prefixes":["c"]}',
            b'{"user":1,"allowed_rooms":[1.5]}',
            b'{"user":1,"allowed_prefixes":[]}',
            b'{"user":1,"allowed_rooms":["{\\"a\\":1}"],"allowed_prefixes":["\\u0000"]}',
        ),
        3: (
            b'{"allowed_rooms":["a",{"b":"*"}],"allowed_prefixes":["c"],"user":{"id":7},"rooms":["a"],"expires_in":60,"data":{}}',
            b'{"user_id":"u","expires_in":1e-9,"data":[1,\n2]}',
            b'{"user":null,"user_id":null,"expires_in":null}',
            b'{"allowed_rooms":null}',
            b'{"expires_in":1e999}',
            b'{"expires_in":0}',
            b'{"rooms":["a","a",{"a":1}]}',
            b"{}",
        ),
        4: (
            b"\x01\x91text/plain\n30\nplease log in",
            b"\x01\xadapplication/json; charset=utf-8\nFri, 20 Nov 2026 10:00:00 GMT\n{}",
            b"\x01\xf4text/plain\n-1\nsecret",
            b"\x01\x2etext/html\n\n",
        ),
    }
    return [bytes((call,)) + body for call, all_of_it in bodies.items() for body in all_of_it]


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes, or values."""
    return mutation(data) if data[:1] == b"\x04" else mutate_json(data, random, mutation, _KEYS)
