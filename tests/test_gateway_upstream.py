"""Asking an API that does anything an API, or whoever sits in its place, can do."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import random
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.fake_api import Answer, Ask, FakeApi, Wire, cut, drip, half_close, hang, hold, raw, reply, reset
from yarl import URL

from fairlead.errors import SettingsError
from fairlead.gateway.settings import UpstreamSettings
from fairlead.gateway.upstream import Refused, Upstream, Verdict, signature

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"user_id":1}'


@asynccontextmanager
async def upstream(
    api: FakeApi, *, clock: float = 0.0, outcomes: list[str] | None = None, **given: object
) -> AsyncIterator[Upstream]:
    settings = UpstreamSettings(**{"url": api.url, "timeout": 5.0, **given})  # type: ignore[arg-type]  # a test's table
    seen = [] if outcomes is None else outcomes
    made = Upstream(settings, clock=lambda: clock, observe=lambda outcome, seconds: seen.append(outcome))
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        assert (made.in_flight, made.waiting) == (0, 0)


async def verdict(made: Upstream, headers: bytes = b"") -> Refused:
    with pytest.raises(Refused) as caught:
        await made.ask(headers)
    cause = str(caught.value)
    assert cause
    assert cause.isprintable()
    return caught.value


# -- the request -----------------------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this() -> None:
    async with FakeApi(path="/api/b%20c/?x=%2F&y") as api, upstream(api) as made:
        await made.ask(b"Cookie: sid=1\r\nUser-Agent: \xc3\xa9")
        host = URL(api.url).authority
        assert api.requests[0].raw.decode() == (
            f"GET /api/b%20c/?x=%2F&y HTTP/1.1\r\nHost: {host}\r\nCookie: sid=1\r\nUser-Agent: \u00e9\r\n"
            "Accept: application/json\r\nAccept-Encoding: identity\r\n\r\n"
        )


async def test_an_empty_block_sends_nothing_of_the_librarys_own() -> None:
    async with FakeApi() as api, upstream(api) as made:
        await made.ask(b"")
        assert [name for name, _ in api.requests[0].headers] == ["host", "accept", "accept-encoding"]


async def test_requests_are_signed_where_there_is_a_secret() -> None:
    async with FakeApi(path="/a/?b=c") as api, upstream(api, clock=1234.9, secret="0123456789abcdef") as made:
        await made.ask(b"")
        expected = hmac.new(b"0123456789abcdef", b"1234.GET./a/", hashlib.sha256).hexdigest()
        assert api.requests[0].header("x-fairlead-signature") == f"t=1234,v1={expected}"


def test_the_signed_path_is_the_one_on_the_wire() -> None:
    assert signature("k", 1, "GET", URL("http://a/b%20c", encoded=True)) == (
        "t=1,v1=" + hmac.new(b"k", b"1.GET./b%20c", hashlib.sha256).hexdigest()
    )


async def test_cookies_that_the_api_sets_are_forgotten() -> None:
    async with FakeApi() as api:
        url = api.url.replace("127.0.0.1", "localhost")
        async with upstream(api, url=url) as made:
            api.script(reply(200, {}, {"Set-Cookie": "sid=ann; Path=/"}), reply(401, b"", {"Set-Cookie": "sid=bob"}))
            await made.ask(b"")
            await verdict(made)
            await made.ask(b"Cookie: own=1")
            await made.ask(b"")
            assert [ask.header("cookie") for ask in api.requests] == [None, None, "own=1", None]


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with FakeApi() as api, upstream(api) as made:
        await made.ask(b"")
        assert len(api.requests) == 1


async def test_a_unix_socket_is_asked_instead_of_the_host(tmp_path: Path) -> None:
    path = str(tmp_path / "api")
    async with FakeApi(uds=path) as api, upstream(api, uds=path) as made:
        await made.ask(b"")
        await made.ask(b"")
        assert api.requests[1].header("host") == "localhost"
        assert api.connections == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True).stdout)
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_the_apis_certificate_is_checked_against_ca_file_and_its_name(certificate: Path) -> None:
    async with FakeApi(tls=serving(certificate)) as api:
        named = api.url.replace("127.0.0.1", "localhost")
        async with upstream(api, url=named, ca_file=str(certificate)) as made:
            await made.ask(b"")
            await made.ask(b"")
            assert api.connections == 1
        async with upstream(api, url=named) as made:
            host = URL(named).authority
            assert str(await verdict(made)) == f"the certificate of {host} is not accepted: self-signed certificate"
        async with upstream(api, ca_file=str(certificate)) as made:
            assert "is not accepted: IP address mismatch" in str(await verdict(made))
        assert len(api.requests) == 2


async def test_an_api_may_ask_for_the_gateways_certificate(certificate: Path) -> None:
    tls = serving(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate)
    async with FakeApi(tls=tls) as api:
        named, file = api.url.replace("127.0.0.1", "localhost"), str(certificate)
        async with upstream(api, url=named, ca_file=file, cert_file=file) as made:
            await made.ask(b"")
        async with upstream(api, url=named, ca_file=file) as made:
            assert (await verdict(made)).verdict is Verdict.UNAVAILABLE
        assert len(api.requests) == 1


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_a_certificate_that_cannot_be_read_is_a_settings_error(key: str, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    for name in ("x.pem", "missing.pem"):
        with pytest.raises(SettingsError, match=f"^upstream.{key}: cannot use {tmp_path}/{name}: "):
            Upstream(UpstreamSettings(url="https://a.example/", **{key: str(tmp_path / name)}))  # type: ignore[arg-type]


# -- the answer ------------------------------------------------------------------------------------------------------


async def test_a_good_answer_lets_the_client_in() -> None:
    outcomes: list[str] = []
    async with FakeApi() as api, upstream(api, outcomes=outcomes) as made:
        api.default = reply(200, {"user": {"id": "ann"}, "allowed_rooms": ["a"]})
        answer = await made.ask(b"")
        assert (answer.user, answer.allowed_rooms) == ("ann", b'["a"]')
        assert outcomes == ["in"]


async def test_a_refusal_carries_what_the_api_said() -> None:
    outcomes: list[str] = []
    async with FakeApi() as api, upstream(api, outcomes=outcomes) as made:
        api.script(reply(401, b"log in\n", {"Content-Type": "text/plain"}), reply(429, b"", {"Retry-After": "7"}))
        first, second = await verdict(made), await verdict(made)
        assert (first.verdict, first.status, first.body) == (Verdict.UNAUTHORIZED, 401, b"log in\n")
        assert (second.verdict, second.status, second.retry_after) == (Verdict.UNAVAILABLE, 429, "7")
        assert outcomes == ["unauthorized", "unavailable"]


async def test_a_redirect_is_not_followed_and_lets_nobody_in() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(reply(302, {"allowed_rooms": ["a"]}, {"Location": "/login/"}))
        assert (await verdict(made)).verdict is Verdict.UNAVAILABLE
        assert len(api.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reset, id="reset"),
        pytest.param(cut(), id="closed without a word"),
        pytest.param(half_close(), id="half-closed without a word"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\nContent-"), id="closed in the head"),
        pytest.param(cut(OK[:-1]), id="closed in the body"),
        pytest.param(half_close(OK[:-1]), id="half-closed in the body"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\n\r\n{"), id="body up to the end of the connection, cut"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), id="last chunk missing"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"), id="not a chunk"),
        pytest.param(cut(b"SSH-2.0-OpenSSH_9.2\r\n"), id="not HTTP"),
        pytest.param(cut(b"\x00" * 100), id="zeroes"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), id="large head"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"), id="many headers"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), id="negative length"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "), id="two lengths"),
        pytest.param(raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")),
        pytest.param(reply(200, gzip.compress(b"{}"), {"Content-Encoding": "gzip"}), id="compressed all the same"),
        pytest.param(reply(200, b"<html>", {"Content-Type": "text/html"}), id="a page"),
        pytest.param(reply(200, b'{"user_id":"\xff"}'), id="not UTF-8"),
    ],
)
async def test_a_broken_answer_of_any_kind_is_unavailable(answer: Answer) -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(answer)
        problem = await verdict(made)
        assert problem.verdict is Verdict.UNAVAILABLE
        assert len(api.requests) == 1  # over a new connection a failure is a failure
        await made.ask(b"")


async def test_no_bytes_whatever_make_another_exception() -> None:
    chance = random.Random(7)
    pieces = [b"HTTP/1.1 ", b"200 OK", b"\r\n", b"\n", b": ", b"Content-Length", b"Transfer-Encoding", b"chunked", b"5"]
    pieces += [
        b"{}",
        b"\x00",
        b"\xff",
        b"0\r\n\r\n",
        b"\r\n\r\n",
        b"gzip",
        b"Content-Encoding",
        b" " * 50,
        b"99999999999",
    ]
    async with FakeApi() as api, upstream(api, timeout=0.05) as made:
        for _ in range(150):
            noise = b"".join(chance.choices(pieces, k=chance.randrange(1, 12)))
            api.script(cut(chance.choice([b"", b"HTTP/1.1 200 OK\r\n"]) + noise))
            try:
                await made.ask(b"")
            except Refused as problem:
                assert str(problem).isprintable()


async def test_the_cause_quotes_nothing_of_the_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    async with FakeApi() as api, upstream(api) as made:
        for answer in (
            b"SECRET\r\n\r\n",
            b"HTTP/1.1 SECRET\r\n\r\n",
            head + b"Set-Cookie: sid=SECRET\r\n",
            head + b"Set-Cookie: sid=SECRET\x01\r\n\r\n",
            head + b"Content-Length: 2\r\nContent-Length: SECRET\r\n\r\n",
            head + b"Content-Length: 9\r\n\r\nSECRET",
            head + b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\n",
        ):
            api.script(cut(answer), cut(answer))
            assert "SECRET" not in str(await verdict(made))
            assert "SECRET" not in str(await verdict(made))


async def test_an_answer_in_small_pieces_is_one_answer() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(raw(*(OK[i : i + 1] for i in range(len(OK)))))
        assert (await made.ask(b"")).user == 1


async def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(cut(b'HTTP/1.0 200 OK\r\n\r\n{"user_id":1}'))
        assert (await made.ask(b"")).user == 1


async def test_answer_size_is_the_bound_to_the_byte() -> None:
    async with FakeApi() as api, upstream(api, answer_size=100) as made:
        api.script(reply(200, b"{}" + b" " * 98), reply(200, b"{}" + b" " * 99), reply(401, b" " * 101))
        await made.ask(b"")
        assert "larger than 100" in str(await verdict(made))
        assert (await verdict(made)).verdict is Verdict.UNAVAILABLE


async def test_an_endless_answer_is_dropped_at_the_bound() -> None:
    async def endless(ask: Ask, wire: Wire) -> None:
        await wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await wire.write(b"10000\r\n" + b" " * 65536 + b"\r\n")

    async with FakeApi() as api, upstream(api) as made:
        api.script(endless)
        assert "larger than" in str(await verdict(made))
        await api.left()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(hang, id="silent"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" ", 0.01), id="a byte at a time"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.01), id="a byte of the head at a time"),
        pytest.param(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), id="always about to answer"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n{}", b" ", 0.01), id="no end"),
    ],
)
async def test_a_slow_answer_ends_with_the_time_limit(answer: Answer) -> None:
    async with FakeApi() as api, upstream(api, timeout=0.04) as made:
        api.script(answer)
        started = time.monotonic()
        problem = await verdict(made)
        assert 0.03 < time.monotonic() - started < 1
        assert "0.04 s" in str(problem)
        await api.left()


async def test_any_number_of_interim_answers_ends_the_ask_at_once_and_is_not_kept() -> None:
    said = 0

    async def flood(ask: Ask, wire: Wire) -> None:
        nonlocal said
        while True:
            said += 1
            await wire.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    async with FakeApi() as api, upstream(api, timeout=30) as made:
        api.script(flood)
        assert str(await verdict(made)) == "the answer is malformed: too many interim answers"
        await api.left()
        assert said < 1000


async def test_a_few_interim_answers_before_each_answer_are_passed_over() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with FakeApi() as api, upstream(api) as made:
        api.default = raw(hint * 10 + OK)
        for _ in range(3):
            assert (await made.ask(b"")).user == 1
        assert api.connections == 1


async def test_an_api_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with FakeApi() as api:
        pass
    async with upstream(api) as made:
        cause = f"cannot connect to {URL(api.url).authority}: connection refused"
        assert str(await verdict(made)) == cause
    path = str(tmp_path / "none")
    async with upstream(api, uds=path) as made:
        assert str(await verdict(made)) == f"cannot connect to {path}: no such file or directory"


async def test_an_api_that_speaks_no_tls_is_unavailable() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    api = FakeApi()
    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with upstream(api, url=f"https://{host}/") as made:
            assert str(await verdict(made)).startswith(f"cannot connect to {host}: TLS failed: ")


async def test_connecting_has_its_own_limit() -> None:
    async with FakeApi() as api:
        # A TLS handshake with a server that says nothing is a connection that does not come about.
        api.default = hang
        async with upstream(api, url=api.url.replace("http:", "https:"), connect_timeout=0.05) as made:
            started = time.monotonic()
            assert str(await verdict(made)) == "no connection within 0.05 s"
            assert time.monotonic() - started < 1


# -- kept connections ------------------------------------------------------------------------------------------------


async def test_connections_are_kept() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(reply(200, {}), reply(401), reply(500, b"x" * 5000))
        await made.ask(b"")
        await verdict(made)
        await verdict(made)
        await made.ask(b"")
        assert api.connections == 1


@pytest.mark.parametrize("dying", [cut(), reset], ids=["closed", "reset"])
async def test_kept_connections_that_died_cost_one_repetition_over_a_new_one(dying: Answer) -> None:
    async with FakeApi() as api, upstream(api) as made:
        released = asyncio.Event()
        api.script(*[hold(released, reply())] * 3)
        three = asyncio.gather(*(made.ask(b"") for _ in range(3)))
        await api.asked(3)
        released.set()
        await three
        api.script(dying, reply(200, {"user_id": 1}))  # the other two kept ones would die just so
        assert (await made.ask(b"Cookie: a=1")).user == 1
        assert [ask.connection for ask in api.requests[3:]] == [api.requests[3].connection, 4]
        assert api.requests[4].headers == [*api.requests[3].headers, ("connection", "close")]


@pytest.mark.parametrize(
    "farewell", [reply(408), cut(b"HTTP/1.1 408 Request Timeout\r\n\r\ntoo late")], ids=["framed", "up to the end"]
)
async def test_a_farewell_that_crosses_the_next_ask_is_no_verdict(farewell: Answer) -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(reply(), farewell, reply(200, {"user_id": "bob"}), reply(408), reply(408))
        await made.ask(b"")
        assert (await made.ask(b"")).user == "bob"
        assert api.connections == 2
        assert (await verdict(made)).verdict is Verdict.FORBIDDEN  # over a new connection it is the answer


async def test_a_second_failure_is_final() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(reply(), cut(), cut())
        await made.ask(b"")
        await verdict(made)
        assert len(api.requests) == 3


async def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(reply(), cut(b"HTTP/1.1 200 OK\r\nContent-"), reply())
        await made.ask(b"")
        await verdict(made)
        assert len(api.requests) == 2


async def test_the_repetition_has_no_time_of_its_own() -> None:
    async def late(ask: Ask, wire: Wire) -> None:
        await asyncio.sleep(0.12)
        wire.close()

    async with FakeApi() as api, upstream(api, timeout=0.16) as made:
        api.script(reply(), late, hang)
        await made.ask(b"")
        started = time.monotonic()
        await verdict(made)
        assert time.monotonic() - started < 0.26


async def test_words_nobody_asked_for_are_never_the_next_ones_answer() -> None:
    said = asyncio.Event()

    async def two(ask: Ask, wire: Wire) -> None:
        await reply(200, {"user_id": "ann"})(ask, wire)
        await said.wait()
        await reply(200, {"user_id": "admin"})(ask, wire)
        await reply(408)(ask, wire)

    async with FakeApi() as api, upstream(api) as made:
        api.script(two, reply(200, {"user_id": "bob"}))
        assert (await made.ask(b"")).user == "ann"
        said.set()
        for _ in range(5):
            await asyncio.sleep(0)  # the words arrive
        assert (await made.ask(b"")).user == "bob"
        assert api.connections == 2


async def test_two_answers_at_once_close_the_connection() -> None:
    async with FakeApi() as api, upstream(api) as made:
        api.script(raw(OK + OK), reply(200, {"user_id": 2}))
        assert (await made.ask(b"")).user == 1
        assert (await made.ask(b"")).user == 2
        assert api.connections == 2


# -- places, cancelling, closing -------------------------------------------------------------------------------------


async def test_no_more_asks_are_in_flight_than_may_be_and_living_rights_go_first() -> None:
    async with FakeApi() as api, upstream(api, in_flight=2) as made:
        released = asyncio.Event()
        api.script(hold(released, reply()), hold(released, reply()))
        asks = [asyncio.create_task(made.ask(b"X: %d" % n)) for n in range(4)]
        await api.asked(2)
        asks.append(asyncio.create_task(made.ask(b"X: first", first=True)))
        await asyncio.sleep(0)
        assert (made.in_flight, made.waiting, len(api.requests)) == (2, 3, 2)
        released.set()
        await asyncio.gather(*asks)
        assert [ask.header("x") for ask in api.requests][2] == "first"
        assert api.connections == 2


async def test_past_the_line_and_past_the_wait_it_is_unavailable_without_an_ask() -> None:
    outcomes: list[str] = []
    async with FakeApi() as api, upstream(api, in_flight=1, waiting=1, wait=0.02, outcomes=outcomes) as made:
        api.default = hang
        held = asyncio.create_task(made.ask(b""))
        await api.asked(1)
        waiting = asyncio.create_task(verdict(made))
        await asyncio.sleep(0)
        assert "1 wait" in str(await verdict(made))
        assert "0.02 s" in str(await waiting)
        held.cancel()
        await asyncio.wait([held])
        assert (len(api.requests), outcomes) == (1, ["unavailable", "unavailable", "cancelled"])


async def test_a_client_that_leaves_drops_its_ask_and_frees_its_place() -> None:
    async with FakeApi() as api, upstream(api, in_flight=1) as made:
        api.script(hang)
        gone = asyncio.create_task(made.ask(b""))
        await api.asked(1)
        following = asyncio.create_task(made.ask(b""))
        gone.cancel()
        await following
        assert gone.cancelled()
        await api.left(1)


@pytest.mark.slow
async def test_nobody_gets_anothers_answer_whoever_is_cancelled_and_when() -> None:
    chance = random.Random(3)

    async def echo(ask: Ask, wire: Wire) -> None:
        who = ask.header("x-who")
        whole = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{"user_id":"%b"}'
        name = (who or "").encode()
        whole %= 14 + len(name), name
        middle = chance.randrange(len(whole))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        await wire.write(whole[:middle])
        await asyncio.sleep(chance.choice([0, 0, 0.001]))
        await wire.write(whole[middle:])

    async with FakeApi() as api, upstream(api, in_flight=8) as made:
        api.default = echo

        async def one(number: int) -> None:
            assert (await made.ask(b"X-Who: %d" % number, first=number % 7 == 0)).user == str(number)

        tasks: list[asyncio.Task[None]] = []
        for number in range(1500):
            tasks.append(asyncio.create_task(one(number)))
            if chance.random() < 0.5:
                chance.choice(tasks[-20:]).cancel()
            if chance.random() < 0.2:
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {type(None), asyncio.CancelledError}


async def test_closing_ends_every_ask_with_a_refusal() -> None:
    async with FakeApi() as api, upstream(api, in_flight=1) as made:
        api.default = hang
        asks = [asyncio.create_task(verdict(made)) for _ in range(2)]
        await api.asked(1)
        await made.close()
        for problem in await asyncio.gather(*asks):
            assert problem.verdict is Verdict.UNAVAILABLE
        assert (await verdict(made)).verdict is Verdict.UNAVAILABLE
