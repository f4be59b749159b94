"""JSON-RPC 2.0 (jsonrpc.org/specification, 2013-01-04) in text messages, with streams, cancelling and publications.

What goes beyond the specification takes the form of notifications whose names begin with ``$/``, as in the Language
Server Protocol, or of the notification ``publish``. Pure: it knows neither the functions nor the connection.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from fairlead.dialects import Dialect
from fairlead.dialects.codec import Answer, Call, CallError, Cancel, Codec, ErrorCode, Fault, Id, Incoming
from fairlead.dialects.plain import PlainDialect
from fairlead.limits import Limits
from fairlead.message import Kind, Publication
from fairlead.rooms.names import RoomKey, room_json

CANCEL: Final = "$/cancelRequest"
"""The client's notification that it gives up on the call ``id``."""

PROGRESS: Final = "$/progress"
"""The server's notification of one ``value`` of the stream that was called with the id ``token``."""

BATCH: Final = 100
"""Calls in one batch: its answers wait for each other, in memory."""


class _Request(Call, kw_only=True):
    """A call as it comes. Unknown members are skipped, and of a repeated one the last counts."""

    jsonrpc: Literal["2.0"]


class _Error(msgspec.Struct):
    """An error object. ``data`` is left out if there is none."""

    code: int
    message: str
    data: object = msgspec.UNSET


class _Response(msgspec.Struct, kw_only=True):
    """The client's answer to a call of the server's."""

    jsonrpc: Literal["2.0"]
    id: Id
    result: object = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


class _Members(msgspec.Struct):
    """The members of what is no request, unread."""

    id: msgspec.Raw = msgspec.Raw(b"null")
    method: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _Result(msgspec.Struct, tag_field="jsonrpc", tag="2.0"):
    id: object
    result: object


class _Failure(msgspec.Struct, tag_field="jsonrpc", tag="2.0"):
    id: object
    error: _Error


class _Value(msgspec.Struct):
    token: object
    value: object


class _Progress(msgspec.Struct, tag_field="jsonrpc", tag="2.0"):
    method: str
    params: _Value


_request = msgspec.json.Decoder(_Request)
_response = msgspec.json.Decoder(_Response)
_members = msgspec.json.Decoder(_Members)
_id = msgspec.json.Decoder(Id)
_texts = msgspec.json.Decoder(list[msgspec.Raw])
_whole = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder().encode


class _Publications(PlainDialect):
    """A publication is the notification ``publish``. All members of a room get the same bytes."""

    def head(self, room: RoomKey, publication: Publication) -> bytes:
        """The whole message. JSON goes through untouched, text becomes a string, bytes base64."""
        return b'{"jsonrpc":"2.0","method":"publish","params":{"room":%b,"data":%b}}' % (
            room_json(room),
            _data(publication),
        )

    def binary(self, kind: Kind) -> bool:
        return False


def _data(publication: Publication) -> bytes:
    if publication.kind == "json":
        return publication.data
    if publication.kind == "text":
        return _encode(publication.data.decode(errors="replace"))
    return b'"%b"' % base64.b64encode(publication.data)


