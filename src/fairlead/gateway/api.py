"""The admin listener: where the API triggers, withdraws rights and looks around. An ASGI application.

Every call but the two health checks needs a key. Answers are JSON, errors ``{"error": text}``; nothing of what a
trigger carries is ever logged. A slash at the end of a path makes no difference.

    POST /trigger, /publish     publish to rooms
    POST /disconnect            close a user's connections, or one connection
    POST /refresh               look again at a user's rights
    GET  /rooms, /connections   what is there, in pages: ?limit= (1-1000, 100 by default) and ?after=, the last page's
                                "next"; in the order of their names, so that what is there all the time is listed
                                exactly once whatever comes and goes meanwhile
    GET  /metrics               for Prometheus
    GET  /healthz, /readyz      alive; taking clients (503 while draining)
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, TypeVar
from urllib.parse import parse_qs

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import Receive, Scope, Send

from fairlead.errors import BrokerUnavailable
from fairlead.gateway.bodies import BadBody, Trigger, read_disconnect, read_refresh, read_trigger
from fairlead.gateway.http import ClientGone, Headers, Problem, Reply, prepared, read_body, values
from fairlead.gateway.idempotency import Idempotency, KeyReused
from fairlead.gateway.metrics import Metrics
from fairlead.gateway.settings import ApiSettings
from fairlead.limits import Limits
from fairlead.loops import BREATH
from fairlead.message import Publication
from fairlead.rooms.names import room_json
from fairlead.rooms.node import Node
from fairlead.transports.asgi import refuse

logger = logging.getLogger(__name__)

PAGE: Final = 100
"""Entries of a page where no limit is asked for."""

PAGE_LIMIT: Final = 1000
"""Entries of a page at most."""

IDEMPOTENCY_KEY_SIZE: Final = 255
"""Bytes; a UUID has 36."""

_TRIGGERS: Final = frozenset({b"/trigger", b"/trigger/", b"/publish", b"/publish/"})
_IDEMPOTENCY_KEY: Final = b"idempotency-key"
_NO_KEY: Final = 'send one API key, as "Authorization: Bearer KEY" or "X-API-Key: KEY"; never in the URL'
_WRONG_KEY: Final = "this API key is not one of api.keys"
_ANSWER: Final = b'{"published":%d,"delivered":%d}'
_LIMITS: Final = Limits()
_ENCODE: Final = msgspec.json.Encoder().encode

T = TypeVar("T")


class ConnectionView(Protocol):
    """One connection, as ``GET /connections`` lists it."""

    @property
    def id(self) -> str: ...

    @property
    def user(self) -> str | None: ...

    @property
    def subscriptions(self) -> int:
        """How many it has."""
        ...


class GatewayControl(Protocol):
    """What the admin listener can have the gateway do."""

    @property
    def ready(self) -> bool:
        """Whether clients are taken: False before the start's end and while draining."""
        ...

    def connections(self) -> Iterable[ConnectionView]:
        """Those of this node, in any order."""
        ...

    async def disconnect(self, *, user: str | None, connection: str | None, code: int, reason: str) -> int:
        """Close a user's connections or one connection, on every node; how many there were on this one.

        Raises:
            BrokerUnavailable: No node was told.
        """
        ...

    async def refresh(self, user: str, allowed: bytes | None) -> int:
        """Look again at a user's rights, on every node; how many connections he has on this one.

        Args:
            user: As text.
            allowed: The new rights, a JSON object with ``allowed_rooms`` and ``allowed_prefixes``; None: ask the API.

        Raises:
            BrokerUnavailable: No node was told.
        """
        ...


