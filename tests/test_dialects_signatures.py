"""Arguments: by position and by name, converted, complete, or refused with a text that names the argument."""

from __future__ import annotations

import enum
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import pytest

from fairlead.dialects.codec import CallError, ErrorCode, Params
from fairlead.dialects.signatures import Signature
from fairlead.errors import UsageError


class Connection:
    """What stands for the connection here."""


class Special(Connection):
    """One derived from it."""


CONNECTION = Special()


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0)] = 0


class Nested(msgspec.Struct):
    inner: Nested | None = None


async def two(a: int, b: str = "x") -> None: ...
async def none() -> None: ...
async def anything(a, b: Any, c: object) -> None: ...  # type: ignore[no-untyped-def]  # is what is tested
async def rest(a: int, *numbers: float) -> None: ...
async def named(a: int = 1, *, b: int, c: int = 3) -> None: ...
async def open_to_all(a: int, **others: bool) -> None: ...
async def positional(a: int, b: int = 2, /, c: int = 3) -> None: ...
async def first(ws: Connection, a: int) -> None: ...
async def last(a: int = 1, b: int = 2, ws: Special = CONNECTION) -> None: ...
async def keyword(a: int, *, ws: Connection, **others: int) -> None: ...
async def twice(one: Connection, two: Special) -> None: ...


class Methods:
    async def method(self, a: int) -> None: ...


def bind(
    function: Callable[..., object], params: Params, *, typed: bool = True
) -> tuple[list[object], dict[str, object]]:
    return Signature(function, Connection).bind(params, CONNECTION, typed=typed)


def refusal(function: Callable[..., object], params: Params, *, typed: bool = True) -> str:
    with pytest.raises(CallError) as caught:
        bind(function, params, typed=typed)
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    return caught.value.message


@pytest.mark.parametrize(
    ("function", "params", "args", "kwargs"),
    [
        (two, [1, "y"], [1, "y"], {}),
        (two, [1], [1, "x"], {}),
        (two, {"a": 1, "b": "y"}, [1, "y"], {}),
        (two, {"b": "y", "a": 1}, [1, "y"], {}),
        (two, {"a": 1}, [1, "x"], {}),
        (none, [], [], {}),
        (none, {}, [], {}),
        (anything, [1, [2], {"a": None}], [1, [2], {"a": None}], {}),
        (rest, [1], [1], {}),
        (rest, [1, 2.5, 3], [1, 2.5, 3.0], {}),
        (rest, {"a": 1}, [1], {}),
        (named, {"b": 2}, [1], {"b": 2, "c": 3}),
        (named, {"c": 5, "b": 2, "a": 7}, [7], {"b": 2, "c": 5}),
        (open_to_all, [1], [1], {}),
        (open_to_all, {"a": 1, "b-c": True}, [1], {"b-c": True}),
        (positional, [1], [1, 2, 3], {}),
        (positional, {"a": 1, "c": 5}, [1, 2, 5], {}),
        (first, [1], [CONNECTION, 1], {}),
        (first, {"a": 1}, [CONNECTION, 1], {}),
        (last, [], [1, 2, CONNECTION], {}),
        (last, [5], [5, 2, CONNECTION], {}),
        (last, {"b": 5}, [1, 5, CONNECTION], {}),
        (keyword, [1], [1], {"ws": CONNECTION}),
        (keyword, {"a": 1, "b": 2}, [1], {"b": 2, "ws": CONNECTION}),
        (twice, [], [CONNECTION, CONNECTION], {}),
        (Methods().method, [1], [1], {}),
        (partial(two, 1), ["y"], ["y"], {}),
    ],
)
def test_what_a_function_is_called_with(
    function: Callable[..., object], params: Params, args: list[object], kwargs: dict[str, object]
) -> None:
    given = params.copy()
    assert bind(function, params) == (args, kwargs)
    assert params == given


@pytest.mark.parametrize(
    ("function", "params", "text"),
    [
        (two, [], "argument 'a' is missing"),
        (two, {"b": "y"}, "argument 'a' is missing"),
        (two, [1, "y", 2], "3 arguments are given, 2 taken"),
        (two, {"a": 1, "c": 2}, "argument 'c' is not known"),
        (two, ["1"], "argument 'a': Expected `int`, got `str`"),
        (two, {"a": 1, "b": None}, "argument 'b': Expected `str`, got `null`"),
        (none, [1], "1 arguments are given, 0 taken"),
        (none, [""], "1 arguments are given, 0 taken"),
        (none, {"a": 1}, "argument 'a' is not known"),
        (rest, [1, 2, "x"], "argument 'numbers': Expected `float`, got `str`"),
        (rest, {"a": 1, "numbers": [2]}, "argument 'numbers' is not known"),
        (named, [1], "argument 'b' is missing"),
        (named, [1, 2], "2 arguments are given, 1 taken"),
        (open_to_all, {"a": 1, "b": 2}, "argument 'others': Expected `bool`, got `int`"),
        (first, [], "argument 'a' is missing"),
        (first, [1, 2], "2 arguments are given, 1 taken"),
        (first, {"a": 1, "ws": 2}, "argument 'ws' is not known"),
        (keyword, {"a": 1, "ws": 2}, "argument 'ws' is not known"),
    ],
)
def test_what_is_refused(function: Callable[..., object], params: Params, text: str) -> None:
    assert refusal(function, params) == text


