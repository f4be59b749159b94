"""Threads, the pool and the bridge between them and the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable

import pytest
from tests.connections import turns

from fairlead import threads as module
from fairlead.errors import Closed, UsageError
from fairlead.threads import Bridge, NoThread, Pool, Threads

PATIENCE = 5.0

Runner = Threads | Pool


@pytest.fixture(params=[Threads, Pool])
def runner(request: pytest.FixtureRequest) -> Runner:
    made: Runner = request.param(4)
    return made


class Gate:
    """Calls that stay in their threads until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> str:
        self.thread = thread = threading.current_thread()
        self.entered.release()
        assert self.open.wait(PATIENCE)
        return thread.name

    async def full(self, number: int = 1) -> None:
        """So many have come in."""
        for _ in range(number):
            assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE)


def alive(name: str) -> int:
    return sum(each.name.startswith(name) for each in threading.enumerate())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


# -- both kinds --------------------------------------------------------------------------------------------------------


async def test_a_call_runs_in_another_thread_with_the_callers_context(runner: Runner) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    thread, value = await runner.run(lambda: (threading.current_thread(), variable.get()))
    assert thread is not threading.main_thread() and thread.daemon and value == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is told")
async def test_a_woken_thread_does_not_push_the_loop_aside_and_other_threads_are_as_they_were(runner: Runner) -> None:
    before = os.sched_getscheduler(0)
    assert await runner.run(lambda: os.sched_getscheduler(0)) == (
        os.SCHED_BATCH if before == os.SCHED_OTHER else before
    )
    assert os.sched_getscheduler(0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is told")
async def test_a_thread_works_where_the_system_forbids_to_say_so(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    assert await runner.run(lambda: "done") == "done"


async def test_what_a_call_raises_comes_out(runner: Runner) -> None:
    with pytest.raises(ZeroDivisionError):
        await runner.run(lambda: 1 // 0)


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_what_no_future_may_hold_comes_out_as_a_cause(runner: Runner, kind: type[BaseException]) -> None:
    def end() -> None:
        raise kind("enough")

    with pytest.raises(RuntimeError) as caught:
        await runner.run(end)
    assert isinstance(caught.value.__cause__, kind)
    assert await runner.run(lambda: "goes on") == "goes on"


async def test_whoever_is_cancelled_does_not_wait_and_what_fails_later_is_logged(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    def fail() -> None:
        gate()
        raise ValueError("for nobody")

    running = asyncio.create_task(runner.run(fail))
    await gate.full()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.open.set()
    await until(lambda: "for nobody" in caplog.text)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("fault", [Closed(1006), ConnectionResetError()])
async def test_that_its_client_left_is_nothing_to_log(
    runner: Runner, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    def leave() -> None:
        gate()
        raise fault

    running = asyncio.create_task(runner.run(leave))
    await gate.full()
    running.cancel()
    gate.open.set()
    await asyncio.wait((running,))
    assert await runner.run(lambda: "later") == "later"
    await turns()
    assert caplog.text == ""


def test_a_loop_that_ends_first_is_no_failure(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    errors: list[object] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)

    async def leave() -> None:
        asyncio.create_task(runner.run(gate))
        await gate.full()

    asyncio.run(leave())
    gate.open.set()
    if isinstance(runner, Threads):
        assert gate.thread is not None
        gate.thread.join(PATIENCE)
        assert runner.running == 0
    assert asyncio.run(runner.run(lambda: "again")) == "again"
    assert errors == []


# -- a thread for each -------------------------------------------------------------------------------------------------


async def test_past_the_limit_there_is_no_thread_until_one_ends() -> None:
    gate, threads = Gate(), Threads(2)
    running = [asyncio.create_task(threads.run(gate)) for _ in range(2)]
    await gate.full(2)
    assert threads.running == 2
    with pytest.raises(NoThread, match="all 2 threads"):
        await threads.run(gate)
    gate.open.set()
    names = await asyncio.gather(*running)
    assert threads.running == 0
    assert sorted(names) == ["fairlead-socket-1", "fairlead-socket-2"]
    assert await threads.run(lambda: "room again") == "room again"


async def test_a_thread_whose_caller_left_counts_until_it_ends() -> None:
    gate, threads = Gate(), Threads(1)
    running = asyncio.create_task(threads.run(gate))
    await gate.full()
    running.cancel()
    await asyncio.wait((running,))
    assert threads.running == 1
    gate.open.set()
    await until(lambda: threads.running == 0)


async def test_a_thread_ends_with_its_call() -> None:
    threads = Threads(5, name="short-lived")
    await asyncio.gather(*[threads.run(lambda: None) for _ in range(5)])
    await until(lambda: alive("short-lived") == 0)


def refuse(*args: object) -> None:
    raise RuntimeError("can't start new thread")


async def test_where_the_system_has_no_thread_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads()
    monkeypatch.setattr(module, "_start", refuse)
    with pytest.raises(NoThread, match="can't start new thread"):
        await threads.run(lambda: None)
    assert threads.running == 0


# -- the pool ----------------------------------------------------------------------------------------------------------


async def test_the_pool_uses_a_thread_again() -> None:
    pool = Pool(4, name="again")
    names = {await pool.run(lambda: threading.current_thread().name) for _ in range(10)}
    assert names == {"again-1"}


async def test_past_its_limit_calls_wait_for_their_turn() -> None:
    gate, pool, order = Gate(), Pool(2, name="both"), []
    running = [asyncio.create_task(pool.run(gate)) for _ in range(2)]
    await gate.full(2)
    waiting = [asyncio.create_task(pool.run(lambda n=n: order.append(n))) for n in range(5)]  # type: ignore[misc]
    await turns()
    assert order == [] and alive("both") == 2
    gate.open.set()
    await asyncio.gather(*running, *waiting)
    assert sorted(order) == [0, 1, 2, 3, 4] and alive("both") == 2


async def test_a_call_whose_caller_left_before_its_turn_never_runs() -> None:
    gate, pool, ran = Gate(), Pool(1), []
    running = asyncio.create_task(pool.run(gate))
    await gate.full()
    waiting = asyncio.create_task(pool.run(lambda: ran.append("left")))
    await turns()
    waiting.cancel()
    gate.open.set()
    await running
    await pool.run(lambda: ran.append("stayed"))
    assert ran == ["stayed"]


async def test_threads_without_work_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.01)
    pool = Pool(3, name="idle")
    await pool.run(lambda: None)
    await until(lambda: alive("idle") == 0)
    assert await pool.run(lambda: "new") == "new"


async def test_the_pool_makes_do_with_the_threads_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, pool = Gate(), Pool(2)
    running = asyncio.create_task(pool.run(gate))
    await gate.full()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_start", refuse)
        waiting = asyncio.create_task(pool.run(lambda: "late"))
        await turns()
        gate.open.set()
        await running
        assert await waiting == "late"
        with pytest.raises(RuntimeError):
            await Pool(2).run(lambda: None)


# -- the bridge --------------------------------------------------------------------------------------------------------


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail() -> None:
    raise LookupError("in the loop")


async def test_a_thread_gets_what_a_coroutine_returns_or_raises() -> None:
    bridge = Bridge()
    assert await asyncio.to_thread(bridge.call, double, 21) == 42
    with pytest.raises(LookupError, match="in the loop"):
        await asyncio.to_thread(bridge.call, fail)


async def test_a_thread_need_not_wait() -> None:
    bridge = Bridge()
    begun = await asyncio.to_thread(bridge.begin, double, 21)
    assert await asyncio.wrap_future(begun) == 42


async def test_the_loop_cannot_wait_for_itself() -> None:
    with pytest.raises(UsageError, match="in a thread"):
        Bridge().call(double, 1)


async def test_its_end_ends_what_waits_and_what_it_waits_for() -> None:
    bridge, begun, cancelled = Bridge(), asyncio.Event(), asyncio.Event()

    async def never() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(asyncio.to_thread(bridge.call, never))
    await begun.wait()
    bridge.end()
    with pytest.raises(Closed):
        await waiting
    await cancelled.wait()
    with pytest.raises(Closed):
        await asyncio.to_thread(bridge.call, double, 1)


async def test_a_call_of_its_last_moment_never_begins() -> None:
    bridge, ran = Bridge(), []

    async def run() -> None:
        ran.append(1)

    outcome = bridge.begin(run)
    bridge.end()
    await turns()
    assert outcome.cancelled() and ran == []


async def test_a_coroutine_that_is_cancelled_is_over_for_the_thread_too() -> None:
    async def cancel() -> None:
        raise asyncio.CancelledError

    with pytest.raises(Closed):
        await asyncio.to_thread(Bridge().call, cancel)


def test_a_closed_loop_is_over() -> None:
    async def make() -> Bridge:
        return Bridge()

    bridge = asyncio.run(make())
    found: list[BaseException] = []

    def call() -> None:
        try:
            bridge.call(double, 1)
        except Closed as closed:
            found.append(closed)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(PATIENCE)
    assert len(found) == 1
