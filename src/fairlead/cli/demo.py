"""``fairlead demo``: an API without WebSockets, the gateway beside it, and a page to try both."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fairlead.errors import CannotListen
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings, UpstreamSettings
from fairlead.limits import KIB, Limits

if TYPE_CHECKING:
    from fairlead.cli.demo_api import DemoApi

_TEXT = """\
Open       http://127.0.0.1:{port}/
           http://localhost:{port}/   in a second window: another address, so another person

The page comes from an API that speaks plain HTTP only. The gateway beside it, on port {gateway_port}, holds the
WebSockets and asks the API who may join what. You can trigger too:

    FAIRLEAD_API__KEYS={key} \\
    fairlead publish --url http://127.0.0.1:{api_port} harbour '{{"from": "you", "text": "Ahoy"}}'

Ctrl-C ends it.
"""


def demo(
    port: Annotated[int, Option(min=1, max=65535, metavar="PORT", help="Of the page and its API.")] = 8000,
    gateway_port: Annotated[int, Option(min=1, max=65535, metavar="PORT", help="Where clients connect.")] = 8100,
    api_port: Annotated[int, Option(min=1, max=65535, metavar="PORT", help="Where the API triggers.")] = 8101,
) -> int:
    """Try it: an API, the gateway and a page, all at once.

    On this machine only, and without needing anything else.
    """
    from fairlead.cli.demo_api import DemoApi
    from fairlead.publisher import Publisher

    _check_ports({"--port": port, "--gateway-port": gateway_port, "--api-port": api_port})
    key = secrets.token_urlsafe(24)
    settings = _settings(port, gateway_port, api_port, key)
    publisher = Publisher(f"http://127.0.0.1:{api_port}", key=key)
    with DemoApi(port, gateway_port=gateway_port, publisher=publisher) as api, _serving(api):
        from fairlead.gateway.app import run

        typer.echo(_TEXT.format(port=port, gateway_port=gateway_port, api_port=api_port, key=key))
        return run(settings)


def _check_ports(ports: Mapping[str, int]) -> None:
    """Take all ports at once and let them go, before anything is started."""
    with ExitStack() as taken:
        for flag, port in ports.items():
            try:
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError as exc:
                cause = os.strerror(exc.errno or 0).lower()
                raise CannotListen(f"cannot listen on 127.0.0.1:{port}: {cause}; choose another with {flag}") from exc


@contextmanager
def _serving(api: DemoApi) -> Iterator[None]:
    thread = Thread(target=api.serve_forever, name="demo-api", daemon=True)
    thread.start()
    try:
        yield
    finally:
        api.shutdown()
        thread.join()


def _settings(port: int, gateway_port: int, api_port: int, key: str) -> GatewaySettings:
    origins = (f"http://127.0.0.1:{port}", f"http://localhost:{port}")
    return GatewaySettings(
        server=ServerSettings(port=gateway_port, allowed_origins=origins),
        upstream=UpstreamSettings(url=f"http://127.0.0.1:{port}/bootstrap/"),
        api=ApiSettings(port=api_port, keys=(key,)),
        limits=Limits(message_size=64 * KIB, drain_window=0.0, drain_grace=1.0),  # nobody waits for a demo to end
    )
