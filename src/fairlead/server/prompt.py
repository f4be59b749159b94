"""Requests that are answered where they are read: without a task, a queue and the conversation of ASGI.

For a listener whose application can tell at once what the answer is. A trigger takes 16 µs of CPU this way and 50 as a
request of ASGI, beside what the kernel takes for both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from fairlead.server.http import HttpProtocol, Refused
from fairlead.transports.asgi import Headers
from fairlead.transports.shared import Shared

logger = logging.getLogger(__name__)

Prompt = Callable[[bytes, Headers, bytes], bytes | None]
"""Answers a POST at once: its target, its headers (names in lower case) and its body.

Returns the 200's own header lines, each with its CRLF, an empty line and the body; None: the application shall answer,
and nothing was done.
"""


class PromptProtocol(HttpProtocol):
    """One HTTP connection; its clients notice no difference.

    At once is answered what came whole with one read, on a connection that stays open and has nothing else to answer,
    and one request of a read: a caller who sends a hundred together does not stop everybody else's turn.

    Args:
        prompt: Asked before the application.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Shared,
        prompt: Prompt,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, shared=shared)
        self.due = 0
        self._replied = 0  # the wheel's second of the last answer given at once
        self._prompt = prompt
        self._prompted = False  # since the last read
        self._body: bytes | None = None  # as much as there is of the request that may be answered at once

    def _feed(self, data: bytes) -> None:
        self._prompted = False
        super()._feed(data)
        if self._body is not None and not self._stopped:
            self._ask_late()

    def _ask(self) -> None:
        parser = self.parser
        if (
            self._prompted
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"  # such a connection ends with its answer, whatever the client asks
            or not parser.should_keep_alive()
            or self.expect_100_continue
            or self.flow.write_paused
            or self._busy()
        ):
            super()._ask()
        else:
            self._prompted = True
            self._body = b""

    def _ask_late(self) -> None:
        """It is for the application after all."""
        body, self._body = self._body, None
        super()._ask()
        if body:
            super().on_body(body)

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._body is not None:
            try:
                answer = self._prompt(self.url, self.headers, self._body)
            except Exception:
                logger.exception("a request failed")
                self._body = None
                self._answer(500, "internal error")
                raise Refused from None
            if answer is not None:
                self._body = None
                self._reply(answer)
                return
            self._ask_late()
        super().on_message_complete()

    def _reply(self, answer: bytes) -> None:
        state = self.server_state
        state.total_requests += 1
        lines = [b"%b: %b\r\n" % line for line in state.default_headers]
        self.transport.write(b"".join((b"HTTP/1.1 200 OK\r\n", *lines, answer)))
        ticker = self.shared.ticker
        if not self.due:
            ticker.schedule(self, self.timeout_keep_alive)
        self._replied = ticker.wheel.now

    def expired(self) -> None:
        """The wheel's call: look whether anything has come since the last answer."""
        if self._busy() or self._deadline is not None or self.timeout_keep_alive_task is not None:
            return  # another deadline holds, until the next answer given at once
        left = self.timeout_keep_alive - (self.shared.ticker.wheel.now - self._replied)
        if left > 0:
            self.shared.ticker.schedule(self, left)
        else:
            self.timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self.shared.ticker.cancel(self)
        super().connection_lost(exc)
