"""``fairlead check``: would the gateway start with these settings?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.listening import check_startable
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings
from fairlead.settings import load


def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="Settings in TOML.")]) -> None:
    """Check a settings file, with the environment over it, and say what the gateway would do. Starts nothing."""
    settings = load(GatewaySettings, file, os.environ, {})
    check_startable(settings)
    typer.echo(f"{file}: {summary(settings)}")


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
