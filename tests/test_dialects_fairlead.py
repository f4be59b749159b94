"""The language of the clients: what is understood of what they send, and every message out, byte for byte."""

import base64
import json
import random
from typing import get_args

import pytest

from fairlead.dialects.fairlead import (
    FAIRLEAD,
    NO_REQUEST_ID,
    PONG,
    Bad,
    ErrorWord,
    Ping,
    Subscribe,
    Unsubscribe,
    decode,
    error,
    hello,
    refused,
    success,
    unsubscribed,
)
from fairlead.limits import Limits
from fairlead.message import Publication
from fairlead.rooms.names import room_key

NOT_JSON = Bad(None, "non-json-message")
NOT_ALLOWED = Bad(None, "message-type-not-allowed")
DEEP = "[" * 30_000


def sent(kind: str | None = None, **fields: str) -> str:
    """A client's message from fields that are JSON text already."""
    if kind is not None:
        fields["type"] = f'"{kind}"'
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


class TestPing:
    def test_text_ping(self) -> None:
        assert decode("ping") == Ping()
        assert PONG == b"pong"

    @pytest.mark.parametrize("payload", [b"ping", "Ping", "ping\n", " ping", '"ping'])
    def test_nothing_else_is_a_ping(self, payload: str | bytes) -> None:
        assert decode(payload) == NOT_JSON


class TestSubscribe:
    def test_object_room(self) -> None:
        message = '{"type":"subscribe","room":{"target":"car","car":1},"requestId":"a"}'
        assert decode(message) == Subscribe(room_key({"car": 1, "target": "car"}), b'"a"')

    def test_string_room(self) -> None:
        assert decode('{"type":"subscribe","room":"lobby","requestId":1}') == Subscribe(room_key("lobby"), b"1")

    def test_binary_message_holding_json(self) -> None:
        message = '{"type":"subscribe","room":"é","requestId":"é"}'
        assert decode(message.encode()) == decode(message) == Subscribe(room_key("é"), '"é"'.encode())

    def test_unknown_keys_are_ignored(self) -> None:
        message = '{"scope":{"a":[1,1e999]},"requestId":1,"type":"subscribe","x":null,"room":"r","since":{}}'
        assert decode(message) == Subscribe(room_key("r"), b"1")

    def test_last_duplicate_wins(self) -> None:
        message = '{"type":"x","type":"subscribe","room":1,"room":"r","requestId":null,"requestId":7}'
        assert decode(message) == Subscribe(room_key("r"), b"7")

    def test_white_space_and_escapes_do_not_matter(self) -> None:
        message = ' {\n"ty\\u0070e" : "subscri\\u0062e", "room" : { "a" : 1 } ,\t"requestId" : "\\u0061" }\r\n'
        assert decode(message) == Subscribe(room_key({"a": 1}), b'"a"')

    def test_last_duplicate_in_a_room_wins(self) -> None:
        assert decode('{"type":"subscribe","room":{"a":1.5,"a":2},"requestId":1}') == Subscribe(
            room_key({"a": 2}), b"1"
        )

    @pytest.mark.parametrize(
        "room",
        [
            *("null", "1", "1.5", "true", "[]", '["a"]', '""', '{"":1}', '{"a":[]}', '{"a":{}}', '"a\\n"', '"\\u0000"'),
            *('{"a":1.0}', '{"a":1e2}', '{"a":1e999}', '{"a":9223372036854775808}', "1e999", '{"a":%s}' % ("9" * 5000)),
            *('"{\\"a\\":1.5}"', '"%s"' % ("x" * 513), '{"a":"%s"}' % ("é" * 253)),
        ],
    )
    def test_invalid_room(self, room: str) -> None:
        assert decode(sent("subscribe", room=room, requestId='"a"')) == Bad(b'"a"', "invalid-room")

    def test_no_room(self) -> None:
        assert decode('{"type":"subscribe","requestId":"a"}') == Bad(b'"a"', "invalid-room")

    def test_limits(self) -> None:
        limits = Limits(room_size=3, request_id_size=2)
        assert decode('{"type":"subscribe","room":"abc","requestId":"ab"}', limits=limits) == Subscribe(
            room_key("abc"), b'"ab"'
        )
        assert decode('{"type":"subscribe","room":"abcd","requestId":1}', limits=limits) == Bad(b"1", "invalid-room")
        assert decode('{"type":"subscribe","room":"a","requestId":"abc"}', limits=limits) == Bad(None, "no-request-id")


class TestUnsubscribe:
    def test_by_request_id_whatever_room_is_named(self) -> None:
        assert decode('{"type":"unsubscribe","requestId":"a","room":[1]}') == Unsubscribe(b'"a"')

    def test_without_request_id(self) -> None:
        assert decode('{"type":"unsubscribe"}') == Bad(None, "no-request-id")


