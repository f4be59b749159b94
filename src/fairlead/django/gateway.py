"""The project behind a gateway: which rooms a user may join, the answer to the gateway's question, and triggers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from fairlead.django.publishing import after_commit, in_background
from fairlead.django.settings import current
from fairlead.errors import UsageError
from fairlead.loops import running_loop
from fairlead.publisher import Publisher
from fairlead.rooms.names import Grants, room_key

logger = logging.getLogger(__name__)

Room = str | Mapping[str, str | int | bool | None]

F = TypeVar("F", bound=Callable[[Any], Iterable[object]])

TRIES = 2
"""How often a trigger is tried: while a gateway restarts it does not answer, and a visitor may be waiting."""


class Registry:
    """Functions that say which rooms a user may join; each is called with the user and returns rooms.

    @rooms.allow
    def teams(user):
        return [{"team": team.pk} for team in user.teams.all()]
    """

    def __init__(self) -> None:
        self._allowed: list[Callable[[Any], Iterable[object]]] = []
        self._prefixes: list[Callable[[Any], Iterable[object]]] = []
        self._joined: list[Callable[[Any], Iterable[object]]] = []

    def allow(self, function: F) -> F:
        """Decorate a function that returns rooms which a user may join; in an object ``"*"`` stands for any value."""
        self._allowed.append(function)
        return function

    def allow_prefixes(self, function: F) -> F:
        """Decorate a function that returns beginnings of string rooms which a user may join."""
        self._prefixes.append(function)
        return function

    def join(self, function: F) -> F:
        """Decorate a function that returns rooms which a user's connections are in from the start."""
        self._joined.append(function)
        return function

    def answer(self, user: Any) -> dict[str, object]:
        """What the gateway is told of a user's rooms: ``allowed_rooms``, ``allowed_prefixes`` and ``rooms``.

        Raises:
            UsageError: One of the functions returned no list of rooms.
        """
        return {
            "allowed_rooms": _collected(self._allowed, user),
            "allowed_prefixes": _collected(self._prefixes, user),
            "rooms": _collected(self._joined, user),
        }

    def allows(self, user: Any, room: Room) -> bool:
        """Whether a user may join a room, for views that talk to sockets themselves.

        Raises:
            InvalidRoom: It cannot be a room's name, or one of the functions returned what can be none.
            UsageError: One of them returned no list of rooms.
        """
        given = self.answer(user)
        allowed: Sequence[object] = given["allowed_rooms"]  # type: ignore[assignment]  # see answer()
        prefixes: Sequence[str] = given["allowed_prefixes"]  # type: ignore[assignment]
        return Grants(allowed, prefixes).allows(room_key(room))


def _collected(functions: Iterable[Callable[[Any], Iterable[object]]], user: Any) -> list[object]:
    found: list[object] = []
    for function in functions:
        given = function(user)
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            # A room alone can be iterated, too: "users/7/" as a list of prefixes would be all that begins with a "u".
            name = getattr(function, "__qualname__", function)
            raise UsageError(f"{name} must return a list of rooms or prefixes, not {type(given).__name__}")
        found.extend(given)
    return found


rooms = Registry()
"""The project's."""


@never_cache  # type: ignore[untyped-decorator]  # Django has no types
@require_GET  # type: ignore[untyped-decorator]
def bootstrap(request: HttpRequest) -> JsonResponse:
    """The gateway's question: who is this, and which rooms may he join? It asks with the client's own cookies.

    Goes into the URLconf, at the path that ``upstream.url`` names. 401 for whoever is not logged in.
    """
    user = request.user
    if not user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=401)
    answer: dict[str, object] = {"user": {"id": _plain(user.pk)}, **rooms.answer(user)}
    expires_in = current().gateway.expires_in
    if expires_in:
        answer["expires_in"] = expires_in
    return JsonResponse(answer)


def _plain(key: object) -> str | int:
    """A primary key as the gateway knows users."""
    return key if isinstance(key, int) else str(key)


def trigger(to: Room | Sequence[Room], data: object, *, using: str | None = None) -> None:
    """Publish through the gateway when the transaction is committed; at once where there is none.

    It never breaks what it is called from: an error is logged, and clients see the change when they next ask over HTTP.
    In an async view it returns at once, elsewhere when the gateway has answered, or does not within
    ``gateway.timeout``.

    Args:
        to: A room or a sequence of rooms, each a string or a flat mapping.
        data: Anything that has a form in JSON. As it is now: what becomes of it later changes nothing.
        using: The database whose transaction is meant; None: the default one.
    """
    several = [to] if isinstance(to, str | Mapping) else list(to)
    try:
        content = msgspec.Raw(msgspec.json.encode(data))
    except (TypeError, ValueError, RecursionError):
        logger.exception("cannot trigger %r", several)
        return
    failure = f"cannot trigger {several!r}"
    post = partial(_post, several, content)

    def posting() -> None:
        if running_loop() is not None:
            in_background(asyncio.to_thread(post), failure)
        else:
            post()

    after_commit(posting, failure, using=using)


def _post(rooms: Sequence[Room], content: msgspec.Raw) -> None:
    gateway = current().gateway
    if not gateway.key:
        raise UsageError("settings.FAIRLEAD has no gateway.key")
    Publisher(gateway.url, key=gateway.key, timeout=gateway.timeout, tries=TRIES).publish(rooms, content)
