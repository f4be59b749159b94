"""Which web pages may open sockets: the site's own, ``CSRF_TRUSTED_ORIGINS`` and the setting ``allowed_origins``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from django.conf import settings
from django.core.signals import setting_changed

from fairlead.django.settings import current, domain
from fairlead.handshake import Request, normal_origin, origin_fault


class Origins:
    """Origins as they stand in settings: exact, ``https://*.example.org`` for a domain with all below it, "*" for any.

    What is none of these allows nothing.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        written = list(allowed)
        self._any = "*" in written
        self._exact = {normal_origin(each) for each in written} - {None}
        self._domains = [each.partition("://") for each in map(domain, written) if each is not None]

    def fault(self, request: Request, host: str) -> str | None:
        """Why this request's Origin may not connect, in words for the log; None if it may.

        Args:
            request: The upgrade request.
            host: The site's own, as Django sees it: behind a proxy not always the request's Host.
        """
        if self._any:
            return None
        own = {normal_origin(f"{scheme}://{host}") for scheme in ("http", "https")}
        fault = origin_fault(request, allowed=self._exact | own)
        return None if fault is not None and self._is_below(request.values(b"origin")) else fault

    def _is_below(self, origins: list[bytes]) -> bool:
        normal = normal_origin(origins[0].decode("latin-1")) if len(origins) == 1 else None
        if normal is None:
            return False
        scheme, _, place = normal.partition("://")
        return any(scheme == s and f".{place}".endswith(f".{below}") for s, _, below in self._domains)


@cache
def allowed_origins() -> Origins:
    """The running project's."""
    return Origins((*settings.CSRF_TRUSTED_ORIGINS, *current().allowed_origins))


def _changed(*, setting: str, **kwargs: object) -> None:
    if setting in ("FAIRLEAD", "CSRF_TRUSTED_ORIGINS"):
        allowed_origins.cache_clear()


setting_changed.connect(_changed)
