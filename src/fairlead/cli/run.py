"""``fairlead run``: serve a project, or any application, until it is told to stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fairlead.cli.target import Target
from fairlead.errors import UsageError
from fairlead.limits import Limits

if TYPE_CHECKING:
    import ssl

    from fairlead.app.settings import ProjectSettings, ServerSettings

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
) -> int:
    """Serve TARGET: without one, the project in this folder.

    Settings are in the project's server.yml; every one has a variable too, FAIRLEAD_SERVER__PORT for port in server.
    Flags win over variables, variables over the file.
    """
    place = Target.parse(target)
    flags = {"host": host, "port": port, "uds": uds, "certfile": certfile, "keyfile": keyfile}
    settings = place.settings({f"server.{name}": value for name, value in flags.items()})
    if not reload:
        return _serve(place, settings)
    if settings.production:
        raise UsageError("--reload is for development, and the setting production is on")
    from fairlead.cli.reloading import supervise

    return supervise([sys.executable, "-m", "fairlead", "run", target, *_as_flags(flags)], place.folder)


def _serve(place: Target, settings: ProjectSettings) -> int:
    logging.basicConfig(
        stream=sys.stderr, level=settings.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    from fairlead.app.standalone import run as serve

    server = settings.server
    if place.is_project and not settings.production and is_reachable(server):
        logger.warning("others can reach %s, and pages of errors show them code: set production", server.host)

    def ready(addresses: Sequence[str]) -> None:
        logger.info("listening: %s", addresses[0])

    return serve(
        place.load(),
        server.host,
        server.port,
        uds=server.uds,
        tls=server_tls(server),
        # An application that is no project has its own, unless the environment has some.
        limits=None if settings.limits == Limits() else settings.limits,
        allowed_origins=None if place.is_project else server.allowed_origins or None,
        ready=ready,
    )


def is_reachable(server: ServerSettings) -> bool:
    """Whether others than this machine can reach it, as far as the settings tell."""
    if server.uds:
        return False
    try:
        return not ip_address(server.host).is_loopback
    except ValueError:
        return server.host != "localhost"


def server_tls(server: ServerSettings) -> ssl.SSLContext | None:
    """What the server shows to its clients; None: it speaks plain HTTP.

    Raises:
        SettingsError: The certificate or its key cannot be used.
    """
    if not server.certfile:
        return None
    from fairlead.gateway import settings, tls

    return tls.server_context(settings.ServerSettings(certfile=server.certfile, keyfile=server.keyfile))


def _as_flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]
