"""``fairlead new``: a project that runs, and whose own test passes."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final

import typer
from typer import Option

from fairlead.errors import UsageError

KEY_FILE: Final = "session.key"
"""Where the new project keeps its session key; its .gitignore names it, so that no repository ever holds it."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")  # safe as a folder and as text in every file of the skeleton
_MARK: Final = "-tpl"  # ends the names of files in which {{name}} is filled in; so no tool takes them for ours

_TEXT: Final = """\
Created {target}. Now:

    cd {target}
    fairlead run --reload
"""


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the project and its folder.")],
    directory: Annotated[Path, Option(metavar="DIR", help="Where its folder is made.")] = Path("."),
) -> None:
    """Make a project: one app with a page, a socket, calls and a test.

    Everything in it is the project's own, to be changed or deleted.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a project's name: it begins with a letter, and has at most 64 "
            "lower-case letters, digits, - and _"
        )
    target = directory / name
    try:
        target.mkdir()
    except FileExistsError:
        raise UsageError(f"{target} is there already; choose another name, or another place with --directory") from None
    except OSError as exc:
        raise UsageError(f"cannot make {target}: {exc.strerror}") from None
    try:
        write_project(target, name)
    except OSError as exc:
        shutil.rmtree(target, ignore_errors=True)
        raise UsageError(f"cannot write {exc.filename or target}: {exc.strerror}") from None
    typer.echo(_TEXT.format(target=target), nl=False)


def write_project(target: Path, name: str) -> None:
    """Fill an empty folder with the project ``name`` and a session key of its own.

    Raises:
        OSError: Something cannot be written.
    """
    for source, path in _walk(files("fairlead") / "templates" / "project", target):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(_MARK):
            text = source.read_text("utf-8").replace("{{name}}", name)
            path.with_name(path.name.removesuffix(_MARK)).write_text(text, "utf-8")
        else:
            path.write_bytes(source.read_bytes())
    key = target / KEY_FILE
    key.touch(mode=0o600)
    key.write_text(secrets.token_urlsafe(32) + "\n")


def _walk(folder: Traversable, target: Path) -> Iterator[tuple[Traversable, Path]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _walk(each, target / each.name)
        else:
            yield each, target / each.name