class Api:
    """The application.

    Args:
        node: Publishes.
        gateway: Disconnects and refreshes.
        settings: ``[api]``; at least one key.
        metrics: Shown under ``/metrics``; publications are counted here.
        limits: For ``room_size``.
    """

    def __init__(
        self, node: Node, gateway: GatewayControl, settings: ApiSettings, metrics: Metrics, limits: Limits = _LIMITS
    ) -> None:
        self._node = node
        self._gateway = gateway
        self._settings = settings
        self._metrics = metrics
        self._room_size = limits.room_size
        self._keys = [_digest(key.encode()) for key in settings.keys]
        self._idempotency = Idempotency(seconds=settings.idempotency_time, keys=settings.idempotency_keys)
        get, post = ("GET", "HEAD"), ("POST",)
        self._open: Mapping[str, Callable[[], Reply]] = {"/healthz": _alive, "/readyz": self._ready}
        self._calls: Mapping[str, tuple[Sequence[str], Callable[[_Call], Awaitable[Reply]]]] = {
            "/trigger": (post, self._trigger),
            "/publish": (post, self._trigger),
            "/disconnect": (post, self._disconnect),
            "/refresh": (post, self._refresh),
            "/rooms": (get, self._rooms),
            "/connections": (get, self._connections),
            "/metrics": (get, self._show_metrics),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Anybody's, so it must not pass for a fault of ours.
            await refuse(scope, send, HTTPStatus.NOT_FOUND, b"not found\n")
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the admin listener speaks HTTP only, not {scope['type']}")
        try:
            reply = await self._answer(scope, receive)
        except ClientGone:
            return
        except Problem as problem:
            reply = problem.reply
        except Exception:
            logger.exception("admin listener: %s %s failed", scope["method"], _path(scope))
            reply = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the gateway's log").reply
        await reply.send(send, head_only=scope["method"] == "HEAD")

    def at_once(self, target: bytes, headers: Headers, body: bytes) -> bytes | None:
        """Carry out a trigger that need not wait, before the application is asked: a ``Prompt`` for its listener.

        What is not a common trigger without a fault is left to the application: batches, Idempotency-Keys, very many
        rooms, a broker that has to be waited for.
        """
        if target not in _TRIGGERS or len(body) > self._settings.body_size or values(headers, _IDEMPOTENCY_KEY):
            return None
        if self._number(_key(headers)) is None:
            return None
        try:
            trigger = read_trigger(body, room_size=self._room_size)
            if not isinstance(trigger, Trigger) or len(trigger.rooms) > BREATH:
                return None
            delivered = sum(map(self._node.hub.count, trigger.rooms))
            if not self._node.publish_now(trigger.rooms, Publication(data=trigger.data)):
                return None
        except (BadBody, BrokerUnavailable):
            return None
        self._metrics.publications += len(trigger.rooms)
        return prepared(_ANSWER % (len(trigger.rooms), delivered))

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path = _path(scope)
        if path in self._open:
            _check_method(scope["method"], ("GET", "HEAD"))
            return self._open[path]()
        caller = self._caller(scope)
        known = self._calls.get(path)
        if known is None:
            raise Problem(HTTPStatus.NOT_FOUND, "no such path")
        methods, call = known
        _check_method(scope["method"], methods)
        try:
            return await call(_Call(scope, receive, caller, self._settings))
        except BadBody as exc:
            raise Problem(HTTPStatus.BAD_REQUEST, str(exc)) from None
        except KeyReused as exc:
            raise Problem(HTTPStatus.CONFLICT, str(exc)) from None
        except BrokerUnavailable as exc:
            logger.warning("admin listener: %s: %s", path, exc)
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the broker is not available; try again later") from None

    def _caller(self, scope: Scope) -> int:
        """Whose call it is, as a number."""
        key = _key(scope["headers"])
        caller = self._number(key)
        if caller is None:
            address = (scope.get("client") or ("a Unix socket",))[0]
            logger.info("admin listener: refused a call without a valid key from %s", address)
            text = _WRONG_KEY if key else _NO_KEY
            raise Problem(HTTPStatus.UNAUTHORIZED, text, headers=((b"www-authenticate", b"Bearer"),))
        return caller

    def _number(self, key: bytes) -> int | None:
        """Which of the keys it is.

        Every key is compared with, by digests of one length, so that the time tells neither how much of a key is
        right nor whose it is.
        """
        digest, caller = _digest(key), None
        for number, known in enumerate(self._keys):
            if hmac.compare_digest(known, digest):
                caller = number
        return caller

    def _ready(self) -> Reply:
        if not self._gateway.ready:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not started yet, or draining")
        return _alive()

    async def _trigger(self, call: _Call) -> Reply:
        keys = values(call.scope["headers"], _IDEMPOTENCY_KEY)
        if len(keys) > 1 or any(not 0 < len(key) <= IDEMPOTENCY_KEY_SIZE for key in keys):
            raise Problem(HTTPStatus.BAD_REQUEST, f"give one Idempotency-Key of 1 to {IDEMPOTENCY_KEY_SIZE} bytes")
        body = await call.body()
        if not keys:
            return Reply(await self._publish(body))
        answer, replayed = await self._idempotency.once(
            (call.caller, keys[0]), _digest(body), partial(self._publish, body)
        )
        return Reply(answer, headers=((b"idempotency-replayed", b"true"),) if replayed else ())

    async def _publish(self, body: bytes) -> bytes:
        triggers = read_trigger(body, room_size=self._room_size)
        if isinstance(triggers, Trigger):
            published, delivered = await self._publish_one(triggers, 0)
            return _ANSWER % (published, delivered)
        total, answers = 0, []
        for trigger in triggers:
            published, delivered = await self._publish_one(trigger, total)
            total += published
            answers.append(_ANSWER % (published, delivered))
        return b"[%b]" % b",".join(answers)

    async def _publish_one(self, trigger: Trigger, before: int) -> tuple[int, int]:
        """Rooms published to and subscriptions in them here; ``before`` is what the batch published already."""
        publication = Publication(data=trigger.data)
        published = delivered = 0
        try:
            for room in trigger.rooms:
                subscriptions = self._node.hub.count(room)
                await self._node.publish(room, publication)
                published += 1
                delivered += subscriptions
        except BrokerUnavailable as exc:
            logger.warning("admin listener: the broker failed after %d rooms: %s", before + published, exc)
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the broker is not available; try again later",
                more={"published": before + published},
            ) from None
        finally:
            self._metrics.publications += published
        return published, delivered

    async def _disconnect(self, call: _Call) -> Reply:
        order = read_disconnect(await call.body())
        count = await self._gateway.disconnect(
            user=order.user, connection=order.connection, code=order.code, reason=order.reason
        )
        return Reply(_ENCODE({"connections": count}))

    async def _refresh(self, call: _Call) -> Reply:
        order = read_refresh(await call.body(), room_size=self._room_size)
        return Reply(_ENCODE({"connections": await self._gateway.refresh(order.user, order.allowed)}))

    async def _rooms(self, call: _Call) -> Reply:
        rooms = list(self._node.hub.rooms())
        shown, following = call.page(rooms, lambda entry: entry[0])
        listed = [{"room": msgspec.Raw(room_json(room)), "subscriptions": count} for room, count in shown]
        return Reply(_ENCODE({"rooms": listed, "total": len(rooms), "next": following}))

    async def _connections(self, call: _Call) -> Reply:
        user = call.parameter("user")
        found = [view for view in self._gateway.connections() if user is None or view.user == user]
        shown, following = call.page(found, lambda view: view.id)
        listed = [{"connection": view.id, "user": view.user, "subscriptions": view.subscriptions} for view in shown]
        return Reply(_ENCODE({"connections": listed, "total": len(found), "next": following}))

    async def _show_metrics(self, call: _Call) -> Reply:
        return Reply(self._metrics.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4.encode())


