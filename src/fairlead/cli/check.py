"""``fairlead check``: would the gateway start with these settings?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.listening import check_startable
from fairlead.errors import UsageError
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings
from fairlead.settings import load


def check(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Settings in TOML.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="As for the gateway.")] = None,
) -> None:
    """Say whether and how the gateway would start.

    Checks the settings of the file and of the environment over it, and the files, hosts and certificates that they
    name. Starts nothing, and asks the API nothing.
    """
    if file is not None and config is not None:
        raise UsageError("two files: give one, with -c or without it")
    path = file or config
    settings = load(GatewaySettings, path, os.environ, {})
    check_startable(settings)
    typer.echo(f"{path or 'environment'}: {summary(settings)}")


def summary(settings: GatewaySettings) -> str:
    """What a gateway with these settings does, in one line and without secrets."""
    server = settings.server
    scheme = "wss" if server.certfile else "ws"
    return (
        f"clients on {_address(scheme, server)}{server.path}, asking {settings.upstream.url}, "
        f"triggers on {_address('http', settings.api)}/trigger/"
    )


def _address(scheme: str, listener: ServerSettings | ApiSettings) -> str:
    if listener.uds:
        return f"{scheme}+unix://{listener.uds}:"
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{scheme}://{host}:{listener.port}"
