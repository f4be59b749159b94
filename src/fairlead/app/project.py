"""A project: a folder with settings, apps and static files, made into an App.

    server.yml                settings: fairlead.app.settings
    main.py                   app = load_project(Path(__file__).parent, middleware=[…])
    apps/NAME/routes.py       PATH_PREFIX, routes, sockets, calls
    apps/NAME/static/…        served at /static/NAME/…
    common/static/…           served at /static/common/…

``routes.py`` says what there is, and leaves out what it has none of::

    PATH_PREFIX = "/hello"
    routes = [Route("/", views.home)]
    sockets = [WebSocketRoute("/echo", views.echo)]
    calls = {"add": views.add}
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request

from fairlead.app.application import App, AppLifespan
from fairlead.app.apps import Assembly
from fairlead.app.proxies import TrustedProxies
from fairlead.app.sessions import session_middleware
from fairlead.app.settings import FILE, ProjectSettings
from fairlead.errors import SettingsError, UsageError
from fairlead.settings import load


class ProjectFaults(UsageError):
    """A project cannot be served as it is. ``faults``: why, each in one line."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def load_project(
    directory: str | os.PathLike[str],
    *,
    middleware: Sequence[Middleware] = (),
    exception_handlers: Mapping[Any, Callable[[Request, Exception], Any]] | None = None,
    lifespan: AppLifespan | None = None,
) -> App:
    """Make the App of a project. Its settings are ``app.state.settings``.

    The folder comes first on ``sys.path``, so that its modules find each other. A process holds one project: the
    modules of another one would have the same names.

    Args:
        directory: Where ``server.yml`` is.
        middleware: Starlette's, for each request and each socket, outermost first. The session is there already.
        exception_handlers: As for App.
        lifespan: As for App.

    Raises:
        ProjectFaults: An app is missing or cannot be imported, or two things have one name or one path. All that is
            wrong is told at once.
        SettingsError: A setting is wrong, or production has no session key.
    """
    root = Path(directory).resolve()
    settings = load(ProjectSettings, root / FILE, os.environ, {})
    own = list(_middleware(root, settings))
    try:
        app = App(
            middleware=[*own, *middleware],
            exception_handlers=exception_handlers,
            lifespan=lifespan,
            debug=not settings.production,
            allowed_origins=settings.server.allowed_origins,
            broker=settings.broker.url,
            limits=settings.limits,
        )
    except SettingsError as exc:
        raise SettingsError(f"broker.url: {exc}") from None
    app.state.settings = settings
    assembly = Assembly(root, app)
    for name in settings.apps:
        assembly.add(name)
    if assembly.faults:
        raise ProjectFaults(assembly.faults)
    return app


def _middleware(root: Path, settings: ProjectSettings) -> Iterator[Middleware]:
    if settings.server.trusted_proxies:
        yield Middleware(TrustedProxies, trusted=settings.server.trusted_proxies)
    yield session_middleware(root, settings)
