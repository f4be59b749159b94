"""One connection's calls while they run: side by side, under a limit, cancelled when the client says so or leaves.

Every call is one task from its message to its answer, so functions may use timeouts and task groups as everywhere, and
whatever one does to its context stays with it. Calls are counted from when they begin: those that need not wait are
over before the next one begins, however many came together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from fairlead.dialects.callsocket import CallSocket
from fairlead.dialects.codec import Answer, Call, CallError, ErrorCode, Fault, Incoming
from fairlead.dialects.signatures import Signature
from fairlead.errors import Closed
from fairlead.limits import Limits
from fairlead.loops import BREATH

logger = logging.getLogger(__name__)

T = TypeVar("T")

PING: Final = "ping"
PONG: Final = b"pong"
"""The browser client's heartbeat; neither is a call."""


class Function(NamedTuple):
    """Something that clients can call.

    Attributes:
        function: A coroutine function, or an async generator function.
        signature: What it takes.
        streams: Whether it is a generator: many values instead of one result.
    """

    function: Callable[..., Any]
    signature: Signature
    streams: bool


class _Running:
    """One call, from when it came to its answer.

    Attributes:
        call: What was asked for.
        refusal: Why it is not to be carried out, or not to its end.
        task: Will carry it out.
        begun: Whether the task has come to it.
    """

    __slots__ = ("begun", "call", "refusal", "task")

    def __init__(self, call: Call, refusal: CallError | None = None) -> None:
        self.call = call
        self.refusal = refusal
        self.task: asyncio.Task[None] | None = None
        self.begun = False

    def cancel(self) -> None:
        """The client gives up on it. A function is interrupted once: it may need time to clean up."""
        if self.refusal is None:
            self.refusal = CallError(ErrorCode.CANCELLED, "cancelled")
            if self.begun and self.task is not None:
                self.task.cancel()


class Exchange:
    """The calls of one connection.

    Args:
        ws: The connection.
        functions: What can be called, by name.
        limits: For ``calls`` and ``request_id_size``.
    """

    __slots__ = ("_begun", "_by_id", "_codec", "_create_task", "_functions", "_limits", "_tasks", "_ws")

    def __init__(self, ws: CallSocket, functions: Mapping[str, Function], limits: Limits) -> None:
        self._ws = ws
        self._codec = ws.codec
        self._functions = functions
        self._limits = limits
        self._begun = 0  # messages at work
        self._by_id: dict[object, _Running] = {}
        self._tasks: dict[object, asyncio.Task[None]] = {}  # by what they carry out
        self._create_task = asyncio.get_running_loop().create_task

    def received(self, payload: str | bytes) -> None:
        """Do what one message from the client says. Never waits."""
        if payload == PING:
            self._ws.put(PONG)
            return
        incoming = self._codec.decode(payload, limits=self._limits)
        if isinstance(incoming, list):
            self._begin_batch(incoming)
        elif (one := self._sort(incoming)) is not None:
            one.task = self._begin(self._answer, one)

    async def close(self) -> None:
        """The client has left: its calls are cancelled, and have cleaned up when this returns."""
        self._ws.abandon()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- from the message to the task --------------------------------------------------------------------------------

    def _sort(self, incoming: Incoming) -> _Running | None:
        """What has to be answered; the rest is done at once."""
        if isinstance(incoming, Call):
            return self._enter(incoming)
        if isinstance(incoming, Fault):
            return _Running(*incoming)
        if isinstance(incoming, Answer):
            self._ws.answered(incoming)
        elif (running := self._by_id.get(incoming.id)) is not None:
            running.cancel()
        return None

    def _enter(self, call: Call) -> _Running:
        running = _Running(call)
        if call.id is msgspec.UNSET or call.id is None:
            return running
        if self._by_id.setdefault(call.id, running) is not running:
            running.refusal = CallError(ErrorCode.INVALID_REQUEST, "a call with this id is running")
        return running

    def _begin_batch(self, batch: Sequence[Incoming]) -> None:
        calls = tuple(running for each in batch if (running := self._sort(each)) is not None)
        if calls:
            task = self._begin(self._answer_all, calls)
            for running in calls:
                running.task = task

    def _begin(self, answer: Callable[[T], Awaitable[bytes | None]], to: T) -> asyncio.Task[None]:
        task = self._tasks[to] = self._create_task(self._carry_out(answer, to))
        return task

    # -- the task ----------------------------------------------------------------------------------------------------

    async def _carry_out(self, answer: Callable[[T], Awaitable[bytes | None]], to: T) -> None:
        """Answer one message. While the client does not read the answer, the place stays taken."""
        self._begun += 1
        try:
            payload = await answer(to)
            if payload is not None and self._ws.put(payload):
                await self._ws.drained()
        except Closed:
            pass  # nobody is left to be answered
        finally:
            self._begun -= 1
            del self._tasks[to]

    async def _answer_all(self, batch: Sequence[_Running]) -> bytes | None:
        """Carry out a batch, one after the other: it takes one place, and its sender may rely on the order."""
        answers = [answer for running in batch if (answer := await self._answer(running)) is not None]
        return self._codec.batch(answers) if answers else None

    async def _answer(self, running: _Running) -> bytes | None:
        """Carry out one call. Whatever happens, its caller gets an answer."""
        call = running.call
        running.begun = True
        try:
            if self._begun > self._limits.calls and running.refusal is None:
                running.refusal = CallError(ErrorCode.TOO_MANY_CALLS, "too many calls")
            if running.refusal is not None:
                return self._error(call, running.refusal)
            function, outcome = self._called(call)
            if not function.streams:
                return self._codec.result(call, await outcome)
            await self._stream(call, outcome)
            return self._codec.end(call)
        except CallError as error:
            return self._error(call, error)
        except asyncio.CancelledError:
            task = running.task
            assert task is not None
            if running.refusal is not None and task.uncancel() == 0:
                return self._error(call, running.refusal)
            if task.cancelling():
                raise
            return self._failed(call)  # what it waited for was cancelled, not the call
        except Exception as exc:
            if isinstance(exc, Closed) and self._ws.closed:
                raise
            return self._failed(call)
        finally:
            if self._by_id.get(call.id) is running:
                del self._by_id[call.id]

    def _called(self, call: Call) -> tuple[Function, Any]:
        """The function, and what comes of calling it.

        Raises:
            CallError: There is none of the name, or it does not take the arguments.
        """
        function = self._functions.get(call.method)
        if function is None:
            raise CallError(ErrorCode.METHOD_NOT_FOUND, "method not found")
        args, kwargs = function.signature.bind(call.params, self._ws, typed=self._codec.typed)
        return function, function.function(*args, **kwargs)

    async def _stream(self, call: Call, values: AsyncGenerator[object, None]) -> None:
        """Send values as they come, each when the client has room for it."""
        sent = 0
        async with aclosing(values):
            async for value in values:
                payload = self._codec.progress(call, value)
                if payload is not None:
                    await self._ws.post(payload)
                sent += 1
                if sent % BREATH == 0:
                    await asyncio.sleep(0)

    def _failed(self, call: Call) -> bytes | None:
        logger.exception("connection %s: call %r failed", self._ws.id, call.method)
        return self._codec.error(call, CallError(ErrorCode.INTERNAL_ERROR, "internal error"))

    def _error(self, call: Call, error: CallError) -> bytes | None:
        try:
            return self._codec.error(call, error)
        except (TypeError, ValueError, RecursionError):
            return self._failed(call)
