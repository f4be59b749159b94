"""Run the opening-handshake table against a server: ours in its set-ups, or anybody's.

    python -m conformance.handshake                          # ours, every set-up
    python -m conformance.handshake --server HOST PORT PATH  # any other; --tls for TLS

Each case is delivered three ways: in one piece; with more bytes right behind it, which must be taken as frames after an
acceptance and must never be executed after a refusal; and one byte at a time, which must change nothing. A refusal must
be one response, say ``Connection: close`` and end the connection.

Ours must answer as the table says of it. Of any other server it is said which cases break a standard and which only
differ from our policy.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter

from conformance.case import NAMES, NO_ANSWER, SMUGGLED, Case
from conformance.handshake_cases import CASES
from conformance.setups import SETUPS, Address, NotRun, Running, serving

PATIENCE = 4.0
"""Seconds until what did not happen counts as not happening; less than any head deadline that is usual."""

IN_FLIGHT = 48
"""Connections at once."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING = b"\x89\x85\x01\x02\x03\x04" + bytes(map(int.__xor__, b"early", b"\x01\x02\x03\x04\x01"))
PONG = b"\x8a\x05early"
CLOSE = b"\x88\x82\x01\x02\x03\x04" + bytes((0x03 ^ 0x01, 0xE8 ^ 0x02))

BYTEWISE_SIZE = 2048
"""Heads up to this size are also sent byte by byte: longer ones would take seconds and show nothing more."""

BYTEWISE_TLS = 10
"""Over TLS one case in so many is: a record for each byte costs this client most of a second."""


class Delivery(Enum):
    """How a request is put on the wire."""

    WHOLE = "in one piece"
    FOLLOWED = "with bytes behind it"
    BYTEWISE = "byte by byte"