class _Call:
    """One request by a caller with a key."""

    def __init__(self, scope: Scope, receive: Receive, caller: int, settings: ApiSettings) -> None:
        self.scope = scope
        self.caller = caller
        self._receive = receive
        self._settings = settings

    async def body(self) -> bytes:
        settings = self._settings
        return await read_body(self.scope, self._receive, size=settings.body_size, seconds=settings.body_timeout)

    def parameter(self, name: str) -> str | None:
        try:
            query = parse_qs(self.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise Problem(HTTPStatus.BAD_REQUEST, "the query is not percent-encoded UTF-8") from None
        values = query.get(name)
        return values[0] if values else None

    def page(self, items: Iterable[T], name: Callable[[T], str]) -> tuple[list[T], str | None]:
        """The entries after ``?after=``, at most ``?limit=`` of them, and the last one's name if there are more."""
        limit = self.parameter("limit") or str(PAGE)
        if not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not 1 <= int(limit) <= PAGE_LIMIT:
            raise Problem(HTTPStatus.BAD_REQUEST, f"limit must be a number from 1 to {PAGE_LIMIT}")
        after = self.parameter("after") or ""
        found = heapq.nsmallest(int(limit) + 1, (item for item in items if name(item) > after), key=name)
        shown = found[: int(limit)]
        return shown, name(shown[-1]) if len(found) > len(shown) else None


def _key(headers: Headers) -> bytes:
    """The one key that a call shows; b"" if it shows none. Two different ones are as good as none."""
    shown = set()
    for name, value in headers:
        if name == b"x-api-key":
            shown.add(value)
        elif name == b"authorization":
            kind, _, key = value.partition(b" ")
            if kind.lower() == b"bearer":
                shown.add(key.strip(b" "))
    return shown.pop() if len(shown) == 1 else b""


def _alive() -> Reply:
    return Reply(b'{"status":"ok"}')


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path[:-1] if path.endswith("/") else path


def _check_method(method: str, allowed: Sequence[str]) -> None:
    if method not in allowed:
        allow = ", ".join(allowed)
        raise Problem(
            HTTPStatus.METHOD_NOT_ALLOWED, f"the method must be {allow}", headers=((b"allow", allow.encode()),)
        )


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
