"""The apps of a project: what each ``routes.py`` declares, added to one App, with everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route

from fairlead.app.application import App
from fairlead.app.importing import import_from
from fairlead.errors import UsageError
from fairlead.paths import compile_path
from fairlead.routing import Router, WebSocketRoute

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one ``routes.py`` says. Each name may be left out of it.

    Attributes:
        prefix: ``PATH_PREFIX``, without a slash at its end: before each path of the next two.
        routes: ``routes``: Starlette's, and any others.
        sockets: ``sockets``: WebSocketRoutes.
        calls: ``calls``: the name that clients use, and the function.
    """

    prefix: str
    routes: Sequence[BaseRoute]
    sockets: Sequence[BaseRoute]
    calls: Mapping[str, Function]

    @classmethod
    def read(cls, names: Mapping[str, object]) -> Declaration:
        """Take it from a module's names.

        Raises:
            UsageError: One holds something else than it should, or there is none.
        """
        if not names.keys() & {"routes", "sockets", "calls"}:
            raise UsageError("it has none of routes, sockets and calls")
        prefix, calls = names.get("PATH_PREFIX", ""), names.get("calls", {})
        if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")):
            raise UsageError(f'PATH_PREFIX must be a text that begins with "/", not {prefix!r}')
        if not isinstance(calls, Mapping) or not all(isinstance(name, str) for name in calls):
            raise UsageError("calls must be a dict of names and functions")
        routes = _list_of(BaseRoute, "routes", names)
        return cls(prefix.rstrip("/"), routes, _list_of(WebSocketRoute, "sockets", names), calls)


def _list_of(kind: type[BaseRoute], name: str, names: Mapping[str, object]) -> Sequence[BaseRoute]:
    routes = names.get(name, ())
    if not isinstance(routes, list | tuple) or not all(isinstance(each, kind) for each in routes):
        raise UsageError(f"{name} must be a list of {'Route' if kind is BaseRoute else kind.__name__} objects")
    return routes


class Assembly:
    """Adds apps to an App.

    Args:
        root: The project's folder.
        app: Gets static files, routes and calls.

    Attributes:
        faults: What is wrong, each in one line that begins with the file.
    """

    def __init__(self, root: Path, app: App) -> None:
        self.faults: list[str] = []
        self._root = root
        self._app = app
        self._add_static("common", root / "common" / "static")

    def add(self, app: str) -> None:
        """Add the app in ``apps/APP``, as far as there is nothing wrong with it."""
        where = f"apps/{app}/routes.py"
        if not (self._root / where).is_file():
            self.faults.append(f"apps: there is no {where}")
            return
        self._add_static(app, self._root / "apps" / app / "static")
        try:
            declared = Declaration.read(vars(import_from(self._root, f"apps.{app}.routes")))
        except UsageError as exc:
            self.faults.append(f"{where}: {exc}")
            return
        for route in (*declared.routes, *declared.sockets):
            try:
                self._add_route(declared.prefix, route)
            except UsageError as exc:
                self.faults.append(f"{where}: {exc}")
        for name, function in declared.calls.items():
            self._add_call(where, name, function)

    def _add_static(self, name: str, directory: Path) -> None:
        if directory.is_dir():
            self._app.static(f"/static/{name}", directory, name=f"{name}-static")

    def _add_route(self, prefix: str, route: BaseRoute) -> None:
        if isinstance(route, Route):
            compile_path(prefix + route.path)  # Starlette would take half a parameter for text
        if prefix:
            self._app.include(Router([route]), prefix)
        else:
            self._app.router.add(route)

    def _add_call(self, where: str, name: str, function: Function) -> None:
        try:
            self._app.call(name)(function)
        except UsageError as exc:
            self.faults.append(f"{where}: {exc}")
