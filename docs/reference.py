"""Write docs/reference.md from the docstrings: every public name of the package, with its signature and its members.

python docs/reference.py
"""

from __future__ import annotations

import enum
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent
from types import FunctionType

import msgspec

import fairlead
import fairlead.errors

PAGE = Path(__file__).with_name("reference.md")

INTRODUCTION = """\
# Reference

Made from the docstrings by `make docs`. All of it is imported from `fairlead`; what tests need is in
[Testing](testing.md).
"""

OWN_USE = {
    *("App.running", "WebSocket.finish", "WebSocketRoute.within"),
    *("BlockingWebSocket.abandon", "BlockingWebSocket.finish"),
    *("CallSocket.abandon", "CallSocket.answered", "CallSocket.post", "CallSocket.put"),
    *(
        "Connection.flush_rooms",
        "Connection.leave_rooms",
        "Connection.member",
        "Connection.outcome",
        "Connection.transport",
    ),
    *("Room.flush", "Room.left", "Rooms.do", "Rooms.flush", "Rooms.look", "Rooms.started", "Rooms.waiting"),
}
"""Members that other modules of the package use, and applications do not."""

OPERATORS = {"__aiter__", "__getitem__", "__iter__", "__len__"}
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):\n((?: {4}.*\n|\n)*)", re.MULTILINE)
TITLES = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Errors", "Returns": "Returns"}
ITEM = re.compile(r"^([\w.]+): ", re.MULTILINE)
WIDTH = 110

Member = property | functools.cached_property | FunctionType  # type: ignore[type-arg]  # for isinstance


class Raw:
    """Stands in a signature as it is."""

    def __init__(self, text: object) -> None:
        self.text = str(text)

    def __repr__(self) -> str:
        return self.text


def reference() -> str:
    """The whole page."""
    things = {name: getattr(fairlead, name) for name in sorted(fairlead.__all__, key=str.lower)}
    rows = [f"| [`{name}`](#{name.lower()}) | {summary(thing)} |" for name, thing in things.items()]
    parts = [INTRODUCTION, "\n".join(["| | |", "|---|---|", *rows])]
    for name, thing in things.items():
        parts += [f"## {name}", *(of_class(thing) if isinstance(thing, type) else of_function(thing))]
    parts += ["## Errors", text(fairlead.errors.__doc__)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def of_function(function: Callable[..., object]) -> Iterator[str]:
    yield from (signature(function), text(function.__doc__))


def of_class(cls: type) -> Iterator[str]:
    """Its signature and docstring, its properties, its methods, and where it has more from."""
    if issubclass(cls, enum.IntEnum):
        yield from (text(cls.__doc__), "\n".join(f"* `{each.name}` {each.value}" for each in cls))
        return
    own, public = bases(cls)
    yield from of_function(cls)
    for base in own[1:]:
        found = SECTION.finditer(inspect.cleandoc(base.__doc__ or "") + "\n")
        yield from (text(each[0]) for each in found if each[1] == "Attributes")
    members = {name: member for base in reversed(own) for name, member in documented(base)}
    values = [of_property(name, each) for name, each in members.items() if not isinstance(each, FunctionType)]
    if values:
        yield "\n".join(["Properties:\n", *values])
    for name, member in members.items():
        if isinstance(member, FunctionType):
            yield from (f"### {cls.__name__}.{name}", *of_function(member))
    if public not in (None, fairlead.FairleadError):
        yield f"Everything that [{public.__name__}](#{public.__name__.lower()}) has is there as well."


def bases(cls: type) -> tuple[list[type], type | None]:
    """A class with those it is made from up to one that has an entry of its own, and that one."""
    own = [cls]
    for base in cls.__mro__[1:]:
        if vars(fairlead).get(base.__name__) is base:
            return own, base
        own += [base] * base.__module__.startswith("fairlead.")
    return own, None


def documented(cls: type) -> Iterator[tuple[str, Member]]:
    for name, member in vars(cls).items():
        public = name in OPERATORS or not name.startswith("_") and f"{cls.__name__}.{name}" not in OWN_USE
        if public and isinstance(member, Member) and member.__doc__:
            yield name, member


def of_property(name: str, member: Member) -> str:
    getter = getattr(member, "fget", None) or vars(member)["func"]
    return f"* `{name}: {inspect.signature(getter).return_annotation}`: {indent(text(member.__doc__), '  ').lstrip()}"


def signature(thing: Callable[..., object]) -> str:
    """How it is called, on one line if it fits, without ``self``."""
    kind = "class" if isinstance(thing, type) else "async def" if inspect.iscoroutinefunction(thing) else "def"
    arguments = returns = ""
    if not isinstance(thing, type) or is_made_with_arguments(thing):
        found = inspect.signature(thing)
        names = [name for name in found.parameters if name != "self" and not name.startswith("_")]
        written = [written_out(found.parameters[name]) for name in names]
        arguments = str(inspect.Signature(written)).replace("typing.", "").replace("'", '"')
        if found.return_annotation not in (found.empty, "None", None):
            returns = f" -> {found.return_annotation}"
    if len(kind + thing.__name__ + arguments + returns) > WIDTH:
        lines = ",\n    ".join(re.split(r", (?=\*{0,2}\w+: |[*/], )", arguments[1:-1]))
        arguments = f"(\n    {lines},\n)"
    return f"```python\n{kind} {thing.__name__}{arguments}{returns}\n```"


def is_made_with_arguments(cls: type) -> bool:
    """Whether a class says how it is called; a Struct does without an ``__init__`` in Python."""
    return issubclass(cls, msgspec.Struct) or inspect.isfunction(inspect.getattr_static(cls, "__init__"))


def written_out(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter as it looks in its source. A default that cannot be written is three dots."""
    annotation, default = parameter.annotation, parameter.default
    if isinstance(annotation, type) and annotation is not parameter.empty:
        annotation = annotation.__name__
    if isinstance(default, enum.IntEnum):
        default = int(default)
    elif repr(default).startswith("<") and default is not parameter.empty:
        default = Raw("...")
    return parameter.replace(
        annotation=annotation if annotation is parameter.empty else Raw(annotation), default=default
    )


def summary(thing: object) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = text(inspect.getdoc(thing)).partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", paragraph)[0].replace("\n", " ").rstrip(":")


def text(docstring: str | None) -> str:
    """A docstring as Markdown."""
    return SECTION.sub(section, inspect.cleandoc(docstring or "") + "\n").replace("``", "`").strip("\n")


def section(found: re.Match[str]) -> str:
    """A list of arguments, attributes or errors as Markdown."""
    items = ITEM.sub(r"* `\1`: ", dedent(found[2]).strip("\n"))
    return f"{TITLES[found[1]]}:\n\n{items}\n\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), "utf-8")
