"""Named calls over a connection: answers, streams, cancelling, limits, the client's leaving, calls the other way."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from fairlead import App, Reject
from fairlead.dialects.calls import TEXT, CallError, Calls, CallSocket
from fairlead.dialects.codec import Codec, ErrorCode
from fairlead.dialects.jsonrpc import JSONRPC
from fairlead.errors import Closed, UsageError
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.testing import Client, Rejected, connect, running
from fairlead.websocket import WebSocket

REQUEST = '{"jsonrpc":"2.0","method":%s,"params":%s,"id":%s}'


def request(method: str, *params: object, id: object = 1, **named: object) -> str:
    return REQUEST % (json.dumps(method), json.dumps(named or params), json.dumps(id))


def notification(method: str, *params: object, **named: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": named or params})


def cancel(id: object) -> str:
    return notification("$/cancelRequest", id=id)


def result(value: object, id: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def error(code: int, message: str, id: object = 1, **data: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, **data}}


def progress(value: object, id: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": "$/progress", "params": {"token": id, "value": value}}


TOO_MANY = (-32000, "too many calls")
CANCELLED = (-32800, "cancelled")
NOT_FOUND = (-32601, "method not found")
INTERNAL = (-32603, "internal error")


class Waiting:
    """Calls that wait until the test lets them go on.

    Attributes:
        log: What happened to each, in order.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self._gates: dict[object, asyncio.Event] = {}

    def open(self, name: object) -> None:
        """Let one go on."""
        self._gates.setdefault(name, asyncio.Event()).set()

    async def wait(self, name: object) -> object:
        self.log.append(("begun", name))
        try:
            await self._gates.setdefault(name, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.log.append(("cancelled", name))
            raise
        self.log.append(("done", name))
        return name


@pytest.fixture
def calls() -> Calls:
    calls = Calls()

    @calls.call()
    async def add(a: int, b: int = 1) -> int:
        return a + b

    return calls


@pytest.fixture
def waiting(calls: Calls) -> Waiting:
    """Adds the call ``wait``, which its argument names."""
    waiting = Waiting()
    calls.add("wait", waiting.wait)
    return waiting


@asynccontextmanager
async def calling(functions: Calls, /, *, codec: Codec = JSONRPC, **limits: Any) -> AsyncIterator[Client]:
    """A client of these functions, in memory."""
    app = App([functions.route("/ws/", codec=codec)], limits=Limits(**limits))
    async with connect(app, "/ws/") as client:
        yield client


async def ask(client: Client, message: str) -> Any:
    await client.send(message)
    return await client.receive_json()


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an error, that of tasks whose failure nobody saw included."""
    gc.collect()
    return [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]


class TestAnswers:
    async def test_a_result(self, calls: Calls) -> None:
        async with calling(calls) as client:
            assert await ask(client, request("add", 1, 2)) == result(3)
            assert await ask(client, request("add", b=5, a=2, id="x")) == result(7, id="x")
            assert await ask(client, request("add", 4, id=None)) == result(5, id=None)
            await client.send(request("add", 1, 2).encode())
            assert await client.receive_text() == '{"jsonrpc":"2.0","id":1,"result":3}'

    async def test_a_notification_gets_none_whatever_becomes_of_it(self, calls: Calls) -> None:
        done = []

        @calls.call()
        async def note(text: str) -> str:
            done.append(text)
            if text == "bad":
                raise CallError(1, "bad")
            return text

        async with calling(calls) as client:
            for message in (notification("note", "good"), notification("note", "bad"), notification("note", 1)):
                await client.send(message)
            await client.send(notification("nothing"))
            await client.assert_nothing()
        assert done == ["good", "bad"]

    @pytest.mark.parametrize(
        ("message", "answer"),
        [
            (request("nothing"), error(*NOT_FOUND)),
            (request("$/cancelRequest", id=1), error(*NOT_FOUND)),
            (request("add"), error(-32602, "argument 'a' is missing")),
            (request("add", "1"), error(-32602, "argument 'a': Expected `int`, got `str`")),
            (request("add", a=1, c=1), error(-32602, "argument 'c' is not known")),
            ("{", error(-32700, "not JSON", id=None)),
            ("[]", error(-32600, "a batch has from 1 to 100 requests, not 0", id=None)),
            ("[1]", [error(-32600, "a request is an object", id=None)]),
        ],
    )
    async def test_what_is_wrong_is_told_and_the_connection_goes_on(
        self, calls: Calls, message: str, answer: object
    ) -> None:
        async with calling(calls) as client:
            assert await ask(client, message) == answer
            assert await ask(client, request("add", 1)) == result(2)

    async def test_a_failure_is_logged_and_nothing_of_it_told(
        self, calls: Calls, caplog: pytest.LogCaptureFixture
    ) -> None:
        ids = []

        @calls.call()
        async def fail(ws: WebSocket) -> None:
            ids.append(ws.id)
            raise ValueError("secret")

        async with calling(calls) as client:
            assert await ask(client, request("fail")) == error(*INTERNAL)
        [record] = [each for each in caplog.records if each.levelname == "ERROR"]
        assert record.getMessage() == f"connection {ids[0]}: call 'fail' failed"
        assert record.exc_info is not None and str(record.exc_info[1]) == "secret"

    async def test_an_error_of_the_functions_own_goes_out_as_it_is(self, calls: Calls) -> None:
        @calls.call()
        async def refuse(data: object = None) -> None:
            raise CallError(7, "no", data)

        async with calling(calls) as client:
            assert await ask(client, request("refuse")) == error(7, "no")
            assert await ask(client, request("refuse", [1])) == error(7, "no", data=[1])

    async def test_what_has_no_form_in_json_is_a_failure(self, calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
        @calls.call()
        async def strange() -> object:
            return object()

        @calls.call()
        async def strange_error() -> None:
            raise CallError(7, "no", object())

        async with calling(calls) as client:
            assert await ask(client, request("strange")) == error(*INTERNAL)
            assert await ask(client, request("strange_error")) == error(*INTERNAL)
        assert len(faults(caplog)) == 2

    async def test_the_heartbeat(self, calls: Calls) -> None:
        async with calling(calls) as client:
            await client.send("ping")
            assert await client.receive() == "pong"


class TestSeveral:
    async def test_answers_come_in_the_order_in_which_they_are_there(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            for id in ("a", "b", "c"):
                await client.send(request("wait", id, id=id))
            assert await ask(client, request("add", 1, id="d")) == result(2, id="d")
            for id in ("c", "a", "b"):
                waiting.open(id)
                assert await client.receive_json() == result(id, id=id)

    async def test_an_id_names_one_call_at_a_time(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            await client.send(request("wait", "a"))
            for _ in range(2):
                assert await ask(client, request("add", 1)) == error(-32600, "a call with this id is running")
            waiting.open("a")
            assert await client.receive_json() == result("a")
            assert await ask(client, request("add", 1)) == result(2)

    async def test_null_is_no_name(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            for name in ("a", "b"):
                await client.send(request("wait", name, id=None))
            await client.send(cancel(None))
            for name in ("b", "a"):
                waiting.open(name)
                assert await client.receive_json() == result(name, id=None)

    async def test_each_has_a_context_of_its_own(self, calls: Calls) -> None:
        variable = ContextVar("variable", default="unset")

        @calls.call()
        async def leave(value: str) -> str:
            before = variable.get()
            variable.set(value)
            return before

        async with calling(calls) as client:
            assert await ask(client, request("leave", "a")) == result("unset")
            assert await ask(client, request("leave", "b")) == result("unset")

    async def test_timeouts_and_task_groups_work_as_everywhere(self, calls: Calls, waiting: Waiting) -> None:
        @calls.call()
        async def hurry() -> str:
            try:
                async with asyncio.timeout(0), asyncio.TaskGroup() as group:
                    group.create_task(waiting.wait("never"))
            except TimeoutError:
                return "late"
            return "in time"

        async with calling(calls) as client:
            assert await ask(client, request("hurry")) == result("late")


async def test_so_many_calls_run_at_once_and_no_more(calls: Calls, waiting: Waiting) -> None:
    async with calling(calls, calls=2) as client:
        for id in (1, 2):
            await client.send(request("wait", id, id=id))
        assert await ask(client, request("wait", 3, id=3)) == error(*TOO_MANY, id=3)
        assert await ask(client, request("add", 1, id=3)) == error(*TOO_MANY, id=3)
        assert await ask(client, f"[{request('add', 1, id=3)},{notification('add', 1)}]") == [error(*TOO_MANY, id=3)]
        assert await ask(client, cancel(2)) == error(*CANCELLED, id=2)
        assert await ask(client, request("add", 1, id=3)) == result(2, id=3)
        waiting.open(1)
        assert await client.receive_json() == result(1)
    assert waiting.log == [("begun", 1), ("begun", 2), ("cancelled", 2), ("done", 1)]


async def test_calls_that_need_not_wait_are_never_too_many(calls: Calls) -> None:
    async with calling(calls, calls=1) as client:
        for id in range(50):
            await client.send(request("add", id, id=id))
        assert [await client.receive_json() for _ in range(50)] == [result(id + 1, id=id) for id in range(50)]


@pytest.mark.parametrize("seed", range(20))
async def test_every_call_is_answered_once_whatever_happens_to_it(calls: Calls, waiting: Waiting, seed: int) -> None:
    """Random calls, batches and cancelling, under a limit that is reached."""

    @calls.call()
    async def stream(name: int) -> AsyncIterator[object]:
        yield 1
        yield await waiting.wait(name)

    rng = random.Random(seed)
    asked = 0

    def some() -> str:
        nonlocal asked
        asked += 1
        return request(rng.choice(["wait", "wait", "stream", "add", "nothing"]), asked, id=asked)

    async with calling(calls, calls=4, message_burst=1000) as client:
        for _ in range(60):
            match rng.randrange(6):
                case 0 | 1:
                    await client.send(some())
                case 2:
                    await client.send(f"[{','.join(some() for _ in range(rng.randrange(1, 4)))}]")
                case 3:
                    await client.send(cancel(rng.randint(max(1, asked - 5), asked + 1)))
                case 4:
                    waiting.open(rng.randint(1, asked + 1))
                case _:
                    await asyncio.sleep(0)
        for name in range(asked + 1):
            waiting.open(name)
        answers: list[int] = []
        while len(answers) < asked:
            message = await client.receive_json()
            answers += [each["id"] for each in (message if isinstance(message, list) else [message]) if "id" in each]
        await client.assert_nothing()
        assert sorted(answers) == list(range(1, asked + 1))


class TestBatches:
    async def test_are_answered_together_in_their_order(self, calls: Calls, waiting: Waiting) -> None:
        batch = [
            request("wait", "a", id="1"),
            notification("add", 7),
            request("add", 42, id="2"),
            '{"foo":"boo"}',
            request("foo.get", name="myself", id="5"),
        ]
        async with calling(calls) as client:
            await client.send(f"[{','.join(batch)}]")
            await client.assert_nothing()
            waiting.open("a")
            answers = await client.receive_json()
            assert answers[2]["error"]["message"].startswith("not a request: ")
            del answers[2]["error"]["message"]
            assert answers == [
                result("a", id="1"),
                result(43, id="2"),
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32600}},
                error(*NOT_FOUND, id="5"),
            ]

    async def test_of_notifications_only_get_no_answer(self, calls: Calls) -> None:
        async with calling(calls) as client:
            await client.send(f"[{notification('add', 1)},{notification('nothing')},{cancel(1)}]")
            await client.assert_nothing()

    async def test_of_answers_only_get_none(self, calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
        async with calling(calls) as client:
            for _ in range(2):
                await client.send(f"[{json.dumps(result(1))}]")
            await client.assert_nothing()
        assert faults(caplog) == []

    async def test_any_call_of_one_can_be_cancelled_and_the_others_go_on(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            batch = [request("wait", "a", id=1), request("wait", "b", id=2), request("add", 1, id=3)]
            await client.send(f"[{','.join(batch)}]")
            await client.send(cancel(2))
            await client.assert_nothing()
            answers = [error(*CANCELLED, id=1), error(*CANCELLED, id=2), result(2, id=3)]
            assert await ask(client, cancel(1)) == answers
        assert waiting.log == [("begun", "a"), ("cancelled", "a")]

    async def test_one_takes_one_place(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls, calls=2) as client:
            await client.send(f"[{request('wait', 1, id=1)},{request('wait', 2, id=2)},{request('wait', 3, id=3)}]")
            assert await ask(client, request("add", 1, id=4)) == result(2, id=4)
            for name in (1, 2, 3):
                waiting.open(name)
            assert await client.receive_json() == [result(id, id=id) for id in (1, 2, 3)]

    async def test_values_of_a_stream_go_ahead(self, calls: Calls) -> None:
        @calls.call()
        async def stream() -> AsyncIterator[str]:
            yield "a"

        async with calling(calls) as client:
            assert await ask(client, f"[{request('add', 1, id=1)},{request('stream', id=2)}]") == progress("a", id=2)
            assert await client.receive_json() == [result(2, id=1), result(None, id=2)]

    async def test_the_same_id_twice(self, calls: Calls) -> None:
        async with calling(calls) as client:
            answers = await ask(client, f"[{request('add', 1)},{request('add', 2)}]")
            assert answers == [result(2), error(-32600, "a call with this id is running")]


class TestCancelling:
    async def test_a_call_at_work_is_interrupted(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            await client.send(request("wait", "a", id="x"))
            await client.assert_nothing()
            assert await ask(client, cancel("x")) == error(*CANCELLED, id="x")
            await client.send(cancel("x"))
            await client.assert_nothing()
        assert waiting.log == [("begun", "a"), ("cancelled", "a")]

    async def test_a_call_that_has_not_begun_does_not_begin(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            await client.send(request("wait", "a", id=1))
            await client.send(cancel(1))
            assert await client.receive_json() == error(*CANCELLED)
        assert waiting.log == []

    @pytest.mark.parametrize("id", [2, "1", None, True, [1], {"a": 1}])
    async def test_what_names_no_call_is_ignored(self, calls: Calls, waiting: Waiting, id: object) -> None:
        async with calling(calls) as client:
            await client.send(request("wait", "a", id=1))
            await client.send(cancel(id))
            await client.send(notification("$/cancelRequest"))
            await client.assert_nothing()
            waiting.open("a")
            assert await client.receive_json() == result("a")

    async def test_the_time_to_clean_up_is_not_cut_short(self, calls: Calls, waiting: Waiting) -> None:
        @calls.call()
        async def careful() -> None:
            try:
                await waiting.wait("work")
            finally:
                await waiting.wait("cleaning")

        async with calling(calls) as client:
            await client.send(request("careful"))
            await client.assert_nothing()
            for _ in range(3):
                await client.send(cancel(1))
                await client.assert_nothing()
            waiting.open("cleaning")
            assert await client.receive_json() == error(*CANCELLED)
        assert waiting.log[-1] == ("done", "cleaning")

    async def test_a_function_may_answer_all_the_same(self, calls: Calls, waiting: Waiting) -> None:
        @calls.call()
        async def partial() -> str:
            try:
                await waiting.wait("all")
            except asyncio.CancelledError:
                return "half of it"
            return "all of it"

        async with calling(calls) as client:
            await client.send(request("partial"))
            await client.assert_nothing()
            assert await ask(client, cancel(1)) == result("half of it")

    async def test_what_a_function_waits_for_being_cancelled_is_its_failure(self, calls: Calls) -> None:
        @calls.call()
        async def unlucky() -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        async with calling(calls) as client:
            assert await ask(client, request("unlucky")) == error(*INTERNAL)
            assert await ask(client, request("add", 1)) == result(2)


class TestLeaving:
    async def test_cancels_what_runs_and_waits_for_it(self, calls: Calls, waiting: Waiting) -> None:
        cleaned = []

        @calls.call()
        async def careful() -> None:
            try:
                await waiting.wait("work")
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        async with calling(calls) as client:
            await client.send(request("careful", id=1))
            await client.send(f"[{request('wait', 'a', id=2)},{request('wait', 'b', id=3)}]")
            await client.assert_nothing()
        assert cleaned == [True]
        assert sorted(waiting.log, key=str) == [
            *(("begun", "a"), ("begun", "work"), ("cancelled", "a"), ("cancelled", "work"))
        ]

    async def test_cancels_what_has_not_begun(self, calls: Calls, waiting: Waiting) -> None:
        async with calling(calls) as client:
            await client.send(request("wait", "a"))
            client.abort()
            await client.closed()
        assert waiting.log == []

    async def test_during_the_cleaning_up_of_a_cancelled_batch_ends_it(self, calls: Calls, waiting: Waiting) -> None:
        @calls.call()
        async def stubborn() -> None:
            try:
                await waiting.wait("work")
            finally:
                await waiting.wait("cleaning")

        async with calling(calls) as client:
            await client.send(f"[{request('stubborn', id=1)},{request('wait', 'next', id=2)}]")
            await client.assert_nothing()
            await client.send(cancel(1))
            await client.assert_nothing()
        names = [("begun", "work"), ("cancelled", "work"), ("begun", "cleaning"), ("cancelled", "cleaning")]
        assert waiting.log == names

    async def test_a_function_that_finds_out_by_itself_has_not_failed(
        self, calls: Calls, waiting: Waiting, caplog: pytest.LogCaptureFixture
    ) -> None:
        @calls.call()
        async def tell(ws: CallSocket) -> None:
            try:
                await waiting.wait("leaving")
            finally:
                await ws.notify("too late")

        async with calling(calls) as client:
            await client.send(request("tell"))
            await client.assert_nothing()
        assert faults(caplog) == []

    async def test_of_somebody_else_is_a_failure_that_is_told(self, calls: Calls) -> None:
        @calls.call()
        async def tell() -> None:
            raise Closed(1001)

        async with calling(calls) as client:
            assert await ask(client, request("tell")) == error(*INTERNAL)


class TestStreams:
    async def test_values_and_then_the_end(self, calls: Calls) -> None:
        @calls.call()
        async def count(to: int) -> AsyncIterator[int]:
            for number in range(to):
                yield number

        async with calling(calls) as client:
            await client.send(request("count", 3, id="s"))
            received = [await client.receive_json() for _ in range(4)]
            assert received == [progress(0, id="s"), progress(1, id="s"), progress(2, id="s"), result(None, id="s")]
            assert await ask(client, request("count", 0)) == result(None)
            assert (await ask(client, request("count", "x")))["error"]["code"] == -32602
            await client.send(notification("count", 3))
            await client.assert_nothing()

    @pytest.mark.parametrize(
        ("value", "answer"),
        [(ValueError("secret"), error(*INTERNAL)), (CallError(7, "no"), error(7, "no")), (object(), error(*INTERNAL))],
    )
    async def test_a_failure_ends_it(self, calls: Calls, value: object, answer: object) -> None:
        closed = []

        @calls.call()
        async def stream() -> AsyncIterator[object]:
            try:
                yield 1
                if isinstance(value, Exception):
                    raise value
                yield value
            finally:
                closed.append(True)

        async with calling(calls) as client:
            assert await ask(client, request("stream")) == progress(1)
            assert await client.receive_json() == answer
            assert closed == [True]

    async def test_cancelling_closes_the_generator(self, calls: Calls, waiting: Waiting) -> None:
        @calls.call()
        async def stream() -> AsyncIterator[object]:
            yield 1
            yield await waiting.wait("more")

        async with calling(calls) as client:
            assert await ask(client, request("stream")) == progress(1)
            assert await ask(client, cancel(1)) == error(*CANCELLED)
        assert waiting.log == [("begun", "more"), ("cancelled", "more")]

    async def test_leaving_closes_the_generator_wherever_it_stands(self, calls: Calls, waiting: Waiting) -> None:
        closed = []

        @calls.call()
        async def stream(name: str) -> AsyncIterator[object]:
            try:
                if name == "waits":
                    await waiting.wait(name)
                while True:
                    yield "x" * 10_000
            finally:
                closed.append(name)

        async with calling(calls) as client:
            client.pause_reading()
            await client.send(request("stream", "waits", id=1))
            await client.send(request("stream", "sends", id=2))
            await client.assert_nothing()
            assert closed == []
            client.abort()
        assert sorted(closed) == ["sends", "waits"]

    async def test_a_slow_client_gets_values_when_it_has_room(self, calls: Calls) -> None:
        made = 0

        @calls.call()
        async def stream() -> AsyncIterator[str]:
            nonlocal made
            for _ in range(1000):
                made += 1
                yield "x" * 10_000

        async with calling(calls) as client:
            client.pause_reading()
            await client.send(request("stream"))
            await client.assert_nothing()
            assert made < 20
            client.resume_reading()
            assert [await client.receive_json() for _ in range(1001)][1000] == result(None)

    async def test_one_that_never_waits_lets_others_have_their_turn(self, calls: Calls) -> None:
        @calls.call()
        async def endless() -> AsyncIterator[None]:
            while True:
                yield None

        async with calling(calls) as client:
            await client.send(request("endless", id=1))
            await client.send(request("add", 1, id=2))
            received: list[object] = []
            while not received or received[-1] == progress(None):
                received.append(await client.receive_json())
            assert received[-1] == result(2, id=2)
            assert len(received) <= 2 * BREATH


class TestSlowClients:
    async def test_keep_the_places_of_calls_whose_answers_they_do_not_read(self, calls: Calls) -> None:
        @calls.call()
        async def long() -> str:
            return "x" * 100_000

        async with calling(calls, calls=3) as client:
            client.pause_reading()
            for id in range(10):
                await client.send(request("long", id=id))
            await client.assert_nothing()
            client.resume_reading()
            answers = [await client.receive_json() for _ in range(10)]
            assert [answer["id"] for answer in answers if "result" in answer] == [0, 1, 2]
            assert await ask(client, request("add", 1)) == result(2)

    async def test_may_leave_without_having_read(self, calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
        @calls.call()
        async def long() -> str:
            return "x" * 100_000

        async with calling(calls) as client:
            client.pause_reading()
            await client.send(request("long"))
            await client.assert_nothing()
            client.abort()
        assert faults(caplog) == []

    async def test_are_closed_when_the_outbox_is_full(self, calls: Calls) -> None:
        """What is wrong is answered whatever waits already, and its senders are many: the outbox bounds it."""
        async with calling(calls, outbox_limit=70_000, outbox_low=1000, burst_size=1000) as client:
            client.pause_reading()
            for _ in range(1000):
                await client.send("[]")
            await client.assert_nothing()
            client.resume_reading()
            assert (await client.closed()).code == 1013


class TestRooms:
    async def test_what_is_published_is_a_notification(self) -> None:
        app = App()

        @app.call()
        async def join(ws: CallSocket, room: str) -> int:
            await ws.join(room)
            await app.room(room).publish("welcome")
            return len(ws.rooms)

        async with connect(app, "/ws/") as client:
            await client.send(request("join", "r"))
            published = {"jsonrpc": "2.0", "method": "publish", "params": {"room": "r", "data": "welcome"}}
            assert await client.receive_json() == published
            assert await client.receive_json() == result(1)
            await app.room("r").publish({"a": [1]})
            assert (await client.receive_json())["params"] == {"room": "r", "data": {"a": [1]}}
            await app.room("r").publish(b"hi")
            assert (await client.receive_json())["params"] == {"room": "r", "data": "aGk="}

    async def test_in_plain_text(self) -> None:
        app, calls = App(), Calls()
        app.router.add(calls.route("/text/", codec=TEXT))

        @calls.call()
        async def join(ws: WebSocket, room: str) -> None:
            await ws.join(room)

        async with connect(app, "/text/") as client:
            await client.send("join|r")
            await client.assert_nothing()
            await app.room("r").publish("a,b")
            assert await client.receive() == "publish|r,a,b"


class TestCallsOfTheServers:
    @pytest.fixture
    async def sockets(self, calls: Calls) -> list[CallSocket]:
        """Adds the call ``hello``, after which the connection is in this list."""
        sockets: list[CallSocket] = []

        @calls.call()
        async def hello(ws: CallSocket) -> None:
            sockets.append(ws)

        return sockets

    async def begun(self, client: Client, call: Awaitable[object]) -> tuple[asyncio.Future[object], dict[str, Any]]:
        """A call of the server's that waits for its answer, and its message."""
        asking = asyncio.ensure_future(call)
        message: dict[str, Any] = await client.receive_json()
        return asking, message

    async def test_are_answered(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            one, first = await self.begun(client, sockets[0].call("add", 1, 2))
            other, second = await self.begun(client, sockets[0].call("add", a=1))
            assert first == {"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": first["id"]}
            assert second == {"jsonrpc": "2.0", "method": "add", "params": {"a": 1}, "id": second["id"]}
            await client.send(json.dumps(result([5], id=second["id"])))
            await client.send(f"[{json.dumps(result(None, id=first['id']))}]")
            assert (await one, await other) == (None, [5])
            await client.assert_nothing()

    async def test_are_answered_with_an_error(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            asking, message = await self.begun(client, sockets[0].call("add"))
            await client.send(json.dumps(error(7, "no", id=message["id"], data=0)))
            with pytest.raises(CallError, match="no") as caught:
                await asking
            assert (caught.value.code, caught.value.message, caught.value.data) == (7, "no", 0)

    async def test_from_within_a_call(self, calls: Calls) -> None:
        @calls.call()
        async def back(ws: CallSocket) -> Any:
            return await ws.call("name")

        async with calling(calls) as client:
            asked = await ask(client, request("back"))
            assert await ask(client, json.dumps(result("Ann", id=asked["id"]))) == result("Ann")

    async def test_answers_that_nobody_waits_for_are_ignored(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            asking, message = await self.begun(client, sockets[0].call("add"))
            for id in (7, "x", None, 1.5):
                await client.send(json.dumps(result("wrong", id=id)))
                await client.send(json.dumps(error(1, "wrong", id=id)))
            await client.send(json.dumps(result("right", id=message["id"])))
            await client.send(json.dumps(result("late", id=message["id"])))
            await client.assert_nothing()
            assert await asking == "right"

    async def test_time_out(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls, calls=1) as client:
            await ask(client, request("hello"))
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await sockets[0].call("add", timeout=0)

    async def test_may_be_answered_with_the_clients_last_words(
        self, calls: Calls, sockets: list[CallSocket], caplog: pytest.LogCaptureFixture
    ) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            asking, message = await self.begun(client, sockets[0].call("add"))
            await client.send(json.dumps(result("bye", id=message["id"])))
            client.abort()
            assert await asking == "bye"
        assert faults(caplog) == []

    async def test_end_when_the_client_leaves(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            asking, _ = await self.begun(client, sockets[0].call("add", timeout=None))
            await client.close(3000, "bye")
        with pytest.raises(Closed) as caught:
            await asking
        assert (caught.value.code, caught.value.reason) == (3000, "bye")
        with pytest.raises(Closed):
            await sockets[0].call("add")
        with pytest.raises(Closed):
            await sockets[0].notify("add")

    async def test_so_many_may_wait(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls, calls=2) as client:
            await ask(client, request("hello"))
            asking = [await self.begun(client, sockets[0].call("add")) for _ in range(2)]
            with pytest.raises(CallError, match="too many calls wait") as caught:
                await sockets[0].call("add")
            assert caught.value.code == ErrorCode.TOO_MANY_CALLS
            for call, message in asking:
                await client.send(json.dumps(result(1, id=message["id"])))
                assert await call == 1

    async def test_notifications(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            await sockets[0].notify("news", "a", [1])
            assert await client.receive_json() == {"jsonrpc": "2.0", "method": "news", "params": ["a", [1]]}
            await sockets[0].notify("news", method="a")
            assert await client.receive_json() == {"jsonrpc": "2.0", "method": "news", "params": {"method": "a"}}

    async def test_what_cannot_be_said(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls) as client:
            await ask(client, request("hello"))
            with pytest.raises(UsageError, match="by position or by name"):
                await sockets[0].call("add", 1, b=2)
            with pytest.raises(TypeError):
                await sockets[0].call("add", object())
            await client.assert_nothing()

    async def test_in_plain_text_a_client_can_only_be_notified(self, calls: Calls, sockets: list[CallSocket]) -> None:
        async with calling(calls, codec=TEXT) as client:
            await client.send("hello|")
            await client.assert_nothing()
            with pytest.raises(UsageError, match="cannot answer"):
                await sockets[0].call("add")
            await sockets[0].notify("news", "a", 1)
            assert await client.receive() == "news|a,1"


class TestPlainText:
    async def test_answers(self, calls: Calls) -> None:
        @calls.call("hello")
        async def greeting() -> str:
            return "HELLO!"

        @calls.call()
        async def nothing(text: str) -> None: ...

        @calls.call()
        async def pair(text: str) -> list[str]:
            return [text, text]

        async with calling(calls, codec=TEXT) as client:
            for message, answer in [
                ("add|1,2", "add|3"),
                ("hello|", "hello|HELLO!"),
                ("pair|", "pair|,"),
                ("pair|é", "pair|é,é"),
                ("ping", "pong"),
            ]:
                await client.send(message)
                assert await client.receive() == answer
            await client.send("nothing|x")
            await client.assert_nothing()

    async def test_streams(self, calls: Calls) -> None:
        @calls.call()
        async def count(to: int) -> AsyncIterator[int]:
            for number in range(to):
                yield number

        async with calling(calls, codec=TEXT) as client:
            await client.send("count|2")
            assert [await client.receive() for _ in range(2)] == ["count|0", "count|1"]
            await client.assert_nothing()

    async def test_errors(self, calls: Calls, waiting: Waiting) -> None:
        @calls.call()
        async def fail() -> None:
            raise ValueError("secret")

        @calls.call()
        async def refuse() -> None:
            raise CallError(7, "not now, sorry")

        async with calling(calls, codec=TEXT, calls=1) as client:
            for message, answer in [
                ("no|1", "error|method-not-found,no"),
                ("no", "error|no-separator,no"),
                ("add|x", "error|invalid-arguments,add"),
                ("add|", "error|invalid-arguments,add"),
                ("hello|x", "error|method-not-found,hello"),
                ("fail|", "error|internal-error,fail"),
                ("refuse|", "error|call-error,refuse,7,not now, sorry"),
                ("$/cancelRequest|1", "error|method-not-found,$/cancelRequest"),
            ]:
                await client.send(message)
                assert await client.receive() == answer
            await client.send("wait|a")
            await client.send("add|1")
            assert await client.receive() == "error|too-many-calls,add"
            waiting.open("a")
            assert await client.receive() == "wait|a"


class TestRegistration:
    def test_the_name_is_the_functions_unless_given(self) -> None:
        calls = Calls()

        async def one() -> None: ...

        assert calls.call()(one) is one
        calls.call("other.name")(one)
        calls.add("third", one)
        calls.add(None, Waiting().wait)
        assert list(calls.functions()) == ["one", "other.name", "third", "wait"]

    def test_a_plain_function_is_refused(self) -> None:
        def plain() -> None: ...
        def generator() -> Iterator[int]:
            yield 1

        for function in (plain, generator, print, int):
            with pytest.raises(UsageError, match=r"must be an async def: a plain one would block the event loop"):
                Calls().add("f", function)

    def test_a_name_taken_is_refused_and_both_functions_named(self) -> None:
        calls = Calls()

        @calls.call("f")
        async def one() -> None: ...

        async def two() -> None: ...

        with pytest.raises(UsageError, match=r"called 'f': .*<locals>\.one and .*<locals>\.two"):
            calls.add("f", two)

    @pytest.mark.parametrize("name", ["", "rpc.", "rpc.discover", "$/", "$/progress"])
    def test_a_reserved_name_is_refused(self, name: str) -> None:
        async def function() -> None: ...

        with pytest.raises(UsageError, match="reserved"):
            Calls().add(name, function)

    def test_a_parameter_that_no_caller_can_give_is_refused(self) -> None:
        async def function(a: Callable[[], None]) -> None: ...

        with pytest.raises(UsageError, match=r"function, parameter 'a': "):
            Calls().add("f", function)

    def test_the_decorator_without_parentheses_is_refused(self) -> None:
        async def function() -> None: ...

        with pytest.raises(UsageError, match=r"with parentheses above .*function"):
            Calls().call(function)  # type: ignore[arg-type]  # is what is tested


class TestRoutes:
    async def test_guards_come_first(self, calls: Calls) -> None:
        async def nobody(request: object) -> Reject:
            return Reject(401)

        app = Starlette(routes=[calls.route("/ws/", guards=[nobody])])
        with pytest.raises(Rejected) as caught:
            async with connect(app, "/ws/"):
                pass
        assert caught.value.status == 401
        assert app.url_path_for("calls") == "/ws/"

    def test_only_known_codecs(self, calls: Calls) -> None:
        with pytest.raises(UsageError, match="JSONRPC or TEXT"):
            calls.route("/", codec=object())  # type: ignore[arg-type]  # is what is tested

    async def test_limits_are_the_calls_own_then_the_applications(self, waiting: Waiting) -> None:
        calls = Calls(limits=Limits(calls=1))
        calls.add("wait", waiting.wait)
        async with calling(calls, calls=2) as client:
            await client.send(request("wait", "a", id=1))
            assert await ask(client, request("wait", "b", id=2)) == error(*TOO_MANY, id=2)

    async def test_functions_added_later_count(self, calls: Calls) -> None:
        async with calling(calls) as client:
            assert (await ask(client, request("late")))["error"]["code"] == -32601

            @calls.call()
            async def late() -> int:
                return 1

            assert await ask(client, request("late")) == result(1)


async def test_over_a_socket(calls: Calls, waiting: Waiting) -> None:
    @calls.call()
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async with running(Starlette(routes=[calls.route("/ws/")])) as server, server.connect("/ws/") as client:
        await client.send(request("wait", "a", id=1))
        assert await ask(client, request("add", 1, id=2)) == result(2, id=2)
        await client.send(request("count", 2, id=3))
        assert [await client.receive_json() for _ in range(3)] == [
            *(progress(0, id=3), progress(1, id=3), result(None, id=3))
        ]
        assert await ask(client, cancel(1)) == error(*CANCELLED)
        await client.send(request("wait", "b", id=1))
        await client.assert_nothing()
    assert waiting.log == [("begun", "a"), ("cancelled", "a"), ("begun", "b"), ("cancelled", "b")]


async def test_the_examples_of_the_page() -> None:
    page = Path(__file__).parent.parent / "docs" / "calls.md"
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    await names["test_add"]()
    async with connect(names["app"], "/ws/") as client:
        await client.send(request("clock.ticks", 2, 0.0, id="s"))
        for line in re.findall(r'^{.*"s".*}$', page.read_text(), re.MULTILINE):
            assert await client.receive_text() == line
        asked = await ask(client, request("rename", "Ann", id=1))
        assert asked["params"] == ["Do you want to be called Ann?"]
        assert await ask(client, json.dumps(result(True, id=asked["id"]))) == result("Ann")
        assert await ask(client, request("rename", "")) == error(1, "a name has at least one letter")
        error_line = re.findall(r'^{.*"error".*}$', page.read_text(), re.MULTILINE)[0]
        await client.send(request("add", "1"))
        assert await client.receive_text() == error_line
    async with connect(names["site"], "/calls/") as client:
        assert await ask(client, request("sum", 1, 2)) == result(3)
    async with connect(names["text_site"], "/") as client:
        await client.send("sum|1,2")
        assert await client.receive() == "sum|3"
