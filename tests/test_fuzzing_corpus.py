"""Every input in the corpus of the fuzzers, and every seed, ends as documented; and the checks see what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fuzzing import harness
from fuzzing.harness import CORPUS, TARGETS, Finding, cut, in_time, load

from fairlead.dialects.fairlead import Unsubscribe
from fairlead.gateway.bodies import Trigger
from fairlead.gateway.exchange import Exchange
from fairlead.rooms.names import Grants
from fairlead.wire.inflate import Inflater
from fairlead.wire.messages import MessageReader
from fairlead.wire.opening import Refusal


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_ends_as_documented(target: str) -> None:
    module = load(target)
    check = in_time(module.check)
    inputs = [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]
    assert len(inputs) >= 10
    for data in [*module.seeds(), *inputs]:
        check(data)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_bytes_of_an_input_are_an_input_too(target: str) -> None:
    module = load(target)
    for size in range(12):
        module.check(module.seeds()[0][:size])


feed, inflate, response = MessageReader.feed, Inflater.inflate, Refusal.response


def add_a_byte(inflater: Inflater, data: bytes, output: bytearray, **options: Any) -> None:
    inflate(inflater, data, output, **options)
    output += b"!"


FAULTS: list[tuple[str, object, str, Callable[..., object]]] = [
    ("messages", MessageReader, "feed", lambda reader, data: [] if len(data) == 5 else feed(reader, data)),
    ("deflate", Inflater, "inflate", add_a_byte),
    ("opening", Refusal, "response", lambda refusal, headers: response(refusal, [*headers, *headers])),
    ("dialect", load("dialect"), "decode", lambda payload: Unsubscribe(b" 1")),
    ("rooms", Grants, "allows", lambda grants, room: True),
    ("api", load("api"), "read_trigger", lambda body, room_size: Trigger((), b"1\n")),
    ("exchange", Exchange, "connection_lost", lambda exchange, exc: None),
]


@pytest.mark.parametrize(("target", "owner", "name", "fault"), FAULTS, ids=TARGETS)
def test_a_planted_fault_is_a_finding(
    target: str, owner: object, name: str, fault: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, fault)
    module = load(target)
    with pytest.raises(Finding):
        for data in module.seeds():
            module.check(data)


def test_an_input_that_takes_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SLOWEST", 1e-6)
    with pytest.raises(Finding, match="one input took"):
        in_time(lambda data: list(range(1000)).clear())(b"")


def test_pieces_are_the_whole_again() -> None:
    for first, second in ((0, 0), (3, 1), (255, 9)):
        assert b"".join(cut(b"abcdef", first, second)) == b"abcdef"
    assert cut(b"abc", 0, 0) == [b"a", b"b", b"c"]