class JsonRpc:
    """The codec. Use the one instance, ``JSONRPC``."""

    dialect: Dialect = _Publications()
    typed = True

    def decode(self, payload: str | bytes, *, limits: Limits) -> Incoming | list[Incoming]:
        """Understand one message; a binary one may hold JSON, too.

        What is not JSON, or nested deeper than the decoder goes, is a PARSE_ERROR; what is JSON but no request,
        answer or batch of these an INVALID_REQUEST. Neither closes the connection.

        Args:
            payload: The message.
            limits: For ``request_id_size``.
        """
        try:
            text = payload if isinstance(payload, str) else payload.decode()  # members that are skipped are UTF-8, too
            call = _request.decode(text)
        except msgspec.ValidationError as fault:
            return _other(text, fault, limits)
        except (ValueError, RecursionError):
            return _not_json()
        if type(call.id) is str or call.method == CANCEL:
            return _judged(call, limits)
        return call

    def result(self, call: Call, value: object) -> bytes | None:
        return None if call.id is msgspec.UNSET else _encode(_Result(call.id, value))

    def progress(self, call: Call, value: object) -> bytes | None:
        return None if call.id is msgspec.UNSET else _encode(_Progress(PROGRESS, _Value(call.id, value)))

    def end(self, call: Call) -> bytes | None:
        return self.result(call, None)

    def error(self, call: Call, error: CallError) -> bytes | None:
        """The answer to a call that failed. Bad input of which no id is known is answered with the id null."""
        if call.id is msgspec.UNSET:
            return None
        data = msgspec.UNSET if error.data is None else error.data
        return _encode(_Failure(call.id, _Error(error.code, error.message, data)))

    def batch(self, answers: Sequence[bytes]) -> bytes:
        return b"[%b]" % b",".join(answers)

    def call(self, call: Call) -> bytes:
        members = {"jsonrpc": "2.0", "method": call.method, "params": call.params or msgspec.UNSET, "id": call.id}
        return _encode({name: value for name, value in members.items() if value is not msgspec.UNSET})


JSONRPC: Codec = JsonRpc()


def _other(text: str, fault: msgspec.ValidationError, limits: Limits) -> Incoming | list[Incoming]:
    """What is not one request. The typed decoder gave up somewhere within, so nothing is known of the rest."""
    try:
        _whole.decode(text)
        if not text.lstrip().startswith("["):
            return _no_request(text, fault, limits)
        items = _texts.decode(text)
    except (ValueError, RecursionError):
        return _not_json()
    if not 1 <= len(items) <= BATCH:
        return _invalid(f"a batch has from 1 to {BATCH} requests, not {len(items)}")
    return [_item(item, limits) for item in items]


def _item(text: msgspec.Raw, limits: Limits) -> Incoming:
    """One of a batch; that it is JSON has been seen."""
    try:
        call = _request.decode(text)
    except (ValueError, RecursionError) as fault:
        return _no_request(text, fault, limits)
    return _judged(call, limits)


def _judged(call: Call, limits: Limits) -> Incoming:
    """A request that is well formed, as what it is."""
    if not _fits(call.id, limits):
        return _invalid(f"an id has at most {limits.request_id_size} bytes")
    if call.method == CANCEL and call.id is msgspec.UNSET:
        id = call.params.get("id") if isinstance(call.params, dict) else None
        return Cancel(id if isinstance(id, str | int | float) and not isinstance(id, bool) else None)
    return call


def _fits(id: Id | msgspec.UnsetType, limits: Limits) -> bool:
    return not isinstance(id, str) or len(id.encode()) <= limits.request_id_size


def _no_request(text: str | msgspec.Raw, fault: Exception, limits: Limits) -> Incoming:
    """An answer to a call of the server's; or else a fault, told under the id of what was meant as a request."""
    try:
        members = _members.decode(text)
    except (ValueError, RecursionError):
        return _invalid("a request is an object")
    if not len(members.method) and (len(members.result) or len(members.error)):
        return _answer(text)
    try:
        id = _id.decode(members.id)
    except (ValueError, RecursionError):
        id = None
    return _invalid(f"not a request: {fault}", id if _fits(id, limits) else None)


def _answer(text: str | msgspec.Raw) -> Incoming:
    try:
        response = _response.decode(text)
    except (ValueError, RecursionError) as fault:
        return _invalid(f"not an answer: {fault}")
    if (response.result is msgspec.UNSET) is (response.error is msgspec.UNSET):
        return _invalid("an answer has either a result or an error")
    error = response.error
    if error is msgspec.UNSET:
        return Answer(response.id, response.result, None)
    data = None if error.data is msgspec.UNSET else error.data
    return Answer(response.id, None, CallError(error.code, error.message, data))


def _invalid(why: str, id: Id = None) -> Fault:
    return Fault(Call(method="", id=id), CallError(ErrorCode.INVALID_REQUEST, why))


def _not_json() -> Fault:
    return Fault(Call(method="", id=None), CallError(ErrorCode.PARSE_ERROR, "not JSON"))