def taking(annotation: object) -> Callable[..., object]:
    """A function with one parameter of that type."""

    async def function(a: object) -> None: ...

    function.__annotations__["a"] = annotation
    return function


@pytest.mark.parametrize(
    ("annotation", "value", "converted"),
    [
        (int, 1, 1),
        (float, 1, 1.0),
        (int | None, None, None),
        (list[int], [1, 2], [1, 2]),
        (set[int], [1, 1], {1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[int, float], {"1": 2}, {1: 2.0}),
        (Literal["a", "b"], "b", "b"),
        (Colour, "red", Colour.RED),
        (Point, {"x": 1}, Point(1)),
        (Person, {"name": "Ann", "age": 3, "more": 1}, Person("Ann", 3)),
        (bytes, "aGk=", b"hi"),
        (datetime, "2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    ],
)
def test_annotations_say_what_an_argument_becomes(annotation: object, value: object, converted: object) -> None:
    args, _ = bind(taking(annotation), [value])
    assert args == [converted]
    assert type(args[0]) is type(converted)


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        (int, True, "Expected `int`, got `bool`"),
        (int, 1.0, "Expected `int`, got `float`"),
        (bool, 1, "Expected `bool`, got `int`"),
        (str, 1, "Expected `str`, got `int`"),
        (list[int], [1, "a"], "Expected `int`, got `str` - at `$[1]`"),
        (Literal["a"], "c", "Invalid enum value 'c'"),
        (Person, {"age": 1}, "Object missing required field `name`"),
        (Person, {"name": "Ann", "age": -1}, "Expected `int` >= 0 - at `$.age`"),
    ],
)
def test_types_are_strict(annotation: object, value: object, why: str) -> None:
    assert refusal(taking(annotation), [value]) == f"argument 'a': {why}"
    assert refusal(taking(annotation), {"a": value}) == f"argument 'a': {why}"


@pytest.mark.parametrize(
    ("annotation", "text", "converted"),
    [
        (str, "1", "1"),
        (int, "-5", -5),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (bool, "0", False),
        (int | None, "null", None),
        (Any, "5", "5"),
        (Colour, "red", Colour.RED),
        (datetime, "2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    ],
)
def test_a_text_reads_as_what_is_asked_for(annotation: object, text: str, converted: object) -> None:
    args, _ = bind(taking(annotation), [text], typed=False)
    assert args == [converted]
    assert type(args[0]) is type(converted)


def test_a_text_that_does_not_read_so_is_refused() -> None:
    assert refusal(two, ["x"], typed=False) == "argument 'a': Expected `int`, got `str`"
    assert refusal(two, [" 1"], typed=False) == "argument 'a': Expected `int`, got `str`"


def test_one_empty_text_is_no_argument_where_none_is_taken() -> None:
    async def connection_only(ws: Connection) -> None: ...
    async def texts(*parts: str) -> None: ...
    async def text(part: str) -> None: ...

    assert bind(none, [""], typed=False) == ([], {})
    assert bind(connection_only, [""], typed=False) == ([CONNECTION], {})
    assert bind(texts, [""], typed=False) == ([""], {})
    assert bind(text, [""], typed=False) == ([""], {})
    assert refusal(none, ["", ""], typed=False) == "2 arguments are given, 0 taken"


def test_an_argument_nested_too_deep_is_refused() -> None:
    nested: object = {}
    for _ in range(100_000):
        nested = {"inner": nested}
    assert refusal(taking(Nested), [nested]).startswith("argument 'a': ")


class TestRegistration:
    @pytest.mark.parametrize("annotation", [io.IOBase, Callable[[int], int], msgspec.Raw, 5, Point | Person | str])
    def test_a_type_that_no_argument_can_have_is_refused(self, annotation: object) -> None:
        with pytest.raises(UsageError, match="parameter 'a': "):
            Signature(taking(annotation), Connection)

    def test_an_annotation_that_cannot_be_resolved_is_refused(self) -> None:
        with pytest.raises(UsageError, match="annotation cannot be resolved: name 'Missing' is not defined"):
            Signature(taking("Missing"), Connection)

    def test_the_connection_comes_alone(self) -> None:
        async def many(*all: Connection) -> None: ...

        with pytest.raises(UsageError, match="parameter 'all'"):
            Signature(many, Connection)
