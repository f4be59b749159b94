"""The header of extensions: its lists read from any number of lines, and nothing malformed let pass."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fairlead.wire.extensions import Extension, parse_extensions


@pytest.mark.parametrize(
    ("values", "offers"),
    [
        ([b"x"], [("x",)]),
        ([b"permessage-deflate; client_max_window_bits"], [("permessage-deflate", ("client_max_window_bits", None))]),
        ([b"x;a;b=1;c"], [("x", ("a", None), ("b", "1"), ("c", None))]),
        ([b"x;a=1;a=1;a"], [("x", ("a", "1"), ("a", "1"), ("a", None))]),
        ([b"x;a=1, x"], [("x", ("a", "1")), ("x",)]),
        ([b" \tx \t;\ta \t= \t1\t, y "], [("x", ("a", "1")), ("y",)]),
        ([b'x; a="10"; b = "z"'], [("x", ("a", "10"), ("b", "z"))]),
        # A legal one that groups in possessive repeats cannot read: re of Python 3.11.7 raises SystemError.
        ([b'x; a=b; c="d"'], [("x", ("a", "b"), ("c", "d"))]),
        ([rb'x; a="\1\0"'], [("x", ("a", "10"))]),
        ([b"x, y", b"z"], [("x",), ("y",), ("z",)]),
        ([b",,x , ,y,", b"", b" "], [("x",), ("y",)]),
        ([b"!#$%&'*+-.^_`|~0aZ"], [("!#$%&'*+-.^_`|~0aZ",)]),
        ([b"X; A=B"], [("X", ("A", "B"))]),
    ],
)
def test_reads_every_offer_in_order(values: list[bytes], offers: list[tuple[Any, ...]]) -> None:
    assert parse_extensions(values) == tuple(Extension(name, tuple(parameters)) for name, *parameters in offers)


MALFORMED = [
    b"",
    b" ",
    b",",
    b"x y",
    b"x;",
    b"x;;a",
    b";a",
    b"x;=1",
    b"x=1",
    b"x;a=",
    b"x;a==1",
    b"x;a=1=2",
    b"x;a b",
    b"x;a=1 2",
    b'x;a="',
    b'x;a="1',
    b'x;a=""',
    b'x;a="1 2"',
    b'x;a="1,2"',
    b'x;a="1"2',
    b'x;a=1"2"',
    rb'x;a="1\"',
    rb'x;a="\"1"',
    rb"x;a=\1",
    b'"x"',
    b"x/y",
    b"x;a=(b)",
    b"x;a={b}",
    b"x\xe9",
    b"x;\x0ba",
    b"x\x00",
    b"x\n",
]


@pytest.mark.parametrize("value", MALFORMED)
def test_refuses_what_is_malformed_wherever_it_stands(value: bytes) -> None:
    with pytest.raises(ValueError):
        parse_extensions([value])
    if value.strip(b", "):
        for values in ([b"y", value], [value, b"y"], [b"y," + value], [value + b",y"]):
            with pytest.raises(ValueError):
                parse_extensions(values)


def test_a_comma_always_separates_also_where_lines_meet() -> None:
    with pytest.raises(ValueError):
        parse_extensions([b'x; a="1', b'2"'])


@pytest.mark.parametrize("unit", [b"x;", b"x;a=", b"x;a ", b"\t", b";a", b'";', b"\\", b"x" * 50 + b";", b"x;a, "])
def test_time_grows_with_the_size(unit: bytes) -> None:
    def cost(size: int) -> float:
        text = b'x;a="' + (unit * size)[:size] + b"@"
        start = time.process_time()
        for value in (text, text[5:], b"x" + text[5:]):
            with pytest.raises(ValueError):
                parse_extensions([value])
        return time.process_time() - start

    assert cost(30_000) < 1.0  # a quadratic reader takes many seconds
