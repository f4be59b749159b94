"""Named calls, whatever carries them: what a call is, how one fails, and the seam to the codecs.

A codec turns messages into these and back. It knows neither the functions nor the connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Annotated, NamedTuple, Protocol

import msgspec

from fairlead.dialects import Dialect
from fairlead.errors import PeerError, UsageError
from fairlead.limits import Limits

Id = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float | None
"""What the caller names a call (JSON-RPC 2.0, 4): a string, a number or null. Integers have 64 bits here."""

Params = list[object] | dict[str, object]
"""Arguments, by position or by name."""


class ErrorCode(IntEnum):
    """Why a call failed (JSON-RPC 2.0, 5.1; CANCELLED is the Language Server Protocol's)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    TOO_MANY_CALLS = -32000
    CANCELLED = -32800


class CallError(PeerError):
    """A call failed, and this is what its caller is told.

    Raised by a function that a client called, it goes to the client as it is. Raised by ``CallSocket.call``, it came
    from the client.

    Args:
        code: An application's own codes lie outside of -32768 to -32000 (JSON-RPC 2.0, 5.1).
        message: One sentence.
        data: More about it: anything that has a form in JSON; None: nothing.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{message} ({int(code)})")
        self.code = int(code)
        self.message = message
        self.data = data


class Call(msgspec.Struct, kw_only=True):
    """A function is to be called.

    Attributes:
        method: Its name.
        params: The arguments.
        id: What the answer will carry. Absent where the form of the call has none: a notification of JSON-RPC, which
            gets no answer, or any call in the text form.
    """

    method: str
    params: Params = []
    id: Id | msgspec.UnsetType = msgspec.UNSET


class Cancel(NamedTuple):
    """The client gives up on one of its calls. None: on none, since the message names nothing that could be one."""

    id: str | float | None


class Answer(NamedTuple):
    """The client answers a call of the server's. ``error`` None: with a result."""

    id: Id
    result: object
    error: CallError | None


class Fault(NamedTuple):
    """What a client sent is none of these. ``error`` is the answer to ``call``, which is as much as was understood."""

    call: Call
    error: CallError


Incoming = Call | Cancel | Answer | Fault


class Codec(Protocol):
    """One form of calls and answers on the wire. Stateless.

    What encodes gives the bytes of one text message, or None where nothing is to be sent, and raises TypeError,
    ValueError or RecursionError for a value that has no form in JSON.
    """

    @property
    def dialect(self) -> Dialect:
        """How publications reach the clients that speak it."""
        ...

    @property
    def typed(self) -> bool:
        """Whether arguments arrive with JSON's types; if not, each is a text, to be read as what is asked for."""
        ...

    def decode(self, payload: str | bytes, *, limits: Limits) -> Incoming | list[Incoming]:
        """Understand one message. A list is a batch, never empty: its answers go back together. Never raises."""
        ...

    def result(self, call: Call, value: object) -> bytes | None:
        """The function returned a value."""
        ...

    def progress(self, call: Call, value: object) -> bytes | None:
        """The function yielded a value."""
        ...

    def end(self, call: Call) -> bytes | None:
        """The function has yielded its last value."""
        ...

    def error(self, call: Call, error: CallError) -> bytes | None:
        """The call failed."""
        ...

    def batch(self, answers: Sequence[bytes]) -> bytes:
        """The answers to a batch, one or more of them, as one message."""
        ...

    def call(self, call: Call) -> bytes:
        """The server calls the client, which is to answer if there is an id.

        Raises:
            UsageError: This form cannot say that.
        """
        ...


def params(args: Sequence[object], kwargs: Mapping[str, object]) -> Params:
    """The arguments of a Python call, as they travel.

    Raises:
        UsageError: Some have names and some have not.
    """
    if args and kwargs:
        raise UsageError("give the arguments by position or by name: a call on the wire cannot have both")
    return dict(kwargs) if kwargs else list(args)
