"""JSON-RPC 2.0: what is understood of what clients send, and every message out, byte for byte."""

from __future__ import annotations

import json
import random

import msgspec
import pytest

from fairlead.dialects.codec import Answer, Call, CallError, Cancel, ErrorCode, Fault, params
from fairlead.dialects.jsonrpc import BATCH, JSONRPC
from fairlead.errors import UsageError
from fairlead.limits import Limits
from fairlead.message import Publication
from fairlead.rooms.names import room_key

LIMITS = Limits()
DEEP = "[" * 30_000


def understood(payload: str | bytes, limits: Limits = LIMITS) -> object:
    """One message as it is understood; a call as a plain one, to be compared."""
    incoming = JSONRPC.decode(payload, limits=limits)
    return list(map(plain, incoming)) if isinstance(incoming, list) else plain(incoming)


def plain(incoming: object) -> object:
    if isinstance(incoming, Call):
        return Call(method=incoming.method, params=incoming.params, id=incoming.id)
    if isinstance(incoming, Answer) and incoming.error is not None:
        return (incoming.id, incoming.error.code, incoming.error.message, incoming.error.data)
    return answered(incoming) if isinstance(incoming, Fault) else incoming


def answered(fault: Fault) -> tuple[int, object]:
    """The code and the id of the error that a fault is answered with."""
    answer = JSONRPC.error(fault.call, fault.error)
    assert answer is not None
    decoded = json.loads(answer)
    assert set(decoded) == {"jsonrpc", "error", "id"}
    assert set(decoded["error"]) == {"code", "message"}
    return decoded["error"]["code"], decoded["id"]


def call(method: str, params: list[object] | dict[str, object] | None = None, **id: str | float | None) -> Call:
    return Call(method=method, params=[] if params is None else params, id=id.get("id", msgspec.UNSET))


def request(**members: str) -> str:
    """A request from members that are JSON text already."""
    members = {"jsonrpc": '"2.0"', "method": '"m"', "id": "1", **members}
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items() if value) + "}"


PARSE_ERROR = (-32700, None)
INVALID = (-32600, None)


class TestRequests:
    def test_arguments_by_position(self) -> None:
        message = '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}'
        assert understood(message) == call("subtract", [42, 23], id=1)

    def test_arguments_by_name(self) -> None:
        message = '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}'
        assert understood(message) == call("subtract", {"minuend": 42, "subtrahend": 23}, id=3)

    def test_no_arguments(self) -> None:
        assert understood(request()) == understood(request(params="[]")) == call("m", id=1)

    def test_notification(self) -> None:
        assert understood('{"jsonrpc": "2.0", "method": "update", "params": [1]}') == call("update", [1])

    def test_binary_message_holding_json(self) -> None:
        message = request(params='["é"]')
        assert understood(message.encode()) == understood(message) == call("m", ["é"], id=1)

    def test_unknown_members_are_skipped_and_the_last_of_a_repeated_one_counts(self) -> None:
        message = '{"x":[1e999],"jsonrpc":"2.0","method":"a","method":"m","id":"a","id":7,"result":1}'
        assert understood(message) == call("m", id=7)

    def test_white_space_and_escapes_do_not_matter(self) -> None:
        message = ' {\n"jsonr\\u0070c" : "2\\u002e0", "method":"\\u006d" ,\t"id" : "\\u0061" }\r\n'
        assert understood(message) == call("m", id="a")


