"""Whoever runs uvicorn's tests with our class sees each way in which they differ from what is listed."""

from __future__ import annotations

import pytest
from conformance.uvicorn_suite import EXCEPTIONS, judge

LISTED = {"test_a": "why", "test_b[max=10]": "why"}
AS_LISTED = {
    "test_a[fairlead-httptools]": "AssertionError: 1",
    "test_a[fairlead-zttp]": "skipped",
    "test_b[h11-max=10]": "AssertionError: 2",
    "test_b[h11-max=11]": "passed",
    "test_c[fairlead-h11-reason-1000]": "passed",
}


def test_what_is_as_listed_is_right() -> None:
    assert judge(AS_LISTED, LISTED) == []


@pytest.mark.parametrize(
    ("outcomes", "wrong"),
    [
        ({"test_a[fairlead-h11]": "passed"}, ["test_a[fairlead-h11] passes, and is listed as an exception: why"]),
        ({"test_b[h11-max=11]": "TypeError"}, ["test_b[h11-max=11] fails: TypeError"]),
        (
            {"test_c": "skipped", "test_c[fairlead-h11-reason-1000]": "skipped", "test_b[h11-max=11]": "skipped"},
            ["no test passed"],
        ),
    ],
)
def test_what_differs_is_told(outcomes: dict[str, str], wrong: list[str]) -> None:
    assert judge(AS_LISTED | outcomes, LISTED) == wrong


def test_an_exception_for_a_test_that_is_gone_is_told() -> None:
    assert judge(AS_LISTED, {**LISTED, "test_d": "why"}) == [
        "test_d is listed as an exception, and there is no such test"
    ]


def test_every_exception_has_a_reason() -> None:
    assert all(EXCEPTIONS.values())
