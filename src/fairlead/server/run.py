"""Start, signals, several listeners and the drain: uvicorn's Server with one owner for all of it."""

from __future__ import annotations

import asyncio
import errno
import functools
import gc
import os
import random
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.config import Config
from uvicorn.server import ServerState

from fairlead.errors import CannotListen, UsageError
from fairlead.limits import Limits
from fairlead.server.arrival import Arrival
from fairlead.server.lingering import LINGER
from fairlead.server.prompt import Prompt, PromptProtocol
from fairlead.server.websocket import WebSocketProtocol
from fairlead.transports.native import NativeTransport
from fairlead.transports.shared import Held, Shared
from fairlead.transports.ticker import Ticker

BACKLOG = 4096
"""Connections the kernel holds for us while the loop is busy: with asyncio's 100 a rush of clients waits seconds."""

ACCEPTS = 16
"""Connections that asyncio's own loop accepts before it looks at anything else. Out of descriptors it fails and logs so
many times, each second: with BACKLOG, which it would take for this, thousands of times."""

COLLECT = 50_000
"""New objects after which the garbage collector looks at them. Cycles are rare here; their memory is let go later."""

ANSWERED = 5.0
"""Seconds that plain requests under way have in a drain, once the clients are gone."""

ABORTED = 1.0
"""Seconds that applications have to end after their connections were dropped."""

DRAIN_RATE = 100
"""Clients per second told to come back while draining, as long as the window allows: a handful is told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address and the application that answers there.

    Attributes:
        app: The ASGI application.
        host: Address to bind; loopback unless told otherwise.
        port: 0 lets the system choose; ``Server.addresses`` tells.
        uds: Path of a Unix socket instead of host and port. Readable and writable by its owner and group only.
        certfile: PEM file with the certificate chain; with it the listener speaks TLS.
        keyfile: PEM file with the private key, if it is not in ``certfile``.
        tls: What to speak TLS with, instead of these two files.
        prompt: Answers what it can of the POST requests at once; the others, and what it leaves, are ``app``'s.
    """

    app: Any
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str = ""
    certfile: str = ""
    keyfile: str = ""
    tls: ssl.SSLContext | None = None
    prompt: Prompt | None = None


class _Endpoint:
    """A listener at work."""

    def __init__(self, listener: Listener, config: Config, shared: Shared, state: ServerState) -> None:
        self.listener = listener
        self.config = config
        self.shared = shared
        self.state = state
        self.server: asyncio.Server | None = None
        self.address = ""  # where it listens, as a URL without a path
        self.inode = 0  # of its Unix socket

    def remove_socket(self) -> None:
        """Remove the Unix socket's file, unless another server has put its own there meanwhile."""
        path = Path(self.listener.uds)
        with suppress(FileNotFoundError):
            if self.inode and path.stat().st_ino == self.inode:
                path.unlink()

    @property
    def sockets(self) -> list[NativeTransport]:
        return [each for each in self.shared.connections if isinstance(each, NativeTransport)]

    def opened(self, server: asyncio.Server) -> None:
        """It listens."""
        self.server = server
        if self.listener.uds:
            self.address = f"unix:{self.listener.uds}"
            self.inode = Path(self.listener.uds).stat().st_ino
        else:
            scheme = "https" if self.config.ssl else "http"
            self.address = f"{scheme}://{_joined(*server.sockets[0].getsockname()[:2])}"

    def failed(self, exc: OSError) -> CannotListen:
        """It cannot listen. The loops word the same causes differently, and partly with the address."""
        place = self.listener.uds or _joined(self.listener.host, self.listener.port)
        number = exc.errno or 0  # below zero it is of the name's resolution
        cause = os.strerror(number) if number > 0 else exc.strerror or str(exc)
        remedy = ""
        if number == errno.EADDRINUSE:
            remedy = f"; stop what listens there, or choose another {'path' if self.listener.uds else 'port'}"
        return CannotListen(f"cannot listen on {place}: {cause.lower()}{remedy}")