class TestIds:
    @pytest.mark.parametrize(
        ("given", "id"),
        [
            *((number, float(number)) for number in ("1.5", "-0.25", "1e2", "1E-7")),
            *((number, int(number)) for number in ("0", "1", "-1", str(2**63 - 1), str(-(2**63)))),
            *(('""', ""), ('"a"', "a"), ('"1"', "1"), ('"\\u00e9"', "é"), ("null", None)),
            ('"%s"' % ("é" * 64), "é" * 64),
        ],
    )
    def test_strings_numbers_and_null_come_back_as_they_were(self, given: str, id: str | float | None) -> None:
        incoming = understood(request(id=given))
        assert incoming == call("m", id=id)
        assert isinstance(incoming, Call)
        assert type(incoming.id) is type(id)
        answer = JSONRPC.result(incoming, 0)
        assert answer is not None
        assert json.loads(answer)["id"] == id

    @pytest.mark.parametrize(
        "given",
        [
            *("true", "false", "[]", '["a"]', "{}", '{"a":1}', "1e999", str(2**63), str(-(2**63) - 1), "9" * 5000),
            *('"%s"' % ("x" * 129), '"%s"' % ("é" * 65)),
        ],
    )
    def test_anything_else_makes_the_request_invalid_and_is_not_repeated(self, given: str) -> None:
        assert understood(request(id=given)) == INVALID
        assert understood(request(id=given, jsonrpc='"1.0"')) == INVALID

    def test_limit(self) -> None:
        limits = Limits(request_id_size=2)
        assert understood(request(id='"ab"'), limits) == call("m", id="ab")
        assert understood(request(id='"é"'), limits) == call("m", id="é")
        assert understood(request(id='"abc"'), limits) == INVALID


class TestWhatIsNoRequest:
    @pytest.mark.parametrize(
        "payload",
        [
            *("", " ", "no json", "{", "}", '{"jsonrpc":"2.0","method":"m"', "[", "[1,", "[1,]", "nul", "01", "'a'"),
            *('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', '"\\x"', '{"x":NaN}', '{"x":"\n"}'),
            '[{"jsonrpc":"2.0","method":"sum","params":[1,2,4],"id":"1"},{"jsonrpc":"2.0","method"]',
            *(request() + " x", request(id="01"), request(params="[1"), "\ufeff{}", "\ud800", request(id='"\ud800"')),
            *(b"", b"\xff", b"\x00", b'{"x":"\xff"}', b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'["\xed\xa0\x80"]'),
            *(DEEP, "[1," + DEEP, '{"x":' * 30_000, request(params=DEEP), request(params=DEEP + "]" * 30_000)),
        ],
    )
    def test_not_json(self, payload: str | bytes) -> None:
        assert understood(payload) == PARSE_ERROR

    @pytest.mark.parametrize("payload", ["1", "null", "true", '"x"', '"ping"', "1e999", "9" * 5000, "{}", b"0"])
    def test_json_but_no_request(self, payload: str | bytes) -> None:
        assert understood(payload) == INVALID

    @pytest.mark.parametrize(
        "members",
        [
            *({"jsonrpc": version} for version in ("", "2.0", '"2"', '"1.0"', "null", '"2.00"', "[]")),
            *({"method": method} for method in ("", "1", "null", "[]", "{}", "true")),
            *({"params": given} for given in ('"bar"', "1", "null", "true", "[1e999]", '{"a":%s}' % ("9" * 5000))),
        ],
    )
    def test_a_member_that_cannot_be_used_is_told_under_the_id(self, members: dict[str, str]) -> None:
        assert understood(request(**members)) == (-32600, 1)
        assert understood(request(**members, id='"a"')) == (-32600, "a")
        assert understood(request(**members, id="")) == INVALID

    def test_the_example_of_the_specification(self) -> None:
        assert understood('{"jsonrpc": "2.0", "method": 1, "params": "bar"}') == INVALID

    def test_no_input_raises(self) -> None:
        rng = random.Random(5)
        seeds = [
            b'{"jsonrpc":"2.0","method":"m","params":{"a":[1,"\\u00e9"]},"id":"a"}',
            b'[{"jsonrpc":"2.0","result":1,"id":1},{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}]',
        ]
        spare = b'{}[]",:\\u0d8ntf1e9-. \x00\xff\xc3'
        for turn in range(5000):
            payload = bytearray(seeds[turn % 2])
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(payload))
                match rng.randrange(3):
                    case 0:
                        payload[at] = rng.choice(spare)
                    case 1:
                        del payload[at]
                    case _:
                        payload.insert(at, rng.choice(spare))
            if understood(bytes(payload)) != PARSE_ERROR:
                json.loads(payload)


