"""JSON for the targets that read it: a strict second opinion, and mutations value by value."""

from __future__ import annotations

import json
from random import Random
from typing import NoReturn

from fuzzing.harness import Finding, Mutation


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_strict = json.JSONDecoder(parse_constant=_refuse, parse_int=str, parse_float=str).decode  # numbers of any length


def is_json(text: bytes) -> bool:
    """Whether another parser than ours takes it for JSON; one that is nested too deep for it counts as such."""
    try:
        _strict(text.decode())
    except ValueError:
        return False
    except RecursionError:
        pass
    return True


def require_json(text: bytes, what: str) -> None:
    """Raise a Finding unless it is JSON on one line, in UTF-8."""
    if b"\n" in text or b"\r" in text or not is_json(text):
        raise Finding(f"{what} is not JSON on one line: {text!r}")


_VALUES: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30, 1.5, 1e308, 1e16, -0.0),
    *("", "a", "*", "\x00", "\x7f", "\x85", "€", "\ud800", "\udc00a", "𝄞", "a" * 128, "a" * 513, "é" * 65, "1", "null"),
    *('{"a":1}', ' {"a":"*"}', '{"a":1', "{}", '{"a":[]}', '{"":1}', '{"b":1,"a":2}', '{"a":1e999}', "subscribe"),
    *(
        [],
        {},
        [[]],
        {"a": "*"},
        {"a": 1, "b": "*"},
        {"*": "*"},
        {"": 1},
        ["a", "b"],
        [None],
        {"a": {}},
        {"a": "\ud800"},
    ),
)
_TEXTS = (
    *(
        "1e999",
        "-1e999",
        "01",
        "-",
        "1.",
        "NaN",
        "Infinity",
        '"\\ud800"',
        '"\\u0041"',
        '"\\x"',
        "tru",
        "nul",
        "'a'",
        "1E5",
    ),
    *(
        "[" * 70 + "]" * 70,
        '{"a":' * 40 + "1" + "}" * 40,
        "\r\n 1",
        "/**/1",
        "[1,]",
        '{"a":1,}',
        '{"a":1,"a":2}',
        "\ufeff1",
    ),
)


def mutate_json(data: bytes, random: Random, mutation: Mutation, keys: tuple[str, ...], *, prefix: int = 1) -> bytes:
    """Change any bytes, or a value or a key somewhere in it.

    Args:
        data: ``prefix`` bytes, then JSON or not.
        random: Decides.
        mutation: For any bytes.
        keys: That mean something.
        prefix: See ``data``.
    """
    if random.random() < 0.6:
        return mutation(data)
    try:
        value = json.loads(data[prefix:])
    except (ValueError, RecursionError):
        return mutation(data)
    marks: list[str] = []
    value = _change(value, random, keys, marks)
    separators = (",", ":") if random.random() < 0.7 else (" ,\n", "\t: ")
    text = json.dumps(value, ensure_ascii=random.random() < 0.5, separators=separators)
    for mark in marks:
        text = text.replace('"\\u0000mark"', mark)
    return data[:prefix] + text.encode(errors="surrogatepass")


def _change(value: object, random: Random, keys: tuple[str, ...], marks: list[str]) -> object:
    """Go down by chance, and change what is there."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        choice = random.random()
        if choice < 0.15:
            del value[key]
        elif choice < 0.3:
            value[random.choice(keys)] = value[key]
        else:
            value[key] = _change(value[key], random, keys, marks)
        return value
    if isinstance(value, list) and value and random.random() < 0.8:
        at = int(random.random() * len(value))
        choice = random.random()
        if choice < 0.15:
            del value[at]
        elif choice < 0.3:
            value.append(value[at])
        else:
            value[at] = _change(value[at], random, keys, marks)
        return value
    choice = random.random()
    if choice < 0.15:
        marks.append(random.choice(_TEXTS))
        return "\x00mark"
    if choice < 0.25:
        return [value]
    if choice < 0.35:
        return {random.choice(keys): value}
    return random.choice(_VALUES)
