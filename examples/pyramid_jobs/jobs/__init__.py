"""A job board: every job has a page, everybody who looks at it sees at once what becomes of it."""

from __future__ import annotations

import secrets
from typing import Any

from pyramid.config import Configurator

from jobs.resources import make_root
from jobs.security import Security


def main(global_config: dict[str, str], **settings: str) -> Any:
    """The WSGI application; ``paste.app_factory`` in the ini file."""
    root = make_root()
    with Configurator(settings=settings, root_factory=lambda request: root) as config:
        config.include("fairlead.pyramid")
        config.set_security_policy(Security(settings.get("jobs.secret") or secrets.token_urlsafe()))
        config.scan("jobs.views")
        return config.make_wsgi_app()