class TestBatches:
    def test_each_is_what_it_is_by_itself(self) -> None:
        message = """[
            {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "get_data", "id": "9"},
            {"jsonrpc": "2.0", "result": 19, "id": 1},
            {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 5}}
        ]"""
        assert understood(message) == [
            call("sum", [1, 2, 4], id="1"),
            call("notify_hello", [7]),
            INVALID,
            call("get_data", id="9"),
            Answer(1, 19, None),
            Cancel(5),
        ]

    def test_empty(self) -> None:
        assert understood("[]") == understood(" [ ] ") == INVALID

    def test_of_what_is_no_request(self) -> None:
        assert understood("[1]") == [INVALID]
        assert understood('[1,"x",[]]') == [INVALID, INVALID, INVALID]
        assert understood(f"[[{request()}]]") == [INVALID]
        assert understood(f"[{request(id='true')},{request(params='1')}]") == [INVALID, (-32600, 1)]

    def test_so_many_and_no_more(self) -> None:
        one = request(id="7")
        assert understood(f"[{','.join([one] * BATCH)}]") == [call("m", id=7)] * BATCH
        assert understood(f"[{','.join([one] * (BATCH + 1))}]") == INVALID

    def test_answers_go_back_together(self) -> None:
        assert JSONRPC.batch([b'{"id":1}', b'{"id":2}']) == b'[{"id":1},{"id":2}]'


class TestAnswers:
    def test_result(self) -> None:
        assert understood('{"jsonrpc":"2.0","result":{"a":[null]},"id":1}') == Answer(1, {"a": [None]}, None)
        assert understood('{"jsonrpc":"2.0","result":null,"id":1}') == Answer(1, None, None)

    def test_error(self) -> None:
        message = '{"jsonrpc":"2.0","error":{"code":-5,"message":"no","data":%s},"id":1}'
        for data in ("0", "[]", '"x"', "null", "false"):
            assert understood(message % data) == (1, -5, "no", json.loads(data))
        assert understood('{"jsonrpc":"2.0","error":{"code":-5,"message":"no"},"id":null}') == (None, -5, "no", None)

    @pytest.mark.parametrize(
        "message",
        [
            '{"jsonrpc":"2.0","result":1,"error":{"code":1,"message":""},"id":1}',
            '{"jsonrpc":"2.0","error":"no","id":1}',
            '{"jsonrpc":"2.0","error":{"code":"1","message":""},"id":1}',
            '{"jsonrpc":"2.0","error":{"code":1},"id":1}',
            '{"jsonrpc":"1.0","result":1,"id":1}',
            '{"jsonrpc":"2.0","result":1e999,"id":1}',
            '{"jsonrpc":"2.0","result":1}',
        ],
    )
    def test_a_bad_one_is_told_but_not_under_its_id_which_is_the_servers(self, message: str) -> None:
        assert understood(message) == understood(f"[{message}]".strip("[]")) == INVALID


class TestCancel:
    @pytest.mark.parametrize("id", [1, 1.5, "a", ""])
    def test_names_a_call(self, id: str | float) -> None:
        assert understood(request(method='"$/cancelRequest"', id="", params=json.dumps({"id": id}))) == Cancel(id)

    @pytest.mark.parametrize("given", ["", "[]", "[1]", "{}", '{"id":null}', '{"id":true}', '{"id":[]}', '{"id":{}}'])
    def test_names_nothing(self, given: str) -> None:
        assert understood(request(method='"$/cancelRequest"', id="", params=given)) == Cancel(None)

    def test_with_an_id_it_is_a_call_like_any_other(self) -> None:
        assert understood(request(method='"$/cancelRequest"', id="2")) == call("$/cancelRequest", id=2)


