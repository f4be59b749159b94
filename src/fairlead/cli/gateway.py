"""``fairlead gateway``: run the gateway until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from typer import Option

from fairlead.cli.listening import check_startable
from fairlead.gateway.settings import GatewaySettings
from fairlead.settings import load


def gateway(
    config: Annotated[Path | None, Option("--config", "-c", metavar="FILE", help="Settings in TOML.")] = None,
    upstream: Annotated[str | None, Option(metavar="URL", help="The API's address that knows the users.")] = None,
    host: Annotated[str | None, Option(metavar="HOST", help="Where clients connect; 127.0.0.1 without it.")] = None,
    port: Annotated[int | None, Option(metavar="PORT", help="Where clients connect; 8100 without it.")] = None,
    api_port: Annotated[int | None, Option(metavar="PORT", help="Where the API triggers; 8101 without it.")] = None,
    api_key: Annotated[
        list[str] | None,
        Option(
            metavar="KEY",
            help="A key for triggers. Repeatable. The process list shows it to every user of this machine; better set "
            "FAIRLEAD_API__KEYS.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, Option(metavar="ORIGIN", help="An origin whose pages may connect. Repeatable.")
    ] = None,
) -> int:
    """Stand beside an HTTP API and give its clients WebSockets.

    Every setting has a variable too, FAIRLEAD_SERVER__PORT for port in [server]. Flags win over variables, variables
    over the file.
    """
    overrides: dict[str, object] = {
        "upstream.url": upstream,
        "server.host": host,
        "server.port": port,
        "server.allowed_origins": allow_origin or None,
        "api.port": api_port,
        "api.keys": api_key or None,
    }
    settings = load(GatewaySettings, config, os.environ, overrides)
    check_startable(settings)
    from fairlead.gateway.app import run

    return run(settings)
