"""Calls as plain text, ``name|a,b``: the language of tz.js, and one that can be typed by hand.

There are no ids: what a function returns or yields comes back as ``name|value``, and errors as a call of ``error``.
Pure: it knows neither the functions nor the connection.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec

from fairlead.dialects import Dialect
from fairlead.dialects.codec import Call, CallError, Codec, ErrorCode, Fault, Incoming
from fairlead.dialects.plain import PlainDialect
from fairlead.errors import UsageError
from fairlead.limits import Limits
from fairlead.message import Kind, Publication
from fairlead.rooms.names import RoomKey

WORDS: Final[dict[int, str]] = {
    ErrorCode.METHOD_NOT_FOUND: "method-not-found",
    ErrorCode.INVALID_PARAMS: "invalid-arguments",
    ErrorCode.INTERNAL_ERROR: "internal-error",
    ErrorCode.TOO_MANY_CALLS: "too-many-calls",
    ErrorCode.PARSE_ERROR: "no-separator",
}
"""What went wrong. Any other error is one that a function raised: ``call-error``, with its code and its message."""


class _Publications(PlainDialect):
    """A publication is the call ``publish|room,data``. All members of a room get the same bytes."""

    def head(self, room: RoomKey, publication: Publication) -> bytes:
        """The whole message. Text and JSON go through untouched, bytes as base64."""
        data = publication.data
        return b"publish|%b,%b" % (room.encode(), base64.b64encode(data) if publication.kind == "binary" else data)

    def binary(self, kind: Kind) -> bool:
        return False


class TextCalls:
    """The codec. Use the one instance, ``TEXT``."""

    dialect: Dialect = _Publications()
    typed = False

    def decode(self, payload: str | bytes, *, limits: Limits) -> Incoming:
        """Understand one message; a binary one may hold text, too.

        The name ends at the first ``|``, and everything behind it is arguments: split at commas, nothing trimmed.
        """
        try:
            text = payload if isinstance(payload, str) else payload.decode()
        except UnicodeDecodeError:
            text = ""
        name, separator, rest = text.partition("|")
        if not separator:
            return Fault(Call(method=text), CallError(ErrorCode.PARSE_ERROR, "no separator"))
        return Call(method=name, params=[*rest.split(",")])

    def result(self, call: Call, value: object) -> bytes | None:
        return None if value is None else self.call(Call(method=call.method, params=[value]))

    def progress(self, call: Call, value: object) -> bytes | None:
        return self.result(call, value)

    def end(self, call: Call) -> bytes | None:
        return None

    def error(self, call: Call, error: CallError) -> bytes | None:
        word = WORDS.get(error.code)
        told: list[object] = [word, call.method] if word else ["call-error", call.method, error.code, error.message]
        return self.call(Call(method="error", params=told))

    def batch(self, answers: Sequence[bytes]) -> bytes:
        raise UsageError("calls as text have no batches")

    def call(self, call: Call) -> bytes:
        """Lists and tuples among the arguments become several: on the wire there is nothing but commas.

        Raises:
            UsageError: An answer is wanted, which could not be told from others, or an argument has a name.
        """
        if call.id is not msgspec.UNSET:
            raise UsageError("a client that calls with plain text cannot answer: use notify(), or JSON-RPC")
        if isinstance(call.params, dict):
            raise UsageError("arguments have no names in plain text: give them by position")
        return f"{call.method}|{_text(call.params)}".encode()


TEXT: Codec = TextCalls()


def _text(value: object) -> str:
    """Strings as they are, lists and tuples joined by commas, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return msgspec.json.encode(value).decode()
