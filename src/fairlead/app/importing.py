"""Importing a project's own modules, and saying in one line why one cannot be imported."""

from __future__ import annotations

import logging
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

from fairlead.errors import UsageError

logger = logging.getLogger(__name__)


def import_from(root: Path, name: str) -> ModuleType:
    """Import a module as the project in ``root`` sees it: that folder comes first on ``sys.path`` from then on.

    Args:
        root: The project's folder, absolute and without links.
        name: The module's full name.

    Raises:
        UsageError: It cannot be imported, or another module has its name. The text says why and where in the project,
            in one line; the traceback is logged with level "debug".
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = import_module(name)
    except UsageError:
        raise
    except (Exception, SystemExit) as exc:  # whatever the project's own code raises
        logger.debug("cannot import %s", name, exc_info=exc)
        raise UsageError(f"cannot import {name}: {_told(exc, root)}") from exc
    own = root.joinpath(*name.split(".")).with_suffix(".py")
    if own.is_file() and not own.samefile(module.__file__ or root):
        raise UsageError(f"{name} is {module.__file__} and not {own}: something else has its name")
    return module


def _told(exc: BaseException, root: Path) -> str:
    """What was raised, and the last place in the project that it came through."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(exc.__traceback__)]
    text = str(exc)
    if isinstance(exc, SyntaxError):
        places.append((exc.filename or "", exc.lineno))
        text = exc.msg
    told = " ".join(f"{type(exc).__name__}: {text}".split())
    own = [(file, line) for file, line in places if Path(file).is_relative_to(root) and "site-packages" not in file]
    return f"{told} ({Path(own[-1][0]).relative_to(root)}, line {own[-1][1]})" if own else told
