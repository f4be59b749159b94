"""``fairlead demo``: an API without WebSockets, the gateway beside it, and a page to try both."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fairlead.cli.listening import cannot_listen, listening
from fairlead.errors import UsageError
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
    port: Annotated[int, Option(min=1, max=65535, help="Of the page and its API.")] = 8000,
    gateway_port: Annotated[int, Option(min=1, max=65535, help="Where clients connect.")] = 8100,
    api_port: Annotated[int, Option(min=1, max=65535, help="Where the API triggers.")] = 8101,
) -> int:
    """Try it: a small API, the gateway and a page, on this machine only. Needs nothing else."""
    from fairlead.cli.demo_api import DemoApi
    from fairlead.publisher import Publisher

    key = secrets.token_urlsafe(24)
    settings = _settings(port, gateway_port, api_port, key)
    publisher = Publisher(f"http://127.0.0.1:{api_port}", key=key)
    try:
        api = DemoApi(port, gateway_port=gateway_port, publisher=publisher)
    except OSError as exc:
        raise UsageError(cannot_listen(exc, f"127.0.0.1:{port}")) from exc
    with api, _serving(api):
        from fairlead.gateway.app import run

        typer.echo(_TEXT.format(port=port, gateway_port=gateway_port, api_port=api_port, key=key))
        return listening(run, settings)


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