class Server(uvicorn.Server):
    """One process: public listener, further listeners, one lifespan, one drain.

    Args:
        listener: The public one. Its application gets the lifespan and its clients are drained.
        also: Further listeners; they go on answering until the clients of the public one are gone.
        limits: Bounds of the public listener; the others have its head limits.
        flush: Called before clients are closed in a drain, so that what was published is on its way first.
        draining: Called once when a drain begins.
        ready: Called with all addresses, in order, when every listener accepts.
        ticker: For pings and close deadlines, instead of one on the event loop's time.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        also: Sequence[Listener] = (),
        limits: Limits | None = None,
        flush: Callable[[], None] | None = None,
        draining: Callable[[], None] | None = None,
        ready: Callable[[Sequence[str]], None] | None = None,
        ticker: Ticker | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._limits = limits or Limits()
        ticker = ticker or Ticker()
        self._endpoints: list[_Endpoint] = []
        for each in (listener, *also):
            state = ServerState()
            shared = Shared(loop, self._limits, ticker, cast("set[Held]", state.connections))
            config = _config(each, shared, lifespan="off" if self._endpoints else "auto")
            self._endpoints.append(_Endpoint(each, config, shared, state))
        if self.shared.connection_limit < 1:
            raise UsageError("the limit of open files leaves none for connections: raise it (ulimit -n)")
        super().__init__(self._endpoints[0].config)
        self.server_state = self._endpoints[0].state
        self._flush = flush or _nothing
        self._on_draining = draining or _nothing
        self._on_ready = ready
        self._forced = asyncio.Event()
        self._loop = loop

    @property
    def addresses(self) -> list[str]:
        """Where each listener listens, in order, as URLs without a path."""
        return [endpoint.address for endpoint in self._endpoints]

    @property
    def shared(self) -> Shared:
        """The public listener's connections and counters."""
        return self._endpoints[0].shared

    # -- start -------------------------------------------------------------------------------------------------------

    async def startup(self, sockets: Any = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise UsageError("the application's startup failed")
        try:
            for endpoint in self._endpoints:
                endpoint.opened(await self._listen(endpoint))
        except OSError as exc:
            self._stop_listening(self._endpoints)
            await self.lifespan.shutdown()
            raise endpoint.failed(exc) from exc
        self.started = True
        if self._on_ready is not None:
            self._on_ready(self.addresses)

    async def _listen(self, endpoint: _Endpoint) -> asyncio.Server:
        config, listener = endpoint.config, endpoint.listener
        make: Callable[..., asyncio.Protocol] = config.http_protocol_class
        factory = functools.partial(
            make,
            config=config,
            server_state=endpoint.state,
            app_state=self.lifespan.state,
            _loop=self._loop,
        )
        tls: dict[str, Any] = {"ssl": config.ssl}
        if config.ssl:
            tls["ssl_handshake_timeout"] = self._limits.head_timeout
            tls["ssl_shutdown_timeout"] = LINGER  # asyncio would wait half a minute for a farewell that may never come
        if not listener.uds:
            return _deepen(
                await self._loop.create_server(factory, listener.host, listener.port, backlog=ACCEPTS, **tls)
            )
        if _answers(listener.uds):
            # Both loops would take the path from the other server, whose clients then find nobody.
            raise OSError(errno.EADDRINUSE, "another server's socket")
        server = _deepen(await self._loop.create_unix_server(factory, listener.uds, backlog=ACCEPTS, **tls))
        Path(listener.uds).chmod(0o660)
        return server

    async def on_tick(self, counter: int) -> bool:
        over = await super().on_tick(counter)
        for endpoint in self._endpoints[1:]:
            endpoint.state.default_headers = self.server_state.default_headers
        return over

    # -- signals -----------------------------------------------------------------------------------------------------

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second one ends everything at once."""
        if self.should_exit:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._forced.set)
        self.should_exit = True

    # -- drain -------------------------------------------------------------------------------------------------------

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop accepting, tell clients to come back, wait, close."""
        public, others = self._endpoints[0], self._endpoints[1:]
        self._on_draining()
        self._stop_listening([public])
        for connection in list(public.shared.connections):
            if not isinstance(connection, NativeTransport):
                connection.shutdown()
        await self._drain_clients(public)
        self._stop_listening(others)
        for endpoint in others:
            for connection in list(endpoint.shared.connections):
                connection.shutdown()
        await self._until(lambda: not any(e.state.connections or e.state.tasks for e in self._endpoints), ANSWERED)
        await self._abort_all()
        await self._end_lifespan()

    async def _end_lifespan(self) -> None:
        """Let the application end, unless it hangs and a second signal comes."""
        ending = asyncio.ensure_future(self.lifespan.shutdown())
        forced = asyncio.ensure_future(self._forced.wait())
        await asyncio.wait((ending, forced), return_when=asyncio.FIRST_COMPLETED)
        for each in (ending, forced):
            each.cancel()
        await asyncio.gather(ending, forced, return_exceptions=True)

    async def _drain_clients(self, public: _Endpoint) -> None:
        limits = self._limits
        clients = public.sockets
        window = min(limits.drain_window, len(clients) / DRAIN_RATE)
        random.shuffle(clients)
        started = self._loop.time()
        for batch, due in _batches(clients, window):
            if self.force_exit:
                return
            self._flush()
            for client in batch:
                client.shutdown()
            await self._sleep(started + due - self._loop.time())
        # Whoever was let in meanwhile; and everybody's close handshake.
        self._flush()
        for client in public.sockets:
            client.shutdown()
        await self._until(lambda: not public.sockets, started + window + limits.drain_grace - self._loop.time())
        for client in public.sockets:
            client.abort()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or less if a second signal comes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._forced.wait()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = self._loop.time() + seconds
        while not condition() and not self.force_exit and self._loop.time() < end:
            await self._sleep(0.02)

    def _stop_listening(self, endpoints: Sequence[_Endpoint]) -> None:
        for endpoint in endpoints:
            if endpoint.server is not None:
                endpoint.server.close()
                endpoint.remove_socket()

    async def _abort_all(self) -> None:
        """Drop what is left; applications see that their client is gone, and only those that do not care are ended."""
        for endpoint in self._endpoints:
            for connection in list(endpoint.shared.connections):
                connection.abort()
        tasks = [task for endpoint in self._endpoints for task in endpoint.state.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=ABORTED)
        for task in tasks:
            task.cancel()


def _deepen(server: asyncio.Server) -> asyncio.Server:
    """Let the kernel hold BACKLOG connections, whatever the loop was told."""
    for each in server.sockets:
        with socket.socket(fileno=os.dup(each.fileno())) as listening:
            listening.listen(BACKLOG)
    return server


def _answers(path: str) -> bool:
    """Whether a server listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            pass  # its queue is full, but it is there
        return True


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _nothing() -> None:
    """The default hook."""


def _batches(clients: Sequence[NativeTransport], window: float) -> Iterator[tuple[Sequence[NativeTransport], float]]:
    """Cut the clients into groups, twenty for each second of the window.

    With each goes the moment when it is the next one's turn, in seconds from the start: pauses between them would add
    up with the time that a busy loop needs, past the window.
    """
    steps = max(1, int(window * 20))
    size = max(1, -(-len(clients) // steps))
    for number, start in enumerate(range(0, len(clients), size), 1):
        yield clients[start : start + size], number * window / steps


def _config(listener: Listener, shared: Shared, *, lifespan: Any) -> Config:
    """uvicorn's configuration, loaded, with everything spelled out that its environment variables could move."""
    context = listener.tls
    http = Arrival if listener.prompt is None else functools.partial(PromptProtocol, prompt=listener.prompt)
    config = Config(
        listener.app,
        host=listener.host,
        port=listener.port,
        http=functools.partial(http, shared=shared),  # type: ignore[arg-type]  # called like a class
        ws=functools.partial(WebSocketProtocol, shared=shared),  # type: ignore[arg-type]
        lifespan=lifespan,
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        forwarded_allow_ips=[],
        server_header=False,
        workers=1,
        ssl_certfile=listener.certfile or None,
        ssl_keyfile=listener.keyfile or None,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )
    config.load()
    return config


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as the system lets it have: every connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str = "",
    certfile: str = "",
    keyfile: str = "",
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> int:
    """Serve an ASGI application until a signal ends it.

    Args:
        app: The application; gets the lifespan.
        host: See Listener, as for the next five.
        port: See Listener.
        uds: See Listener.
        certfile: See Listener.
        keyfile: See Listener.
        tls: See Listener.
        options: The keyword arguments of Server.

    Returns:
        The process's exit status: 0 after a drain, 1 if a second signal cut it short.

    Raises:
        CannotListen: An address cannot be bound.
        OSError: A certificate or its key cannot be read.
        UsageError: The application's startup failed.
    """
    listener = Listener(app=app, host=host, port=port, uds=uds, certfile=certfile, keyfile=keyfile, tls=tls)
    server = Server(listener, **options)
    await server.serve()
    return 1 if server.force_exit else 0


def run(
    app: Any,
    *,
    loop: str = "auto",
    ready: Callable[[Sequence[str]], None] | None = None,
    left: Callable[[int], None] | None = None,
    **options: Any,
) -> int:
    """Serve in a new event loop until a signal ends it. The process is the server's: its garbage collector, too.

    Args:
        app: The ASGI application.
        loop: "uvloop", "asyncio", or "auto" for uvloop where it is installed.
        ready: See Server.
        left: Called with the exit status when the server is gone, before threads of the event loop are waited for.
        options: The other keyword arguments of ``serve``.
    """

    def settled(addresses: Sequence[str]) -> None:
        _settle()
        if ready is not None:
            ready(addresses)

    raise_descriptor_limit()
    _ignore_broken_pipes()
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        status = runner.run(serve(app, ready=settled, **options))
        if left is not None:
            left(status)
        return status


def _ignore_broken_pipes() -> None:
    """As Python itself does, also where a command-line program has gone back to the system's way: there whoever writes
    to a client that has just left is ended by SIGPIPE."""
    with suppress(ValueError):  # not in the main thread
        if signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _settle() -> None:
    """Keep the garbage collector off what stays: everything so far, and connections, which are no garbage.

    A handler is some 40 objects, so with the default of 700 new ones between collections every seventeenth connect has
    all younger ones looked at, and often all: a seventh of what its handshake costs (112 µs against 96).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT, 20, 50)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop by its name; None is asyncio's own."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise UsageError("uvloop is not installed") from None
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
