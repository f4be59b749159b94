"""``fairlead check``: would the gateway start with these settings, or the project in this folder?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from fairlead.app.settings import FILE
from fairlead.cli.listening import check_startable
from fairlead.cli.routes import rows
from fairlead.cli.run import wsgi_application
from fairlead.cli.target import Target
from fairlead.errors import UsageError
from fairlead.gateway.settings import GatewaySettings
from fairlead.gateway.tls import server_context
from fairlead.settings import ListenerSettings, load


def check(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="The gateway's settings in TOML, a project's folder, or MODULE:NAME."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="As for the gateway.")] = None,
    wsgi: Annotated[bool, typer.Option("--wsgi", help="MODULE:NAME is a WSGI application, as for run.")] = False,
) -> int:
    """Say whether and how the gateway or a project would start.

    Of the gateway it checks the settings of the file and of the environment over it, and the files, hosts and
    certificates that they name. Of a project it also imports the apps, and sees that no two routes or calls are the
    same. Without TARGET it is the project in this folder, or else the gateway with the environment alone. Starts
    nothing, and asks the API nothing.
    """
    if target is not None and config is not None:
        raise UsageError("two files: give one, with -c or without it")
    place = _project(target) if config is None else None
    if wsgi:
        if place is None or place.is_project:
            raise UsageError("--wsgi is for MODULE:NAME")
        return _check_wsgi(place)
    if place is not None:
        return _check_project(place)
    path = config if target is None else Path(target)
    settings = load(GatewaySettings, path, os.environ, {})
    check_startable(settings)
    typer.echo(f"{path or 'environment'}: {_summary(settings)}")
    return 0


def _project(target: str | None) -> Target | None:
    """What to check if it is not the gateway."""
    if target is None:
        return Target.parse(".") if Path(FILE).is_file() else None
    path = Path(target)
    if path.name == FILE and path.is_file():
        return Target.parse(str(path.parent))
    return Target.parse(target) if path.is_dir() or (":" in target and not path.exists()) else None


def _check_project(place: Target) -> int:
    """Import it; every fault is a line on stderr."""
    from fairlead.app.application import App
    from fairlead.app.project import ProjectFaults

    try:
        server = place.settings().server
        server_context(server)
        app = place.load()
    except ProjectFaults as exc:
        for fault in exc.faults:
            print(f"fairlead: {fault}", file=sys.stderr)
        return 1
    counts = Counter(row.kind for row in rows(app)) if isinstance(app, App) else {}
    served = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "an application"
    scheme = "https" if server.certfile else "http"
    typer.echo(f"{place}: {served} on {_address(scheme, server)}")
    return 0


def _check_wsgi(place: Target) -> int:
    settings = place.settings()
    server_context(settings.server)
    wsgi_application(place, settings, {})
    scheme = "https" if settings.server.certfile else "http"
    typer.echo(f"{place}: a WSGI application on {_address(scheme, settings.server)}")
    return 0


def _summary(settings: GatewaySettings) -> str:
    """What a gateway with these settings does, in one line and without secrets."""
    server = settings.server
    scheme = "wss" if server.certfile else "ws"
    return (
        f"clients on {_address(scheme, server)}{server.path}, asking {settings.upstream.url}, "
        f"triggers on {_address('http', settings.api)}/trigger/"
    )


def _address(scheme: str, listener: ListenerSettings) -> str:
    if listener.uds:
        return f"{scheme}+unix://{listener.uds}:"
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{scheme}://{host}:{listener.port}"
