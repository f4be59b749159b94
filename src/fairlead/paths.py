"""Paths of routes: what matches, what its parameters are, and which routes are worth trying.

Starlette's converters and its syntax, and besides ``{name:EXPRESSION}`` with a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from starlette.convertors import CONVERTOR_TYPES, Convertor, register_url_convertor

from fairlead.errors import UsageError

R = TypeVar("R")


def register_converter(name: str, converter: Convertor[Any]) -> None:
    """Make ``{parameter:name}`` available in the paths of all routes, Starlette's included.

    Args:
        name: A word.
        converter: Has a ``regex``, ``convert(text)``, which may raise ValueError where the text fits the expression and
            still is no match (for sockets; a plain HTTP route answers 500), and ``to_string(value)``.
    """
    register_url_convertor(name, converter)


class _Expression(Convertor[str]):
    """``{id:[0-9a-f]{8}}``: text that a regular expression describes."""

    def __init__(self, regex: str) -> None:
        self.regex = regex  # type: ignore[misc]  # Starlette has one class for each expression
        self._compiled = re.compile(regex)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        if self._compiled.fullmatch(value) is None:
            raise ValueError(f"{value!r} does not match {self.regex}")
        return value


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path, compiled.

    Attributes:
        regex: Matches it.
        format: With ``{name}`` for each parameter.
        converters: Of the parameters, in their order.
        shape: Equal for two paths that match the same, whatever their parameters are called.
    """

    regex: re.Pattern[str]
    format: str
    converters: Mapping[str, Convertor[Any]]
    shape: str

    def match(self, path: str) -> dict[str, Any] | None:
        """The converted parameters; None: the path is another one."""
        if not self.converters:
            return {} if path == self.format else None
        found = self.regex.match(path)
        if found is None:
            return None
        try:
            return {name: converter.convert(found[name]) for name, converter in self.converters.items()}
        except ValueError:
            return None


def compile_path(path: str) -> Pattern:
    """Read a path such as ``/thing/{id:int}`` or ``/log/{day:\\d{4}-\\d\\d-\\d\\d}``.

    Raises:
        UsageError: It cannot be read.
    """
    if not path.startswith("/"):
        raise UsageError(f"path {path!r} must begin with a slash")
    regex, format, converters, at = "^", "", {}, 0
    for start, end in _parameters(path):
        name, separator, kind = path[start + 1 : end].partition(":")
        if not (name.isascii() and name.isidentifier()) or name in converters:
            raise UsageError(f"path {path!r}: {name!r} is no parameter's name, or stands there twice")
        converters[name] = converter = _converter(path, kind if separator else "str")
        regex += re.escape(path[at:start]) + f"(?P<{name}>{converter.regex})"
        format += path[at:start] + f"{{{name}}}"
        at = end + 1
    regex += re.escape(path[at:]) + r"\Z"
    try:
        return Pattern(re.compile(regex), format + path[at:], converters, shape_of(regex))
    except re.error as exc:
        raise UsageError(f"path {path!r}: {exc}") from None


def shape_of(regex: str) -> str:
    """A path's expression without the parameters' names; Starlette's have them written alike."""
    return re.sub(r"\(\?P<\w+>", "(", regex)


def _parameters(path: str) -> Iterator[tuple[int, int]]:
    """Where each outermost pair of braces opens and closes."""
    depth = start = 0
    for position, character in enumerate(path):
        if character == "{":
            depth += 1
            start = position if depth == 1 else start
        elif character == "}":
            depth -= 1
            if depth == 0:
                yield start, position
        if depth < 0:
            break
    if depth:
        raise UsageError(f"path {path!r}: a brace is missing")


def _converter(path: str, kind: str) -> Convertor[Any]:
    known = CONVERTOR_TYPES.get(kind)
    if known is not None:
        return known
    if not kind or kind.isidentifier():
        raise UsageError(f"path {path!r}: there is no converter {kind!r}, only {', '.join(CONVERTOR_TYPES)}")
    try:
        return _Expression(kind)
    except re.error as exc:  # by itself: what is half an expression can be whole in the middle of the path
        raise UsageError(f"path {path!r}: {kind!r} is no regular expression: {exc}") from None


@dataclass(slots=True)
class _Node(Generic[R]):
    children: dict[str, _Node[R]] = field(default_factory=dict)
    any: _Node[R] | None = None
    here: list[tuple[int, R]] = field(default_factory=list)


_SEGMENT = re.compile(r"\{\w+(:(str|int|float|uuid))?\}")
"""A parameter that is exactly one segment of a path, whatever its value."""


class Index(Generic[R]):
    """Which of many routes are worth trying, by the segments of their paths.

    1,000 routes tried one by one cost a handshake 0.6 ms; here 1,000 cost it what one does.
    """

    def __init__(self) -> None:
        self._root: _Node[R] = _Node()
        self._count = 0

    def add(self, path: str, route: R) -> None:
        """Add a route by its pattern. From a segment that is more than text or one parameter on, all are alike."""
        node = self._root
        for segment in path.split("/")[1:]:
            if _SEGMENT.fullmatch(segment):
                if node.any is None:
                    node.any = _Node()
                node = node.any
            elif "{" in segment:
                break
            else:
                node = node.children.setdefault(segment, _Node())
        node.here.append((self._count, route))
        self._count += 1

    def candidates(self, path: str) -> Sequence[R]:
        """Every route that may match, in the order of adding."""
        nodes = [self._root]
        found = list(self._root.here)
        for segment in path.split("/")[1:]:
            nodes = [next for node in nodes for next in (node.children.get(segment), node.any) if next is not None]
            for node in nodes:
                found += node.here
        found.sort(key=_order)
        return [route for _, route in found]


def _order(entry: tuple[int, object]) -> int:
    return entry[0]
