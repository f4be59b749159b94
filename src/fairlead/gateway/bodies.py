"""The bodies of the admin listener's calls: bytes in, checked values out. Pure.

A body is JSON in UTF-8, whatever its Content-Type says. Keys that are not known here are ignored, so that an API may
send what a newer gateway understands. Where a fault is not the whole body's, its text ends with its path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec

from fairlead.errors import CloseCode, InvalidRoom, PeerError
from fairlead.rooms.names import Grants, RoomKey, room_key

BATCH: Final = 1000
"""Triggers in one batch."""

TRIGGER_ROOMS: Final = 1000
"""Rooms in one trigger; to reach more, put all of those clients into one room."""

BATCH_ROOMS: Final = 10_000
"""Rooms in one batch: a few tens of milliseconds of work."""

_REASON_SIZE: Final = 123  # RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code

T = TypeVar("T")


class BadBody(PeerError, ValueError):
    """The body cannot be used: answer 400. The text says why and where, and is safe to show to the sender."""


class Trigger(NamedTuple):
    """Publish ``data``, JSON on one line, to ``rooms``, each one once and in this order."""

    rooms: tuple[RoomKey, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class DisconnectCall:
    """Close a user's connections, or one connection; exactly one of the two is not None."""

    user: str | None
    connection: str | None
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class RefreshCall:
    """Look again at a user's rights. ``allowed``: the new ones as one JSON object; None: ask the API."""

    user: str
    allowed: bytes | None


class _Trigger(msgspec.Struct):
    rooms: Any = msgspec.UNSET
    data: msgspec.Raw = msgspec.Raw()


_Id = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Disconnect(msgspec.Struct):
    user: _Id | msgspec.UnsetType = msgspec.UNSET
    connection: str | msgspec.UnsetType = msgspec.UNSET
    code: int = CloseCode.UNAUTHORIZED.value
    reason: str = ""


class _Refresh(msgspec.Struct):
    user: _Id | msgspec.UnsetType = msgspec.UNSET
    allowed_rooms: list[Any] | msgspec.UnsetType = msgspec.UNSET
    allowed_prefixes: list[str] | msgspec.UnsetType = msgspec.UNSET


_TRIGGER: Final = msgspec.json.Decoder(_Trigger)
_BATCH: Final = msgspec.json.Decoder(list[_Trigger])
_DISCONNECT: Final = msgspec.json.Decoder(_Disconnect)
_REFRESH: Final = msgspec.json.Decoder(_Refresh)


def read_trigger(body: bytes, *, room_size: int) -> Trigger | list[Trigger]:
    """One trigger from an object, a list of them from an array.

    ``data`` stays as it was written; only if it has CR or LF, which in JSON stand between values, it is made compact.

    Args:
        body: ``{"rooms": [R, ...], "data": ANY}``, or an array of these.
        room_size: ``Limits.room_size``.

    Raises:
        BadBody: Anything in it is wrong; of a batch nothing may be published then.
    """
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return _trigger(_decode(_TRIGGER, body), room_size, "$")
    raw = _decode(_BATCH, body)
    if len(raw) > BATCH:
        raise BadBody(f"{len(raw)} triggers in a batch; at most {BATCH}")
    if sum(len(each.rooms) for each in raw if isinstance(each.rooms, list)) > BATCH_ROOMS:
        raise BadBody(f"more than {BATCH_ROOMS} rooms in a batch")
    return [_trigger(each, room_size, f"$[{index}]") for index, each in enumerate(raw)]


def read_disconnect(body: bytes) -> DisconnectCall:
    """``{"user": ID}`` or ``{"connection": ID}``, and maybe ``code`` (3000-4999) and ``reason`` (123 bytes).

    Raises:
        BadBody: Anything in it is wrong.
    """
    call = _decode(_DISCONNECT, body)
    if (call.user is msgspec.UNSET) is (call.connection is msgspec.UNSET):
        raise BadBody("exactly one of user and connection must be given")
    if not 3000 <= call.code <= 4999:
        raise BadBody("code must be from 3000 to 4999 - at `$.code`")
    if len(call.reason.encode()) > _REASON_SIZE:
        raise BadBody(f"a reason has at most {_REASON_SIZE} bytes - at `$.reason`")
    return DisconnectCall(
        user=None if call.user is msgspec.UNSET else str(call.user),
        connection=None if call.connection is msgspec.UNSET else call.connection,
        code=call.code,
        reason=call.reason,
    )


def read_refresh(body: bytes, *, room_size: int) -> RefreshCall:
    """``{"user": ID}``, and maybe ``allowed_rooms`` and with it ``allowed_prefixes``, in the form of the API's answer.

    Args:
        body: The call's.
        room_size: ``Limits.room_size``.

    Raises:
        BadBody: Anything in it is wrong.
    """
    call = _decode(_REFRESH, body)
    if call.user is msgspec.UNSET:
        raise BadBody("user not specified")
    prefixes = [] if call.allowed_prefixes is msgspec.UNSET else call.allowed_prefixes
    if call.allowed_rooms is msgspec.UNSET:
        if call.allowed_prefixes is not msgspec.UNSET:
            raise BadBody("allowed_prefixes without allowed_rooms; an empty list allows none")
        return RefreshCall(str(call.user), None)
    try:
        Grants(call.allowed_rooms, prefixes, size=room_size)
    except InvalidRoom as exc:
        raise BadBody(f"invalid grant: {exc}") from None
    return RefreshCall(
        str(call.user), msgspec.json.encode({"allowed_rooms": call.allowed_rooms, "allowed_prefixes": prefixes})
    )


def _trigger(raw: _Trigger, room_size: int, path: str) -> Trigger:
    if raw.rooms is msgspec.UNSET:
        raise BadBody(_at("rooms not specified", path))
    if not isinstance(raw.rooms, list):
        raise BadBody(_at("rooms must be a list", f"{path}.rooms"))
    if len(raw.rooms) > TRIGGER_ROOMS:
        raise BadBody(_at(f"{len(raw.rooms)} rooms; at most {TRIGGER_ROOMS} in one trigger", f"{path}.rooms"))
    data = bytes(raw.data)
    if not data:
        raise BadBody(_at("data not specified", path))
    if b"\n" in data or b"\r" in data:
        data = msgspec.json.format(data, indent=-1)
    rooms: dict[RoomKey, None] = {}
    for index, room in enumerate(raw.rooms):
        try:
            rooms[room_key(room, size=room_size)] = None
        except InvalidRoom as exc:
            raise BadBody(_at(f"invalid room: {exc}", f"{path}.rooms[{index}]")) from None
    return Trigger(tuple(rooms), data)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        if not body.isascii():
            body.decode()  # what stays raw is checked for syntax only, not for UTF-8
        return decoder.decode(body)
    except UnicodeDecodeError:
        fault = "the body is not UTF-8"
    except RecursionError:
        fault = "the body is nested too deep"
    except msgspec.ValidationError as exc:
        what, mark, path = str(exc).replace("Expected", "expected").partition(" - at ")
        fault = what.replace("`", "") + mark + path if mark else f"the body is not as agreed: {what.replace('`', '')}"
    except msgspec.DecodeError as exc:
        fault = f"the body is not JSON: {exc}"
    raise BadBody(fault)


def _at(fault: str, path: str) -> str:
    return fault if path == "$" else f"{fault} - at `{path}`"