@dataclass(slots=True)
class Outcome:
    """What came of one delivery.

    Attributes:
        status: Of the response; NO_ANSWER for none.
        broken: Standards that were broken.
        differs: Where it is not as our policy says.
    """

    case: Case
    delivery: Delivery
    status: int = NO_ANSWER
    broken: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    def describe(self, faults: Iterable[str]) -> str:
        """One line for the report."""
        return f"  {self.case.name} ({self.case.rule}), {self.delivery.value}: {'; '.join(faults)}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response's head as it came, names in lower case, and all that followed."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    rest: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of one header in order."""
        return [value for each, value in self.headers if each == name]

    def options(self, name: bytes) -> list[bytes]:
        """The elements of a list header in lower case."""
        return [element.strip().lower() for value in self.values(name) for element in value.split(b",")]


def parse(data: bytes) -> Response | None:
    """Read a response; None if there is no whole head. A "100 Continue" in front is no response yet."""
    head, end, rest = data.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r\n|$)", head)
    if not end or match is None:
        return None
    if match[1] == b"100":
        return parse(rest)
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return Response(int(match[1]), tuple((name.lower(), value.strip()) for name, _, value in lines), rest)


class Conversation:
    """One connection to the server, judged as it goes.

    Args:
        proxied: Judge no more of a refusal than its status: the rest is the proxy's affair.
    """

    def __init__(self, case: Case, delivery: Delivery, address: Address, path: str, *, proxied: bool) -> None:
        host = address.host if address.port in (0, 80, 443) else f"{address.host}:{address.port}"
        self._case = case
        self._address = address
        self._outcome = Outcome(case, delivery)
        self._request = case.request.replace("{host}", host).replace("{path}", path).encode("latin-1")
        self._proxied = proxied
        self._behind = b""
        if delivery is Delivery.FOLLOWED:
            self._behind = PING if case.ours == 101 else SMUGGLED.replace("{host}", host).encode()
        self._received = b""
        self._ended = False

    async def hold(self) -> Outcome:
        """Send, read and judge."""
        outcome = self._outcome
        try:
            reader, writer = await self._address.connect()
        except OSError as exc:
            outcome.broken.append(f"no connection: {exc}")
            return outcome
        sending = asyncio.create_task(self._send(writer))
        try:
            await self._converse(reader, writer)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
        return outcome

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Send while the answer is read: it may come long before the end."""
        with contextlib.suppress(OSError):
            if self._outcome.delivery is Delivery.BYTEWISE:
                for index in range(len(self._request)):
                    writer.write(self._request[index : index + 1])
                    await asyncio.sleep(0)
            else:
                writer.write(self._request + self._behind)
            await writer.drain()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outcome = self._outcome
        await self._read(reader, lambda: parse(self._received) is not None)
        response = parse(self._received)
        outcome.status = response.status if response else NO_ANSWER
        if outcome.status not in self._case.legal:
            outcome.broken.append(f"{self._said()}, not {NAMES[self._case.legal]}")
        elif outcome.status != self._case.ours:
            outcome.differs.append(f"{self._said()}, not {self._case.ours}")
        if response is not None and response.status == 101:
            outcome.broken += judge_acceptance(response, self._request)
            self._judge_headers(response)
            await self._use(reader, writer)
        elif response is not None and not self._proxied:
            await self._read(reader, lambda: False)
            self._judge_refusal(response)

    def _judge_headers(self, response: Response) -> None:
        """What the case says of a 101's headers: a server may do without an extension, but not agree to a bad offer."""
        case, outcome = self._case, self._outcome
        missing = [name for name in case.wants if not response.values(name.lower().encode())]
        outcome.differs += [f"the response has no {name}" for name in missing]
        unasked = [name for name in case.lacks if response.values(name.lower().encode())]
        outcome.broken += [f"the response has {name}" for name in unasked]

    def _said(self) -> str:
        if self._outcome.status == NO_ANSWER and self._received:
            return f"{self._received[:40]!r}"
        if self._outcome.status == NO_ANSWER:
            return "no answer" + ("" if self._ended else ", still open")
        return str(self._outcome.status)

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The connection must be alive and its frames in step: a ping gets its pong, a Close its Close and the end."""
        with contextlib.suppress(OSError):
            writer.write(CLOSE if self._behind == PING else PING + CLOSE)
        await self._read(reader, lambda: False)
        accepted = parse(self._received)
        frames = accepted.rest if accepted else b""
        if PONG not in frames:
            self._outcome.broken.append(f"the ping was not answered: {frames[:40]!r}")
        if b"\x88\x02\x03\xe8" not in frames or not self._ended:
            self._outcome.broken.append("the close was not answered" if self._ended else "still open after the close")

    def _judge_refusal(self, first: Response) -> None:
        response = parse(self._received) or first
        outcome = self._outcome
        for name in self._case.wants if outcome.status == self._case.ours else ():
            if not response.values(name.lower().encode()):
                outcome.broken.append(f"the response has no {name}")
        if outcome.status == 426 and b"upgrade" not in response.options(b"connection"):
            outcome.broken.append("Upgrade is not listed in Connection (RFC 9110, 7.8)")
        if b"close" not in response.options(b"connection"):
            outcome.differs.append("no Connection: close")
        if not self._ended:
            outcome.differs.append("the connection stays open")
        (length,) = response.values(b"content-length") or [b"-1"]
        size = 0 if self._request.startswith(b"HEAD ") else int(length)
        if size >= 0 and len(response.rest) > size:
            outcome.differs.append(f"more than one response: {response.rest[size : size + 40]!r}")
        if size >= 0 and len(response.rest) < size:
            outcome.broken.append(f"{len(response.rest)} bytes of {size} arrived")

    async def _read(self, reader: asyncio.StreamReader, enough: Callable[[], bool]) -> None:
        """Read until there is enough, the connection ends or patience does."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(PATIENCE):
                while not self._ended and not enough():
                    data = await reader.read(65536)
                    self._received += data
                    self._ended = not data
                return
        self._ended = self._ended or reader.exception() is not None


def judge_acceptance(response: Response, request: bytes) -> list[str]:
    """What is wrong with a 101 (RFC 6455, 4.2.2)."""
    faults = []
    key = re.search(rb"(?i)\r\nsec-websocket-key:[ \t]*([A-Za-z0-9+/=]*)", request)
    accept = base64.b64encode(hashlib.sha1((key[1] if key else b"") + GUID).digest())
    if response.values(b"sec-websocket-accept") != [accept]:
        faults.append("Sec-WebSocket-Accept is wrong")
    if response.options(b"upgrade") != [b"websocket"] or b"upgrade" not in response.options(b"connection"):
        faults.append("the response does not name the upgrade")
    if response.values(b"content-length") or response.values(b"transfer-encoding"):
        faults.append("a 101 has a length (RFC 9110, 8.6)")
    for name in (b"sec-websocket-protocol", b"sec-websocket-extensions"):
        offered = _offered(request, name)
        for value in response.options(name):
            if value.partition(b";")[0].strip() not in offered:
                faults.append(f"{name.decode()} {value!r} was not offered")
    return faults


def _offered(request: bytes, name: bytes) -> set[bytes]:
    values = re.findall(rb"(?i)\r\n%s:([^\r]*)" % name, request)
    return {element.partition(b";")[0].strip().lower() for value in values for element in value.split(b",")}


