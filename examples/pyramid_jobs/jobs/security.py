"""Who is asking, by a signed cookie, and what he may do, by the resources' access control lists."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from pyramid.authentication import AuthTktCookieHelper
from pyramid.authorization import ACLHelper, Authenticated, Everyone

PASSWORDS = {"ada": "anchor", "bob": "bilge"}
"""For trying this out. A real application keeps hashes."""


def is_user(name: str, password: str) -> bool:
    """Whether it is the user's password."""
    return hmac.compare_digest(PASSWORDS.get(name, "").encode(), password.encode()) and name in PASSWORDS


class Security:
    """Pyramid's security policy, for pages, posts and the handshakes of sockets alike.

    Args:
        secret: Signs the cookie.
    """

    def __init__(self, secret: str) -> None:
        # Lax: the form of another site's page does not bring it along.
        self._cookie = AuthTktCookieHelper(secret, hashalg="sha512", http_only=True, samesite="Lax")
        self._acl = ACLHelper()

    def identity(self, request: Any) -> str | None:
        """The user's name."""
        known = self._cookie.identify(request)
        return known["userid"] if known and known["userid"] in PASSWORDS else None

    authenticated_userid = identity

    def permits(self, request: Any, context: object, permission: str) -> object:
        """What the resource, or one above it, says."""
        user = self.identity(request)
        return self._acl.permits(context, [Everyone, *([Authenticated, user] if user else [])], permission)

    def remember(self, request: Any, userid: str, **options: object) -> Sequence[tuple[str, str]]:
        """The headers that log him in."""
        headers: Sequence[tuple[str, str]] = self._cookie.remember(request, userid, **options)
        return headers

    def forget(self, request: Any, **options: object) -> Sequence[tuple[str, str]]:
        """The headers that log him out."""
        headers: Sequence[tuple[str, str]] = self._cookie.forget(request, **options)
        return headers
