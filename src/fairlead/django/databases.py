"""A view that waits for its client does not keep a database connection from others.

Django opens connections for a thread and keeps them to the end of a request; a socket can stay for days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections


def enter_thread() -> None:
    """A thread begins to work for a view."""
    for alias, lent in _lent.items():
        connections[alias] = lent.connection


def give_back() -> None:
    """Close this thread's connections, or give them back to their pool; the next query opens one again.

    One in the middle of a transaction stays: inside of ``atomic``, or with autocommit turned off.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            if (lent := _lent.get(connection.alias)) is not None:
                lent.commit()
        elif connection.connection is not None and connection.autocommit:
            connection.close()


# -- in tests ----------------------------------------------------------------------------------------------------------


class _Lent:
    """A test's connection while the application works on it.

    At the beginning and at the end of every request Django would close it, because it is inside of a transaction.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lenders = 0
        self._depth = len(connection.savepoint_ids)
        self._callbacks = len(connection.run_on_commit)
        connection.inc_thread_sharing()
        connection.close_if_unusable_or_obsolete = _nothing

    def returned(self) -> None:
        """It is the test's own again."""
        del self.connection.close_if_unusable_or_obsolete
        self.connection.dec_thread_sharing()

    def commit(self) -> None:
        """Run what a view wants to be done after its commit: the test's own transaction, around it, is never
        committed."""
        connection = self.connection
        if len(connection.savepoint_ids) == self._depth:
            due = connection.run_on_commit[self._callbacks :]
            del connection.run_on_commit[self._callbacks :]
            for _, callback, *_ in due:
                callback()


def _nothing() -> None:
    """In the place of what must not happen."""


_lent: dict[str, _Lent] = {}
"""What the application's threads use instead of connections of their own, by alias."""


@contextmanager
def lending(borrowed: Sequence[Any]) -> Iterator[None]:
    """Have the application's threads use a test's connections. Whoever lends must not use them at the same time."""
    for connection in borrowed:
        if connection.alias not in _lent:
            _lent[connection.alias] = _Lent(connection)
        _lent[connection.alias].lenders += 1
    try:
        yield
    finally:
        for connection in borrowed:
            lent = _lent[connection.alias]
            lent.lenders -= 1
            if not lent.lenders:
                del _lent[connection.alias]
                lent.returned()


def is_lent() -> bool:
    """Whether a test's connections are in use."""
    return bool(_lent)
