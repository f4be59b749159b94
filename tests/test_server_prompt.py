"""Requests that are answered where they are read, and those that are not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.test_transports_native import Socket, turns

from fairlead.server import Listener, Server
from fairlead.testing import FakeClock
from fairlead.transports.ticker import Ticker

ANSWER = b"content-length: 2\r\n\r\nat"
Headers = Sequence[tuple[bytes, bytes]]


def post(body: bytes = b"now", *lines: bytes, target: bytes = b"/a?b") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n%b" % (target, b"".join(line + b"\r\n" for line in lines))
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class Caller:
    """A connection to a server that answers bodies of "now" at once. The application answers "later"."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.prompted: list[tuple[bytes, Headers, bytes]] = []
        self.asked: list[tuple[str, str, bytes]] = []
        self.go = asyncio.Event()
        self.go.set()
        server = Server(Listener(app=self.application, prompt=self.prompt), ticker=Ticker(self.clock))
        self.state = server.server_state
        self.state.default_headers = [(b"date", b"today")]
        self.socket = Socket()
        make: Any = server.config.http_protocol_class
        self.protocol: Any = make(server.config, self.state, {}, asyncio.get_running_loop())
        self.socket.set_protocol(self.protocol)
        self.protocol.connection_made(self.socket)

    def prompt(self, target: bytes, headers: Headers, body: bytes) -> bytes | None:
        self.prompted.append((target, list(headers), body))
        if body == b"bug":
            raise RuntimeError("bug")
        return ANSWER if body == b"now" else None

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.asked.append((scope["method"], scope["path"], body))
        await self.go.wait()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"later"})

    async def send(self, *reads: bytes) -> bytes:
        """What is answered to what comes in these reads."""
        before = len(self.socket.written)
        for each in reads:
            self.protocol.data_received(each)
            await turns()
        return b"".join(self.socket.written[before:])


def bodies(answers: bytes) -> list[bytes]:
    """The bodies of several answers, known by their first two bytes."""
    return [part[:2] for part in answers.split(b"\r\n\r\n")[1:]]


async def test_a_post_that_comes_whole_is_answered_before_the_read_is_over() -> None:
    caller = Caller()
    caller.protocol.data_received(post(b"now", b"X-One: 1"))
    assert caller.socket.written == [b"HTTP/1.1 200 OK\r\ndate: today\r\n" + ANSWER]
    assert caller.prompted == [(b"/a?b", [(b"host", b"x"), (b"x-one", b"1"), (b"content-length", b"3")], b"now")]
    await turns()
    assert caller.asked == []
    assert caller.state.total_requests == 1


async def test_what_the_prompt_leaves_reaches_the_application_whole() -> None:
    caller = Caller()
    large = b"x" * 10_000
    assert bodies(await caller.send(post(large))) == [b"la"]
    assert caller.asked == [("POST", "/a", large)]
    assert caller.prompted[0][2] == large


@pytest.mark.parametrize(("at", "answer"), [(1, b"at"), (30, b"at"), (-3, b"la"), (-1, b"la")])
async def test_a_head_may_come_in_pieces_and_its_body_has_to_come_with_the_last(at: int, answer: bytes) -> None:
    caller = Caller()
    request = post()
    assert bodies(await caller.send(request[:at], request[at:])) == [answer]
    assert [body for _, _, body in caller.asked] == ([] if answer == b"at" else [b"now"])


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        post(b"now", b"Connection: close"),
        post(b"now", b"Expect: 100-continue"),
        post().replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(b"now", b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_other_requests_are_for_the_application(request_: bytes) -> None:
    caller = Caller()
    assert b"later" in await caller.send(request_)
    assert caller.prompted == []
    assert len(caller.asked) == 1


async def test_one_request_of_a_read_is_prompted_and_the_answers_keep_the_order() -> None:
    caller = Caller()
    assert bodies(await caller.send(post() * 3)) == [b"at", b"la", b"la"]
    assert bodies(await caller.send(post())) == [b"at"]
    assert len(caller.prompted) == 2


async def test_nothing_overtakes_a_request_that_is_being_answered() -> None:
    caller = Caller()
    caller.go.clear()
    assert await caller.send(post(b"slow"), post(), post()) == b""
    caller.go.set()
    assert bodies(await caller.send(b"")) == [b"la", b"la", b"at"]  # the third one was read when nothing was before it


async def test_a_client_that_takes_no_answers_gets_no_more_at_once() -> None:
    caller = Caller()
    caller.protocol.pause_writing()
    assert await caller.send(post()) == b""
    caller.protocol.resume_writing()
    assert bodies(await caller.send(b"")) == [b"la"]


async def test_a_failing_prompt_ends_the_connection_and_nothing_is_tried_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caller = Caller()
    assert (await caller.send(post(b"bug") + post())).startswith(b"HTTP/1.1 500 ")
    assert caller.socket.ended
    assert len(caplog.records) == len(caller.prompted) == 1
    assert caller.asked == []


async def test_a_broken_body_is_refused() -> None:
    caller = Caller()
    broken = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnowX"
    assert (await caller.send(broken)).startswith(b"HTTP/1.1 400 ")
    assert (caller.prompted, caller.asked) == ([], [])


async def test_a_chunked_body_that_comes_whole_is_prompted() -> None:
    caller = Caller()
    assert bodies(
        await caller.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnow\r\n0\r\n\r\n")
    ) == [b"at"]


async def test_a_silent_connection_is_closed_a_while_after_its_last_answer() -> None:
    caller = Caller()
    for _ in range(3):
        await caller.send(post())
        await caller.clock.advance(4)
    assert not caller.socket.closed
    await caller.clock.advance(3)
    assert caller.socket.closed
    caller.protocol.connection_lost(None)


async def test_a_connection_that_is_lost_leaves_no_deadline() -> None:
    caller = Caller()
    await caller.send(post())
    assert caller.protocol.shared.ticker.wheel
    caller.protocol.connection_lost(None)
    assert not caller.protocol.shared.ticker.wheel
