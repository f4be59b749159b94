"""Told to stop, the gateway sends its clients away in good order and loses nothing that it promised to deliver."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.clients import CLOSE, TEXT, Client, Crowd, connect, frame, frames, subscribe, upgrade
from tests.e2e.processes import KEY, PATIENCE, cheap_api, exchange, gateway, until

pytestmark = pytest.mark.slow

CLIENTS = 1_000
WINDOW, GRACE = 10.0, 5.0
RESTART = (1012).to_bytes(2, "big")
CLOSED = (CLOSE, RESTART + b"service restart")
PAUSE = 0.01
"""Seconds between two triggers: with all clients there, the gateway is busy for half of it."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class Publisher(threading.Thread):
    """Posts 0, 1, 2 ... to the room over one kept connection until the gateway takes no more.

    Attributes:
        answered: How many triggers were answered 200.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answered = 0
        self.enough = threading.Event()
        self._port = port

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            while not self.enough.wait(PAUSE):
                body = json.dumps({"rooms": ["r"], "data": self.answered})
                connection.request("POST", "/trigger/", body, headers)
                answer = connection.getresponse()
                assert (answer.read()[:1], answer.status) == (b"{", 200)
                self.answered += 1
        except (OSError, http.client.HTTPException):
            pass  # the listener is closed
        finally:
            connection.close()


def test_every_trigger_answered_200_reaches_everybody_who_is_still_in(tmp_path: Path, stack: ExitStack) -> None:
    """From outside nobody sees when a Close frame is sent. So each client asks for a pong now and then: one that comes
    proves that no Close frame was sent before the question, and every trigger that had been answered by then must
    stand before the Close frame in the stream."""
    api = stack.enter_context(cheap_api())
    running = stack.enter_context(gateway(tmp_path, api.url))
    crowd = Crowd(running.port)
    stack.callback(crowd.drop, reset=True)
    crowd.open([upgrade()] * CLIENTS, [subscribe("r")] * CLIENTS)
    publisher = Publisher(running.admin)
    publisher.start()
    until(lambda: publisher.answered > 20, "triggers are answered")

    started = time.monotonic()
    running.signal(signal.SIGTERM)
    asked, ended = listen(crowd, publisher)
    publisher.join(PATIENCE)
    status = running.wait()
    finished = time.monotonic() - started

    assert status == 0
    assert finished < WINDOW + GRACE
    after = publisher.answered
    lengths = [check(bytes(stream), questions) for stream, questions in zip(crowd.streams, asked, strict=True)]
    assert max(lengths) - min(lengths) > 20  # published while some were gone and others not
    moments = sorted(moment - started for moment in ended)
    assert moments[0] < WINDOW / 4 < moments[CLIENTS // 2] < 3 * WINDOW / 4 < moments[-1]  # spread over the window
    assert moments[-1] < WINDOW + GRACE / 2  # all answer their Close at once, so nobody needs the grace
    print(
        f"\nended {moments[0]:.1f} to {moments[-1]:.1f} s after SIGTERM, the process after {finished:.1f} s; ", end=""
    )
    print(f"{after} triggers answered 200, {min(lengths)} to {max(lengths)} received, ", end="")
    print(f"{sum(map(len, asked))} pongs asked for")


def listen(crowd: Crowd, publisher: Publisher) -> tuple[list[list[int]], list[float]]:
    """Read until the gateway has ended every connection, asking for a pong now and then and answering each Close.

    Returns:
        For each client what had been answered when it asked for each pong, and when it ended.
    """
    asked: list[list[int]] = [[] for _ in crowd.sockets]
    ended = [0.0] * len(asked)
    reads = [0] * len(asked)
    question = frame(b"ping")
    left = len(asked)
    while left:
        for place in crowd.read():
            connection, stream = crowd.sockets[place], crowd.streams[place]
            reads[place] += 1
            if connection.fileno() < 0:
                left -= 1
            elif stream.endswith(CLOSED[1]):
                ended[place] = time.monotonic()
                connection.sendall(frame(RESTART, CLOSE))
                connection.shutdown(socket.SHUT_WR)
            elif reads[place] % 8 == 0:
                asked[place].append(publisher.answered)
                connection.sendall(question)
    return asked, ended


def check(stream: bytes, asked: list[int]) -> int:
    """One client's stream holds 0, 1, 2 ... without a gap, before its Close frame all that had been answered when the
    last question with a pong was asked, and no more; how many publications it got."""
    received, size = frames(stream)
    assert size == len(stream)
    assert received.pop() == CLOSED
    count, owed, questions = 0, 0, iter(asked)
    for opcode, payload in received:
        assert opcode == TEXT
        if payload == b"pong":
            owed = next(questions)  # a pong may overtake publications that wait for the end of the loop's turn
        else:
            assert json.loads(payload) == {"type": "publish", "requestId": "s", "room": "r", "data": count}
            count += 1
    assert count >= owed
    return count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_draining_nobody_comes_in_and_the_api_is_still_heard(
    tmp_path: Path, stack: ExitStack, number: signal.Signals
) -> None:
    api = stack.enter_context(cheap_api())
    running = stack.enter_context(gateway(tmp_path, api.url, limits={"drain_window": 0.2, "drain_grace": 5.0}))
    client = stack.enter_context(Client(running.port))
    client.subscribe("r")
    assert running.call("GET", "/readyz").status == 200
    assert exchange(running.port, "GET", "/readyz").status == 200
    api.hold()
    late = stack.enter_context(connect(running.port))  # in the middle of its handshake: the API has not answered yet
    late.sendall(upgrade())
    until(lambda: api.asked == 2, "the API is asked")
    silent = stack.enter_context(connect(running.port))  # has sent nothing yet
    until(lambda: running.total("connections") == 1, "the first client is in")

    running.signal(number)
    assert client.next() == CLOSED  # and is not answered, so that the drain goes on
    refusal = late.recv(4096)
    assert refusal.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1\r\n" in refusal.lower()
    late.close()
    assert silent.recv(4096) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(running.port)
    assert running.call("GET", "/readyz").status == 503
    assert running.call("GET", "/healthz").status == 200
    assert running.publish(["r"], "too late") == 1  # it is counted as long as its socket is there
    client.socket.sendall(frame(RESTART, CLOSE))
    with pytest.raises(EOFError):
        client.next()
    client.close()
    api.release()
    assert running.wait(2.0) == 0
    assert not [line for line in running.lines if " ERROR " in line or "Traceback" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once_with_status_1(
    tmp_path: Path, stack: ExitStack, number: signal.Signals
) -> None:
    api = stack.enter_context(cheap_api())
    running = stack.enter_context(gateway(tmp_path, api.url))
    for _ in range(300):  # three seconds' worth of draining
        stack.enter_context(Client(running.port))
    running.signal(number)
    until(lambda: running.call("GET", "/readyz").status == 503, "it drains")
    assert running.running
    started = time.monotonic()
    running.signal(number)
    assert running.wait() == 1
    took = time.monotonic() - started
    print(f"\nended {took * 1000:.0f} ms after the second {number.name}")
    assert took < 0.5


def test_a_client_that_never_answers_its_close_is_dropped_after_the_grace(tmp_path: Path, stack: ExitStack) -> None:
    api = stack.enter_context(cheap_api())
    running = stack.enter_context(gateway(tmp_path, api.url, limits={"drain_grace": 1.0}))
    client = stack.enter_context(Client(running.port))
    started = time.monotonic()
    running.signal(signal.SIGTERM)
    assert client.next() == CLOSED
    assert running.wait() == 0
    assert 1.0 <= time.monotonic() - started < 2.0


def test_an_idle_gateway_ends_at_once(tmp_path: Path, stack: ExitStack) -> None:
    api = stack.enter_context(cheap_api())
    running = stack.enter_context(gateway(tmp_path, api.url))
    started = time.monotonic()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("signals", [1, 2], ids=["drained", "cut short"])
def test_on_unix_sockets_it_is_the_same_and_no_socket_file_is_left(
    tmp_path: Path, stack: ExitStack, signals: int
) -> None:
    public, admin = tmp_path / "clients.sock", tmp_path / "api.sock"
    api = stack.enter_context(cheap_api())
    sockets = {"server": {"uds": str(public)}, "api": {"uds": str(admin)}}
    running = stack.enter_context(gateway(tmp_path, api.url, **sockets))
    assert public.is_socket() and admin.is_socket()
    client = stack.enter_context(Client(str(public)))
    client.subscribe("r")

    running.signal(signal.SIGTERM)
    assert client.next() == CLOSED
    assert not public.exists()
    kept = stack.enter_context(connect(str(admin)))
    kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert kept.recv(4096).startswith(b"HTTP/1.1 503 ")
    if signals == 1:
        client.close()
    else:
        running.signal(signal.SIGTERM)
    assert running.wait(2.0) == signals - 1
    assert not [path for path in tmp_path.iterdir() if path.is_socket()]


def test_after_a_drain_the_port_is_free_for_the_next_process(tmp_path: Path, stack: ExitStack) -> None:
    api = stack.enter_context(cheap_api())
    running = stack.enter_context(gateway(tmp_path, api.url))
    port = running.port
    client = stack.enter_context(Client(port))
    running.signal(signal.SIGTERM)
    assert client.next() == CLOSED
    client.socket.sendall(frame(RESTART, CLOSE))
    with pytest.raises(EOFError):  # the server ends the socket first, so it is the one that has to wait (TIME-WAIT)
        client.next()
    client.close()
    assert running.wait() == 0
    again = stack.enter_context(gateway(tmp_path, api.url, server={"port": port}))
    assert again.call("GET", "/readyz").status == 200
