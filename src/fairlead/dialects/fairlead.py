"""The fairlead dialect: JSON text messages, one object each.

Without state: what a connection remembers (its subscriptions, its grants) lives with the connection. A request id
travels as its canonical JSON text, so that ``"1"`` and ``1`` stay apart; the same bytes are the tail of a publication.

Errors are looked for in this order, and the first one found is the answer: ``non-json-message`` (not UTF-8, not JSON,
nested deeper than the decoder goes), ``message-type-not-allowed`` (JSON, but no object or no type that a client may
send), ``no-request-id``, ``invalid-room``; what depends on the connection comes after these.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Literal

import msgspec

from fairlead.errors import InvalidRoom
from fairlead.limits import Limits
from fairlead.message import Kind, Publication
from fairlead.rooms.names import RoomKey, room_json, room_key

VERSION = 1
"""The dialect's version, told in the first message."""

PONG = b"pong"
"""The answer to ``ping``; neither is JSON."""

ErrorWord = Literal[
    "room-not-found",
    "not-subscribed",
    "no-request-id",
    "request-id-in-use",
    "non-json-message",
    "message-type-not-allowed",
    "invalid-room",
    "too-many-subscriptions",
    "unavailable",
]
"""Why a request was refused. ``room-not-found`` also stands for "not allowed": that a room exists is not told."""


class Ping(msgspec.Struct, frozen=True):
    """The client's ``ping``; answer ``PONG``."""


class Subscribe(msgspec.Struct, frozen=True):
    """The client asks to join a room under an id of its choice."""

    room: RoomKey
    request_id: bytes


class Unsubscribe(msgspec.Struct, frozen=True):
    """The client ends the subscription it made under this id."""

    request_id: bytes


class Bad(msgspec.Struct, frozen=True):
    """A request that cannot be understood; answer ``error(request_id, word)``."""

    request_id: bytes | None
    word: ErrorWord


