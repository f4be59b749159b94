"""What ``run``, ``routes`` and ``check`` are about: a project's folder, or ``module:name``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.app.settings import FILE, ProjectSettings
from fairlead.errors import UsageError
from fairlead.settings import load

if TYPE_CHECKING:
    from fairlead.app.application import App


@dataclass(frozen=True, slots=True)
class Target:
    """Where an application is.

    Attributes:
        folder: The project's, or the current one; its modules can be imported.
        module: The one to import.
        name: What in it is served.
        is_project: Whether the folder has settings.
    """

    folder: Path
    module: str
    name: str
    is_project: bool

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read a TARGET from the command line.

        Raises:
            UsageError: It is neither a folder nor ``module:name``.
        """
        folder = Path(text)
        if folder.is_dir():
            if not (folder / FILE).is_file():
                raise UsageError(f"there is no {FILE} in {folder.resolve()}: give a project's folder, or MODULE:NAME")
            return cls(folder.resolve(), "main", "app", True)
        module, colon, name = text.partition(":")
        if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            meant = _meant(text)
            hint = f": did you mean {meant}:app?" if meant else ", such as main:app"
            raise UsageError(f"{text} is neither a folder nor MODULE:NAME{hint}")
        return cls(Path.cwd(), module, name, False)

    def __str__(self) -> str:
        return str(self.folder) if self.is_project else f"{self.module}:{self.name}"

    def settings(self, overrides: Mapping[str, object] | None = None) -> ProjectSettings:
        """The project's settings; without a project those of the environment.

        Raises:
            SettingsError: One is wrong.
        """
        return load(ProjectSettings, self.folder / FILE if self.is_project else None, os.environ, overrides or {})

    def load(self) -> object:
        """Import what is served; a project without main.py is made here.

        Raises:
            UsageError: It cannot be imported or is not there.
        """
        from fairlead.app.importing import import_from
        from fairlead.app.project import load_project

        if self.is_project and not (self.folder / "main.py").is_file():
            return load_project(self.folder)
        module = import_from(self.folder, self.module)
        if self.name not in vars(module):
            raise UsageError(f"{module.__file__} has no {self.name}")
        return vars(module)[self.name]

    def load_app(self) -> App:
        """Import what is served and see that it is an App.

        Raises:
            UsageError: It is none.
        """
        from fairlead.app.application import App

        app = self.load()
        if not isinstance(app, App):
            raise UsageError(f"{self.name} in {self.module} is no fairlead.App, but {type(app).__name__}")
        return app


def _meant(text: str) -> str:
    """The module that was named like a file, or without what is in it; "": there is no such file below this folder."""
    file = Path(text.removesuffix(".py") + ".py")
    parts = file.with_suffix("").parts
    return ".".join(parts) if file.is_file() and all(part.isidentifier() for part in parts) else ""
