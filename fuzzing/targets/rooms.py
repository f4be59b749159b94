"""Rooms and grants: what a name means, and who may join it.

The rest after the first byte is ``{"rooms": [R, ...], "allowed": [R, ...], "prefixes": [P, ...]}``, or any JSON or
text, which is one room. The first byte chooses the parser: that of the gateway, or Python's, which also gives what the
former never does: lone surrogates, numbers of any size, NaN.

Documented is ``InvalidRoom``, its text printable. A key is its own key, also by way of its JSON; two names have one key
exactly if the model below says that they mean one room, and a grant allows exactly what the model says.
"""

from __future__ import annotations

import json
from random import Random

import msgspec
from fuzzing.harness import Mutation, require
from fuzzing.json_texts import mutate_json, require_json

from fairlead.errors import InvalidRoom
from fairlead.rooms.names import Grants, RoomKey, room_json, room_key

LENGTH = 600
PYTHON, SMALL = 1, 2  # bits of the first byte

Meaning = str | frozenset[tuple[str, type, object]]
"""What a room is: a string, or names with values and their types, since ``1``, ``1.0`` and ``True`` are equal."""

_decode = msgspec.json.Decoder().decode


def check(data: bytes) -> None:
    """Some rooms and grants."""
    if not data:
        return
    value = _parse(data)
    size = 16 if data[0] & SMALL else 512
    if not isinstance(value, dict) or not isinstance(value.get("rooms"), list):
        _key(value, size)
        return
    keys = {key: _meaning(room) for room in value["rooms"] if (key := _key(room, size)) is not None}
    meanings = [_meaning(room) for room in value["rooms"] if _key(room, size) is not None]
    require(len(keys) == len(set(meanings)), "two rooms with one key, or one with two")
    allowed, prefixes = value.get("allowed"), value.get("prefixes")
    if isinstance(allowed, list) and isinstance(prefixes, list):
        _check_grants(keys, allowed, prefixes, size)


def _parse(data: bytes) -> object:
    text = data[1:].decode(errors="surrogatepass" if data[0] & PYTHON else "replace") if _is_text(data) else ""
    try:
        value: object = json.loads(text) if data[0] & PYTHON else _decode(text)
    except (ValueError, RecursionError):
        return text
    return value


def _is_text(data: bytes) -> bool:
    try:
        data[1:].decode(errors="surrogatepass" if data[0] & PYTHON else "replace")
    except UnicodeDecodeError:
        return False
    return True


def _key(value: object, size: int) -> RoomKey | None:
    try:
        key = room_key(value, size=size)
    except InvalidRoom as exc:
        require(str(exc).isprintable(), "a fault that cannot be shown")
        return None
    require(len(key.encode()) <= size, "a room over the limit")
    require(key.isprintable() or not any(char < " " or "\x7f" <= char < "\xa0" for char in key), "a control character")
    require(room_key(key, size=size) == key, "a key is not its own key")
    text = room_json(key)
    require_json(text, "a room")
    require(room_key(_decode(text), size=size) == key, "a room that is sent as another one")
    return key


def _meaning(value: object) -> Meaning:
    """What a good room means; a string that is an object's text is that object."""
    if isinstance(value, str):
        if not value.lstrip(" \t\r\n").startswith("{"):
            return value
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    require(isinstance(value, dict), "a room that is none")
    assert isinstance(value, dict)
    return frozenset((name, type(each), each) for name, each in value.items())


def _check_grants(keys: dict[RoomKey, Meaning], allowed: list[object], prefixes: list[str], size: int) -> None:
    try:
        grants = Grants(allowed, prefixes, size=size)
    except InvalidRoom as exc:
        require(str(exc).isprintable(), "a fault that cannot be shown")
        return
    patterns = [_meaning(room) for room in allowed]
    for key, meaning in keys.items():
        expected = any(_matches(pattern, meaning) for pattern in patterns)
        if isinstance(meaning, str):
            expected = expected or any(meaning.startswith(prefix) for prefix in prefixes)
        require(grants.allows(key) is expected, "allowed, or not, against the grants")


def _matches(pattern: Meaning, room: Meaning) -> bool:
    if isinstance(pattern, str) or isinstance(room, str):
        return pattern == room
    asked = {name: (kind, value) for name, kind, value in room}
    if len(pattern) != len(asked):
        return False
    return all(name in asked and (value == "*" or asked[name] == (kind, value)) for name, kind, value in pattern)


_KEYS = ("rooms", "allowed", "prefixes", "a", "b", "*", "\ud800")


def seeds() -> list[bytes]:
    """Rooms in all shapes, with grants."""
    rooms: list[object] = [
        "a",
        "b*",
        "*",
        {"a": 1, "b": "x"},
        {"a": True},
        '{"b":"x","a":1}',
        ' {"a":null}',
        {"a": "*"},
    ]
    grants: list[tuple[list[object], list[str]]] = [
        (rooms, []),
        ([], [""]),
        ([], ["a", "{"]),
        ([{"a": "*", "b": "x"}, {"a": "*"}], ["*"]),
        ([{"a": "*", "b": "*"}], ["b"]),
        (["a" * 513], []),
        ([1], ["\x00"]),
    ]
    texts = [json.dumps({"rooms": rooms, "allowed": allowed, "prefixes": prefixes}) for allowed, prefixes in grants]
    many = [f"a room of many, number {number}" for number in range(200)]
    texts += [json.dumps({"rooms": ["a room of many, number 7", "a room"], "allowed": many, "prefixes": []})]
    odd = (
        '{"a":1e999}',
        '{"a":"\ud800"}',
        "{}",
        '{"":1}',
        "[" * 60,
        "\ud800",
        '"\\ud800"',
        "NaN",
        '{"a":' + "1" * 400 + "}",
    )
    texts += [
        *odd,
        '{"a":NaN}',
        json.dumps('{"a":NaN}'),
        json.dumps('{"a":[1]}'),
        '"' + "é" * 257 + '"',
        '{"a":1,"a":2}',
    ]
    return [bytes((option,)) + text.encode(errors="surrogatepass") for text in texts for option in (0, PYTHON, SMALL)]


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes, or values."""
    return mutate_json(data, random, mutation, _KEYS)
