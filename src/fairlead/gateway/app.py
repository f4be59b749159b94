"""The gateway: two ASGI applications, one for clients and one for the API, on one node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, MutableMapping, Sequence
from time import perf_counter
from typing import Any

import msgspec

from fairlead.brokers import Broker, Command, Disconnect, Refresh
from fairlead.brokers.urls import from_url
from fairlead.dialects.fairlead import hello
from fairlead.errors import NetworkError
from fairlead.gateway.admission import RETRY_AFTER, Admission
from fairlead.gateway.answer import Answer
from fairlead.gateway.api import Api
from fairlead.gateway.connection import Connection, Subscription, Welcome
from fairlead.gateway.metrics import Metrics
from fairlead.gateway.public import PublicPages
from fairlead.gateway.rights import Rights
from fairlead.gateway.settings import GatewaySettings
from fairlead.gateway.tls import server_context
from fairlead.gateway.upstream import Upstream
from fairlead.rooms.names import Grants
from fairlead.rooms.node import Node
from fairlead.server import Listener
from fairlead.server import run as run_server
from fairlead.server.conversation import Disconnected
from fairlead.server.logs import log_to_stderr
from fairlead.transports.asgi import Receive, Scope, Send, refuse
from fairlead.transports.ticker import Ticker

logger = logging.getLogger(__name__)


class Gateway:
    """Everything between the clients and the API, for one event loop.

    The instance is the public ASGI application; ``admin`` is the one for the API. The public one's lifespan starts and
    ends all of it, so that it also runs under any ASGI server; then serve ``admin`` on a listener of its own.

    Args:
        settings: All of them.
        broker: Instead of the one that the settings name.
        ticker: For the ends of rights, instead of one on the event loop's time.

    Attributes:
        admin: The ASGI application of the admin listener.
        node: The rooms.
        ready: Whether new clients are welcome; False while draining.
        limits: Those of the settings.
    """

    def __init__(
        self, settings: GatewaySettings, *, broker: Broker | None = None, ticker: Ticker | None = None
    ) -> None:
        server = settings.server
        self.limits = settings.limits
        self.ready = False
        self.node = Node(broker or from_url(settings.broker.url), limits=settings.limits)
        self.node.commands.append(self._command)
        self.metrics = Metrics()
        self.metrics.watch_hub(self.node.hub)
        self.metrics.watch("fairlead_connections", "Open connections", lambda: len(self._connections))
        self.admin = Api(self.node, self, settings.api, self.metrics, limits=settings.limits)
        self._connections: dict[str, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwatch: Callable[[], None] = lambda: None
        self._paths = frozenset({server.path, server.path.rstrip("/") or "/"})
        self._pages = PublicPages(self._paths, lambda: self.ready)
        self._upstream = Upstream(settings.upstream, room_size=settings.limits.room_size, observe=self.metrics.asked)
        self.metrics.watch("fairlead_asks_in_flight", "Asks that the API has now", lambda: self._upstream.in_flight)
        self.metrics.watch("fairlead_asks_waiting", "Asks that wait for a place", lambda: self._upstream.waiting)
        self._admission = Admission(settings, self._upstream, self._admit)
        self._ticker = ticker or Ticker()
        self._rights = Rights(
            lambda forwarded: self._upstream.ask(forwarded, first=True),
            self._ticker,
            self._spawn,
            grace=settings.upstream.grace,
        )

    # -- the public application --------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "websocket":
                try:
                    await self._handshake(scope, receive, _handshaking(send, self.metrics))
                except Disconnected:
                    logger.debug("a client left during its handshake")
            case "http":
                await self._pages(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)

    async def _handshake(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if scope["path"] not in self._paths:
            await refuse(scope, send, 404, b"not found\n")
        elif not self.ready:
            headers = [(b"retry-after", RETRY_AFTER.encode())]
            await refuse(scope, send, 503, b"not started yet, or draining\n", headers=headers)
        else:
            await self._admission(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except NetworkError as exc:
            logger.error("cannot start: %s", exc)
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def start(self) -> None:
        """Connect to the broker and welcome clients.

        Raises:
            BrokerUnavailable: It cannot be reached.
        """
        await self.node.start()
        await self._upstream.start()
        self._unwatch = self.metrics.watch_loop()
        self.ready = True

    async def stop(self) -> None:
        """End what runs for clients that are still there, then the node."""
        self.ready = False
        self._unwatch()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._upstream.close()
        await self.node.close()

    def drain(self) -> None:
        """Welcome nobody any more; those who are in stay until the server closes them."""
        self.ready = False

    # -- what its connections ask of it ------------------------------------------------------------------------------

    def _admit(self, id: str, answer: Answer, forwarded: bytes) -> Connection:
        message = hello(
            connection=id,
            user=answer.user,
            allowed_rooms=answer.allowed_rooms,
            allowed_prefixes=answer.allowed_prefixes,
            rooms=answer.rooms,
            ping=self.limits.ping_after,
            expires_in=answer.expires_in,
            data=answer.data,
        )
        welcome = Welcome(message, answer.rooms, answer.expires_in)
        return Connection(self, id, welcome, user=answer.user_name, grants=answer.grants, forwarded=forwarded)

    def opened(self, connection: Connection, expires_in: float | None) -> None:
        """The client got its 101."""
        connection.opened_at = self._ticker.now
        self._connections[connection.id] = connection
        self._rights.watch(connection, expires_in)

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """The connection is over and its subscriptions are ended."""
        del self._connections[connection.id]
        self._rights.forget(connection)
        if connection.transport is not None and connection.transport.outbox_full:
            self.metrics.slow_closes += 1
        seconds = self._ticker.now - connection.opened_at
        logger.info("%s of user %r closed with %d after %d s", connection.id, connection.user, code, seconds)

    def expired(self, connection: Connection) -> None:
        """The API shall be asked again."""
        self._rights.refresh(connection)

    def join_later(self, connection: Connection, subscription: Subscription) -> None:
        """Finish a subscription that waits for the broker."""
        self._spawn(connection.join(subscription))

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("a background task failed", exc_info=fault)

    # -- what the admin listener asks of it --------------------------------------------------------------------------

    def connections(self) -> Iterable[Connection]:
        """All connections of this node, the oldest first."""
        return self._connections.values()

    async def disconnect(self, *, user: str | None, connection: str | None, code: int, reason: str) -> int:
        """Close a user's connections or one connection, on every node; how many there were on this one.

        Raises:
            BrokerUnavailable: No node was told.
        """
        order = Disconnect(user=user, connection=connection, code=code, reason=reason)
        count = len(self._meant(order))
        await self.node.command(order)
        return count

    async def refresh(self, user: str, allowed: bytes | None) -> int:
        """Look again at a user's rights, on every node; how many connections he has on this one.

        Raises:
            BrokerUnavailable: No node was told.
        """
        order = Refresh(user=user, allowed=allowed)
        count = len(self._meant(order))
        await self.node.command(order)
        return count

    def _meant(self, order: Command) -> list[Connection]:
        """Whom a command is about. Looks at all connections: 20,000 take about a millisecond."""
        if isinstance(order, Disconnect) and order.connection is not None:
            one = self._connections.get(order.connection)
            return [] if one is None else [one]
        if order.user is None:
            return []  # nobody is meant, least of all everybody without a name
        return [each for each in self._connections.values() if each.user == order.user]

    def _command(self, order: Command) -> None:
        meant = self._meant(order)
        match order:
            case Disconnect():
                for connection in meant:
                    connection.close(order.code, order.reason)
            case Refresh(allowed=None):
                for connection in meant:
                    self._rights.refresh(connection)
            case Refresh(allowed=bytes(allowed)):
                grants = self._grants(allowed)
                for connection in meant:
                    self._rights.replace(connection, grants)

    def _grants(self, allowed: bytes) -> Grants:
        parsed = msgspec.json.decode(allowed, type=_Allowed)
        return Grants(parsed.allowed_rooms, parsed.allowed_prefixes, size=self.limits.room_size)


class _Allowed(msgspec.Struct):
    allowed_rooms: list[Any] = []
    allowed_prefixes: list[str] = []


def _handshaking(send: Send, metrics: Metrics) -> Send:
    """Note how long the handshake took, at its first answer; a client that left is Disconnected under every server.

    The translation stands here, around nothing but sending, so that no other OSError is taken for it.
    """
    started = perf_counter()

    async def handshaking(event: MutableMapping[str, Any]) -> None:
        if event["type"] in _VERDICTS:
            metrics.handshake_seconds.observe(perf_counter() - started)
        try:
            await send(event)
        except OSError as exc:
            raise Disconnected("the client left") from exc

    return handshaking


_VERDICTS = frozenset({"websocket.accept", "websocket.close", "websocket.http.response.start"})


def run(settings: GatewaySettings, *, loop: str = "auto") -> int:
    """Serve both listeners until a signal ends it.

    Returns:
        The process's exit status: 0 after a drain, 1 if a second signal cut it short.

    Raises:
        CannotListen: An address cannot be bound.
        SettingsError: A certificate or its key cannot be used, or the broker's URL has no such scheme.
    """
    log_to_stderr(settings.log.level)
    server, api = settings.server, settings.api
    gateway = Gateway(settings)

    def ready(addresses: Sequence[str]) -> None:
        public, admin = addresses
        sockets = public.replace("http", "ws", 1) + server.path
        logger.info("listening: clients %s, API %s", sockets, admin)

    return run_server(
        gateway,
        loop=loop,
        host=server.host,
        port=server.port,
        uds=server.uds,
        tls=server_context(server),
        also=[Listener(app=gateway.admin, prompt=gateway.admin.at_once, host=api.host, port=api.port, uds=api.uds)],
        limits=settings.limits,
        flush=gateway.node.flush,
        draining=gateway.drain,
        ready=ready,
    )
