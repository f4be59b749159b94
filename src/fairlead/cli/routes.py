"""``fairlead routes``: everything that an application answers to, in one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from fairlead.callables import title
from fairlead.cli.target import Target

if TYPE_CHECKING:
    from starlette.routing import BaseRoute, Mount

    from fairlead.app.application import App
    from fairlead.guards import Guard
    from fairlead.routing import WebSocketRoute


class Row(NamedTuple):
    """One line of the table."""

    kind: str
    name: str
    methods: str = ""
    endpoint: str = ""
    guards: str = ""


_HEADINGS = Row("KIND", "PATH OR NAME", "METHODS", "ENDPOINT", "GUARDS")


def routes(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A project's folder, or MODULE:NAME of an App.")
    ] = ".",
) -> None:
    """List what TARGET answers to: plain HTTP, sockets, calls.

    In the order in which they are looked at: the first one that matches answers.
    """
    typer.echo("\n".join(table(rows(Target.parse(target).load_app()))))


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a table with headings, in columns as wide as they need to be."""
    lines = [_HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def rows(app: App) -> Iterator[Row]:
    """Everything that an App answers to: its routes in their order, then its calls by name."""
    yield from _routes(app.router.routes, "", app.router.guards)
    for name, function in app.calls.functions().items():
        yield Row("call", name, "", title(function))


def _routes(routes: Sequence[BaseRoute], prefix: str, guards: Sequence[Guard]) -> Iterator[Row]:
    from starlette.routing import Host, Mount, Route

    from fairlead.routing import WebSocketRoute

    for route in routes:
        match route:
            case WebSocketRoute():
                yield _socket(route, prefix, guards)
            case Route():
                methods = " ".join(sorted(route.methods)) if route.methods else "any"
                yield Row("http", prefix + route.path, methods, title(route.endpoint))
            case Mount():
                yield from _mount(route, prefix, guards)
            case Host():
                yield Row("host", route.host, "", title(route.app))
            case _:
                yield Row(type(route).__name__.lower(), prefix + str(getattr(route, "path", "")))


def _socket(route: WebSocketRoute, prefix: str, guards: Sequence[Guard]) -> Row:
    from fairlead.routing import Endpoint

    endpoint = route.endpoint
    names = [title(guard) for guard in (*guards, *route.guards)]
    if isinstance(endpoint, type) and issubclass(endpoint, Endpoint) and endpoint.authorize is not Endpoint.authorize:
        names.append(title(endpoint.authorize))
    return Row("socket", prefix + route.path, "", title(endpoint), ", ".join(names))


def _mount(mount: Mount, prefix: str, guards: Sequence[Guard]) -> Iterator[Row]:
    from starlette.staticfiles import StaticFiles

    path = prefix + mount.path
    if isinstance(mount.app, StaticFiles):
        yield Row("static", f"{path}/", "GET HEAD", _relative(mount.app.directory))
    elif mount.routes:
        router = getattr(mount.app, "router", mount.app)  # an application's, or the router itself
        yield from _routes(mount.routes, path, (*guards, *getattr(router, "guards", ())))
    else:
        yield Row("mount", f"{path}/", "", title(mount.app))


def _relative(directory: object) -> str:
    path = Path(str(directory))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