def plan(cases: Sequence[Case], *, tls: bool, proxied: bool) -> list[tuple[Case, Delivery]]:
    """What is sent: every case in each way that makes sense."""
    if proxied:
        return [(case, Delivery.WHOLE) for case in cases if case.proxied]
    whole = [(case, Delivery.WHOLE) for case in cases]
    followed = [(case, Delivery.FOLLOWED) for case in cases]
    short = [(case, Delivery.BYTEWISE) for case in cases if len(case.request) <= BYTEWISE_SIZE]
    return whole + followed + short[:: BYTEWISE_TLS if tls else 1]


async def run_table(
    address: Address, path: str, *, cases: Sequence[Case] = CASES, proxied: bool = False
) -> list[Outcome]:
    """Hold every conversation, many at a time.

    Args:
        address: The server.
        path: Where it accepts WebSockets.
        cases: Those to run.
        proxied: Run only what gets through a reverse proxy unchanged, in one piece.
    """
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def hold(case: Case, delivery: Delivery) -> Outcome:
        async with gate:
            return await Conversation(case, delivery, address, path, proxied=proxied).hold()

    return await asyncio.gather(*(hold(*each) for each in plan(cases, tls=address.tls, proxied=proxied)))


async def executed(address: Address) -> int:
    """How often our echo server was asked for what must never be executed."""
    reader, writer = await address.connect()
    writer.write(b"GET /executed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return int(answer.rpartition(b"\r\n\r\n")[2])


def run_setup(setup: str, cases: Sequence[Case]) -> bool:
    """Run the table against ours in one set-up; return whether it answered as the table says.

    Raises:
        NotRun: The machine lacks what the set-up needs.
    """
    proxied = setup == "nginx"
    with serving(setup, "--limit", 'compression="own"') as running:  # what is offered is negotiated then, too
        started = time.monotonic()
        outcomes, smuggled = asyncio.run(_run_ours(running, cases, proxied=proxied))
        seconds = time.monotonic() - started
    faults = 0
    for outcome in outcomes:
        wrong = outcome.broken + outcome.differs
        faults += bool(wrong)
        if wrong:
            print(outcome.describe(wrong))
    if smuggled:
        print(f"  {smuggled} requests behind a refused one were executed")
    count = len({outcome.case.name for outcome in outcomes})
    print(f"{setup}: {count} cases, {len(outcomes)} deliveries, {faults} wrong, {seconds:.1f} s", flush=True)
    return not faults and not smuggled


async def _run_ours(running: Running, cases: Sequence[Case], *, proxied: bool) -> tuple[list[Outcome], int]:
    outcomes = await run_table(running.address, "/echo", cases=cases, proxied=proxied)
    return outcomes, 0 if proxied else await executed(running.address)


def run_other(address: Address, path: str, cases: Sequence[Case]) -> bool:
    """Run the table against any server; return whether it breaks no standard."""
    outcomes = asyncio.run(run_table(address, path, cases=cases))
    for title, choose in (("break a standard", attrgetter("broken")), ("are not our policy", attrgetter("differs"))):
        for delivery in Delivery:
            delivered = [outcome for outcome in outcomes if outcome.delivery is delivery]
            wrong = [outcome for outcome in delivered if choose(outcome)]
            print(f"{delivery.value}: {len(wrong)} of {len(delivered)} cases {title}")
            for outcome in wrong:
                print(outcome.describe(choose(outcome)))
    return not any(outcome.broken for outcome in outcomes)


def export(cases: Iterable[Case]) -> None:
    """Print the table as JSON, one object for each case; a character of ``request`` is a byte."""
    for case in cases:
        row = {"name": case.name, "rule": case.rule, "must": case.must, "legal": NAMES[case.legal], "ours": case.ours}
        row |= {"wants": case.wants, "lacks": case.lacks, "proxied": case.proxied, "request": case.request}
        print(json.dumps(row))


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if all is as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.handshake",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--setup", action="append", choices=tuple(SETUPS), help="default: all; may be repeated")
    parser.add_argument("--server", nargs=3, metavar=("HOST", "PORT", "PATH"), help="any server instead of ours")
    parser.add_argument("--tls", action="store_true", help="with --server: TLS; the certificate is not verified")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--export", action="store_true", help="print the table as JSON lines and run nothing")
    arguments = parser.parse_args(words)
    cases = [case for case in CASES if arguments.only in case.name]
    if arguments.export:
        export(cases)
        return 0
    if arguments.server:
        host, port, path = arguments.server
        return 0 if run_other(Address(host, int(port), tls=arguments.tls), path, cases) else 1
    passed = True
    for setup in arguments.setup or SETUPS:
        try:
            passed &= run_setup(setup, cases)
        except NotRun as missing:
            print(f"{setup}: not run: {missing}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