class FairleadDialect:
    """How publications reach the clients. Use the one instance, ``FAIRLEAD``: members share bytes by dialect."""

    __slots__ = ()

    def head(self, room: RoomKey, publication: Publication) -> bytes:
        """The publication up to the request id. JSON goes through untouched, text becomes a string, bytes base64."""
        return b'{"type":"publish","room":%b,"data":%b,"requestId":' % (room_json(room), _data(publication))

    def join(self, head: bytes, tail: bytes) -> bytes:
        """The publication for the subscription whose request id is ``tail``."""
        return b"".join((head, tail, b"}"))

    def binary(self, kind: Kind) -> bool:
        """Never: all messages are text."""
        return False

    def pack(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """The payloads as they are: one message each."""
        return payloads


FAIRLEAD = FairleadDialect()
NO_REQUEST_ID = b"null"
"""The tail of a subscription made by the API."""

_LIMITS = Limits()
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class _Request(msgspec.Struct):
    """The known keys of a client's message, each still JSON text; other keys are skipped."""

    type: msgspec.Raw = msgspec.Raw(b"null")
    room: msgspec.Raw = msgspec.Raw(b"null")
    requestId: msgspec.Raw = msgspec.Raw(b"null")


_request = msgspec.json.Decoder(_Request)
_any = msgspec.json.Decoder()
_PING = Ping()
_NOTHING = object()


def decode(payload: str | bytes, *, limits: Limits = _LIMITS) -> Ping | Subscribe | Unsubscribe | Bad:
    """Understand one message from a client. Never raises: whatever cannot be understood is ``Bad``.

    Args:
        payload: A text message as ``str``, a binary one as ``bytes``; the latter may hold JSON too, but is no ping.
        limits: For ``room_size`` and ``request_id_size`` (both bytes).
    """
    if payload == "ping":
        return _PING
    try:
        text = payload if isinstance(payload, str) else payload.decode()  # keys that are skipped are UTF-8, too
        request = _request.decode(text)
    except msgspec.ValidationError:
        return Bad(None, "message-type-not-allowed" if _is_json(text) else "non-json-message")
    except (ValueError, RecursionError):
        return Bad(None, "non-json-message")
    request_id = _request_id(_value(request.requestId), limits.request_id_size)
    kind = _value(request.type)
    if kind not in ("subscribe", "unsubscribe"):
        return Bad(request_id, "message-type-not-allowed")
    if request_id is None:
        return Bad(None, "no-request-id")
    if kind == "unsubscribe":
        return Unsubscribe(request_id)
    try:
        return Subscribe(room_key(_value(request.room), size=limits.room_size), request_id)
    except InvalidRoom:
        return Bad(request_id, "invalid-room")


def success(request_id: bytes) -> bytes:
    """The request was carried out."""
    return b'{"requestId":%b,"code":"success"}' % request_id


def error(request_id: bytes | None, word: ErrorWord) -> bytes:
    """The request was refused and changed nothing. ``request_id`` None: the client gave none that can be used."""
    return b'{"requestId":%b,"code":"error","message":"%b"}' % (request_id or NO_REQUEST_ID, word.encode())


def unsubscribed(request_id: bytes, room: RoomKey, reason: str) -> bytes:
    """The server ended a subscription, such as with the reason ``revoked``."""
    return b'{"type":"unsubscribed","requestId":%b,"room":%b,"reason":%b}' % (
        request_id,
        room_json(room),
        msgspec.json.encode(reason),
    )


def hello(
    *,
    connection: str,
    user: str | int | None = None,
    allowed_rooms: bytes = b"[]",
    allowed_prefixes: bytes = b"[]",
    rooms: Sequence[RoomKey] = (),
    ping: float = _LIMITS.ping_after,
    expires_in: float | None = None,
    data: bytes | None = None,
) -> bytes:
    """The first message to a client that is in.

    Args:
        connection: The connection's id.
        user: Who the API says this is.
        allowed_rooms: JSON text of a list, in the API's own order, as are ``allowed_prefixes``.
        allowed_prefixes: JSON text of a list of strings.
        rooms: Joined by the API; the client need not ask for them.
        ping: Seconds of silence after which the server pings.
        expires_in: Seconds until the rights are asked for again; None: not told.
        data: JSON text that the API has for the client; None: none.
    """
    fields = [
        (b"is_authorized", b"true"),
        (b"version", b"%d" % VERSION),
        (b"allowed_rooms", allowed_rooms),
        (b"allowed_prefixes", allowed_prefixes),
        (b"rooms", b"[%b]" % b",".join(map(room_json, rooms))),
        (b"connection", msgspec.json.encode(connection)),
        (b"user", msgspec.json.encode(user)),
        (b"ping", _seconds(ping)),
    ]
    if expires_in is not None:
        fields.append((b"expires_in", _seconds(expires_in)))
    if data is not None:
        fields.append((b"data", data))
    return b"{%b}" % b",".join(b'"%b":%b' % field for field in fields)


def refused(word: Literal["unauthorized", "forbidden", "unavailable"], *, retry: bool) -> bytes:
    """The first and last message to a client that is not let in. ``retry``: whether coming back later can help."""
    return msgspec.json.encode({"is_authorized": False, "error": word, "retry": retry})


def _data(publication: Publication) -> bytes:
    match publication.kind:
        case "json":
            return publication.data
        case "text":
            return msgspec.json.encode(publication.data.decode(errors="replace"))
        case "binary":
            return b'"%b"' % base64.b64encode(publication.data)


def _is_json(text: str) -> bool:
    """Whether text that is no object is JSON at all; the typed decoder gives up before it has seen the rest."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


def _value(raw: msgspec.Raw) -> object:
    """The JSON value; for one that cannot be held, such as 1e999, what is neither a type, an id nor a room."""
    try:
        value: object = _any.decode(raw)
    except (ValueError, RecursionError):
        return _NOTHING
    return value


def _request_id(value: object, size: int) -> bytes | None:
    """The canonical JSON text of a usable request id."""
    if isinstance(value, str):
        return msgspec.json.encode(value) if len(value.encode()) <= size else None
    if isinstance(value, int) and not isinstance(value, bool) and _SMALLEST <= value <= _LARGEST:
        return b"%d" % value
    return None


def _seconds(value: float) -> bytes:
    return msgspec.json.encode(int(value) if value == int(value) else value)
