"""A handler at work: its end is the connection's end, and the connection's end is not kept from it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from fairlead.errors import CloseCode, InvalidMessage, InvalidRoom
from fairlead.websocket import Inbox, WebSocket, is_closed

logger = logging.getLogger(__name__)


async def handle(ws: WebSocket, inbox: Inbox, call: Awaitable[None], *, grace: float) -> None:
    """Run a handler, and end its connection with it: 1000 if it returns, 1011 if it fails, 1007 if what it could not
    use was the client's: InvalidMessage, InvalidRoom.

    Nothing of an error goes on the wire; the log has it, with the connection's id.

    Args:
        ws: Its connection.
        inbox: The connection's.
        call: The handler, called.
        grace: Seconds after the client left, before a handler that cannot see it is cancelled.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    watch = _Watch(ws, inbox, grace)
    try:
        await call
    except asyncio.CancelledError:
        ws.end(CloseCode.SERVICE_RESTART, "service restart")
        if not watch.gave_up:
            raise
    except (InvalidMessage, InvalidRoom) as exc:
        logger.info("connection %s: %s", ws.id, exc)
        ws.end(CloseCode.INVALID_DATA, "invalid message")
    except Exception as exc:
        if is_closed(exc):
            ws.end()
        else:
            logger.exception("connection %s: the handler of %r failed", ws.id, ws.path)
            ws.end(CloseCode.INTERNAL_ERROR)
    else:
        ws.end()
    finally:
        watch.stop()
        await ws.finish()
        logger.info("%s %r ended after %.1f s", ws.id, ws.path, loop.time() - started)


class _Watch:
    """What happens as soon as the client leaves, whatever the handler is at.

    Its rooms are left at once. A handler that cannot see it, since it neither receives nor sends, is cancelled.
    Whoever was told, by an exception or by the end of its loop, may take its time. So may whoever still works through
    the messages that came before the end. What tasks beside the handler are told does not count.

    Args:
        ws: The connection.
        inbox: The connection's.
        grace: Seconds between two looks.
    """

    def __init__(self, ws: WebSocket, inbox: Inbox, grace: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.gave_up = False
        self._task = task
        self._ws = ws
        self._inbox = inbox
        self._grace = grace
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        inbox.on_closed = self._closed
        if inbox.outcome is not None:
            self._closed()

    def stop(self) -> None:
        """The handler is done."""
        self._inbox.on_closed = None
        if self._timer is not None:
            self._timer.cancel()
        if self.gave_up:
            self._task.uncancel()  # whoever called the handler goes on

    def _closed(self) -> None:
        self._ws.leave_rooms(self._ws.close_code)
        self._wait()

    def _wait(self) -> None:
        self._left = len(self._inbox.messages)
        self._timer = asyncio.get_running_loop().call_later(self._grace, self._look)

    def _look(self) -> None:
        if self._inbox.noticed:
            return
        if len(self._inbox.messages) < self._left:
            self._wait()
        else:
            self.gave_up = True
            self._task.cancel()
