"""Who may connect, asked before the 101: the Origin rule, then guards, and how a refusal of theirs is answered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Literal

from starlette.exceptions import HTTPException

from fairlead.callables import is_coroutine_function, title
from fairlead.errors import UsageError
from fairlead.handshake import Reject, Request, normal_origin, origin_fault
from fairlead.transports.asgi import Send, refuse

logger = logging.getLogger(__name__)

Guard = Callable[[Request], Awaitable[Reject | None]]
"""Looks at the request before the 101: returns None to let it pass, raises or returns Reject to refuse it."""

Origins = Collection[str] | Literal["*"]
"""Origins allowed besides the same one, such as ``["https://app.example.org"]``; "*" turns the check off."""


async def judge(request: Request, send: Send, guards: Iterable[Guard], origins: frozenset[str] | None) -> bool:
    """Check the Origin and ask the guards; True if all let the request pass.

    A refusal has been sent when this returns False.

    Args:
        origins: Allowed besides the same one, as from ``normal_origins``. None: no rule of its own; the same origin may
            connect, or whoever a rule further out has let pass.
    """
    scope = request.scope
    try:
        if origins is not None or not request.origin_checked:
            _check_origin(request, origins or frozenset())
        for guard in guards:
            refusal = await guard(request)
            if refusal is not None:
                raise refusal
    except Reject as refusal:
        await refuse(scope, send, refusal.status, refusal.body, headers=refusal.headers)
    except HTTPException as exc:
        extra = [(name.lower().encode(), value.encode()) for name, value in (exc.headers or {}).items()]
        await refuse(scope, send, exc.status_code, f"{exc.detail}\n".encode(), headers=extra)
    except Exception:
        logger.exception("a guard of %r failed", request.path)
        await refuse(scope, send, 500, b"internal server error\n")
    else:
        return True
    return False


def _check_origin(request: Request, origins: frozenset[str]) -> None:
    if "*" not in origins and (fault := origin_fault(request, allowed=origins)) is not None:
        logger.warning("%r refused, HTTP 403: %s", request.path, fault)
        raise Reject(403, "origin not allowed\n")
    request.origin_checked = True


def normal_origins(allowed: Origins) -> frozenset[str]:
    """The origins as ``normal_origin`` writes them; "*" stays.

    Raises:
        UsageError: One is not an origin.
    """
    if isinstance(allowed, str) and allowed != "*":
        raise UsageError(f"allowed_origins is a list of origins or '*', not {allowed!r}")
    normal = set()
    for each in allowed:
        origin = "*" if each == "*" else normal_origin(each)
        if origin is None:
            raise UsageError(f"{each!r} is not an origin, such as https://app.example.org")
        normal.add(origin)
    return frozenset(normal)


def checked_guards(guards: Iterable[Guard]) -> tuple[Guard, ...]:
    """The guards as they are.

    Raises:
        UsageError: One would block the event loop.
    """
    guards = tuple(guards)
    for guard in guards:
        if not is_coroutine_function(guard):
            raise UsageError(f"guard {title(guard)} must be an async def: it runs in the event loop")
    return guards