class TestRequestIds:
    @pytest.mark.parametrize(
        "given, canonical",
        [
            ('"a"', b'"a"'),
            ('""', b'""'),
            ('"\\u0061\\/"', b'"a/"'),
            ('"\\u00e9\\ud83d\\ude00"', '"é😀"'.encode()),
            ('"\\"\\n"', b'"\\"\\n"'),
            ("0", b"0"),
            ("-0", b"0"),
            ("9223372036854775807", b"9223372036854775807"),
            ("-9223372036854775808", b"-9223372036854775808"),
            ('"%s"' % ("é" * 64), b'"%b"' % ("é" * 64).encode()),
        ],
    )
    def test_travel_as_canonical_json(self, given: str, canonical: bytes) -> None:
        assert decode(sent("unsubscribe", requestId=given)) == Unsubscribe(canonical)

    def test_types_are_told_apart(self) -> None:
        ids = [decode(sent("unsubscribe", requestId=given)) for given in ("1", '"1"')]
        assert ids[0] != ids[1]

    @pytest.mark.parametrize(
        "unusable",
        [
            *("null", "true", "false", "1.0", "1e2", "1e999", "[]", '["a"]', "{}", '{"a":1}', "9223372036854775808"),
            *("-9223372036854775809", "9" * 5000, '"%s"' % ("x" * 129), '"%s"' % ("é" * 65)),
        ],
    )
    def test_anything_else_counts_as_none(self, unusable: str) -> None:
        for kind in ("subscribe", "unsubscribe"):
            assert decode(sent(kind, room='"r"', requestId=unusable)) == Bad(None, "no-request-id")


class TestWhatCannotBeUnderstood:
    @pytest.mark.parametrize(
        "payload",
        [
            *("", " ", "geen json", "{", "}", '{"type":"subscribe"', "[1", "[1,]", "nul", "01", "1.", "'a'", '"\\x"'),
            *('{"type":"subscribe","room":"a","requestId":1} x', '{"x":NaN}', '{"x":"\\ud800"}', '{"x":"\n"}'),
            *("\ud800", "\ufeff{}", b"", b"\xff", b"\x00", b'{"x":"\xff"}', b'{"x":"\xed\xa0\x80"}'),
            *(b"\xef\xbb\xbf{}", "{}".encode("utf-16")),
            *(DEEP, "[1," + DEEP, '{"x":' * 30_000, '{"type":"subscribe","room":' + DEEP + "]" * 30_000 + "}"),
        ],
    )
    def test_not_json(self, payload: str | bytes) -> None:
        assert decode(payload) == NOT_JSON

    @pytest.mark.parametrize(
        "payload", ["[1]", "null", "1", '"x"', "true", "[]", "1e999", "9" * 5000, b"[{}]", '"ping"']
    )
    def test_json_but_no_object(self, payload: str | bytes) -> None:
        assert decode(payload) == NOT_ALLOWED

    @pytest.mark.parametrize(
        "kind", ['"foobar"', '"publish"', '"Subscribe"', '""', "null", "1", "1e999", "[]", '["subscribe"]', '{"a":1}']
    )
    def test_unknown_type_with_and_without_request_id(self, kind: str) -> None:
        assert decode(sent(type=kind)) == NOT_ALLOWED
        assert decode(sent(type=kind, requestId="[]")) == NOT_ALLOWED
        assert decode(sent(type=kind, requestId='"a"')) == Bad(b'"a"', "message-type-not-allowed")

    def test_no_type(self) -> None:
        assert decode("{}") == NOT_ALLOWED
        assert decode('{"requestId":1,"room":"a"}') == Bad(b"1", "message-type-not-allowed")

    def test_the_first_fault_is_the_answer(self) -> None:
        """The type, then the request id, then the room."""
        assert decode('{"type":"x","room":1.5}') == NOT_ALLOWED
        assert decode('{"type":"subscribe","room":1.5}') == Bad(None, "no-request-id")
        assert decode('{"type":"subscribe","room":1.5,"requestId":1}') == Bad(b"1", "invalid-room")

    def test_no_input_raises(self) -> None:
        rng = random.Random(5)
        good = b'{"type":"subscribe","room":{"a":1,"b":"\\u00e9"},"requestId":"a"}'
        spare = b'{}[]",:\\u0d8ntf1e9-. \x00\xff\xc3'
        for _ in range(5000):
            payload = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(payload))
                match rng.randrange(3):
                    case 0:
                        payload[at] = rng.choice(spare)
                    case 1:
                        del payload[at]
                    case _:
                        payload.insert(at, rng.choice(spare))
            understood = decode(bytes(payload))
            if isinstance(understood, Bad):
                json.loads(error(understood.request_id, understood.word))
            else:
                json.loads(payload)


class TestReplies:
    def test_success(self) -> None:
        assert success(b'"a"') == b'{"requestId":"a","code":"success"}'

    def test_error(self) -> None:
        assert error(b"7", "room-not-found") == b'{"requestId":7,"code":"error","message":"room-not-found"}'

    def test_error_without_request_id(self) -> None:
        assert error(None, "no-request-id") == b'{"requestId":null,"code":"error","message":"no-request-id"}'

    def test_the_words(self) -> None:
        assert set(get_args(ErrorWord)) == {
            *("room-not-found", "not-subscribed", "no-request-id", "request-id-in-use", "non-json-message"),
            *("message-type-not-allowed", "invalid-room", "too-many-subscriptions", "unavailable"),
        }

    def test_unsubscribed(self) -> None:
        assert (
            unsubscribed(b'"a"', room_key({"b": 1, "a": "x"}), "revoked")
            == b'{"type":"unsubscribed","requestId":"a","room":{"a":"x","b":1},"reason":"revoked"}'
        )


class TestFirstMessage:
    def test_least(self) -> None:
        assert hello(connection="c1") == (
            b'{"is_authorized":true,"version":1,"allowed_rooms":[],"allowed_prefixes":[],"rooms":[],'
            b'"connection":"c1","user":null,"ping":25}'
        )

    def test_most(self) -> None:
        message = hello(
            connection='c"1',
            user=7,
            allowed_rooms=b'[{"t":"car","id":"*"}, "b", "a"]',
            allowed_prefixes=b'["x:"]',
            rooms=[room_key("news"), room_key({"b": 1, "a": 2})],
            ping=12.5,
            expires_in=300.0,
            data=b'{"any": [1, 2]}',
        )
        assert message == (
            b'{"is_authorized":true,"version":1,"allowed_rooms":[{"t":"car","id":"*"}, "b", "a"],'
            b'"allowed_prefixes":["x:"],"rooms":["news",{"a":2,"b":1}],"connection":"c\\"1","user":7,'
            b'"ping":12.5,"expires_in":300,"data":{"any": [1, 2]}}'
        )
        assert json.loads(message)["user"] == 7

    def test_refused(self) -> None:
        assert refused("forbidden", retry=False) == b'{"is_authorized":false,"error":"forbidden","retry":false}'
        assert refused("unavailable", retry=True) == b'{"is_authorized":false,"error":"unavailable","retry":true}'


class TestPublications:
    def frame(self, publication: Publication, tail: bytes = b'"a"', room: object = "r") -> bytes:
        return FAIRLEAD.join(FAIRLEAD.head(room_key(room), publication), tail)

    def test_json_goes_through_untouched(self) -> None:
        data = b'{"b": 1.0, "a":[1e2 , "\\u0061"]}'
        assert self.frame(Publication(data=data), room={"b": 1, "a": None}) == (
            b'{"type":"publish","room":{"a":null,"b":1},"data":{"b": 1.0, "a":[1e2 , "\\u0061"]},"requestId":"a"}'
        )

    def test_string_rooms_are_quoted(self) -> None:
        message = json.loads(self.frame(Publication(data=b"1"), room='{"a": "\\'))
        assert message["room"] == '{"a": "\\'

    @pytest.mark.parametrize("text", ["", "a", 'é😀"\\\n\x00\u2028', "</script>"])
    def test_text_becomes_a_string(self, text: str) -> None:
        assert json.loads(self.frame(Publication(data=text.encode(), kind="text")))["data"] == text

    def test_text_that_is_not_utf_8_is_mended(self) -> None:
        assert json.loads(self.frame(Publication(data=b"a\xff", kind="text")))["data"] == "a\ufffd"

    @pytest.mark.parametrize("data", [b"", b"\x00\xff", bytes(range(256))])
    def test_bytes_become_base64(self, data: bytes) -> None:
        assert base64.b64decode(json.loads(self.frame(Publication(data=data, kind="binary")))["data"]) == data

    def test_the_tail_is_the_request_id(self) -> None:
        assert json.loads(self.frame(Publication(data=b"1"), b"7"))["requestId"] == 7
        assert json.loads(self.frame(Publication(data=b"1"), NO_REQUEST_ID))["requestId"] is None

    def test_all_messages_are_text_and_none_are_merged(self) -> None:
        assert not any(FAIRLEAD.binary(kind) for kind in ("json", "text", "binary"))
        assert FAIRLEAD.pack([b"1", b"2"]) == [b"1", b"2"]
