"""``pserve``: Fairlead's server for the ini files of PasteDeploy, with ``use = egg:fairlead`` in ``[server:main]``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, TypeVar

import msgspec
from starlette.types import ASGIApp

from fairlead.app.proxies import TrustedProxies
from fairlead.errors import SettingsError
from fairlead.limits import Limits
from fairlead.server import run
from fairlead.server.logs import quiet_uvicorn
from fairlead.settings import SECRET, Port, PublicListenerSettings, split_list, within
from fairlead.threads import THREADS
from fairlead.wsgi import WSGI
from fairlead.wsgi.answer import WSGIApp
from fairlead.wsgi.application import POOL

T = TypeVar("T")

_LISTS = ("allowed_origins", "trusted_proxies")
_LIMITS = "limits."


class ServerSettings(PublicListenerSettings, frozen=True, kw_only=True):
    """The keys of ``[server:main]``.

    Attributes:
        allowed_origins: Origins that may open a socket besides the same one; a Pyramid application that includes
            ``fairlead.pyramid`` says so by itself, unless a filter hides it.
        broker: Carries publications between processes.
        threads: Plain requests at once; others wait.
        sockets: Connections with a thread at once; past it 503.
    """

    port: Port = 6543
    allowed_origins: tuple[str, ...] = ()
    broker: Annotated[str, SECRET] = "memory://"
    threads: Annotated[int, within(1, 10_000)] = POOL
    sockets: Annotated[int, within(1, 100_000)] = THREADS


def server_factory(
    global_conf: Mapping[str, str], host: str = "127.0.0.1", port: str | int = 6543, **settings: str
) -> Callable[[WSGIApp], None]:
    """PasteDeploy's ``paste.server_factory``.

    Args:
        global_conf: The ini file's ``[DEFAULT]``; not used.
        host: Where to listen.
        port: Where to listen.
        settings: The other keys of ServerSettings, and behind ``limits.`` those of Limits.

    Returns:
        Serves a WSGI application until a signal ends it.

    Raises:
        SettingsError: A key is unknown, or its value is wrong.
    """
    given: dict[str, object] = {"host": host, "port": port, **settings}
    bounds = {name.removeprefix(_LIMITS): given.pop(name) for name in list(given) if name.startswith(_LIMITS)}
    for name in _LISTS:
        if name in given:
            given[name] = split_list(",".join(str(given[name]).split()))
    server, limits = _read(ServerSettings, given), _read(Limits, bounds, _LIMITS)
    return lambda app: _serve(app, server, limits)


def _read(type_: type[T], given: Mapping[str, object], prefix: str = "") -> T:
    """Settings out of an ini file, where every value is text."""
    known = [prefix + name for name in inspect.signature(type_).parameters]
    for name in given:
        if prefix + name not in known:
            (nearest,) = get_close_matches(prefix + name, known, n=1, cutoff=0.0)
            raise SettingsError(f"[server]: unknown key {prefix}{name}; the nearest known one is {nearest}")
    try:
        return msgspec.convert(given, type_, strict=False)
    except msgspec.ValidationError as exc:
        problem, _, key = str(exc).partition(" - at ")
        raise SettingsError(f"[server]: {prefix}{key.strip('`$.')}: {problem.replace('`', '').lower()}") from None
    except SettingsError as exc:
        raise SettingsError(f"[server]: {prefix}{exc}") from None


def _say(addresses: Sequence[str]) -> None:
    """Whatever is logged: most ini files have no log of this level."""
    print(f"listening: {addresses[0]}", file=sys.stderr, flush=True)


def _serve(app: WSGIApp, server: ServerSettings, limits: Limits) -> None:
    application = WSGI(
        app,
        threads=server.threads,
        sockets=server.sockets,
        limits=limits,
        allowed_origins=server.allowed_origins or None,
        broker=server.broker,
    )
    quiet_uvicorn()
    served: ASGIApp = application
    if server.trusted_proxies:
        served = TrustedProxies(application, server.trusted_proxies)
    run(
        served,
        host=server.host,
        port=server.port,
        uds=server.uds,
        certfile=server.certfile,
        keyfile=server.keyfile,
        limits=limits,
        flush=application.rooms.flush,
        ready=_say,
    )
