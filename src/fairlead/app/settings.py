"""A project's settings: every key of ``server.yml``, with its unit, its default and its rule.

Sizes are bytes, times are seconds. How the file, the environment and flags come together: ``fairlead.settings``.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from fairlead.handshake import check_origin
from fairlead.limits import Limits
from fairlead.settings import (
    SECRET,
    BrokerSettings,
    File,
    LogSettings,
    Port,
    PublicListenerSettings,
    Section,
    each,
    within,
)

FILE: Final = "server.yml"
"""Where a project has its settings."""

KEY_LENGTH: Final = 32
"""Characters that a session key has at least: random letters and digits of that length are 190 bits, and no word or
placeholder is that long by accident."""

MAKE_A_KEY: Final = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'

_DAY: Final = 86_400
_VISIBLE: Final = re.compile(r"[!-~]*")  # visible ASCII, RFC 5234, B.1
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # what a cookie may be called: RFC 6265, 4.1.1


def _apps(values: tuple[str, ...]) -> None:
    for value in values:
        if not (value.isascii() and value.isidentifier()):
            raise ValueError(f"an app is a folder in apps/ that Python can import, which {value!r} cannot be")
        if value == "common":
            raise ValueError("common is the folder that all apps share, and no app")
        if values.count(value) > 1:
            raise ValueError(f"{value} is there twice")


def check_key(value: str) -> None:
    """A rule: nothing, or a session key that cannot be guessed."""
    if value and (len(value) < KEY_LENGTH or not _VISIBLE.fullmatch(value)):
        raise ValueError(f"must be {KEY_LENGTH} or more characters of visible ASCII; make one with: {MAKE_A_KEY}")


def _cookie(value: str) -> None:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"not a cookie's name: {value!r}")


class ServerSettings(PublicListenerSettings, frozen=True, kw_only=True):
    """``server``: where it listens, and whom it believes.

    Attributes:
        allowed_origins: Origins of web pages that may open a socket, besides the server's own.
    """

    port: Port = 8000
    allowed_origins: Annotated[tuple[str, ...], each(check_origin)] = ()


class SessionSettings(Section, frozen=True):
    """``session``: what a visitor's cookie remembers. It is signed, not encrypted: he can read it, not change it.

    Attributes:
        key: Signs the cookie. Whoever has it can be anybody, so it belongs into the environment
            (``FAIRLEAD_SESSION__KEY``) or into ``key_file``.
        key_file: A file that holds the key, relative to the project; not read where ``key`` is set. Without a key
            sessions end with the process, and production does not start.
        cookie: The cookie's name.
        max_age: How long a session lasts after its last change; two weeks by default.
    """

    key: Annotated[str, check_key, SECRET] = ""
    key_file: File = ""
    cookie: Annotated[str, _cookie] = "session"
    max_age: Annotated[int, within(60, 400 * _DAY)] = 14 * _DAY  # browsers keep no cookie for more than 400 days


class ProjectSettings(Section, frozen=True):
    """All of it.

    Attributes:
        apps: Folders in ``apps/``; of two routes that match a request, that of the earlier app answers it.
        production: No pages with tracebacks, the session cookie over HTTPS only, and no start without a session key.
        server: Where it listens.
        session: The visitor's cookie.
        broker: What carries publications between processes.
        limits: Those of ``fairlead.limits``.
        log: How much is said on stderr.

    Raises:
        SettingsError: A key is wrong by itself or beside another one; the text names it.
    """

    apps: Annotated[tuple[str, ...], _apps] = ()
    production: bool = False
    server: ServerSettings = ServerSettings()
    session: SessionSettings = SessionSettings()
    broker: BrokerSettings = BrokerSettings()
    limits: Limits = Limits()
    log: LogSettings = LogSettings()
