"""Publishing over HTTP: one call, one Idempotency-Key, and errors that say who has to do what."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import msgspec
import pytest

from fairlead.errors import GatewayUnavailable, SettingsError, TriggerRefused, UsageError
from fairlead.publisher import AsyncPublisher, Published, Publisher, Room, publish

KEY = "0123456789abcdef"
DONE = (200, b'{"published":1,"delivered":3}')

Rooms = Room | list[Room]
Publish = Callable[[Rooms, object], Published]


class FakeGateway(ThreadingHTTPServer):
    """Gives the scripted answers in order, the last one for ever; a status of 0 hangs up without an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [DONE]
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_answer(self) -> tuple[int, bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        gateway = cast(FakeGateway, self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        gateway.requests.append((self.path, dict(self.headers.items()), body))
        status, answer = gateway.next_answer()
        if status:
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.publisher._FIRST_DELAY", 0.0)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, gateway: FakeGateway) -> Publish:
    """publish() of either publisher, as a plain function."""

    async def publish_async(rooms: Rooms, data: object) -> Published:
        async with AsyncPublisher(gateway.url, key=KEY) as publisher:
            return await publisher.publish(rooms, data)

    if request.param == "sync":
        return Publisher(gateway.url, key=KEY).publish
    return lambda rooms, data: asyncio.run(publish_async(rooms, data))


def test_trigger_is_posted_with_the_key(gateway: FakeGateway, call: Publish) -> None:
    assert call("harbour", {"a": [1, None]}) == Published(published=1, delivered=3)
    ((path, headers, body),) = gateway.requests
    assert path == "/trigger/"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert msgspec.json.decode(body) == {"rooms": ["harbour"], "data": {"a": [1, None]}}


@pytest.mark.parametrize(
    ("rooms", "sent"),
    [
        ({"order": 7}, [{"order": 7}]),
        (["a", {"order": 7}], ["a", {"order": 7}]),
        ([], []),
    ],
)
def test_one_room_or_several(gateway: FakeGateway, call: Publish, rooms: Rooms, sent: object) -> None:
    call(rooms, 1)
    assert msgspec.json.decode(gateway.requests[0][2])["rooms"] == sent


def test_raw_data_travels_as_it_stands(gateway: FakeGateway, call: Publish) -> None:
    call("a", msgspec.Raw(b'{"n":1.00}'))
    assert b'"data":{"n":1.00}' in gateway.requests[0][2]


@pytest.mark.parametrize(
    "failure", [(0, b""), (503, b"draining"), (502, b""), (429, b""), (408, b""), (200, b"<html>")]
)
def test_failure_is_tried_again_under_the_same_idempotency_key(
    gateway: FakeGateway, call: Publish, failure: tuple[int, bytes]
) -> None:
    gateway.answers = [failure, failure, DONE]
    assert call("a", 1).delivered == 3
    keys = [headers["Idempotency-Key"] for _, headers, _ in gateway.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_each_call_has_its_own_idempotency_key(gateway: FakeGateway, call: Publish) -> None:
    call("a", 1)
    call("a", 1)
    first, second = (headers["Idempotency-Key"] for _, headers, _ in gateway.requests)
    assert first != second


def test_after_three_failures_the_gateway_is_unavailable(gateway: FakeGateway, call: Publish) -> None:
    gateway.answers = [(503, b"draining\n")]
    with pytest.raises(GatewayUnavailable, match="^the gateway at http://.*/trigger/ answers 503 draining$"):
        call("a", 1)
    assert len(gateway.requests) == 3


def test_refused_trigger_carries_the_gateways_text_and_is_not_tried_again(gateway: FakeGateway, call: Publish) -> None:
    gateway.answers = [(400, b'{"error":"rooms: missing"}')]
    with pytest.raises(TriggerRefused, match="with HTTP 400: rooms: missing$") as caught:
        call("a", 1)
    assert (caught.value.status, caught.value.text) == (400, "rooms: missing")
    assert len(gateway.requests) == 1


def test_long_text_of_a_refusal_is_cut(gateway: FakeGateway, call: Publish) -> None:
    gateway.answers = [(413, b"\xff" + b"x" * 100_000)]
    with pytest.raises(TriggerRefused) as caught:
        call("a", 1)
    assert caught.value.text == "\ufffd" + "x" * 499


def test_an_answer_is_read_up_to_a_bound(gateway: FakeGateway, call: Publish) -> None:
    gateway.answers = [(200, b'{"published":1,"delivered":3,"x":"' + b"x" * 8_000_000 + b'"}')]
    with pytest.raises(GatewayUnavailable, match="is no gateway$"):
        call("a", 1)


async def test_of_an_endless_answer_no_more_than_the_bound_is_waited_for() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\n\r\n" + b"x" * 200_000)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with AsyncPublisher(url, key=KEY, tries=1) as publisher:
            with pytest.raises(GatewayUnavailable, match="answers 503 x{500}$"):
                await publisher.publish("a", 1)


@pytest.mark.parametrize("answer", [b"not found\n", b""])
def test_a_listener_without_triggers_is_perhaps_the_wrong_one(
    gateway: FakeGateway, call: Publish, answer: bytes
) -> None:
    gateway.answers = [(404, answer)]
    with pytest.raises(TriggerRefused, match="404: not found; is http://.*/trigger/ on the gateway's admin port.$"):
        call("a", 1)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_is_a_settings_error_that_does_not_show_it(
    gateway: FakeGateway, call: Publish, status: int
) -> None:
    gateway.answers = [(status, b"")]
    with pytest.raises(SettingsError, match="refuses the API key$") as caught:
        call("a", 1)
    assert KEY not in str(caught.value)
    assert len(gateway.requests) == 1


def test_redirect_is_not_followed(gateway: FakeGateway, call: Publish) -> None:
    gateway.answers = [(307, b"")]
    with pytest.raises(GatewayUnavailable, match="answers 307$"):
        call("a", 1)
    assert {path for path, _, _ in gateway.requests} == {"/trigger/"}


def test_nobody_there_is_unavailable(gateway: FakeGateway, call: Publish) -> None:
    gateway.server_close()
    with pytest.raises(
        GatewayUnavailable,
        match="^cannot reach the gateway at http://.*/trigger/: .Errno .*([Rr]efused|Connect call failed)",
    ):
        call("a", 1)


def test_data_that_is_no_json_is_ours(gateway: FakeGateway, call: Publish) -> None:
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        call("a", object())
    assert gateway.requests == []


def test_silent_gateway_is_unavailable_after_the_timeout() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(GatewayUnavailable, match="timed out$"):
            Publisher(url, key=KEY, timeout=0.02, tries=1).publish("a", 1)

        async def publish_async() -> None:
            async with AsyncPublisher(url, key=KEY, timeout=0.02, tries=1) as publisher:
                await publisher.publish("a", 1)

        with pytest.raises(GatewayUnavailable, match="Timeout"):
            asyncio.run(publish_async())


async def test_closed_async_publisher_opens_again(gateway: FakeGateway) -> None:
    publisher = AsyncPublisher(gateway.url, key=KEY)
    await publisher.publish("a", 1)
    await publisher.close()
    await publisher.close()
    await publisher.publish("a", 2)
    await publisher.close()
    assert len(gateway.requests) == 2


def test_function_publishes_once_below_a_path(gateway: FakeGateway) -> None:
    assert publish("a", 1, url=gateway.url + "/gateway/", key=KEY).published == 1
    assert gateway.requests[0][0] == "/gateway/trigger/"


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8101", "ftp://host", "http://", "http://u:p@host", "http://host:x", "http://[::1"]
)
def test_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="the gateway's address"):
        Publisher(url, key=KEY)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX-Other: b", "schlüssel"])
def test_key_that_cannot_be_one_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="^the API key must be visible ASCII and not empty$"):
        Publisher(key=key)


@pytest.mark.slow
def test_import_loads_neither_event_loop_nor_aiohttp() -> None:
    code = "import sys, fairlead.publisher; print({'asyncio', 'aiohttp', 'uvicorn'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "set()"
