"""Rooms of the server's own process, from every kind of Django code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import cache

import msgspec
from django.core.signals import setting_changed
from django.db import transaction

from fairlead.django.settings import current
from fairlead.errors import FairleadError
from fairlead.loops import running_loop
from fairlead.rooms.room import Room, RoomName, Rooms

logger = logging.getLogger(__name__)

_tasks: set[asyncio.Task[None]] = set()
"""What goes on in the background of an event loop, which by itself does not hold on to it."""


@cache
def all_rooms() -> Rooms:
    """The project's rooms."""
    settings = current()
    return Rooms(settings.broker.url, limits=settings.limits)


def room(name: RoomName) -> Room:
    """A room that views join and anybody publishes to; it need not have been used before.

        room("news").publish({"id": 7})                 # in a blocking view, a signal handler, a thread
        await room("news").publish({"id": 7})           # in an async view

    Args:
        name: A string, or a flat mapping such as ``{"order": 7}``.

    Raises:
        InvalidRoom: It cannot be a room's name.
    """
    return all_rooms()[name]


def publish_on_commit(to: Room | RoomName, data: object, *, using: str | None = None) -> None:
    """Publish when the transaction is committed; at once where there is none, and never where it is rolled back.

    It never breaks what it is called from: an error is logged.

    Args:
        to: A room or its name.
        data: ``str`` goes out as text, ``bytes`` as a binary message, anything else as JSON. As it is now: what
            becomes of it later changes nothing.
        using: The database whose transaction is meant; None: the default one.
    """
    try:
        target = to if isinstance(to, Room) else room(to)
        content = data if isinstance(data, str | bytes) else msgspec.Raw(msgspec.json.encode(data))
    except (FairleadError, TypeError, ValueError, RecursionError):
        logger.exception("cannot publish to %r", to)
        return

    failure = f"cannot publish to {target.key}"

    def publish() -> None:
        done = target.publish(content)
        if running_loop() is not None:
            in_background(done, failure)

    after_commit(publish, failure, using=using)


def after_commit(call: Callable[[], None], failure: str, *, using: str | None) -> None:
    """Call when the transaction is committed; at once where there is none.

    Args:
        call: Is called in the thread that commits, or in the event loop where there is no transaction.
        failure: What the log says where it raises one of our errors, or ValueError; or where nobody knows when the
            transaction is committed, since autocommit is turned off.
        using: The database.
    """

    def calling() -> None:
        try:
            call()
        except (FairleadError, ValueError) as exc:
            logger.error("%s: %s", failure, exc)

    if running_loop() is not None:  # where Django has no transactions, and refuses to look for one
        calling()
        return
    try:
        transaction.on_commit(calling, using=using, robust=True)
    except transaction.TransactionManagementError as exc:
        logger.error("%s: %s", failure, exc)


def in_background(awaited: Awaitable[object], failure: str) -> None:
    """Let something come to its end in this event loop.

    Args:
        awaited: What nobody waits for.
        failure: What the log says where it raises one of our errors.
    """

    async def waiting() -> None:
        try:
            await awaited
        except FairleadError as exc:
            logger.error("%s: %s", failure, exc)

    task = asyncio.ensure_future(waiting())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _changed(*, setting: str, **kwargs: object) -> None:
    if setting == "FAIRLEAD":
        all_rooms.cache_clear()


setting_changed.connect(_changed)
