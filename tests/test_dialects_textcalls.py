"""Calls as plain text: what is understood of what clients send, and every message out, byte for byte."""

from __future__ import annotations

import pytest

from fairlead.dialects.codec import Call, CallError, ErrorCode, Fault
from fairlead.dialects.textcalls import TEXT
from fairlead.errors import UsageError
from fairlead.limits import Limits
from fairlead.message import Publication
from fairlead.rooms.names import room_key

LIMITS = Limits()


class TestCalls:
    @pytest.mark.parametrize(
        ("text", "name", "arguments"),
        [
            ("add|1,2", "add", ["1", "2"]),
            ("hello|é", "hello", ["é"]),
            ("a|b", "a", ["b"]),
            ("a|", "a", [""]),
            ("a|,", "a", ["", ""]),
            ("a| b , c", "a", [" b ", " c"]),
            ("a|b|c,d", "a", ["b|c", "d"]),
            ("|x", "", ["x"]),
            (" a|x", " a", ["x"]),
            ("a|b\nc", "a", ["b\nc"]),
            ('a|{"b":1}', "a", ['{"b":1}']),
        ],
    )
    def test_the_name_ends_at_the_first_bar_and_commas_separate(
        self, text: str, name: str, arguments: list[object]
    ) -> None:
        assert TEXT.decode(text, limits=LIMITS) == Call(method=name, params=arguments)
        assert TEXT.decode(text.encode(), limits=LIMITS) == Call(method=name, params=arguments)

    @pytest.mark.parametrize(
        ("payload", "told"), [("add", "add"), ("", ""), ("a,b", "a,b"), (b"add", "add"), (b"\xff|", "")]
    )
    def test_without_a_bar_or_as_bytes_that_are_no_text(self, payload: str | bytes, told: str) -> None:
        fault = TEXT.decode(payload, limits=LIMITS)
        assert isinstance(fault, Fault)
        assert TEXT.error(fault.call, fault.error) == f"error|no-separator,{told}".encode()


class TestWhatGoesOut:
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("HELLO!", b"f|HELLO!"),
            ("é", "f|é".encode()),
            ("", b"f|"),
            ("a,b|c", b"f|a,b|c"),
            (3, b"f|3"),
            (1.5, b"f|1.5"),
            (True, b"f|true"),
            (b"hi", b'f|"aGk="'),
            ({"a": [1, 2]}, b'f|{"a":[1,2]}'),
            ([1, "b", None], b"f|1,b,null"),
            ((1, (2, "c")), b"f|1,2,c"),
            ([], b"f|"),
        ],
    )
    def test_values(self, value: object, message: bytes) -> None:
        assert TEXT.result(Call(method="f"), value) == message
        assert TEXT.progress(Call(method="f"), value) == message

    def test_none_is_no_answer_and_the_end_of_a_stream_is_not_told(self) -> None:
        assert TEXT.result(Call(method="f"), None) is None
        assert TEXT.progress(Call(method="f"), None) is None
        assert TEXT.end(Call(method="f")) is None

    @pytest.mark.parametrize(
        ("code", "word"),
        [
            (ErrorCode.METHOD_NOT_FOUND, "method-not-found"),
            (ErrorCode.INVALID_PARAMS, "invalid-arguments"),
            (ErrorCode.INTERNAL_ERROR, "internal-error"),
            (ErrorCode.TOO_MANY_CALLS, "too-many-calls"),
        ],
    )
    def test_errors_are_a_word_and_the_name(self, code: ErrorCode, word: str) -> None:
        assert TEXT.error(Call(method="f"), CallError(code, "some text")) == f"error|{word},f".encode()

    def test_an_error_of_the_functions_has_its_code_and_its_message_last(self) -> None:
        error = TEXT.error(Call(method="f"), CallError(7, "no, not now", {"left": "out"}))
        assert error == b"error|call-error,f,7,no, not now"

    def test_what_has_no_form_in_json_raises(self) -> None:
        with pytest.raises(TypeError):
            TEXT.result(Call(method="f"), object())

    def test_notifications_of_the_servers(self) -> None:
        assert TEXT.call(Call(method="news", params=["a", 1, [2, 3]])) == b"news|a,1,2,3"
        assert TEXT.call(Call(method="news")) == b"news|"

    def test_what_cannot_be_said(self) -> None:
        with pytest.raises(UsageError, match="cannot answer"):
            TEXT.call(Call(method="f", id=1))
        with pytest.raises(UsageError, match="have no names"):
            TEXT.call(Call(method="f", params={"a": 1}))
        with pytest.raises(UsageError, match="no batches"):
            TEXT.batch([b"a|"])


@pytest.mark.parametrize(
    ("publication", "data"),
    [
        (Publication(data=b'{"a" : "b"}'), b'{"a" : "b"}'),
        (Publication(data=b"a,b", kind="text"), b"a,b"),
        (Publication(data=b"\xff\x00", kind="binary"), b"/wA="),
    ],
)
def test_publications(publication: Publication, data: bytes) -> None:
    dialect = TEXT.dialect
    head = dialect.head(room_key("r"), publication)
    assert head == b"publish|r," + data
    assert not dialect.binary(publication.kind)
    assert dialect.pack([head, head]) == [head, head]
