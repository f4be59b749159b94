"""The fairlead dialect: one message of a client, and the replies to it.

The first byte chooses between a text and a binary message.

Documented are the four results of ``decode`` and no exception. What is understood is JSON for another parser too; a
request id is canonical JSON of a string of at most 128 bytes or a 64-bit integer; a room is its own key; and whatever
is sent back is JSON on one line that says the same room and id.
"""

from __future__ import annotations

from random import Random

import msgspec
from fuzzing.harness import Mutation, require
from fuzzing.json_texts import is_json, mutate_json, require_json

from fairlead.dialects.fairlead import (
    FAIRLEAD,
    Bad,
    Ping,
    Subscribe,
    Unsubscribe,
    decode,
    error,
    hello,
    success,
    unsubscribed,
)
from fairlead.message import Publication
from fairlead.rooms.names import RoomKey, room_json, room_key

LENGTH = 400
BINARY = 1  # bit of the first byte

_decode = msgspec.json.Decoder().decode
_NOT_JSON = "non-json-message"


def check(data: bytes) -> None:
    """One message; as a text one only if it is UTF-8, since no other reaches the dialect."""
    if not data:
        return
    payload: str | bytes = data[1:]
    if not data[0] & BINARY:
        try:
            payload = data[1:].decode()
        except UnicodeDecodeError:
            return
    request = decode(payload)
    if type(request) is Ping:
        require(payload == "ping", "a ping that is none")
        return
    understood = type(request) is not Bad or request.word != _NOT_JSON
    require(is_json(data[1:]) if understood else True, "understood, though it is not JSON")
    if type(request) is Subscribe:
        _check_id(request.request_id)
        _check_room(request.room, request.request_id)
    elif type(request) is Unsubscribe:
        _check_id(request.request_id)
    else:
        require(type(request) is Bad, "an undocumented result")
        assert type(request) is Bad
        if request.request_id is not None:
            _check_id(request.request_id)
        reply = error(request.request_id, request.word)
        require_json(reply, "an error")
        require(_decode(reply)["message"] == request.word, "an error says something else")


def _check_id(request_id: bytes) -> None:
    value = _decode(request_id)
    if type(value) is str:
        require(len(value.encode()) <= 128, "a request id over the limit")
    else:
        require(type(value) is int and -(2**63) <= value < 2**63, "a request id that is none")
    require(msgspec.json.encode(value) == request_id, "a request id that is not canonical")
    reply = success(request_id)
    require_json(reply, "a success")
    require(_decode(reply) == {"requestId": value, "code": "success"}, "a success says something else")


def _check_room(room: RoomKey, request_id: bytes) -> None:
    require(len(room.encode()) <= 512, "a room over the limit")
    require(room_key(room) == room, "a room that is not its own key")
    named = _decode(room_json(room))
    require(room_key(named) == room, "a room that is sent as another one")
    head = FAIRLEAD.head(room, Publication(data=b'{"n":1}'))
    replies = (
        FAIRLEAD.join(head, request_id),
        unsubscribed(request_id, room, "revoked"),
        hello(connection="c", rooms=[room]),
    )
    for reply in replies:
        require_json(reply, "a message")
    published = _decode(replies[0])
    require(
        published["room"] == named and published["requestId"] == _decode(request_id), "a publication says otherwise"
    )


_KEYS = ("type", "room", "requestId", "x")


def seeds() -> list[bytes]:
    """Requests good and bad."""
    rooms = (
        '"a"',
        '{"a":1,"b":"x"}',
        '"{\\"b\\":null,\\"a\\":true}"',
        '""',
        "[]",
        "1",
        '"\\u0000"',
        '"\\ud800"',
        '{"a":1.5}',
    )
    ids = (
        '"1"',
        "1",
        "-9223372036854775808",
        "9223372036854775808",
        "1.0",
        "null",
        '"' + "i" * 129 + '"',
        '"€"',
        "1e999",
    )
    texts = [f'{{"type":"subscribe","room":{room},"requestId":"i"}}' for room in rooms]
    texts += [f'{{"type":"subscribe","room":"a","requestId":{each}}}' for each in ids]
    texts += [f'{{"type":"unsubscribe","requestId":{each}}}' for each in ids[:2]]
    texts += ["ping", "", "[]", "1", "nul", '{"type":"publish"}', '{"type":1,"requestId":1}', '{"a":' * 50, "[" * 500]
    texts += ['{"x":01,"type":"unsubscribe","requestId":1}', '{"x":"\\x","x":[tru],"type":"subscribe"}', "\ufeff{}"]
    return [bytes((option,)) + text.encode() for text in texts for option in (0, BINARY)]


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes, or values."""
    return mutate_json(data, random, mutation, _KEYS)
