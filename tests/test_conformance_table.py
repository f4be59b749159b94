"""The handshake table is sound, and whoever runs it sees each kind of fault."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from conformance import handshake
from conformance.case import ACCEPT, NAMES, REFUSE, Case, ask
from conformance.handshake import Delivery, Outcome, run_table
from conformance.handshake_cases import CASES
from conformance.setups import Address


def test_there_are_at_least_150_cases_and_no_two_of_a_name() -> None:
    names = Counter(case.name for case in CASES)
    assert len(names) >= 150
    assert [name for name, count in names.items() if count > 1] == []


def test_every_answer_of_ours_is_a_legal_one_and_every_request_is_bytes() -> None:
    for case in CASES:
        assert case.ours in case.legal, case.name
        assert case.legal in NAMES, case.name
        assert case.rule, case.name
        case.request.encode("latin-1")


GOOD = Case(name="good", rule="-", legal=ACCEPT, ours=101, request=ask())
OFFER = ask({"Sec-WebSocket-Extensions": "x"})
OFFERED = Case(name="offered", rule="-", legal=ACCEPT, ours=101, request=OFFER, wants=("Sec-WebSocket-Extensions",))
DECLINED = Case(name="declined", rule="-", legal=ACCEPT, ours=101, request=OFFER, lacks=("Sec-WebSocket-Extensions",))
BAD = Case(name="bad", rule="-", legal=REFUSE, ours=426, request=ask({"Upgrade": None}), wants=("Upgrade",))

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
AGREED = ACCEPTED.replace(b"Upgr", b"Sec-WebSocket-Extensions: x\r\nUpgr", 1)
PONG, CLOSE = b"\x8a\x05early", b"\x88\x02\x03\xe8"
REFUSED = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\nContent-Length: 2\r\n\r\nno"
)


async def outcome(case: Case, answer: bytes, *, stays: bool = False) -> Outcome:
    """Deliver the case in one piece to a server that always answers so and ends the connection, or stays."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if not stays:
            writer.write_eof()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        outcomes = await run_table(Address(port=server.sockets[0].getsockname()[1]), "/", cases=[case])
    (whole,) = [each for each in outcomes if each.delivery is Delivery.WHOLE]
    return whole


async def test_a_good_answer_has_no_fault() -> None:
    good = ((GOOD, ACCEPTED), (OFFERED, AGREED), (DECLINED, ACCEPTED))
    for case, answer in (*((case, head + PONG + CLOSE) for case, head in good), (BAD, REFUSED)):
        found = await outcome(case, answer)
        assert (found.broken, found.differs) == ([], [])


@pytest.mark.parametrize(
    ("case", "answer", "fault"),
    [
        (GOOD, REFUSED, "426, not 101"),
        (GOOD, b"", "no answer, not 101"),
        (GOOD, ACCEPTED.replace(b"s3p", b"S3P") + PONG + CLOSE, "Sec-WebSocket-Accept is wrong"),
        (GOOD, ACCEPTED.replace(b": Upgrade", b": close") + PONG + CLOSE, "does not name the upgrade"),
        (GOOD, ACCEPTED.replace(b"Upgr", b"Content-Length: 0\r\nUpgr", 1) + PONG + CLOSE, "has a length"),
        (GOOD, ACCEPTED.replace(b"Upgr", b"Sec-WebSocket-Protocol: x\r\nUpgr", 1) + PONG + CLOSE, "was not offered"),
        (GOOD, ACCEPTED + CLOSE, "the ping was not answered"),
        (GOOD, ACCEPTED + PONG, "the close was not answered"),
        (OFFERED, ACCEPTED + PONG + CLOSE, "the response has no Sec-WebSocket-Extensions"),
        (DECLINED, AGREED + PONG + CLOSE, "the response has Sec-WebSocket-Extensions"),
        (BAD, ACCEPTED, "101, not 4xx 5xx"),
        (BAD, REFUSED.replace(b"426", b"400"), "400, not 426"),
        (BAD, REFUSED.replace(b"Upgrade: websocket\r\n", b""), "the response has no Upgrade"),
        (BAD, REFUSED.replace(b"close, Upgrade", b"close"), "not listed in Connection"),
        (BAD, REFUSED.replace(b"close, Upgrade", b"Upgrade"), "no Connection: close"),
        (BAD, REFUSED + b"HTTP/1.1 200 OK\r\n\r\n", "more than one response"),
        (BAD, REFUSED[:-1], "1 bytes of 2 arrived"),
    ],
)
async def test_each_fault_is_seen(case: Case, answer: bytes, fault: str) -> None:
    found = await outcome(case, answer)
    assert any(fault in each for each in found.broken + found.differs)


@pytest.mark.parametrize(
    ("case", "answer"), [(GOOD, ACCEPTED + PONG + CLOSE), (BAD, REFUSED)], ids=["accepted", "refused"]
)
async def test_a_connection_that_stays_is_seen(case: Case, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "PATIENCE", 0.02)
    found = await outcome(case, answer, stays=True)
    assert found.broken + found.differs != []
