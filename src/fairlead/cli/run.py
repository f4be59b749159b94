"""``fairlead run``: serve a project, or any application, until it is told to stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fairlead.callables import is_coroutine_function
from fairlead.cli.target import Target
from fairlead.errors import UsageError
from fairlead.limits import Limits

if TYPE_CHECKING:
    from fairlead.app.settings import ProjectSettings, ServerSettings
    from fairlead.wsgi import WSGI

logger = logging.getLogger(__name__)


def run(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A project's folder, or MODULE:NAME of an application or handler.")
    ] = ".",
    host: Annotated[
        str | None, Option(metavar="HOST", help="Where to listen; 127.0.0.1 unless the settings say else.")
    ] = None,
    port: Annotated[
        int | None, Option(metavar="PORT", help="Where to listen; 8000 unless the settings say else.")
    ] = None,
    uds: Annotated[str | None, Option(metavar="PATH", help="A Unix socket instead of host and port.")] = None,
    certfile: Annotated[str | None, Option(metavar="FILE", help="Certificate chain in PEM; turns TLS on.")] = None,
    keyfile: Annotated[str | None, Option(metavar="FILE", help="Its private key.")] = None,
    reload: Annotated[bool, Option("--reload", help="Start again when a file changes; for development.")] = False,
    wsgi: Annotated[bool, Option("--wsgi", help="MODULE:NAME is a WSGI application, such as Flask's.")] = False,
    threads: Annotated[
        int | None, Option(metavar="N", min=1, help="With --wsgi: requests answered at once; 40 without it.")
    ] = None,
    sockets: Annotated[
        int | None, Option(metavar="N", min=1, help="With --wsgi: open sockets, each with a thread; 1000 without it.")
    ] = None,
) -> int:
    """Serve TARGET: without one, the project in this folder.

    Settings are in the project's server.yml; every one has a variable too, FAIRLEAD_SERVER__PORT for port in server.
    Flags win over variables, variables over the file.
    """
    place = Target.parse(target)
    flags = {"host": host, "port": port, "uds": uds, "certfile": certfile, "keyfile": keyfile}
    settings = place.settings({f"server.{name}": value for name, value in flags.items()})
    pools = {name: value for name, value in (("threads", threads), ("sockets", sockets)) if value is not None}
    if wsgi and place.is_project:
        raise UsageError("--wsgi is for MODULE:NAME, not for a project's folder")
    if pools and not wsgi:
        raise UsageError("--threads and --sockets are for --wsgi")
    if not reload:
        return _serve(place, settings, pools if wsgi else None)
    if settings.production:
        raise UsageError("--reload is for development, and the setting production is on")
    from fairlead.cli.reloading import supervise

    again = [*_as_flags({**flags, **pools}), *(["--wsgi"] if wsgi else [])]
    return supervise([sys.executable, "-m", "fairlead", "run", target, *again], place.folder)


def _serve(place: Target, settings: ProjectSettings, pools: Mapping[str, int] | None) -> int:
    """Serve it; with ``pools`` it is a WSGI application, and these are its threads and sockets."""
    from fairlead.app.standalone import run as serve
    from fairlead.gateway.tls import server_context
    from fairlead.server.leaving import leave_soon
    from fairlead.server.logs import log_to_stderr

    log_to_stderr(settings.log.level)
    server = settings.server
    if place.is_project and not settings.production and is_reachable(server):
        logger.warning("others can reach %s, and pages of errors show them code: set production", server.host)

    def ready(addresses: Sequence[str]) -> None:
        logger.info("listening: %s", addresses[0])

    options: dict[str, Any] = {}
    if pools is None:
        loaded = place.load()
        if not place.is_project:
            options["allowed_origins"] = server.allowed_origins or None
    else:
        loaded = wsgi_application(place, settings, pools)
    return serve(
        loaded if place.is_project else _behind(loaded, server.trusted_proxies),
        server.host,
        server.port,
        uds=server.uds,
        tls=server_context(server),
        limits=settings.limits if place.is_project else _overlaid(loaded, settings.limits),
        ready=ready,
        left=leave_soon,
        **options,
    )


def wsgi_application(place: Target, settings: ProjectSettings, pools: Mapping[str, int]) -> WSGI:
    """The WSGI application at a place, with sockets.

    Raises:
        UsageError: It cannot be imported or is not there, or it is no application.
    """
    from fairlead.wsgi import WSGI

    app = place.load()
    if not callable(app):
        raise UsageError(f"{place} is no WSGI application, but {type(app).__name__}")
    if is_coroutine_function(app):
        raise UsageError(f"{place} is an ASGI application: leave out --wsgi")
    return WSGI(
        app,
        limits=settings.limits,
        allowed_origins=settings.server.allowed_origins or None,
        broker=settings.broker.url,
        **pools,
    )


def _behind(app: object, proxies: Sequence[str]) -> object:
    """An application that is no project, behind the proxies that the environment names."""
    from starlette.applications import Starlette

    from fairlead.app.proxies import TrustedProxies
    from fairlead.app.standalone import application

    if not proxies:
        return app
    if isinstance(app, Starlette):
        app.add_middleware(TrustedProxies, trusted=proxies)
        return app
    return TrustedProxies(application(app), proxies)


def _overlaid(app: object, given: Limits) -> Limits:
    """The limits of an application that is no project, with those that the environment changes."""
    from fairlead.app.standalone import server_options

    defaults = Limits()
    changed = {name: value for name, value in asdict(given).items() if value != getattr(defaults, name)}
    own: Limits = server_options(app).get("limits", defaults)
    return replace(own, **changed)


def is_reachable(server: ServerSettings) -> bool:
    """Whether others than this machine can reach it, as far as the settings tell."""
    if server.uds:
        return False
    try:
        return not ip_address(server.host).is_loopback
    except ValueError:
        return server.host != "localhost"


def _as_flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]
