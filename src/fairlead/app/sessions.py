"""The session of a project's visitors: a signed cookie, and the key that signs it."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware

from fairlead.app.settings import MAKE_A_KEY, ProjectSettings, check_key
from fairlead.errors import SettingsError
from fairlead.settings import variable

logger = logging.getLogger(__name__)


def session_middleware(root: Path, settings: ProjectSettings) -> Middleware:
    """What makes ``request.session``, of plain requests and of sockets.

    No script can read the cookie, and requests that come from other sites' pages do not carry it, links apart
    (SameSite=Lax). In production it travels over HTTPS only.

    Args:
        root: The project's folder, where a relative ``key_file`` is looked for.
        settings: The project's.

    Raises:
        SettingsError: The key cannot be used, or production has none.
    """
    session = settings.session
    return Middleware(
        SessionMiddleware,
        secret_key=_key(root, settings),
        session_cookie=session.cookie,
        max_age=session.max_age,
        same_site="lax",
        https_only=settings.production,
    )


def _key(root: Path, settings: ProjectSettings) -> str:
    session = settings.session
    key = session.key or (_read_key(root / session.key_file) if session.key_file else "")
    if key:
        return key
    if settings.production:
        raise SettingsError(
            f"session.key: production needs one: set {variable('session.key')}, or put one into the file that "
            f"session.key_file names; make one with: {MAKE_A_KEY}"
        )
    logger.warning("there is no session key, so sessions end with this process: set session.key or session.key_file")
    return secrets.token_urlsafe(32)


def _read_key(path: Path) -> str:
    """The key in a file; "" if there is none."""
    try:
        key = path.read_text("ascii").strip()
        check_key(key)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise SettingsError(f"session.key_file: cannot read {path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"session.key_file: {path} holds more than ASCII") from None
    except ValueError as exc:
        raise SettingsError(f"session.key_file: the key in {path} {exc}") from None
    return key
