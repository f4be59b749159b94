"""Imports point down the layers, or stay within one package and make no cycle there; the pure layers do no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairlead

ROOT = Path(fairlead.__file__).parent

LAYERS: list[set[str]] = [
    {"errors"},
    {"callables", "limits", "message"},
    {"wire", "handshake", "settings", "wheel", "rooms", "rooms.names"},
    {"transports", "brokers", "dialects"},
    {"rooms.hub"},
    {"transports.*", "brokers.*", "dialects.plain", "loops"},
    {"rooms.node", "rooms.room", "rooms.lifespan"},
    {"connection", "threads"},
    {"websocket"},
    {"paths", "guards", "handling", "link", "server", "static"},
    {"routing"},
    {"dialects.*", "sync", "publisher"},
    {"gateway", "app", "wsgi", "django"},
    {"pyramid"},
    {"testing"},
    {"cli", "django.testing"},
    {"__main__"},
]
PURE = 5
"""The layers below this know no event loop, clock or socket."""

IMPURE = {
    "asyncio",
    "time",
    "socket",
    "select",
    "selectors",
    "threading",
    "ssl",
    "os",
    "aiohttp",
    "uvicorn",
    "starlette",
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
MODULES.pop("__init__")


def layer(module: str) -> int:
    package = module.partition(".")[0]
    for names in (module, f"{package}.*", package):
        for level, members in enumerate(LAYERS):
            if names in members:
                return level
    raise AssertionError(f"{module} has no layer: give it one in tests/test_layers.py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(path: Path) -> set[str]:
    names = {name.removeprefix("fairlead.") for name in imported(path) if name.startswith("fairlead.")}
    return names & MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_or_stay_in_the_package(module: str) -> None:
    package = module.partition(".")[0]
    wrong = {
        other
        for other in own(MODULES[module])
        if layer(other) >= layer(module) and not (other.partition(".")[0] == package and layer(other) == layer(module))
    }
    assert not wrong, f"{module} (layer {layer(module)}) imports {sorted(wrong)}"


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) < PURE])
def test_pure_modules_know_no_loop_clock_or_socket(module: str) -> None:
    found = {name.partition(".")[0] for name in imported(MODULES[module])} & IMPURE
    assert not found, f"{module} imports {sorted(found)}"


def test_there_is_no_import_cycle() -> None:
    graph = {module: own(path) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in graph[module]:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        module
        for module, path in MODULES.items()
        if path.stat().st_size and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent
