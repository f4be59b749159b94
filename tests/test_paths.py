"""Paths: what matches, what the parameters are, and that the index leaves no route out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.convertors import CONVERTOR_TYPES, Convertor

from fairlead.errors import UsageError
from fairlead.paths import Index, compile_path, register_converter

ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/", "/", {}),
        ("/a/b", "/a/b", {}),
        ("/{name}", "/ann", {"name": "ann"}),
        ("/{name}", "/a b%20ä\n", {"name": "a b%20ä\n"}),
        ("/{name:str}", "/1", {"name": "1"}),
        ("/{id:int}", "/007", {"id": 7}),
        ("/{x:float}/{y:float}", "/1.5/2", {"x": 1.5, "y": 2.0}),
        ("/{id:uuid}", f"/{ID}", {"id": uuid.UUID(ID)}),
        ("/files/{rest:path}", "/files/a/b.c", {"rest": "a/b.c"}),
        ("/files/{rest:path}", "/files/", {"rest": ""}),
        ("/{a}-{b}.{c:int}", "/x-y.3", {"a": "x", "b": "y", "c": 3}),
        ("/v{version:int}/x", "/v2/x", {"version": 2}),
        (r"/{day:\d{4}-\d\d}", "/2024-05", {"day": "2024-05"}),
        ("/{hex:[0-9a-f]{2}([0-9a-f]{2}){1,3}}/{rest}", "/00ffee/x", {"hex": "00ffee", "rest": "x"}),
        ("/{kind:cat|dog}s", "/dogs", {"kind": "dog"}),
        ("/{anything:.*}/end", "/a/b/end", {"anything": "a/b"}),
        ("/a.b+(c)", "/a.b+(c)", {}),
        ("/{_1}", "/x", {"_1": "x"}),
    ],
)
def test_a_path_that_matches_gives_its_parameters_converted(pattern: str, path: str, params: dict[str, Any]) -> None:
    assert compile_path(pattern).match(path) == params


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", ""),
        ("/a", "/a/"),
        ("/a/", "/a"),
        ("/a", "/A"),
        ("/a", "/a\n"),
        ("/a", "/ab"),
        ("/a", "x/a"),
        ("/{name}", "/"),
        ("/{name}", "/a/b"),
        ("/{id:int}", "/-1"),
        ("/{id:int}", "/1x"),
        ("/{id:int}", "/" + "9" * 10_000),
        ("/{id:uuid}", "/6ba7b810"),
        ("/{kind:cat|dog}s", "/cats/dogs"),
        (r"/{day:\d{4}}", "/24"),
        ("/a.b", "/axb"),
    ],
)
def test_matching_is_exact(pattern: str, path: str) -> None:
    assert compile_path(pattern).match(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "must begin with a slash"),
        ("a/{b}", "must begin with a slash"),
        ("/{a", "a brace is missing"),
        ("/a}", "a brace is missing"),
        ("/a}{b", "a brace is missing"),
        (r"/{a:\d{2}", "a brace is missing"),
        ("/{}", "no parameter's name"),
        ("/{1a}", "no parameter's name"),
        ("/{größe}", "no parameter's name"),
        ("/{a-b}", "no parameter's name"),
        ("/{a}/{a:int}", "stands there twice"),
        ("/{a:number}", "no converter 'number', only str, path, int"),
        ("/{a:}", "no converter ''"),
        ("/{a:[0-9}", "no regular expression"),
        ("/{a:x)(y}", "no regular expression"),
        ("/{a:(?P<a>x)}", "redefinition"),
        ("/b{a:(?i)x}", "global flags"),
    ],
)
def test_a_path_that_cannot_be_read_is_an_error_that_names_it(path: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(path)) + ".*" + re.escape(why)):
        compile_path(path)


def test_a_path_is_written_with_its_parameters() -> None:
    pattern = compile_path(r"/{day:\d\d}/x{id:int}")
    assert pattern.format == "/{day}/x{id}"
    assert pattern.converters["id"].to_string(7) == "7"
    assert pattern.converters["day"].to_string("24") == "24"
    with pytest.raises(ValueError, match="'2024'"):
        pattern.converters["day"].to_string("2024")


def test_paths_that_match_the_same_have_one_shape() -> None:
    assert compile_path("/{a}/{b:int}").shape == compile_path("/{c}/{d:int}").shape
    assert len({compile_path(path).shape for path in ("/{a}", "/{a:int}", "/a", "/{a}/", "/{a:[^/]*}")}) == 5


class Even(Convertor[int]):
    """Even numbers."""

    regex = "[0-9]+"

    def convert(self, value: str) -> int:
        if int(value) % 2:
            raise ValueError("odd")
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


@pytest.fixture
def even() -> Iterator[None]:
    register_converter("even", Even())
    yield
    del CONVERTOR_TYPES["even"]


@pytest.mark.usefixtures("even")
def test_a_converter_of_ones_own_may_refuse_what_its_expression_takes() -> None:
    pattern = compile_path("/{n:even}")
    assert pattern.match("/4") == {"n": 4}
    assert pattern.match("/5") is None


# -- the index ---------------------------------------------------------------------------------------------------------

segments = st.sampled_from(["a", "b", "", "{x}", "{x:int}", "{x:path}", "a{x}", "1", r"{x:[^b]/?\w{0,2}}", "%2F", "ä"])
patterns = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
asked = st.lists(st.sampled_from(["a", "b", "", "1", "ab", "%2F", "ä", "A", "{x}"]), max_size=5)


def distinct(pattern: str) -> str:
    """Each parameter with a name of its own."""
    parts = pattern.split("{x")
    return parts[0] + "".join(f"{{x{number}{part}" for number, part in enumerate(parts[1:]))


compiled = cache(compile_path)


@settings(max_examples=50, deadline=None)
@given(st.lists(patterns.map(distinct), max_size=12), asked.map(lambda parts: "/".join(["", *parts])))
def test_the_index_finds_what_trying_all_routes_finds(routes: list[str], path: str) -> None:
    index: Index[tuple[int, str]] = Index()
    for number, route in enumerate(routes):
        index.add(route, (number, route))
    found = [route for route in index.candidates(path) if compiled(route[1]).match(path) is not None]
    assert found == [route for route in enumerate(routes) if compiled(route[1]).match(path) is not None]


def test_the_index_tries_only_routes_that_begin_alike() -> None:
    index: Index[str] = Index()
    for number in range(1000):
        for route in (f"/app{number}/{{id:int}}", f"/app{number}/list"):
            index.add(route, route)
    assert index.candidates("/app7/list") == ["/app7/{id:int}", "/app7/list"]
    assert index.candidates("/app7/9") == ["/app7/{id:int}"]
    assert index.candidates("/other") == []
