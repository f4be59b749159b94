"""What the API's answer to an ask means: an Answer, or Refused with one of three verdicts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_tz
from enum import Enum
from typing import Annotated, Any, Final

import msgspec

from fairlead.errors import InvalidRoom, NetworkError
from fairlead.rooms.names import Grants, RoomKey, room_key

BODY_KEPT: Final = 4096
"""Bytes of a refusal's own body that may be handed on to the client; a longer one is dropped whole."""

MIN_EXPIRES_IN: Final = 5.0
"""Seconds; a shorter ``expires_in`` counts as this, or one careless API would be asked without end."""

# HTML is left out: it is made for people, and is the form in which debug pages and other people's scripts travel.
_KEPT_TYPES: Final = frozenset({"application/json", "application/problem+json", "text/plain"})


class Verdict(Enum):
    """Why a client is not in. The first two are final; after the third it may come back."""

    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"


class Refused(NetworkError):
    """The API refused a client, or gave no usable answer. The text is the cause, on one line, for the log only.

    Args:
        verdict: What the client is told.
        cause: For the log.
        status: The API's HTTP status; None if there was no answer.
        body: The API's own short words to the client, of a 4xx only; b"" if there are none.
        content_type: Of ``body``.
        retry_after: The API's Retry-After, valid in form (RFC 9110, 10.2.3); None without one.
    """

    def __init__(
        self,
        verdict: Verdict,
        cause: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        content_type: str = "",
        retry_after: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.verdict = verdict
        self.status = status
        self.body = body
        self.content_type = content_type
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """The client is in.

    Attributes:
        user: ``user.id`` or, without one, ``user_id``; None: nobody in particular.
        grants: What the client may join.
        allowed_rooms: The same, exactly as the API wrote it: a JSON list.
        allowed_prefixes: Likewise, a JSON list of strings.
        rooms: Joined at once, in the API's order, each one once.
        expires_in: Seconds, 5 or more; None: for good.
        data: The API's words to the client, exactly as it wrote them: JSON; None without any.
    """

    user: str | int | None
    grants: Grants
    allowed_rooms: bytes
    allowed_prefixes: bytes
    rooms: tuple[RoomKey, ...]
    expires_in: float | None
    data: bytes | None

    @property
    def user_name(self) -> str | None:
        """``user`` as text: this is how users are compared."""
        return None if self.user is None else str(self.user)


_UserId = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None


class _User(msgspec.Struct):
    id: _UserId = None


class _Body(msgspec.Struct):
    allowed_rooms: msgspec.Raw = msgspec.Raw(b"[]")
    allowed_prefixes: msgspec.Raw = msgspec.Raw(b"[]")
    user: _User | None = None
    user_id: _UserId = None
    rooms: list[Any] = []
    expires_in: Annotated[float, msgspec.Meta(gt=0)] | None = None
    data: msgspec.Raw = msgspec.Raw()


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_rooms = msgspec.json.Decoder(list[Any]).decode
_decode_prefixes = msgspec.json.Decoder(list[str]).decode


def judge(status: int, headers: Mapping[str, str], body: bytes, *, room_size: int) -> Answer:
    """Read a whole answer.

    200 with a good object: in. 401: unauthorized. 429: unavailable. Any other 4xx: forbidden. Everything else, and a
    200 that is not UTF-8, not JSON or of a wrong shape: unavailable.

    Lists default to ``[]``; a list that is null is a wrong shape, because an API that means "none" and one that failed
    to look could not be told apart. ``user``, ``user.id``, ``user_id`` and ``expires_in`` may be null.

    Args:
        status: The HTTP status.
        headers: The response's, found in any case.
        body: All of it.
        room_size: ``Limits.room_size``.

    Raises:
        Refused: The client is not in.
    """
    if status != 200:
        raise _refusal(status, headers, body)
    try:
        return _read(body, room_size)
    except UnicodeDecodeError:
        fault = "is not UTF-8"
    except RecursionError:
        fault = "is nested too deep"
    except (msgspec.DecodeError, InvalidRoom) as exc:
        fault = f"is not as agreed: {exc}"
    raise Refused(Verdict.UNAVAILABLE, f"the answer {fault}", status=status)


def _read(body: bytes, room_size: int) -> Answer:
    if not body.isascii():
        body.decode()  # what is kept raw is checked for syntax only, not for UTF-8
    parsed = _decode_body(body)
    allowed_rooms, allowed_prefixes = bytes(parsed.allowed_rooms), bytes(parsed.allowed_prefixes)
    user = parsed.user.id if parsed.user is not None else None
    return Answer(
        user=user if user is not None else parsed.user_id,
        grants=Grants(_decode_rooms(allowed_rooms), _decode_prefixes(allowed_prefixes), size=room_size),
        allowed_rooms=allowed_rooms,
        allowed_prefixes=allowed_prefixes,
        rooms=tuple(dict.fromkeys(room_key(room, size=room_size) for room in parsed.rooms)),
        expires_in=None if parsed.expires_in is None else max(parsed.expires_in, MIN_EXPIRES_IN),
        data=bytes(parsed.data) or None,
    )


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    if status == 401:
        verdict = Verdict.UNAUTHORIZED
    elif 400 <= status < 500 and status != 429:
        verdict = Verdict.FORBIDDEN
    else:
        verdict = Verdict.UNAVAILABLE
    content_type = headers.get("Content-Type", "")
    handed_on = (
        400 <= status < 500  # the words of an API that failed may tell how it is built
        and len(body) <= BODY_KEPT
        and content_type.partition(";")[0].strip().lower() in _KEPT_TYPES
        and content_type.isascii()
        and content_type.isprintable()
    )
    retry_after = headers.get("Retry-After", "").strip()
    return Refused(
        verdict,
        f"the API answered {status}",
        status=status,
        body=body if handed_on else b"",
        content_type=content_type if handed_on else "",
        retry_after=retry_after if _is_retry_after(retry_after) else None,
    )


def _is_retry_after(value: str) -> bool:
    if not value.isascii() or not value.isprintable() or len(value) > 40:
        return False
    return value.isdigit() or parsedate_tz(value) is not None
