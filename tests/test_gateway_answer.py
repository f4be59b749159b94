"""What the API's answer means for the client."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from fairlead.gateway.answer import Answer, Refused, Verdict, judge
from fairlead.rooms.names import room_key


def read(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    whole = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(status, headers or {}, whole, room_size=512)


def refused(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        read(body, status, headers)
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_empty_object_lets_a_nobody_in_who_may_join_nothing() -> None:
    answer = read({})
    assert (answer.user, answer.allowed_rooms, answer.allowed_prefixes, answer.rooms) == (None, b"[]", b"[]", ())
    assert (answer.expires_in, answer.data) == (None, None)
    assert not answer.grants.allows(room_key("a"))


def test_user_null_is_nobody_and_no_failure() -> None:
    answer = read({"user": None})
    assert answer.user is None
    assert answer.allowed_rooms == b"[]"


@pytest.mark.parametrize(
    ("body", "user"),
    [
        ({"user": {"id": 5, "name": "Ann"}}, 5),
        ({"user": {"id": "5"}}, "5"),
        ({"user_id": "ann"}, "ann"),
        ({"user_id": -3}, -3),
        ({"user": {"id": 1}, "user_id": 2}, 1),
        ({"user": {"id": None}, "user_id": 2}, 2),
        ({"user": {}, "user_id": None}, None),
    ],
)
def test_user_comes_from_user_id_of_either_form(body: object, user: object) -> None:
    answer = read(body)
    assert (answer.user, type(answer.user)) == (user, type(user))
    assert answer.user_name == (None if user is None else str(user))


def test_lists_and_data_are_kept_as_they_were_written() -> None:
    body = (
        b'{"allowed_rooms": ["b", {"z":1, "a":"*"} , "a"], "allowed_prefixes" : ["x:"],'
        b' "data": {"n": 1.10, "e": "\\u00e9\xc3\xa9"}}'
    )
    answer = read(body)
    assert answer.allowed_rooms == b'["b", {"z":1, "a":"*"} , "a"]'
    assert answer.allowed_prefixes == b'["x:"]'
    assert answer.data == b'{"n": 1.10, "e": "\\u00e9\xc3\xa9"}'
    assert answer.grants.allows(room_key("a"))
    assert answer.grants.allows(room_key({"a": 7, "z": 1}))
    assert answer.grants.allows(room_key("x:1"))
    assert not answer.grants.allows(room_key("y"))


def test_data_null_is_data() -> None:
    assert read({"data": None}).data == b"null"


def test_rooms_to_join_keep_their_order_and_come_once() -> None:
    answer = read({"rooms": ["b", {"z": 1, "a": 2}, "b", {"a": 2, "z": 1}, "a"]})
    assert answer.rooms == (room_key("b"), room_key({"a": 2, "z": 1}), room_key("a"))


@pytest.mark.parametrize(
    ("given", "counts"), [(60, 60.0), (4.9, 5.0), (0.001, 5.0), (5, 5.0), (1e300, 1e300), (10**18, 1e18), (None, None)]
)
def test_expires_in_is_a_positive_number_and_at_least_five(given: object, counts: object) -> None:
    assert read({"expires_in": given}).expires_in == counts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"<html>",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"user":{"id":"\xff"}}',
        b'{"data":"\xff"}',
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data":NaN}',
        b'{"expires_in":1e999}',
        b'{"user_id":' + b"9" * 5000 + b"}",
        {"user": 5},
        {"user": "ann"},
        {"user": []},
        {"user": {"id": True}},
        {"user": {"id": 1.0}},
        {"user": {"id": []}},
        {"user_id": False},
        {"user_id": 1.5},
        {"user_id": {}},
        {"user_id": 2**63},
        {"allowed_rooms": None},
        {"allowed_rooms": {}},
        {"allowed_rooms": "a"},
        {"allowed_rooms": [1]},
        {"allowed_rooms": [""]},
        {"allowed_rooms": [{"a": []}]},
        {"allowed_rooms": ["x" * 513]},
        {"allowed_prefixes": None},
        {"allowed_prefixes": [1]},
        {"allowed_prefixes": "a"},
        {"rooms": None},
        {"rooms": "a"},
        {"rooms": [None]},
        {"rooms": [{"a": 1.5}]},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": True},
        {"expires_in": "60"},
    ],
)
def test_a_wrong_shape_of_any_kind_is_unavailable(body: object) -> None:
    problem = refused(body)
    assert problem.verdict is Verdict.UNAVAILABLE
    assert problem.status == 200


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (401, Verdict.UNAUTHORIZED),
        (400, Verdict.FORBIDDEN),
        (403, Verdict.FORBIDDEN),
        (404, Verdict.FORBIDDEN),
        (418, Verdict.FORBIDDEN),
        (499, Verdict.FORBIDDEN),
        (429, Verdict.UNAVAILABLE),
        (101, Verdict.UNAVAILABLE),
        (201, Verdict.UNAVAILABLE),
        (204, Verdict.UNAVAILABLE),
        (301, Verdict.UNAVAILABLE),
        (304, Verdict.UNAVAILABLE),
        (500, Verdict.UNAVAILABLE),
        (503, Verdict.UNAVAILABLE),
        (599, Verdict.UNAVAILABLE),
        (999, Verdict.UNAVAILABLE),
    ],
)
def test_every_other_status_has_its_verdict_whatever_the_body_says(status: int, verdict: Verdict) -> None:
    problem = refused({"allowed_rooms": ["a"]}, status)
    assert (problem.verdict, problem.status) == (verdict, status)


def test_a_refusals_own_short_words_are_kept() -> None:
    problem = refused({"why": "banned"}, 403, {"Content-Type": "application/json; charset=utf-8"})
    assert (problem.body, problem.content_type) == (b'{"why": "banned"}', "application/json; charset=utf-8")
    assert refused(b"x" * 4096, 403, {"Content-Type": "text/plain"}).body == b"x" * 4096


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (403, b"x" * 4097, "text/plain"),
        (403, b"x", "text/html"),
        (403, b"x", ""),
        (403, b"x", "image/png"),
        (403, b"x", "text/plain; a=\u00e9"),
        (500, b"secret trace", "text/plain"),
        (302, b"moved", "text/plain"),
    ],
)
def test_words_too_long_or_of_another_kind_are_dropped(status: int, body: bytes, content_type: str) -> None:
    problem = refused(body, status, {"Content-Type": content_type})
    assert (problem.body, problem.content_type) == (b"", "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("120", "120"),
        (" 7 ", "7"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("soon", None),
        ("-1", None),
        ("9" * 41, None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after_is_kept_if_it_is_one(given: str, kept: str | None) -> None:
    assert refused(b"", 503, {"Retry-After": given}).retry_after == kept


@pytest.mark.parametrize(("size", "good"), [(600, True), (599, False)])
@pytest.mark.parametrize("where", ["allowed_rooms", "allowed_prefixes", "rooms"])
def test_rooms_may_be_as_long_as_the_limit_says(where: str, size: int, good: bool) -> None:
    body = json.dumps({where: ["x" * 600]}).encode()
    if good:
        assert judge(200, {}, body, room_size=size)
    else:
        with pytest.raises(Refused, match="at most 599 bytes"):
            judge(200, {}, body, room_size=size)
