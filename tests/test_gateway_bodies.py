"""What the admin calls' bodies may hold."""

from __future__ import annotations

import json
import re

import pytest

from fairlead.gateway.bodies import (
    BadBody,
    DisconnectCall,
    RefreshCall,
    Trigger,
    read_disconnect,
    read_refresh,
    read_trigger,
)
from fairlead.rooms.names import room_key


def trigger(body: object) -> Trigger | list[Trigger]:
    return read_trigger(body if isinstance(body, bytes) else json.dumps(body).encode(), room_size=20)


def fault(body: object) -> str:
    with pytest.raises(BadBody) as caught:
        trigger(body)
    return str(caught.value)


def test_an_object_is_one_trigger_and_an_array_a_batch() -> None:
    assert trigger({"rooms": ["a"], "data": 1, "later": True}) == Trigger((room_key("a"),), b"1")
    assert trigger(b' \r\n\t[{"rooms":["a"],"data":1},{"rooms":[],"data":null}]') == [
        Trigger((room_key("a"),), b"1"),
        Trigger((), b"null"),
    ]
    assert trigger([]) == []


def test_a_room_named_twice_in_any_spelling_is_one_room() -> None:
    body = b'{"rooms":["b",{"y":1,"x":2},"b",{"x":2,"y":1},"{\\"x\\":2,\\"y\\":1}","a"],"data":0}'
    assert trigger(body) == Trigger((room_key("b"), room_key({"x": 2, "y": 1}), room_key("a")), b"0")


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1.10, "a":[ ],"e":"\\u00e9\xc3\xa9 \xe2\x80\xa8","b":1e999}',
        b"123456789012345678901234567890",
        b'"a\\nb"',
        b"null",
        b"false",
    ],
)
def test_data_is_left_exactly_as_it_was_written(data: bytes) -> None:
    assert trigger(b'{"data": ' + data + b' ,"rooms":["a"]}') == Trigger((room_key("a"),), data)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_data_on_several_lines_is_made_compact_without_changing_a_value(end: bytes) -> None:
    data = b'{"b": 1.10,' + end + b' "a": "x  y\\n",' + end + b' "c": 123456789012345678901234567890 }'
    expected = b'{"b":1.10,"a":"x  y\\n","c":123456789012345678901234567890}'
    assert trigger(b'{"rooms":["a"],"data":' + data + b"}") == Trigger((room_key("a"),), expected)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "rooms not specified"),
        ({"data": 1}, "rooms not specified"),
        ({"rooms": ["a"]}, "data not specified"),
        ({"rooms": None, "data": 1}, "rooms must be a list - at `$.rooms`"),
        ({"rooms": "a", "data": 1}, "rooms must be a list - at `$.rooms`"),
        ({"rooms": {"a": 1}, "data": 1}, "rooms must be a list - at `$.rooms`"),
        ({"rooms": ["a", 7], "data": 1}, "- at `$.rooms[1]`"),
        ({"rooms": ["a", ""], "data": 1}, "- at `$.rooms[1]`"),
        ({"rooms": ["x" * 21], "data": 1}, "at most 20 bytes - at `$.rooms[0]`"),
        ({"rooms": ["a"] * 1001, "data": 1}, "1001 rooms; at most 1000 in one trigger - at `$.rooms`"),
        ([{"rooms": ["a"], "data": 1}, {"rooms": ["a"]}], "data not specified - at `$[1]`"),
        ([{"rooms": ["a"], "data": 1}, {"rooms": ["b", None], "data": 1}], "- at `$[1].rooms[1]`"),
        ([{"rooms": ["a"], "data": 1}, 3], "- at `$[1]`"),
        ([{"rooms": [], "data": 1}] * 1001, "1001 triggers in a batch; at most 1000"),
        ([{"rooms": ["a"] * 1000, "data": 1}] * 11, "more than 10000 rooms in a batch"),
        (b"", "the body is not JSON"),
        (b"rooms=a&data=1", "the body is not JSON"),
        (b'{"rooms":["a"],"data":1', "the body is not JSON"),
        (b'{"rooms":["a"],"data":1}x', "the body is not JSON"),
        (b'{"rooms":["a"],"data":NaN}', "the body is not JSON"),
        (b'{"rooms":["a"],"data":"a\nb"}', "the body is not JSON"),
        (b'{"rooms":["a"],"data":"\xff"}', "the body is not UTF-8"),
        (b'{"rooms":["\xff"],"data":1}', "the body is not UTF-8"),
        (b'{"rooms":["a"],"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the body is nested too deep"),
        (b"[" * 100_000 + b"]" * 100_000, "expected object, got array - at `$[0]`"),
        (b"7", "the body is not as agreed: expected object, got int"),
        (b"null", "the body is not as agreed: expected object, got null"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body: object, text: str) -> None:
    assert text in fault(body)


def test_what_was_sent_is_not_repeated() -> None:
    assert "SECRET" not in fault({"rooms": ["\x00SECRET"], "data": "SECRET"})
    assert "SECRET" not in fault(b'{"rooms":["a"],"data":"SECRET"')


def test_disconnect_names_a_user_or_a_connection() -> None:
    assert read_disconnect(b'{"user": 5}') == DisconnectCall("5", None, 4401, "")
    assert read_disconnect(b'{"user": "ann", "code": 4000, "reason": "bye"}') == DisconnectCall(
        "ann", None, 4000, "bye"
    )
    assert read_disconnect(b'{"connection": "c1"}') == DisconnectCall(None, "c1", 4401, "")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": "a", "connection": "b"},
        {"user": None},
        {"user": True},
        {"user": 1.5},
        {"user": ["a"]},
        {"connection": 5},
        {"user": "a", "code": 1000},
        {"user": "a", "code": 2999},
        {"user": "a", "code": 5000},
        {"user": "a", "code": "4000"},
        {"user": "a", "reason": "\u00e9" * 62},
        {"user": "a", "reason": None},
        [],
    ],
)
def test_a_disconnect_that_is_not_one_is_refused(body: object) -> None:
    with pytest.raises(BadBody):
        read_disconnect(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"user": "a", "code": 2999}', "code must be from 3000 to 4999 - at `$.code`"),
        (b'{"user": "a", "code": "4000"}', "expected int, got str - at `$.code`"),
        (b'{"user": "a", "reason": null}', "expected str, got null - at `$.reason`"),
    ],
)
def test_what_is_wrong_with_a_disconnect_is_said_in_the_same_way(body: bytes, text: str) -> None:
    with pytest.raises(BadBody, match=f"^{re.escape(text)}$"):
        read_disconnect(body)


