"""``manage.py runserver``: HTTP, static files and sockets on one port, started again whenever code changes."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

from fairlead.django.asgi import get_asgi_application
from fairlead.django.publishing import all_rooms
from fairlead.django.settings import current
from fairlead.errors import CannotListen
from fairlead.server.leaving import leave_soon
from fairlead.server.run import Listener, Server, loop_factory, raise_descriptor_limit
from fairlead.transports.asgi import Receive, Scope, Send

if apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
    from django.contrib.staticfiles.management.commands.runserver import Command as BaseCommand
else:
    from django.core.management.commands.runserver import Command as BaseCommand

logger = logging.getLogger("django.server")

PATIENCE = 2.0
"""Seconds that the old process has to say goodbye to its clients before the new one starts."""


class DevelopmentServer:
    """What Django's command starts in the place of its WSGI server: it makes it, gives it an application, runs it."""

    def __init__(self, address: tuple[str, int], handler_class: type, *, ipv6: bool = False) -> None:
        self.host, self.server_port = address
        self._app: Any = None

    def set_app(self, app: Any) -> None:
        """What to serve."""
        self._app = app

    def serve_forever(self) -> None:
        """Serve until the process ends.

        Raises:
            OSError: The address cannot be used; Django explains it.
        """
        raise_descriptor_limit()
        try:
            with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
                runner.run(self._serve())
        except CannotListen as exc:
            raise exc.__cause__ or exc from None

    async def _serve(self) -> None:
        listener = Listener(app=self._app, host=self.host, port=self.server_port)
        server = Server(listener, limits=current().limits, flush=all_rooms().flush, ready=_say)
        with _ended_by_others(server):
            await server.serve()


_endings: list[Callable[[], None]] = []
"""How servers at work are ended; there is one at most."""


@contextmanager
def _ended_by_others(server: Server) -> Iterator[None]:
    """Let another thread end the server: Django's reloader has it run beside the main thread, and drops it there."""
    loop, over = asyncio.get_running_loop(), threading.Event()

    def end() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(server.handle_exit, signal.SIGTERM, None)
            over.wait(PATIENCE)

    _endings.append(end)
    try:
        yield
    finally:
        _endings.remove(end)
        over.set()


class AccessLog:
    """Django's line for every answered request, in the log of its development server."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(event: Any) -> None:
            status = 101 if event["type"] == "websocket.accept" else event.get("status")
            if status is not None:
                method = scope.get("method", "GET") if scope["type"] == "http" else "WebSocket"
                path = scope.get("raw_path", b"").decode("latin-1")
                level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
                logger.log(level, '"%s %s" %d', method, path, status, extra={"status_code": status})
            await send(event)

        await self._app(scope, receive, sending)


def _say(addresses: Sequence[str]) -> None:
    print(f"Serving HTTP and WebSockets at {addresses[0]}/", flush=True)


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Django's command, with another server inside."""

    help = "Starts a development server for HTTP, static files and WebSockets."
    server_cls = DevelopmentServer

    def run(self, **options: Any) -> None:
        """Serve until a signal comes or, under the reloader, a file changes: then sockets are closed with 1012."""
        status: object = 0
        try:
            super().run(**options)
        except SystemExit as exc:
            status = exc.code
            raise
        finally:
            for end in list(_endings):
                end()
                leave_soon(status if isinstance(status, int) else 1, patience=PATIENCE)

    def on_bind(self, server_port: int) -> None:
        """Say what is about to be served; where, says the server when it listens."""
        self.stdout.write(f"Django {self.get_version()}, settings {settings.SETTINGS_MODULE}. Control-C ends it.")

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """The project's ``ASGI_APPLICATION``, or ours, with static files in front of it."""
        path = getattr(settings, "ASGI_APPLICATION", None)
        app = import_string(path) if path else get_asgi_application()
        if options.get("use_static_handler") and (settings.DEBUG or options["insecure_serving"]):
            app = ASGIStaticFilesHandler(app)
        return AccessLog(app)