class TestWhatGoesOut:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(19, b"19"), (None, b"null"), ("é", '"é"'.encode()), ({"a": [1.5]}, b'{"a":[1.5]}'), (b"hi", b'"aGk="')],
    )
    def test_result(self, value: object, text: bytes) -> None:
        assert JSONRPC.result(call("m", id=4), value) == b'{"jsonrpc":"2.0","id":4,"result":%b}' % text

    def test_id_null(self) -> None:
        assert JSONRPC.result(call("m", id=None), 1) == b'{"jsonrpc":"2.0","id":null,"result":1}'

    def test_stream(self) -> None:
        asked = call("m", id="a")
        progress = b'{"jsonrpc":"2.0","method":"$/progress","params":{"token":"a","value":[1]}}'
        assert JSONRPC.progress(asked, [1]) == progress
        assert JSONRPC.end(asked) == b'{"jsonrpc":"2.0","id":"a","result":null}'

    def test_error(self) -> None:
        error = JSONRPC.error(call("m", id=1), CallError(7, 'said "no"'))
        assert error == b'{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"said \\"no\\""}}'

    @pytest.mark.parametrize("data", [0, [], "", {"a": 1}])
    def test_error_with_data(self, data: object) -> None:
        error = JSONRPC.error(call("m", id=1), CallError(ErrorCode.INTERNAL_ERROR, "x", data))
        assert error is not None
        assert json.loads(error)["error"] == {"code": -32603, "message": "x", "data": data}

    def test_a_notification_is_answered_with_nothing(self) -> None:
        told = call("m")
        error = CallError(ErrorCode.METHOD_NOT_FOUND, "x")
        answers = (JSONRPC.result(told, 1), JSONRPC.progress(told, 1), JSONRPC.end(told), JSONRPC.error(told, error))
        assert answers == (None, None, None, None)

    @pytest.mark.parametrize("value", [object(), "\ud800", {1: object()}])
    def test_what_has_no_form_in_json_raises(self, value: object) -> None:
        with pytest.raises((TypeError, ValueError)):
            JSONRPC.result(call("m", id=1), value)

    def test_calls_of_the_servers(self) -> None:
        assert JSONRPC.call(call("m", [1], id=1)) == b'{"jsonrpc":"2.0","method":"m","params":[1],"id":1}'
        assert JSONRPC.call(call("m", {"a": 1}, id=1)) == b'{"jsonrpc":"2.0","method":"m","params":{"a":1},"id":1}'
        assert JSONRPC.call(call("m", id=1)) == b'{"jsonrpc":"2.0","method":"m","id":1}'

    def test_notifications_of_the_servers(self) -> None:
        assert JSONRPC.call(call("m", [1])) == b'{"jsonrpc":"2.0","method":"m","params":[1]}'


class TestPublications:
    @pytest.mark.parametrize(
        ("publication", "data"),
        [
            (Publication(data=b'{"a" : 1}'), b'{"a" : 1}'),
            (Publication(data='é "x"'.encode(), kind="text"), '"é \\"x\\""'.encode()),
            (Publication(data=b"\xff", kind="text"), '"�"'.encode()),
            (Publication(data=b"hi", kind="binary"), b'"aGk="'),
        ],
    )
    def test_are_notifications(self, publication: Publication, data: bytes) -> None:
        dialect = JSONRPC.dialect
        head = dialect.head(room_key("r"), publication)
        assert head == b'{"jsonrpc":"2.0","method":"publish","params":{"room":"r","data":%b}}' % data
        assert not dialect.binary(publication.kind)
        assert dialect.pack([head, head]) == [head, head]

    def test_room_in_canonical_form(self) -> None:
        head = JSONRPC.dialect.head(room_key({"b": 1, "a": True}), Publication(data=b"0"))
        assert json.loads(head)["params"] == {"room": {"a": True, "b": 1}, "data": 0}


class TestArguments:
    def test_travel_by_position_or_by_name(self) -> None:
        assert params((1, "a"), {}) == [1, "a"]
        assert params((), {"a": 1}) == {"a": 1}
        assert params((), {}) == []

    def test_never_both(self) -> None:
        with pytest.raises(UsageError, match="by position or by name"):
            params((1,), {"a": 1})