def test_refresh_asks_the_api_unless_the_rights_are_given() -> None:
    assert refresh(b'{"user": 5}') == RefreshCall("5", None)
    call = refresh(b'{"user": "ann", "allowed_rooms": ["b", {"z": 1, "a": "*"}]}')
    assert call == RefreshCall("ann", b'{"allowed_rooms":["b",{"z":1,"a":"*"}],"allowed_prefixes":[]}')
    call = refresh(b'{"user": "ann", "allowed_rooms": [], "allowed_prefixes": ["x:"]}')
    assert call == RefreshCall("ann", b'{"allowed_rooms":[],"allowed_prefixes":["x:"]}')


def refresh(body: bytes) -> RefreshCall:
    return read_refresh(body, room_size=20)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": None},
        {"user": True},
        {"user": "a", "allowed_rooms": None},
        {"user": "a", "allowed_rooms": ["a", 1.5]},
        {"user": "a", "allowed_rooms": [], "allowed_prefixes": [1]},
        {"user": "a", "allowed_rooms": [], "allowed_prefixes": None},
        {"user": "a", "allowed_prefixes": ["x"]},
    ],
)
def test_a_refresh_that_is_not_one_is_refused(body: object) -> None:
    with pytest.raises(BadBody):
        refresh(json.dumps(body).encode())


def test_a_granted_room_may_be_as_long_as_any() -> None:
    assert read_refresh(b'{"user": 5, "allowed_rooms": ["abcd"], "allowed_prefixes": ["abcd"]}', room_size=4)
    for rooms, prefixes in (["abcde"], []), ([], ["abcde"]):
        body = json.dumps({"user": 5, "allowed_rooms": rooms, "allowed_prefixes": prefixes}).encode()
        with pytest.raises(BadBody, match="at most 4 bytes"):
            read_refresh(body, room_size=4)
