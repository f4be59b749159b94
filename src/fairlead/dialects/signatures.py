"""What a function takes, looked at once, when it is registered; and a call's arguments, made into what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.inspect import CustomType, RawType, type_info

from fairlead.dialects.codec import CallError, ErrorCode, Params
from fairlead.errors import UsageError

_NONE: Final = inspect.Parameter.empty
_EXACT: Final = frozenset({str, int, float, bool})
"""Types that JSON has itself: a value of one of them needs no conversion to it."""

Bound = tuple[list[object], dict[str, object]]
"""What to call the function with."""


class Parameter:
    """One parameter that callers give an argument for.

    Attributes:
        exact: The type whose values can be passed on as they are; None: none's.

    Args:
        name: Its name.
        type: Its annotation; without one it takes everything.
        default: Its default; without one callers must give it.

    Raises:
        UsageError: No argument that travels as JSON can be of this type.
    """

    __slots__ = ("_any", "_type", "default", "exact", "name")

    def __init__(self, name: str, type: object = _NONE, default: object = _NONE) -> None:
        self.name = name
        self.default = default
        self._any = type in (_NONE, object, Any)
        self._type = Any if self._any else type
        self.exact = type if type in _EXACT else None
        try:
            unusable = isinstance(type_info(self._type), CustomType | RawType)
        except (TypeError, ValueError) as exc:
            raise UsageError(f"parameter {name!r}: {exc}") from exc
        if unusable:
            raise UsageError(f"parameter {name!r}: no argument that travels as JSON is a {type!r}")

    def convert(self, value: object, *, typed: bool) -> object:
        """An argument as the type that is asked for.

        Raises:
            CallError: It is not one.
        """
        if type(value) is self.exact or self._any:
            return value
        try:
            converted: object = msgspec.convert(value, self._type, strict=typed, str_keys=True)
        except (msgspec.ValidationError, RecursionError) as exc:
            raise _invalid(f"argument {self.name!r}: {exc}") from None
        return converted

    def omitted(self) -> object:
        """What the function gets where callers give nothing.

        Raises:
            CallError: They must.
        """
        if self.default is _NONE:
            raise _invalid(f"argument {self.name!r} is missing")
        return self.default


class Signature:
    """The parameters of one function.

    Args:
        function: Its annotations are resolved now.
        connection: A parameter annotated with this class, or one derived from it, gets the connection; callers know
            nothing of it.

    Raises:
        UsageError: An annotation cannot be resolved, or not be used.
    """

    __slots__ = ("_hidden", "_keywords", "_plain", "_positional", "_rest", "_rest_by_name")

    def __init__(self, function: Callable[..., object], connection: type) -> None:
        # None in the place of a parameter: the connection goes there.
        self._positional: list[Parameter | None] = []
        self._keywords: dict[str, Parameter | None] = {}
        self._hidden: set[str] = set()
        self._rest: Parameter | None = None
        self._rest_by_name: Parameter | None = None
        try:
            parameters = inspect.signature(function, eval_str=True).parameters.values()
        except NameError as exc:
            raise UsageError(f"an annotation cannot be resolved: {exc}") from exc
        for each in parameters:
            if _is_connection(each, connection):
                self._hidden.add(each.name)
                self._add(each, None)
            else:
                self._add(each, Parameter(each.name, each.annotation, each.default))
        # The types of arguments that can be passed on as they are, which most are.
        self._plain = None if self._keywords else [each and each.exact for each in self._positional]

    def _add(self, each: inspect.Parameter, parameter: Parameter | None) -> None:
        match each.kind:
            case each.KEYWORD_ONLY:
                self._keywords[each.name] = parameter
            case each.VAR_POSITIONAL:
                self._rest = parameter
            case each.VAR_KEYWORD:
                self._rest_by_name = parameter
            case _:
                self._positional.append(parameter)

    def bind(self, params: Params, connection: object, *, typed: bool) -> Bound:
        """The arguments of a call, converted and complete.

        Args:
            params: As they came.
            connection: For the parameter that wants it.
            typed: Whether they have JSON's types. If not, each is a text, and reads as what is asked for; one empty
                text is no argument where the function takes none.

        Raises:
            CallError: One is missing, unknown, of another type or one too many. The text names it.
        """
        if isinstance(params, dict):
            return self._by_name(params, connection, typed)
        if [*map(type, params)] == self._plain:
            return params, {}
        if not typed and params == [""] and not any(self._positional) and self._rest is None:
            params = []
        return self._by_position(params, connection, typed)

    def _by_position(self, params: Sequence[object], connection: object, typed: bool) -> Bound:
        args: list[object] = []
        given = iter(params)
        for parameter in self._positional:
            if parameter is None:
                args.append(connection)
                continue
            value = next(given, _NONE)
            args.append(parameter.omitted() if value is _NONE else parameter.convert(value, typed=typed))
        for value in given:
            if self._rest is None:
                raise _invalid(f"{len(params)} arguments are given, {len(args) - self._positional.count(None)} taken")
            args.append(self._rest.convert(value, typed=typed))
        return args, self._named({}, connection, typed)

    def _by_name(self, params: Mapping[str, object], connection: object, typed: bool) -> Bound:
        left = dict(params)
        args = [_taken(parameter, left, connection, typed) for parameter in self._positional]
        kwargs = self._named(left, connection, typed)
        for name, value in left.items():
            if self._rest_by_name is None or name in self._hidden:
                raise _invalid(f"argument {name!r} is not known")
            kwargs[name] = self._rest_by_name.convert(value, typed=typed)
        return args, kwargs

    def _named(self, left: dict[str, object], connection: object, typed: bool) -> dict[str, object]:
        return {name: _taken(parameter, left, connection, typed) for name, parameter in self._keywords.items()}


def _is_connection(parameter: inspect.Parameter, connection: type) -> bool:
    one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return one and isinstance(parameter.annotation, type) and issubclass(parameter.annotation, connection)


def _taken(parameter: Parameter | None, left: dict[str, object], connection: object, typed: bool) -> object:
    """One argument out of those given by name that are left."""
    if parameter is None:
        return connection
    if parameter.name not in left:
        return parameter.omitted()
    return parameter.convert(left.pop(parameter.name), typed=typed)


def _invalid(why: str) -> CallError:
    return CallError(ErrorCode.INVALID_PARAMS, why)
